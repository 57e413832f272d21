"""A download is the real thing or nothing; an archive stays in its folder."""

from __future__ import annotations

import hashlib
import io
import socket
import stat
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
    """A loopback server; `answers` maps a path to (status, headers, body)."""
    answers = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for key, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(key, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    running.answers = answers
    running.url = f"http://127.0.0.1:{running.server_port}"
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def offer(monkeypatch, server, good):
    """Let EMO-DB come from the loopback server, which alone may do without https."""
    monkeypatch.setattr(corpus_downloads, "SCHEMES", ("https", "http"))

    def set_up(body=good, *, claimed=good, n_bytes=None, status=200, headers=None):
        server.answers["/corpus.zip"] = (status, headers or {}, body)
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
        ({"n_bytes": 10}, "more than the expected 10 bytes"),
        ({"status": 404}, "404"),
        ({"status": 302, "headers": {"Location": "ftp://example.org/x"}}, "not https"),
        ({"headers": {"Content-Length": 10**6}}, "emodb was not downloaded"),
    ],
)
def test_a_server_that_lies_leaves_nothing_behind(offer, tmp_path, answer, told):
    offer(**answer)
    with pytest.raises(CorpusError, match=told) as error:
        download_corpus("emodb", tmp_path / "corpora", progress=False)
    assert "by hand" in str(error.value)
    assert left_in(tmp_path / "corpora") == []


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
