"""Remember embeddings on disk, so that no clip is embedded twice.

One SQLite file (safe for several processes, never half-written) maps a key, made
of the model's weights, its preprocessing and the sound file's content, to a row of
float32. When it outgrows its limit, the rows unused for longest go first.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from clepdg_lib.files import cache_root

LIMIT_BYTES = 512 * 1024**2


class EmbeddingCache:
    """Keys to embeddings in ``folder/embeddings.sqlite``.

    A cache that cannot be opened (a read-only home, a broken file) is an empty one:
    nothing is remembered, and nothing fails.

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
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                rows = store.execute(
                    f"SELECT key, row FROM rows WHERE key IN ({marks})", part
                ).fetchall()
                for key, row in rows:
                    found[key] = np.frombuffer(row, dtype="<f4").copy()
                store.execute(
                    f"UPDATE rows SET used = ? WHERE key IN ({marks})",
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
            (size,) = store.execute("SELECT SUM(LENGTH(row)) FROM rows").fetchone()
            while size and size > self.limit_bytes:
                # Half at a time would be too much, one at a time too slow.
                store.execute(
                    "DELETE FROM rows WHERE key IN (SELECT key FROM rows "
                    "ORDER BY used LIMIT max(1, (SELECT COUNT(*) FROM rows) / 10))"
                )
                (size,) = store.execute("SELECT SUM(LENGTH(row)) FROM rows").fetchone()

    def _open(self) -> sqlite3.Connection:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        store = sqlite3.connect(self.file, timeout=30)
        store.execute(
            "CREATE TABLE IF NOT EXISTS rows "
            "(key TEXT PRIMARY KEY, row BLOB NOT NULL, used REAL NOT NULL)"
        )
        return store


def content_key(prefix: str, path: str | Path) -> str:
    """Key of a file's content under a prefix that names model and preprocessing.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256(prefix.encode())
    digest.update(Path(path).read_bytes())
    return digest.hexdigest()
