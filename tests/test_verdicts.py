"""Verdicts: plain rows, chance once, differences in pairs, tables in order."""

import numpy as np
import pytest

from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.verdicts import Verdict, chance_row, compare, rows_of, summarise


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
    assert set(chance_row(truth, setting="loco", test="tess", seed=0)) == set(row)


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
