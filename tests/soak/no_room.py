"""Write to a full and to a read-only disk: clear errors, and nothing half-written.

python tests/soak/no_room.py          # as root, on Linux: it mounts small disks
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from record import make_parser, record
from tiny import make_clap, make_corpus

from clepdg_lib.acpt import random_contexts
from clepdg_lib.embeddings import embed_corpus
from clepdg_lib.files import write_arrays, write_atomically, write_checksums


@contextlib.contextmanager
def small_disk(folder: Path, *, full: bool) -> Iterator[Path]:
    """Mount a disk of 96 KB that is full, or read-only, but for a file `r.json`."""
    folder.mkdir()
    size = ["-t", "tmpfs", "-o", "size=96k", "tmpfs"]
    subprocess.run(["mount", *size, folder], check=True)
    try:
        write_atomically(folder / "r.json", "old")
        if full:
            with contextlib.suppress(OSError), open(folder / "fill", "wb") as file:
                while True:
                    file.write(b"x" * 512)
                    file.flush()
        else:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def listing(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def main() -> None:
    args = make_parser(__doc__).parse_args()
    if not (sys.platform == "linux" and os.geteuid() == 0):
        raise SystemExit("needs root on Linux to mount small disks")
    errors = []
    with tempfile.TemporaryDirectory() as base:
        clap = make_clap()
        corpus = make_corpus(Path(base) / "clips", n_each=4)
        os.environ["CLEPDG_CACHE"] = str(Path(base) / "cache")
        expected = embed_corpus(clap, corpus, cache=False).embeddings
        contexts = random_contexts(clap, n_contexts=200, n_tokens=20)
        text = json.dumps(list(range(30_000)))

        def writers(folder: Path) -> dict[str, Callable[[], object]]:
            return {
                "json": lambda: write_atomically(folder / "r.json", text),
                "arrays": lambda: write_arrays(folder / "a.npz", x=contexts.vectors),
                "contexts": lambda: contexts.save(folder / "c.npz"),
                "checksums": lambda: write_checksums(folder),
                "model": lambda: clap.save(folder / "model"),
            }

        for kind in ("full", "read-only"):
            with small_disk(Path(base) / kind, full=kind == "full") as folder:
                before = listing(folder)
                for name, write in writers(folder).items():
                    try:
                        write()
                    except OSError as error:
                        if "was not written" not in str(error):
                            raise
                        errors.append(str(error))
                    else:
                        raise SystemExit(f"{name} on a {kind} disk raised no error")
                    if listing(folder) != before:
                        raise SystemExit(f"{name} left something on a {kind} disk")
                # The cache is a help: without room for it all works, only slower.
                os.environ["CLEPDG_CACHE"] = str(folder / "cache")
                embedded = embed_corpus(clap, corpus).embeddings
                if (embedded - expected).abs().max() > 1e-6:
                    raise SystemExit(f"a cache on a {kind} disk changes embeddings")
    record(
        "disk",
        args,
        work=f"{len(errors)} writes to a full and to a read-only disk, and a cache",
        result=f"{len(errors)} clear errors, 0 half-written files; nothing depends on "
        "the cache",
    )


if __name__ == "__main__":
    main()
