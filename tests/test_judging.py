"""Judging: rows of one shape, the same for the same seed, from text alone."""

import functools

import numpy as np
import pandas as pd
import pytest

from clepdg_lib import judging
from clepdg_lib.embedding import embed_corpus
from clepdg_lib.judging import judge_measurements, judge_methods, summarise

pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture
def quick(monkeypatch):
    """Few contexts, few steps: rows are tested here, not scores."""
    few = functools.partial(judging.tune_contexts, n_contexts=2, n_tokens=1, steps=2)
    monkeypatch.setattr(judging, "tune_contexts", few)


def test_the_same_seed_gives_the_same_rows(tiny_clap, feeling_corpus, quick):
    heard = embed_corpus(tiny_clap, feeling_corpus(n_each=2))
    about = {"setting": "loco", "test": "tess"}
    first, again, other = (
        judge_methods(tiny_clap, tiny_clap, heard, heard, seed=s, **about)
        for s in (0, 0, 1)
    )
    assert first == again
    assert [row["seed"] for row in other] == [1] * 6
    scores = {row["method"]: row["uar"] for row in first}
    assert scores["clap-zero-shot"] == scores["clep-zero-shot"]  # the same model


def test_measurements_are_judged_by_the_other_corpora_alone():
    labels = np.array(["sad", "angry"] * 6)
    clips = pd.DataFrame({"corpus": ["a"] * 4 + ["b"] * 4 + ["c"] * 4})
    clips["emotion"] = labels
    measured = np.where(labels == "sad", 1.0, -1.0)[:, None]
    measured[8:] *= -1  # in the corpus that is judged all is the other way
    row = judge_measurements(measured, clips, test="c")
    assert (row["method"], row["test"], row["n"], row["uar"]) == (
        *("egemaps-lr", "c"),
        *(4, 0.0),
    )


def test_a_summary_has_methods_in_order_and_means_over_seeds():
    rows = [
        {"method": m, "test": t, "seed": s, "uar": u, "war": 0.5}
        for m, t, s, u in (
            ("clep-dg", "tess", 0, 0.4),
            ("clep-dg", "tess", 1, 0.6),
            ("clep-dg", "nemo", 0, 0.3),
            ("other", "tess", 0, 0.2),
            ("chance", "tess", 0, 0.25),
        )
    ]
    table = summarise(rows)
    assert list(table.index) == ["chance", "other", "clep-dg"]
    assert table.loc["clep-dg", "tess"] == pytest.approx(0.5)
    assert table.loc["clep-dg", "mean"] == pytest.approx(0.4)
    assert summarise(rows, score="war").loc["chance", "tess"] == 0.5
