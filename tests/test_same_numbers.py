"""The same seed gives the same numbers again: on one thread, and on two."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from soak.chain import run_chain

from clepdg_lib.files import PROJECT

CHAIN = PROJECT / "tests" / "soak" / "chain.py"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of clips with a table, as a student would have it."""
    from soak.tiny import make_corpus

    folder = tmp_path_factory.mktemp("clips")
    table = make_corpus(folder, n_each=4).clips
    table.to_csv(folder / "clips.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def runs(clips, tiny_clap_folder, tmp_path_factory):
    """The numbers of four fresh processes: one thread, one again, two, two again."""
    folder, found = tmp_path_factory.mktemp("runs"), []
    for i, threads in enumerate((1, 1, 2, 2)):
        out = folder / f"{i}.npz"
        environment = {
            **os.environ,
            "CLEPDG_CACHE": str(folder / f"cache-{i}"),
            "PYTHONHASHSEED": str(i),
        }
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(threads)
        words = [sys.executable, str(CHAIN), str(tiny_clap_folder), str(clips)]
        subprocess.run([*words, str(out)], env=environment, check=True, cwd=folder)
        with np.load(out, allow_pickle=False) as arrays:
            found.append({name: arrays[name] for name in arrays.files})
    return found


def gaps(first, second):
    """Largest difference by name; words must be equal."""
    assert first.keys() == second.keys() and len(first) >= 15
    found = {}
    for name, values in first.items():
        if values.dtype.kind in "fc":
            gap = np.abs(values.astype(float) - second[name].astype(float)).max()
            found[name] = float(gap)
        else:
            np.testing.assert_array_equal(values, second[name], err_msg=name)
    return found


@pytest.mark.parametrize("pair", [(0, 1), (2, 3)], ids=["one thread", "two threads"])
def test_the_whole_chain_gives_the_same_numbers_again(runs, pair):
    found = gaps(runs[pair[0]], runs[pair[1]])
    assert max(found.values()) <= 1e-6, found


def test_another_number_of_threads_changes_next_to_nothing(runs):
    """Two threads add up in another order: that moves the last digit of a float.

    A telephone's eight bits make a step of it in a few samples of a hundred, and a
    training a little more; what is neither is the same to 1e-6.
    """
    found = gaps(runs[0], runs[2])
    exact = ("clap", "zero_shot")
    assert max(found[name] for name in exact) <= 1e-6, found
    moved = np.abs(runs[0]["placed"] - runs[2]["placed"]) > 1e-6
    assert moved.mean() <= 0.05 and found["placed"] <= 0.01
    trained = {k: v for k, v in found.items() if k not in (*exact, "placed")}
    assert max(trained.values()) <= 1e-3, trained


def test_the_chain_is_one_that_could_differ(runs):
    first = runs[0]
    assert np.isfinite(first["clep"]).all()
    assert np.abs(first["clep"] - first["clap"]).max() > 1e-3  # it was trained
    assert np.ptp(first["contexts"]) > 0 and np.ptp(first["shares"]) > 1e-3


def test_a_second_look_comes_from_the_cache_and_is_the_same(
    clips, tiny_clap_folder, private_cache
):
    one, two = (run_chain(tiny_clap_folder, clips) for _ in range(2))
    for name in ("clap", "clep", "contexts", "classifier"):
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
