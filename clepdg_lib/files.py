"""The project's folders; files written whole or not at all, checksums, arrays."""

import errno
import hashlib
import io
import os
import platform
import re
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
CHECKSUMS = "SHA256SUMS"
PACKAGES = ["torch", "torchaudio", "transformers", "tokenizers", "safetensors", "numpy"]
PACKAGES += ["pandas", "scikit-learn", "soundfile", "soxr"]


class MissingFileError(FileNotFoundError):
    """A file or folder that the project needs is not there."""


def as_path(path: str | os.PathLike) -> Path:
    """Return a path with `~` expanded, where there is a home."""
    return Path(path if "\0" in str(path) else os.path.expanduser(path))


def data_root() -> Path:
    """Folder of the bundled data: `$CLEPDG_DATA`, or `data/` of the project."""
    return as_path(os.environ.get("CLEPDG_DATA") or PROJECT / "data")


def cache_root() -> Path:
    """Folder of what can be made again: `$CLEPDG_CACHE`, or `~/.cache/clepdg_lib`."""
    home = as_path("~")  # stays "~" without $HOME and an entry in the list of users
    cache = home / ".cache" if home.is_absolute() else Path(tempfile.gettempdir())
    return as_path(os.environ.get("CLEPDG_CACHE") or cache / "clepdg_lib")


def write_atomically(path: str | os.PathLike, data: str | bytes) -> Path:
    """Write text (as UTF-8) or bytes whole, or not at all; an `OSError` says why."""
    path = as_path(path)
    # In the same folder: os.replace is atomic only inside one file system.
    temporary = path.with_name(f".writing-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space on that disk" if full else "choose another folder"
        message = f"{path} was not written ({error.strerror or error}); {remedy}."
        raise OSError(error.errno, message) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return path


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(os.path.expanduser(path), "rb", buffering=0) as file:
        return hashlib.sha256(file.read()).hexdigest()


def write_checksums(folder: str | os.PathLike) -> Path:
    """Write `SHA256SUMS` for every visible file below a folder, as `sha256sum` does."""
    data = "".join(f"{code}  {name}\n" for name, code in _checksums(folder).items())
    data = data.encode("utf-8", "surrogateescape")  # any file name
    return write_atomically(as_path(folder) / CHECKSUMS, data)


def verify_checksums(folder: str | os.PathLike) -> dict[str, str]:
    """Compare a folder with its `SHA256SUMS`: a sentence per wrong file, by name."""
    actual, listing = _checksums(folder), as_path(folder) / CHECKSUMS
    if not listing.is_file():
        raise MissingFileError(f"{listing}: missing; call write_checksums to make it.")
    lines = listing.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    expected = dict(line.split("  ", 1)[::-1] for line in lines if "  " in line)
    wrong = {x for x in {*expected, *actual} if expected.get(x) != actual.get(x)}
    states = dict.fromkeys(wrong, "differs from its checksum in")
    states |= dict.fromkeys(wrong - set(actual), "is missing, but listed in")
    states |= dict.fromkeys(wrong - set(expected), "is not listed in")
    return {name: f"{name} {states[name]} {CHECKSUMS}." for name in sorted(wrong)}


def refuse_changed(folder: str | os.PathLike, *, required: bool = False) -> None:
    """Refuse a folder that differs from its `SHA256SUMS`, but for pages (`*.md`, logs).

    A folder without `SHA256SUMS` passes, unless it is `required`.
    """
    problems = {CHECKSUMS: f"{CHECKSUMS} is missing."} if required else {}
    if (as_path(folder) / CHECKSUMS).is_file():
        problems = verify_checksums(folder)
    if wrong := [problems[x] for x in problems if not x.endswith((".md", "log.csv"))]:
        remedy = "Make it again, or fetch it: if it came with the course, git checkout."
        raise ValueError(f"{folder} has changed: {' '.join(wrong)} {remedy}")


def write_arrays(path: str | os.PathLike, **arrays: np.ndarray | str) -> Path:
    """Write arrays as a compressed npz (the suffix is added), whole or not at all."""
    path = as_path(path)
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"{name} holds Python objects; use astype(str) first.")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return write_atomically(path, buffer.getvalue())


def read_arrays(path: str | os.PathLike, *, names: Sequence[str]) -> dict:
    """Read arrays of an npz by name; damage and pickles raise a `ValueError`."""
    path = as_path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; it should be an npz file.")
    try:
        with np.load(path, allow_pickle=False) as npz:
            if lacking := sorted(set(names) - set(npz.files)):
                raise ValueError(f"it lacks {lacking}, and has {npz.files}")
            arrays = {name: npz[name] for name in names}
        if any(isinstance(array, bytes) for array in arrays.values()):
            raise ValueError("it holds bytes that are no array")
        return arrays
    except Exception as error:  # numpy raises a dozen kinds on damaged files
        pickled = "pickle" in str(error)  # numpy would explain how to run it
        cause = "it holds a pickle, which could run any code" if pickled else error
        message = f"{path} cannot be read as arrays ({cause}). Make or copy it again."
        raise ValueError(message) from error


def versions() -> dict[str, str]:
    """Versions of Python, of the packages that compute, and of this library's code."""
    code, folder = hashlib.sha256(), PROJECT / "clepdg_lib"
    for file in sorted([*folder.rglob("*.py"), *folder.rglob("*.json")]):
        code.update(os.fsencode(file.relative_to(PROJECT)) + b"\0" + file.read_bytes())
    stamp = {"code": code.hexdigest()[:12], "python": platform.python_version()}
    stamp["system"] = f"{platform.system()} {platform.machine()}"
    return stamp | {name: metadata.version(name) for name in PACKAGES}


def _checksums(folder: str | os.PathLike) -> dict[str, str]:
    """Checksums of the visible files below a folder, by relative name, sorted."""
    folder = as_path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder.")
    names = [x.relative_to(folder).as_posix() for x in folder.rglob("*") if x.is_file()]
    hidden = re.compile(r"(^|/)(\.|__pycache__/)")
    names = sorted(x for x in names if x != CHECKSUMS and not hidden.search(x))
    return {name: sha256(folder / name) for name in names}
