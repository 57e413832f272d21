"""Fetch a corpus that its owners let anybody fetch, and prove that it is the one.

Only over https, only with a known hash; a partial file is never taken for a whole
one, and an archive cannot write outside its folder or fill the disk.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from clepdg_lib.corpus_findings import CorpusError, recordings
from clepdg_lib.corpus_sources import CORPORA, Archive

SCHEMES = ("https",)
TIMEOUT_SECONDS = (10, 60)  # to connect, and without a byte
MIN_BYTES_A_SECOND = 1_000  # on average, once the patience is over
PATIENCE_SECONDS = 60
ATTEMPTS = 4  # each goes on where the last one stopped
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

    A download that was interrupted goes on where it stopped, also the next time.

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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target: the last step is a rename inside one file system. Hidden,
        # and named by the hash: never mistaken for a whole file, or for another one's.
        partial = target.parent / f".{name}-{known_hash[-12:]}.part"
        _fetch(source.archive, partial, known_hash, progress=progress)
        with tempfile.TemporaryDirectory(
            prefix=f".{name}-", dir=target.parent
        ) as scratch:
            unpacked = extract(partial, Path(scratch) / "unpacked")
            if target.is_dir() and not any(target.iterdir()):
                target.rmdir()
            unpacked.rename(target)
        partial.unlink()
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        kept = partial.stat().st_size if partial.is_file() else 0
        went = f"{kept:,} bytes are kept: run it again to go on from there"
        raise CorpusError(
            f"{name} was not downloaded from {source.archive.url}: {error}. "
            f"{went if kept else 'Nothing was kept'}. {by_hand}."
        ) from error
    return target


def _fetch(archive: Archive, partial: Path, known_hash: str, *, progress: bool) -> None:
    """Bring a partial file to its full length, then prove it; a wrong one is removed.

    Raises:
        CorpusError: Not https, too long or too short, or other bytes than expected.
        OSError: The network or the disk failed; what came so far is kept.
    """
    import pooch

    for attempt in range(ATTEMPTS):
        before = partial.stat().st_size if partial.is_file() else 0
        if before and before == archive.n_bytes:
            break
        try:
            _fetch_once(archive, partial, before, progress=progress)
            break
        except _Dropped as error:
            if attempt == ATTEMPTS - 1:
                raise OSError(f"{error}, {ATTEMPTS} times") from error
        except CorpusError:
            partial.unlink(missing_ok=True)
            raise
    if archive.n_bytes and partial.stat().st_size != archive.n_bytes:
        n_bytes = partial.stat().st_size
        partial.unlink()
        raise CorpusError(f"{n_bytes:,} bytes came, {archive.n_bytes:,} are expected")
    if not pooch.hashes.hash_matches(partial, known_hash):
        partial.unlink()
        raise CorpusError(f"what came has another hash than the known {known_hash}")


class _Dropped(Exception):
    """The connection ended, or crept, before the file did: worth another attempt."""


def _fetch_once(archive: Archive, partial: Path, start: int, *, progress: bool) -> None:
    import requests
    from tqdm.auto import tqdm
    from urllib3.exceptions import HTTPError

    _check_scheme(archive.url)
    limit = archive.n_bytes or MAX_ARCHIVE_BYTES
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    lost = (requests.ConnectionError, requests.Timeout)
    try:
        response = requests.get(
            archive.url,
            stream=True,
            timeout=TIMEOUT_SECONDS,
            headers=headers,
            hooks={"response": _check_redirect},
        )
    except lost as error:
        raise _Dropped(str(error)) from error
    with response:
        if response.status_code == 416:  # it knows no such place: begin again
            partial.unlink(missing_ok=True)
            raise _Dropped("the server cannot go on from here")
        response.raise_for_status()
        given = response.headers.get("Content-Range", "")
        goes_on = response.status_code == 206 and given.startswith(f"bytes {start}-")
        if response.status_code == 206 and not goes_on:
            raise CorpusError(f"the server sent {given!r}, asked for byte {start} on")
        start = start if goes_on else 0
        said = response.headers.get("Content-Length", "")
        whole = start + int(said) if said.isdecimal() else None
        if whole is not None and whole > limit:
            raise CorpusError(f"more than the expected {limit:,} bytes are announced")
        begun = time.monotonic()
        with (
            partial.open("ab" if start else "wb") as stream,
            tqdm(
                **{"total": limit, "initial": start, "unit": "B", "unit_scale": True},
                disable=not progress,
            ) as bar,
        ):
            while True:
                try:
                    # read1: what is there now, so that a creeping server is noticed
                    chunk = response.raw.read1(1 << 20)
                except (HTTPError, OSError) as error:
                    raise _Dropped(f"the connection was lost ({error})") from error
                if not chunk:
                    break
                if stream.tell() + len(chunk) > limit:
                    raise CorpusError(f"more than the expected {limit:,} bytes came")
                stream.write(chunk)
                bar.update(len(chunk))
                took = time.monotonic() - begun
                slow = (stream.tell() - start) / max(took, 1e-9) < MIN_BYTES_A_SECOND
                if took > PATIENCE_SECONDS and slow:
                    raise _Dropped(f"under {MIN_BYTES_A_SECOND:,} bytes a second came")
            n_bytes = stream.tell()
    if n_bytes < (whole or archive.n_bytes or 0):
        raise _Dropped(f"the connection ended after {n_bytes:,} bytes")


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
            _check_members(members, archive.stat().st_size)
            folder.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder.parent).free
            total = sum(member.file_size for member in members)
            if total > free:
                raise CorpusError(
                    f"unpacks to {total:,} bytes, but {free:,} are free on this disk"
                )
            for member in members:
                # extract() also stops at the size that the member's header claims.
                packed.extract(member, folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        # RuntimeError: encrypted; NotImplementedError: an odd compression.
        broken = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)
        if isinstance(error, broken):
            raise CorpusError(f"{archive.name} cannot be unpacked: {error}") from error
        raise
    return folder


def _check_members(members: list[zipfile.ZipInfo], n_bytes: int) -> None:
    if len(members) > MAX_MEMBERS:
        raise CorpusError(f"{len(members):,} files; at most {MAX_MEMBERS:,} are taken")
    total = sum(member.file_size for member in members)
    if total > MAX_UNPACKED_BYTES:
        raise CorpusError(
            f"unpacks to {total:,} bytes; at most {MAX_UNPACKED_BYTES:,} are taken"
        )
    packed = sum(member.compress_size for member in members)
    if packed > n_bytes:
        raise CorpusError(
            f"its members claim {packed:,} bytes of the archive's {n_bytes:,}: they "
            "overlap, as in a bomb"
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
