"""Where the project keeps its files, and how it proves that they are whole.

Paths hang from the project itself, never from the working directory, so a notebook
runs the same from anywhere. What is written is written whole or not at all, and
every shipped binary has a SHA-256 beside it.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CHECKSUMS = "SHA256SUMS"


class MissingFileError(FileNotFoundError):
    """A file or folder that the project needs is not there."""


class ChangedFileError(ValueError):
    """A file is not the one that its checksum was taken of."""


class WriteError(OSError):
    """Something could not be written; what was there before is as it was."""


def data_root() -> Path:
    """Folder of the bundled data: `$CLEPDG_DATA`, or `data/` of the project."""
    chosen = os.environ.get("CLEPDG_DATA")
    return Path(chosen).expanduser() if chosen else PROJECT / "data"


def cache_root() -> Path:
    """Folder of what can be made again: `$CLEPDG_CACHE`, or `~/.cache/clepdg_lib`.

    The folder need not exist yet; whoever writes into it creates it.
    """
    chosen = os.environ.get("CLEPDG_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache/clepdg_lib"


def write_atomically(path: str | Path, data: str | bytes) -> Path:
    """Write a file so that a reader sees the old content or the new, never half.

    That holds for a process killed in the middle and for a machine that loses power:
    the content is on the disk before the name is.

    Args:
        path: Target; its folder is created.
        data: Text (written as UTF-8, newlines as they are) or bytes.

    Returns:
        The target as a `Path`.

    Raises:
        WriteError: Disk full, folder read-only, or the like. The target is unchanged.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_atomically(folder / "note.txt", "hello").read_text()
        'hello'
    """
    path = Path(path)
    raw = data.encode("utf-8") if isinstance(data, str) else bytes(data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        # The temporary file lies in the same folder: os.replace is atomic only inside
        # one file system.
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(raw)
                stream.flush()
                os.fsync(stream.fileno())
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
            os.chmod(name, mode)  # mkstemp makes private files; ours are ordinary ones
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        settle(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    return path


def settle(folder: Path) -> None:
    """Bring a folder's list of names to the disk, where the system can."""
    with suppress(OSError):  # Windows opens no folders; some network disks neither
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_error(path: Path, error: OSError) -> WriteError:
    """Say what could not be written, why, and what helps."""
    remedies = {
        errno.ENOSPC: "free some space on that disk, or choose a folder on another",
        errno.EDQUOT: "your share of that disk is used up: delete something there",
        errno.EFBIG: "that disk takes no file of this size: choose another",
        errno.EROFS: "that disk is read-only: choose a folder of your own",
        errno.EACCES: "you may not write there: choose a folder of your own",
        errno.EPERM: "you may not write there: choose a folder of your own",
    }
    remedy = remedies.get(error.errno, "choose another folder")
    cause = error.strerror or str(error)
    return WriteError(
        error.errno, f"{path} was not written ({cause}); nothing was changed; {remedy}"
    )


def _sweep(path: Path) -> None:
    """Remove what a killed process left of this file an hour ago or longer."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        MissingFileError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file, so it has no checksum.")
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_checksums(folder: str | Path) -> Path:
    """Write `SHA256SUMS` for every file below a folder, in `sha256sum` format.

    Hidden files and the list itself are left out; paths are relative and sorted, so
    the same content gives the same list on every machine.
    """
    folder = _existing_folder(folder)
    lines = [f"{sha256(folder / name)}  {name}\n" for name in _contents(folder)]
    return write_atomically(folder / CHECKSUMS, "".join(lines))


def verify_checksums(folder: str | Path) -> list[str]:
    """Compare a folder with its `SHA256SUMS`.

    Returns:
        One sentence per problem (changed, missing or unlisted file); empty if all
        is well.

    Raises:
        MissingFileError: The folder or its `SHA256SUMS` is missing.
    """
    folder = _existing_folder(folder)
    listing = folder / CHECKSUMS
    if not listing.is_file():
        raise MissingFileError(
            f"{listing}: no checksums here; write them with "
            f"clepdg_lib.files.write_checksums({str(folder)!r})."
        )
    expected = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        expected[name] = digest
    problems = []
    for name, digest in sorted(expected.items()):
        if not (folder / name).is_file():
            problems.append(f"{name} is listed in {CHECKSUMS} but missing.")
        elif sha256(folder / name) != digest:
            problems.append(f"{name} differs from its checksum in {CHECKSUMS}.")
    unlisted = sorted(set(_contents(folder)) - set(expected))
    problems += [f"{name} is not listed in {CHECKSUMS}." for name in unlisted]
    return problems


def refuse_changed(folder: str | Path) -> None:
    """Refuse a folder whose `SHA256SUMS` tells of another content than it has.

    A folder without a list is taken as it is. Pages about the content (`*.md`,
    `*.csv` logs beside a model) may change; everything that is loaded may not.

    Raises:
        ChangedFileError: The message names each file.
    """
    folder = Path(folder)
    if not (folder / CHECKSUMS).is_file():
        return
    problems = [p for p in verify_checksums(folder) if not _is_about(p.split()[0])]
    if problems:
        raise ChangedFileError(
            f"{folder} is not what it was made as: {' '.join(problems)} Fetch it again "
            f"(git checkout -- for what came with the course), or make it again."
        )


def _is_about(name: str) -> bool:
    return name.endswith((".md", "log.csv"))


def _contents(folder: Path) -> list[str]:
    """Relative names of the files that a checksum list covers."""
    names = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        hidden = any(p.startswith(".") or p == "__pycache__" for p in relative.parts)
        if path.is_file() and not hidden and relative.as_posix() != CHECKSUMS:
            names.append(relative.as_posix())
    return sorted(names)


def _existing_folder(folder: str | Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder.")
    return folder


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
