"""Where the project keeps its files, and how it proves that they are whole.

Paths hang from the project itself, never from the working directory, so a notebook
runs the same from anywhere. What is written is written whole or not at all, and
every shipped binary has a SHA-256 beside it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CHECKSUMS = "SHA256SUMS"


class MissingFileError(FileNotFoundError):
    """A file or folder that the project needs is not there."""


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

    Args:
        path: Target; its folder is created.
        data: Text (written as UTF-8, newlines as they are) or bytes.

    Returns:
        The target as a `Path`.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_atomically(folder / "note.txt", "hello").read_text()
        'hello'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = data.encode("utf-8") if isinstance(data, str) else bytes(data)
    # The temporary file lies in the same folder: os.replace is atomic only inside
    # one file system.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(raw)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        os.chmod(name, mode)  # mkstemp makes private files; ours are ordinary ones
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


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
