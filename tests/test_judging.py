"""Judging: verdicts on the same clips, plain rows, differences in pairs."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch

from clepdg_lib import methods
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.embedding import embed_corpus
from clepdg_lib.judging import (
    Training,
    Verdict,
    chance_row,
    compare,
    judge_measurements,
    judge_methods,
    rows_of,
    summarise,
)

pytestmark = pytest.mark.usefixtures("private_cache")
ABOUT = {"setting": "loco", "test": "tess", "seed": 0}


@pytest.fixture
def quick(monkeypatch):
    """Few contexts, few steps: verdicts are tested here, not scores."""
    few = functools.partial(methods.tune_contexts, n_contexts=2, n_tokens=1, steps=2)
    monkeypatch.setattr(methods, "tune_contexts", few)


@pytest.fixture
def heard(tiny_clap, feeling_corpus):
    return embed_corpus(tiny_clap, feeling_corpus(n_each=2))


def test_the_same_seed_gives_the_same_verdicts(tiny_clap, heard, quick):
    first, again = (
        judge_methods(tiny_clap, tiny_clap, heard, heard, **ABOUT) for _ in range(2)
    )
    for a, b in zip(first, again, strict=True):
        assert (a.method, a.transductive) == (b.method, b.transductive)
        np.testing.assert_array_equal(a.guess, b.guess)
    plain = {v.method: v.guess for v in first if not v.transductive}
    same = plain["clap-zero-shot"] == plain["clep-zero-shot"]
    assert same.all()  # the same model


def test_without_training_audio_nothing_of_it_is_judged(tiny_clap, heard, quick):
    verdicts = judge_methods(tiny_clap, tiny_clap, heard, heard, **ABOUT)
    assert {v.gap_correction for v in verdicts} == {"none"}
    assert "audio-probe" not in {v.method for v in verdicts}
    assert {v.transductive for v in verdicts} == {False, True}


def test_every_method_has_its_ways(tiny_clap, heard, quick):
    known = Training.of(heard)
    verdicts = judge_methods(
        tiny_clap, tiny_clap, heard, heard, training=known, **ABOUT
    )
    ways = {}
    for v in verdicts:
        ways.setdefault(v.method, []).append((v.gap_correction, v.transductive))
    assert list(ways) == [m for m in methods.METHODS if m in ways]
    assert set(methods.METHODS) - set(ways) == {"chance", "egemaps-lr"}
    plain, shifted, own = ("none", False), ("mean-shift", False), ("none", True)
    assert ways.pop("clap-zero-shot") == ways.pop("audio-probe") == [plain, own]
    assert all(found == [plain, shifted, own] for found in ways.values())


def test_the_gap_is_closed_by_the_training_mean_and_not_by_the_tests(
    tiny_clap, heard, quick
):
    how = {"gap_correction": "mean-shift", "transductive": False}

    def guesses(mean):
        verdicts = judge_methods(
            tiny_clap, tiny_clap, heard, heard, training=Training(mean), **ABOUT
        )
        return np.stack(
            [
                v.guess
                for v in verdicts
                if all(getattr(v, key) == value for key, value in how.items())
            ]
        )

    own = heard.embeddings.mean(dim=0)
    zero = guesses(torch.zeros_like(own))
    assert (zero != guesses(100 * own)).any()  # the given mean is what counts


def test_a_row_says_all_that_the_table_needs():
    truth = np.array(EMOTIONS * 5)
    always = Verdict("clep-dg", "loco", "tess", 1, truth, np.full(20, "sad"))
    row = always.row()
    assert (row["uar"], row["war"], row["n"]) == (0.25, 0.25, 20)
    assert row["collapsed"] and row["recall"] == {
        "angry": 0.0,
        "happy": 0.0,
        "neutral": 0.0,
        "sad": 1.0,
    }
    good = Verdict("clep-dg", "loco", "tess", 1, truth, truth).row()
    assert good["ci_low"] == good["ci_high"] == 1.0 and not good["collapsed"]
    assert set(chance_row(truth, **ABOUT)) == set(row)


def test_chance_stands_before_each_test_set_once():
    truth = np.array(EMOTIONS)
    verdicts = [
        Verdict(method, "loco", test, 0, truth, truth)
        for test in ("tess", "nemo")
        for method in ("text-classifier", "clep-dg")
    ]
    found = [(row["test"], row["method"]) for row in rows_of(verdicts)]
    expected = [
        (test, method)
        for test in ("tess", "nemo")
        for method in ("chance", "text-classifier", "clep-dg")
    ]
    assert found == expected


def test_a_comparison_is_paired_and_averages_seeds_and_test_sets():
    truth = np.array(EMOTIONS * 50)
    draw = np.random.default_rng(0)
    verdicts = []
    for test in ("tess", "nemo"):
        for seed in (0, 1):
            hard = draw.random(200) < 0.5
            worse = np.where(hard, "nobody", truth)
            better = np.where(hard & (np.arange(200) % 10 > 0), "nobody", truth)
            about = ("loco", test, seed, truth)
            verdicts += [
                Verdict("text-classifier", *about, worse),
                Verdict("clep-dg", *about, better),
                Verdict("clep-dg", *about, worse, transductive=True),
            ]
    (row,) = compare(verdicts)
    assert (row["a"], row["b"]) == ("clep-dg", "text-classifier")
    means = {
        m: np.mean([v.row()["uar"] for v in verdicts if m == v.method][::step])
        for m, step in (("text-classifier", 1), ("clep-dg", 2))
    }
    difference = means["clep-dg"] - means["text-classifier"]
    assert row["mean_difference"] == pytest.approx(difference)
    assert 0 < row["ci_low"] < row["mean_difference"] < row["ci_high"] < 0.15
    assert compare([v for v in verdicts if v.method == "clep-dg"]) == []


def test_measurements_are_judged_by_the_other_corpora_alone():
    labels = np.array(["sad", "angry"] * 6)
    clips = pd.DataFrame({"corpus": ["a"] * 4 + ["b"] * 4 + ["c"] * 4})
    clips["emotion"] = labels
    measured = np.where(labels == "sad", 1.0, -1.0)[:, None]
    measured[8:] *= -1  # in the corpus that is judged all is the other way
    plain, centred = judge_measurements(measured, clips, test="c")
    assert (plain.method, plain.test) == ("egemaps-lr", "c")
    assert not (plain.guess == plain.truth).any() and len(plain.truth) == 4
    measured[8:] = -measured[8:] + 50  # right, but for where its microphone stood
    plain, centred = judge_measurements(measured, clips, test="c")
    assert plain.row()["collapsed"] and not plain.transductive
    assert (centred.guess == centred.truth).all() and centred.transductive


def test_a_summary_has_methods_in_order_and_means_over_seeds():
    rows = [
        {"method": m, "test": t, "seed": s, "uar": u, "war": 0.5}
        for m, t, s, u in (
            ("clep-dg", "tess", 0, 0.4),
            ("clep-dg", "tess", 1, 0.6),
            ("clep-dg", "nemo", 0, 0.3),
            ("text-classifier", "tess", 0, 0.2),
            ("chance", "tess", 0, 0.25),
        )
    ]
    table = summarise(rows)
    assert list(table.index) == ["chance", "text-classifier", "clep-dg"]
    assert table.loc["clep-dg", "tess"] == pytest.approx(0.5)
    assert table.loc["clep-dg", "mean"] == pytest.approx(0.4)
    assert summarise(rows, score="war").loc["chance", "tess"] == 0.5


def test_a_summary_keeps_corrected_rows_apart():
    truth = np.array(EMOTIONS)
    wrong = np.roll(truth, 1)
    verdicts = [
        Verdict("clep-dg", *("loco", "tess", 0), truth, wrong),
        Verdict("clep-dg", *("loco", "tess", 0), truth, truth, transductive=True),
    ]
    rows = rows_of(verdicts)
    assert summarise(rows).loc["clep-dg", "tess"] == 0
    assert summarise(rows, transductive=True).loc["clep-dg", "tess"] == 1
