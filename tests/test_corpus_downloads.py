"""A download is the real thing or nothing; an archive stays in its folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import socket
import stat
import threading
import time
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from clepdg_lib import corpus_downloads
from clepdg_lib.corpora import CORPORA, CorpusError, download_corpus, load_corpus
from clepdg_lib.corpus_downloads import extract
from clepdg_lib.corpus_sources import Archive


def packed(members):
    """Zip name-to-bytes pairs (or ZipInfo-to-bytes), in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def good(write_wave, tmp_path):
    path = write_wave(tmp_path / "made/a.wav")
    return packed([("wav/03a01Fa.wav", path.read_bytes()), ("readme.txt", b"hello")])


@pytest.fixture
def server():
    """A loopback server; `answers` maps a path to (status, headers, body, options).

    Options: `ranges` honours Range, `cut` ends the connection after so many bytes (a
    list: one number per request), `drip` sends a byte at a time.
    """
    answers, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Range"))
            status, headers, body, *more = answers.get(self.path, (404, {}, b""))
            options = more[0] if more else {}
            start = 0
            if options.get("ranges") and asked[-1]:
                start = int(asked[-1].removeprefix("bytes=").removesuffix("-"))
                status = 206
                place = f"bytes {start}-{len(body) - 1}/{len(body)}"
                headers = {"Content-Range": place, **headers}
            body = body[start:]
            self.send_response(status)
            for key, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(key, str(value))
            self.end_headers()
            cuts = options.get("cut", [])
            if cuts:
                body = body[: cuts.pop(0)]
            if "drip" in options:
                for i in range(len(body)):
                    self.wfile.write(body[i : i + 1])
                    time.sleep(options["drip"])
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            pass  # a client that hangs up is what some tests are about

    running = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    running.answers, running.asked = answers, asked
    running.url = f"http://127.0.0.1:{running.server_port}"
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def offer(monkeypatch, server, good):
    """Let EMO-DB come from the loopback server, which alone may do without https."""
    monkeypatch.setattr(corpus_downloads, "SCHEMES", ("https", "http"))

    def set_up(
        body=good, *, claimed=good, n_bytes=None, status=200, headers=None, **options
    ):
        server.answers["/corpus.zip"] = (status, headers or {}, body, options)
        known_hash = "sha256:" + hashlib.sha256(claimed).hexdigest()
        archive = Archive(f"{server.url}/corpus.zip", known_hash, n_bytes)
        source = replace(CORPORA["emodb"], archive=archive)
        monkeypatch.setitem(CORPORA, "emodb", source)

    return set_up


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_what_is_downloaded_can_be_loaded(offer, server, tmp_path):
    offer()
    folder = download_corpus("emodb", tmp_path / "corpora", progress=False)
    assert folder == tmp_path / "corpora/emodb"
    assert left_in(tmp_path / "corpora") == [
        *("03a01Fa.wav", "emodb", "readme.txt", "wav")
    ]
    assert load_corpus("emodb", root=tmp_path / "corpora").emotions == ("happy",)
    server.answers.clear()  # what is there is not fetched again
    assert download_corpus("emodb", tmp_path / "corpora", progress=False) == folder


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"body": b"something else"}, "hash"),
        ({"n_bytes": 10**6}, "1,000,000 are expected"),
        ({"n_bytes": 10}, "more than the expected 10 bytes"),
        ({"status": 404}, "404"),
        ({"status": 302, "headers": {"Location": "ftp://example.org/x"}}, "not https"),
        ({"status": 302, "headers": {"Location": "/corpus.zip"}}, "redirects"),
        ({"status": 206, "headers": {"Content-Range": "bytes 7-9/10"}}, "byte 0 on"),
        ({"status": 500}, "500"),
    ],
)
def test_a_server_that_lies_leaves_nothing_behind(offer, tmp_path, answer, told):
    offer(**answer)
    with pytest.raises(CorpusError, match=told) as error:
        download_corpus("emodb", tmp_path / "corpora", progress=False)
    assert "by hand" in str(error.value)
    assert left_in(tmp_path / "corpora") == []


def test_a_lost_connection_goes_on_where_it_stopped(offer, server, good, tmp_path):
    offer(ranges=True, n_bytes=len(good), cut=[300, 200])
    folder = download_corpus("emodb", tmp_path / "corpora", progress=False)
    assert left_in(folder) == ["03a01Fa.wav", "readme.txt", "wav"]
    assert server.asked == [None, "bytes=300-", "bytes=500-"]
    assert left_in(tmp_path / "corpora") == [
        "03a01Fa.wav",
        "emodb",
        "readme.txt",
        "wav",
    ]


@pytest.mark.parametrize("pinned", [True, False])
def test_what_came_is_kept_for_the_next_time(offer, server, good, tmp_path, pinned):
    n_bytes = len(good) if pinned else None
    offer(ranges=True, n_bytes=n_bytes, cut=[100] * corpus_downloads.ATTEMPTS)
    with pytest.raises(CorpusError, match="400 bytes are kept: run it again"):
        download_corpus("emodb", tmp_path / "corpora", progress=False)
    (kept,) = (tmp_path / "corpora").iterdir()
    assert kept.name.startswith(".emodb-") and kept.read_bytes() == good[:400]
    offer(ranges=True, n_bytes=n_bytes)
    download_corpus("emodb", tmp_path / "corpora", progress=False)
    assert server.asked[-1] == "bytes=400-" and not kept.exists()


def test_a_server_without_ranges_begins_again(offer, server, good, tmp_path):
    offer(n_bytes=len(good), cut=[300])
    download_corpus("emodb", tmp_path / "corpora", progress=False)
    assert server.asked == [None, "bytes=300-"]


def test_a_partial_file_that_is_wrong_is_thrown_away(offer, good, tmp_path):
    offer(ranges=True, n_bytes=len(good), cut=[100] * corpus_downloads.ATTEMPTS)
    with pytest.raises(CorpusError, match="run it again"):
        download_corpus("emodb", tmp_path / "corpora", progress=False)
    (kept,) = (tmp_path / "corpora").iterdir()
    for content in (bytes(400), bytes(len(good)), bytes(len(good) + 1)):
        kept.write_bytes(content)
        offer(ranges=True, n_bytes=len(good))
        with pytest.raises(CorpusError, match=r"hash|cannot go on|expected|416"):
            download_corpus("emodb", tmp_path / "corpora", progress=False)
        if kept.exists():  # a place beyond the end
            kept.unlink()
    download_corpus("emodb", tmp_path / "corpora", progress=False)


def test_a_place_the_server_does_not_know_begins_again(offer, server, good, tmp_path):
    offer(ranges=True, cut=[100] * corpus_downloads.ATTEMPTS)
    with pytest.raises(CorpusError, match="run it again"):
        download_corpus("emodb", tmp_path / "corpora", progress=False)
    offer(status=416)
    with pytest.raises(CorpusError, match="cannot go on from here"):
        download_corpus("emodb", tmp_path / "corpora", progress=False)
    assert left_in(tmp_path / "corpora") == []


@pytest.mark.parametrize("creeps", [True, False])
def test_a_server_that_stalls_is_left(offer, good, tmp_path, monkeypatch, creeps):
    monkeypatch.setattr(corpus_downloads, "ATTEMPTS", 2)
    if creeps:
        monkeypatch.setattr(corpus_downloads, "PATIENCE_SECONDS", 0.2)
        told = "under 1,000 bytes a second"
    else:
        monkeypatch.setattr(corpus_downloads, "TIMEOUT_SECONDS", (1, 0.2))
        told = "timed out"
    offer(n_bytes=len(good), ranges=True, drip=0.05 if creeps else 1.0)
    begun = time.monotonic()
    with pytest.raises(CorpusError, match=told):
        download_corpus("emodb", tmp_path / "corpora", progress=False)
    assert time.monotonic() - begun < 5


def test_a_full_disk_is_told(offer, tmp_path, monkeypatch):
    offer()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(CorpusError, match="but 10 are free on this disk"):
        download_corpus("emodb", tmp_path / "corpora", progress=False)


def test_half_of_a_file_is_not_taken_for_the_whole(offer, good, tmp_path):
    offer(good[: len(good) // 2])
    with pytest.raises(CorpusError, match="Nothing was kept"):
        download_corpus("emodb", tmp_path / "corpora", progress=False)
    assert left_in(tmp_path / "corpora") == []


def test_without_a_network_the_error_says_what_to_do(offer, server, tmp_path):
    offer()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    archive = replace(CORPORA["emodb"].archive, url=f"http://127.0.0.1:{port}/x.zip")
    CORPORA["emodb"] = replace(CORPORA["emodb"], archive=archive)
    with pytest.raises(CorpusError, match="not downloaded.*CLEPDG_CORPORA"):
        download_corpus("emodb", tmp_path, progress=False)


def test_real_sources_are_https_and_a_hash_is_a_must(tmp_path, monkeypatch, server):
    for source in CORPORA.values():
        if source.archive:
            assert source.archive.url.startswith("https://")
    with pytest.raises(CorpusError, match="pass known_hash="):
        download_corpus("emodb", tmp_path)
    plain = replace(CORPORA["emodb"], archive=Archive(f"{server.url}/corpus.zip"))
    monkeypatch.setitem(CORPORA, "emodb", plain)
    with pytest.raises(CorpusError, match="is not https"):
        download_corpus("emodb", tmp_path, known_hash="sha256:" + "0" * 64)


def test_a_redirect_away_from_https_is_refused():
    class Answer:
        is_redirect = True
        url = "https://zenodo.org/a"
        headers = {"location": "http://elsewhere.org/a"}

    with pytest.raises(CorpusError, match="http://elsewhere.org/a is not https"):
        corpus_downloads._check_redirect(Answer())
    Answer.headers = {"location": "/b"}
    corpus_downloads._check_redirect(Answer())


@pytest.mark.parametrize("name", ["tess", "iemocap", "meld", "savee", "cremad"])
def test_corpora_not_openly_offered_name_their_owners_page(name, tmp_path):
    with pytest.raises(CorpusError, match="by hand") as error:
        download_corpus(name, tmp_path)
    assert CORPORA[name].page in str(error.value)
    assert left_in(tmp_path) == []


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(CorpusError, match="'ravdes'.*ravdess"):
        download_corpus("ravdes", tmp_path)


def link():
    info = zipfile.ZipInfo("wav/link.wav")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("../out.wav", b"x")], "outside"),
        ([("a/../../out.wav", b"x")], "outside"),
        ([("/etc/out.wav", b"x")], "outside"),
        ([("..\\out.wav", b"x")], "outside"),
        ([("C:\\out.wav", b"x")], "outside"),
        ([(link(), b"/etc/passwd")], "link"),
        ([("ok.wav", b"x"), ("bomb.wav", bytes(20_000_000))], "at most 50 times"),
    ],
)
def test_hostile_archives_are_refused_whole(tmp_path, members, told):
    archive = tmp_path / "evil.zip"
    archive.write_bytes(packed(members))
    with pytest.raises(CorpusError, match=told):
        extract(archive, tmp_path / "in/here")
    assert left_in(tmp_path) in (["evil.zip"], ["evil.zip", "in"])


def test_members_that_share_their_bytes_are_a_bomb(tmp_path):
    raw = packed([("a.wav", b"x" * 2_000), ("b.wav", bytes(range(256)) * 80)])
    size = next(
        member.compress_size
        for member in zipfile.ZipFile(io.BytesIO(raw)).infolist()
        if member.filename == "a.wav"
    )
    # The list at the end claims for a.wav more than the whole archive has.
    place = raw.rindex(size.to_bytes(4, "little"))
    raw = raw[:place] + (10**6).to_bytes(4, "little") + raw[place + 4 :]
    archive = tmp_path / "overlap.zip"
    archive.write_bytes(raw)
    with pytest.raises(CorpusError, match="they overlap"):
        extract(archive, tmp_path / "here")


def test_a_member_that_cannot_be_written_is_told(tmp_path):
    archive = tmp_path / "long.zip"
    archive.write_bytes(packed([("n" * 300 + ".wav", b"x")]))
    with pytest.raises(CorpusError, match=r"long\.zip cannot be unpacked"):
        extract(archive, tmp_path / "here")
    assert left_in(tmp_path) == ["long.zip"]


def test_archives_have_a_limit_in_size_and_number(tmp_path, monkeypatch, good):
    archive = tmp_path / "big.zip"
    archive.write_bytes(good)
    monkeypatch.setattr(corpus_downloads, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(CorpusError, match="at most 100 "):
        extract(archive, tmp_path / "a")
    monkeypatch.setattr(corpus_downloads, "MAX_MEMBERS", 1)
    with pytest.raises(CorpusError, match="2 files; at most 1 "):
        extract(archive, tmp_path / "a")


def test_a_member_cannot_be_bigger_than_it_claims(tmp_path):
    content = bytes(range(256)) * 40
    raw = bytearray(packed([("a.wav", content)]))
    raw = raw.replace(len(content).to_bytes(4, "little"), (9).to_bytes(4, "little"))
    archive = tmp_path / "liar.zip"
    archive.write_bytes(raw)
    with pytest.raises(CorpusError, match="cannot be unpacked"):
        extract(archive, tmp_path / "here")
    assert left_in(tmp_path) == ["liar.zip"]


@pytest.mark.parametrize("cut", [0, 10, 100, -30])
def test_a_broken_archive_is_an_error(tmp_path, good, cut):
    archive = tmp_path / "cut.zip"
    archive.write_bytes(good[:cut])
    with pytest.raises(CorpusError, match=r"cut\.zip"):
        extract(archive, tmp_path / "here")
    assert left_in(tmp_path / "here") == []
