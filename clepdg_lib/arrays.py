"""Arrays on disk: npz files without pickles, written whole and read with suspicion.

Lesson: none; contexts and embeddings are kept so.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clepdg_lib.files import MissingFileError, write_atomically


def write_arrays(path: str | Path, **arrays: np.ndarray | str) -> Path:
    """Write arrays as a compressed npz, whole or not at all.

    Raises:
        ValueError: An array of Python objects, which only a pickle could hold.
        WriteError: Disk full, folder read-only, or the like.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(
                f"{name} holds Python objects, which only a pickle could keep; "
                "make it numbers or text (astype(str)) first"
            )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return write_atomically(path, buffer.getvalue())


def read_arrays(path: str | Path, *, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of an npz by name; a pickle in it is refused.

    Raises:
        MissingFileError: There is no such file.
        ValueError: No npz, damaged, pickled, or one that lacks a name.

    Example:
        >>> from tempfile import mkdtemp
        >>> file = write_arrays(Path(mkdtemp()) / "a.npz", x=np.arange(3))
        >>> read_arrays(file, names=["x"])["x"].tolist()
        [0, 1, 2]
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; it should be an npz file.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            lacking = sorted(set(names) - set(arrays.files))
            if lacking:
                raise ValueError(f"it lacks {lacking}, and has {arrays.files}")
            found = {name: arrays[name] for name in names}
            strange = [k for k, v in found.items() if not isinstance(v, np.ndarray)]
            if strange:  # numpy hands out as bytes what is no array
                raise ValueError(f"{strange} are no arrays")
            return found
    except (OSError, ValueError, EOFError, TypeError, AttributeError) as error:
        raise _refusal(path, error) from error
    except (zipfile.BadZipFile, zlib.error, RuntimeError, KeyError) as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> ValueError:
    told = str(error).split(" When")[0].rstrip(".")
    if "pickle" in told:
        told = "it holds a pickle, which could run anything"
    return ValueError(
        f"{path} cannot be read as arrays ({told}); it should be an npz that this "
        "course wrote. Make or copy it again."
    )
