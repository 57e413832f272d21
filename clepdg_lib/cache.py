"""Remember on disk what took long, so that no clip is embedded or drawn twice.

What towers hear: one SQLite file (safe for several processes, never half-written) maps
a key, made of the tower's weights, its preprocessing and the sound's content, to
a row of float32. When it outgrows its limit, the rows unused for longest go first.
Larger arrays lie in files of their own. A cache is never needed: where none can be
kept (a read-only home, a broken file), everything works, only slower.
"""

from __future__ import annotations

import hashlib
import io
import sqlite3
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import torch

from clepdg_lib.files import cache_root, write_atomically

LIMIT_BYTES = 512 * 1024**2


class EmbeddingCache:
    """Keys to embeddings in ``folder/embeddings.sqlite``.

    A cache that cannot be opened is an empty one: nothing is remembered, and nothing
    fails.

    Args:
        folder: Where the file lies; default the user's cache directory.
        limit_bytes: Size of the stored rows above which old ones are dropped.
    """

    def __init__(
        self, folder: Path | None = None, *, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self.file = (folder or cache_root()) / "embeddings.sqlite"
        self.limit_bytes = limit_bytes

    def get(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the rows at hand, each (dim,) float32, by key."""
        found: dict[str, np.ndarray] = {}
        with suppress(sqlite3.Error, OSError), closing(self._open()) as store, store:
            parts = [list(keys[i : i + 500]) for i in range(0, len(keys), 500)]
            for part in parts:
                rows = store.execute(
                    f"SELECT key, row FROM rows WHERE key IN ({_marks(part)})", part
                ).fetchall()
                for key, row in rows:
                    found[key] = np.frombuffer(row, dtype="<f4").copy()
            # Last, for a file that can only be read refuses it.
            for part in parts:
                store.execute(
                    f"UPDATE rows SET used = ? WHERE key IN ({_marks(part)})",
                    [time.time(), *part],
                )
        return found

    def put(self, rows: Mapping[str, np.ndarray]) -> None:
        """Store rows; then drop the least recently used above the limit."""
        now = time.time()
        values = [
            (key, np.ascontiguousarray(row, dtype="<f4").tobytes(), now)
            for key, row in rows.items()
        ]
        with suppress(sqlite3.Error, OSError), closing(self._open()) as store, store:
            store.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", values)
            if self._bytes_in_use(store) > self.limit_bytes:
                self._forget(store)

    def _forget(self, store: sqlite3.Connection) -> None:
        (size,) = store.execute("SELECT SUM(LENGTH(row)) FROM rows").fetchone()
        while size and size > self.limit_bytes:
            # Half at a time would be too much, one at a time too slow.
            store.execute(
                "DELETE FROM rows WHERE key IN (SELECT key FROM rows "
                "ORDER BY used LIMIT max(1, (SELECT COUNT(*) FROM rows) / 10))"
            )
            (size,) = store.execute("SELECT SUM(LENGTH(row)) FROM rows").fetchone()

    @staticmethod
    def _bytes_in_use(store: sqlite3.Connection) -> int:
        """Bytes of all pages with something on them: no less than the rows', at once.

        Adding up the rows reads the whole file, which is for once in a while.
        """
        names = ("page_count", "freelist_count", "page_size")
        total, free, size = (
            store.execute(f"PRAGMA {name}").fetchone()[0] for name in names
        )
        return (total - free) * size

    def _open(self) -> sqlite3.Connection:
        with suppress(OSError):  # an old cache in a read-only home can still be read
            self.file.parent.mkdir(parents=True, exist_ok=True)
        store = sqlite3.connect(self.file, timeout=30)
        try:
            store.execute(
                "CREATE TABLE IF NOT EXISTS rows "
                "(key TEXT PRIMARY KEY, row BLOB NOT NULL, used REAL NOT NULL)"
            )
        except sqlite3.Error:
            store.close()
            raise
        return store


def content_key(prefix: str, path: str | Path) -> str:
    """Key of a file's content under a prefix that names model and preprocessing.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256(prefix.encode())
    digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def weights_key(prefix: str, weights: Mapping[str, torch.Tensor]) -> str:
    """Key of named tensors, whatever their order, under a prefix."""
    digest = hashlib.sha256(prefix.encode())
    for _, tensor in sorted(weights.items()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_arrays(file: Path) -> dict[str, np.ndarray] | None:
    """Read the arrays that `store_arrays` wrote; None if there are none, or broken."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    except (AttributeError, TypeError):  # a single array, which is no archive
        return None
    # numpy hands out as bytes what is no array
    return found if all(isinstance(a, np.ndarray) for a in found.values()) else None


def store_arrays(file: Path, **arrays: np.ndarray) -> None:
    """Keep arrays in an npz file, if that is possible here."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with suppress(OSError):
        write_atomically(file, buffer.getvalue())


def _marks(part: Sequence[str]) -> str:
    return ",".join("?" * len(part))
