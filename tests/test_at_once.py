"""Eight processes, one cache; shared data that nobody may write to."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from clepdg_lib.cache import EmbeddingCache
from clepdg_lib.clap import embed_corpus, load_clap
from clepdg_lib.corpora import load_corpus
from clepdg_lib.files import PROJECT, write_atomically

# Imported once and forked eight times: what is tested is the cache, not the imports.
# Nothing is computed before the fork: torch's threads would not come along, and it
# stops where it misses them.
EIGHT = """
    import os, sys, traceback
    import numpy as np, torch
    from clepdg_lib import embedding
    from clepdg_lib.arrays import write_arrays
    from clepdg_lib.clap import embed_corpus, load_clap
    from clepdg_lib.corpora import load_corpus
    model, clips, out = sys.argv[1:]
    embedding.FLUSH_ROWS = 2
    children = []
    for i in range(8):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                torch.set_num_threads(1)
                clap, corpus = load_clap(model), load_corpus(clips)
                found = embed_corpus(clap, corpus, batch_size=2)
                write_arrays(f"{out}/{i}.npz", embeddings=found.embeddings.numpy())
                status = 0
            except BaseException:
                traceback.print_exc()  # nobody else will tell
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children))
"""


@pytest.fixture
def clips(tmp_path):
    from soak.tiny import make_corpus

    table = make_corpus(tmp_path / "clips", n_each=5).clips
    table.to_csv(tmp_path / "clips" / "clips.csv", index=False)
    return tmp_path / "clips"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_eight_processes_fill_one_cache(
    clips, tmp_path, tiny_clap_folder, private_cache
):
    (tmp_path / "out").mkdir()
    words = [str(tiny_clap_folder), str(clips), str(tmp_path / "out")]
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EIGHT), *words],
        **{"capture_output": True, "text": True, "cwd": PROJECT},
    )
    assert run.returncode == 0, run.stderr
    clap, corpus = load_clap(tiny_clap_folder), load_corpus(clips)
    expected = embed_corpus(clap, corpus, cache=False).embeddings.numpy()
    for i in range(8):
        with np.load(tmp_path / "out" / f"{i}.npz", allow_pickle=False) as found:
            np.testing.assert_allclose(found["embeddings"], expected, atol=1e-6)
    # Everything is there once, and no lock or journal is left.
    with contextlib.closing(EmbeddingCache()._open()) as store:
        ((n_rows,),) = store.execute("SELECT COUNT(*) FROM rows")
        ((state,),) = store.execute("PRAGMA integrity_check")
    assert (n_rows, state) == (len(corpus), "ok")
    left = {p.name for p in private_cache.rglob("*") if p.is_file()}
    assert left == {"embeddings.sqlite"}


def test_shared_data_that_is_read_only_serves_everybody(
    tmp_path, tiny_clap_folder, clips, monkeypatch
):
    """Everything of a model and a corpus is opened for reading, and only that."""
    shared = tmp_path / "shared"
    shutil.copytree(tiny_clap_folder, shared / "model")
    shutil.copytree(clips, shared / "clips")
    before = {p: p.stat().st_mtime_ns for p in shared.rglob("*")}
    for path in shared.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    shared.chmod(0o555)
    try:
        for name in ("one", "two"):  # two users, each with a cache of their own
            monkeypatch.setenv("CLEPDG_CACHE", str(tmp_path / name))
            heard = embed_corpus(
                load_clap(shared / "model"), load_corpus(shared / "clips")
            )
            assert len(heard) == 20
        assert {p: p.stat().st_mtime_ns for p in shared.rglob("*")} == before
    finally:
        for path in (shared, *shared.rglob("*")):
            path.chmod(0o755)


def test_many_writers_of_one_file_leave_one_whole_version(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    versions = [bytes([65 + i]) * 50_000 for i in range(8)]
    file = tmp_path / "result.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda v: write_atomically(file, v), versions * 5))
    assert file.read_bytes() in versions
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
