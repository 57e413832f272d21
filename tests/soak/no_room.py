"""Fill the disk, and take the right to write away: errors that say so, nothing half.

    python tests/soak/no_room.py          # as root, on Linux: it mounts small disks

Every kind of writing is tried on a disk of a few kilobytes that is full to the brim,
and on one that is read-only.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from record import record  # noqa: E402
from tiny import make_corpus, make_model  # noqa: E402

from clepdg_lib.acpt import random_contexts  # noqa: E402
from clepdg_lib.arrays import write_arrays  # noqa: E402
from clepdg_lib.clap import embed_corpus, load_clap  # noqa: E402
from clepdg_lib.clep import finetune_clep  # noqa: E402
from clepdg_lib.contrast import Recipe  # noqa: E402
from clepdg_lib.files import WriteError, write_atomically, write_checksums  # noqa: E402


@contextlib.contextmanager
def small_disk(folder: Path, *, kilobytes: int):
    """Mount a disk in memory; it is gone afterwards."""
    folder.mkdir()
    options = f"size={kilobytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def listing(folder: Path) -> dict[str, bytes]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def main() -> None:
    if not (sys.platform == "linux" and os.geteuid() == 0):
        print("no_room: needs root on Linux to mount small disks; left out")
        return
    began, tried, told = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory() as base:
        base = Path(base)
        clap = load_clap(make_model(base / "tiny"))
        corpus = make_corpus(base / "clips", n_each=4)
        os.environ["CLEPDG_CACHE"] = str(base / "cache")
        expected = embed_corpus(clap, corpus, cache=False).embeddings
        contexts = random_contexts(clap, n_contexts=200, n_tokens=20)
        recipe = Recipe(epochs=1, batch_size=8, probe_steps=1, precision="float32")

        def writers(folder: Path):
            text = json.dumps(list(range(30_000)))
            yield "json", lambda: write_atomically(folder / "r.json", text)
            yield "arrays", lambda: write_arrays(folder / "a.npz", x=expected.numpy())
            yield "contexts", lambda: contexts.save(folder / "c.npz")
            yield "model", lambda: clap.save(folder / "model")
            yield "checksums", lambda: write_checksums(folder)

        for kind in ("full", "read-only"):
            with small_disk(base / kind, kilobytes=96) as folder:
                write_atomically(folder / "r.json", "old")
                if kind == "full":
                    with contextlib.suppress(OSError), open(folder / "fill", "wb") as f:
                        while True:
                            f.write(b"x" * 512)
                            f.flush()
                else:
                    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
                before = listing(folder)
                for name, write in writers(folder):
                    tried += 1
                    try:
                        write()
                    except WriteError as error:
                        assert "nothing was changed" in str(error), error
                        told.append(str(error))
                    else:
                        raise SystemExit(f"{name} on a {kind} disk was no error")
                    assert listing(folder) == before, f"{name} left something ({kind})"
                # The cache is a help, not a need: without room it works, only slower.
                os.environ["CLEPDG_CACHE"] = str(folder / "cache")
                tried += 1
                found = embed_corpus(clap, corpus).embeddings
                assert (found - expected).abs().max() < 1e-6
                # A checkpoint that cannot be kept stops a training with an error.
                tried += 1
                try:
                    finetune_clep(
                        clap,
                        corpus,
                        recipe=recipe,
                        n_places=0,
                        checkpoint=folder / "checkpoint.safetensors",
                        progress=False,
                    )
                except Exception as error:
                    told.append(str(error))
                else:
                    raise SystemExit(f"a checkpoint on a {kind} disk was no error")
                assert not (folder / "checkpoint.safetensors").exists()
    record(
        "disk",
        did=f"{tried} writes to a full and to a read-only disk",
        found=f"{len(told)} clear errors, 0 half-written files; the cache does without",
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    main()
