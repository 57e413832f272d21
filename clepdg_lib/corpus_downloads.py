"""Fetch a corpus that its owners let anybody fetch, and prove that it is the one.

Only over https, only with a known hash; a partial file is never taken for a whole
one, and an archive cannot write outside its folder or fill the disk.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from clepdg_lib.corpus_findings import CorpusError, recordings
from clepdg_lib.corpus_sources import CORPORA

SCHEMES = ("https",)
TIMEOUT_SECONDS = (10, 60)  # to connect, and without a byte
MAX_ARCHIVE_BYTES = 2_000_000_000  # where the owners state no size
MAX_UNPACKED_BYTES = 8_000_000_000
MAX_RATIO = 50  # recordings shrink to a third or so; a bomb to a thousandth
MAX_MEMBERS = 100_000


def download_corpus(
    name: str,
    folder: str | Path,
    *,
    known_hash: str | None = None,
    progress: bool = True,
) -> Path:
    """Download a corpus into `folder`/`name`, verified.

    The owners' licence is yours to keep: see ``list_corpora()``.

    Args:
        name: A corpus whose owners offer it openly.
        folder: Where to put it; point `$CLEPDG_CORPORA` there.
        known_hash: "sha256:..." or "md5:...", where this course knows none.
        progress: Show a bar.

    Returns:
        The corpus's folder. One that already holds recordings is left as it is.

    Raises:
        CorpusError: Not openly offered (the message says how to get it), no network,
            or the wrong bytes.
    """
    if name not in CORPORA:
        raise CorpusError(f"unknown corpus {name!r}; known are {', '.join(CORPORA)}")
    source = CORPORA[name]
    target = Path(folder).expanduser().absolute() / name
    if target.is_dir() and recordings(target):
        return target
    by_hand = (
        f"Get it by hand from {source.page} ({source.licence}), unpack it as {target} "
        f"and set CLEPDG_CORPORA to {target.parent}"
    )
    if source.archive is None:
        raise CorpusError(f"{source.title} cannot be fetched by a program. {by_hand}.")
    known_hash = source.archive.known_hash or known_hash
    if known_hash is None:
        raise CorpusError(
            f"no checksum of {source.archive.url} is known here, so what arrives could "
            f"not be told from something else: pass known_hash='sha256:...' from "
            f"somebody you trust. Or: {by_hand}."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target: the last step is a rename inside one file system.
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as scratch:
        try:
            archive = _retrieve(name, Path(scratch), known_hash, progress=progress)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise CorpusError(
                f"{name} was not downloaded from {source.archive.url}: {error}. "
                f"Nothing was kept. {by_hand}."
            ) from error
        unpacked = Path(scratch) / "unpacked"
        extract(archive, unpacked)
        if target.is_dir() and not any(target.iterdir()):
            target.rmdir()
        unpacked.rename(target)
    return target


def _retrieve(name: str, folder: Path, known_hash: str, *, progress: bool) -> Path:
    import pooch

    archive = CORPORA[name].archive
    limit = archive.n_bytes or MAX_ARCHIVE_BYTES

    def fetch(url: str, output_file: str, _: object) -> None:
        _fetch(url, Path(output_file), limit=limit, progress=progress)

    # pooch hides a file under its final name until the hash is right.
    pooch.get_logger().setLevel("WARNING")
    return Path(
        pooch.retrieve(
            archive.url, known_hash, fname="archive.zip", path=folder, downloader=fetch
        )
    )


def _fetch(url: str, target: Path, *, limit: int, progress: bool) -> None:
    import requests
    from tqdm.auto import tqdm

    _check_scheme(url)
    with (
        requests.get(
            url,
            stream=True,
            timeout=TIMEOUT_SECONDS,
            headers={"Accept-Encoding": "identity"},
            hooks={"response": _check_redirect},
        ) as response,
        open(target, "wb") as stream,
    ):
        response.raise_for_status()
        with tqdm(total=limit, unit="B", unit_scale=True, disable=not progress) as bar:
            for chunk in response.iter_content(1 << 20):
                if stream.tell() + len(chunk) > limit:
                    raise CorpusError(f"more than the expected {limit:,} bytes came")
                stream.write(chunk)
                bar.update(len(chunk))


def _check_redirect(response, **_: object) -> None:
    if response.is_redirect:
        _check_scheme(urljoin(response.url, response.headers["location"]))


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in SCHEMES:
        raise CorpusError(f"{url} is not https, so anybody between could change it")


def extract(archive: str | Path, folder: str | Path) -> Path:
    """Unpack a zip into a new folder, or nothing of it.

    Raises:
        CorpusError: Broken; a member that leads outside, is a link, is encrypted, or
            unpacks to too much.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with zipfile.ZipFile(archive) as packed:
            members = packed.infolist()
            _check_members(members)
            for member in members:
                # extract() also stops at the size that the member's header claims.
                packed.extract(member, folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        # RuntimeError: encrypted; NotImplementedError: an odd compression.
        broken = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
        if isinstance(error, broken):
            raise CorpusError(f"{archive.name} cannot be unpacked: {error}") from error
        raise
    return folder


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        raise CorpusError(f"{len(members):,} files; at most {MAX_MEMBERS:,} are taken")
    total = sum(member.file_size for member in members)
    if total > MAX_UNPACKED_BYTES:
        raise CorpusError(
            f"unpacks to {total:,} bytes; at most {MAX_UNPACKED_BYTES:,} are taken"
        )
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        if parts[0] == "" or ".." in parts or ":" in parts[0]:
            raise CorpusError(f"member {member.filename!r} leads outside the folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise CorpusError(f"member {member.filename!r} is a link")
        if member.file_size > MAX_RATIO * max(member.compress_size, 10_000):
            raise CorpusError(
                f"member {member.filename!r} unpacks from {member.compress_size:,} to "
                f"{member.file_size:,} bytes; at most {MAX_RATIO} times is taken"
            )
