"""Scores against hand counts and scikit-learn, intervals against theory."""

import warnings

import numpy as np
import pandas as pd
import pytest

from clepdg_lib.evaluation.metrics import bootstrap_interval, confusion, uar, war

TRUE = ["sad", "sad", "sad", "angry", "happy", "happy"]
PREDICTED = ["sad", "sad", "angry", "angry", "sad", "neutral"]


def predictions(true, *, rate: float, seed: int) -> np.ndarray:
    right = np.random.default_rng(seed).random(len(true)) < rate
    return np.where(right, true, "nothing")


def width(interval) -> float:
    return interval.high - interval.low


def test_scores_against_hand_counts_without_a_warning_for_absent_classes(recwarn):
    assert uar(TRUE, PREDICTED) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert war(TRUE, PREDICTED) == pytest.approx(3 / 6)
    # Predicting a class that is not there is a mistake, but no class of its own.
    assert uar(["sad", "angry"], ["neutral", "angry"]) == 0.5
    assert uar(["sad", "sad"], ["sad", "sad"]) == 1.0
    assert not recwarn.list


def test_scores_take_any_kind_of_labels():
    kinds = [TRUE, tuple(TRUE), np.array(TRUE), pd.Series(TRUE, index=range(5, 11))]
    assert len({uar(kind, PREDICTED) for kind in kinds}) == 1
    assert uar(pd.Series(TRUE, dtype="category"), PREDICTED) == uar(TRUE, PREDICTED)
    assert uar([0, 1, 1], [0, 1, 0]) == 0.75


def test_confusion_rows_are_true_and_of_the_labels_asked_for_in_their_order():
    table = confusion(TRUE, PREDICTED)
    assert list(table.index) == list(table.columns)
    assert (table.index.name, table.columns.name) == ("true", "predicted")
    assert table.loc["happy", "sad"] == 1
    assert table.loc["sad", "happy"] == 0
    assert table.to_numpy().sum() == 6
    table = confusion(TRUE, PREDICTED, labels=["sad", "happy"])
    assert [*table.index, "(others)"] == [*table.columns]
    assert table.to_numpy().tolist() == [[2, 0, 1], [1, 0, 1]]  # shares of all clips
    assert confusion(["sad"], ["sad"], labels=["bored"]).to_numpy().tolist() == [[0]]


@pytest.mark.parametrize(
    ("true", "predicted", "words"),
    [
        ([], [], "selection of clips is not empty"),
        (["sad"], ["sad", "sad"], r"y_pred has shape \(2,\), but must be \(1,\)"),
        (["sad", None], ["sad", "sad"], "y_true lacks 1 of 2"),
        (["sad", "sad"], ["sad", np.nan], "y_pred lacks 1 of 2"),
        ([["sad"]], ["sad"], r"\(1, 1\)"),
        (["sad"], [1], "mix text and numbers"),
        (["sad", "nan"], ["sad", "sad"], "y_true lacks 1 of 2"),  # as numpy writes NaN
        (["Sad", "sad"], ["sad", "sad"], r"\['Sad', 'sad'\] mean the same"),
        (["anger", "sad"], ["angry", "sad"], r"\['anger', 'angry'\] mean the same"),
    ],
)
def test_bad_labels_are_named_by_every_score(true, predicted, words):
    for score in (uar, war, confusion, bootstrap_interval):
        with pytest.raises(ValueError, match=words):
            score(true, np.array(predicted, dtype=object))


def test_value_is_the_mean_over_corpora_and_seeds():
    true = np.array(["sad", "sad", "sad", "angry"] * 15)  # or UAR would be WAR
    corpora = np.repeat(["a", "b", "b"], 20)
    runs = np.stack([predictions(true, rate=0.7, seed=s) for s in range(3)])
    interval = bootstrap_interval(true, runs, corpora=corpora, n_resamples=200)
    by_hand = [uar(true[corpora == c], run[corpora == c]) for run in runs for c in "ab"]
    assert interval.value == pytest.approx(np.mean(by_hand))
    assert interval.low < interval.value < interval.high
    # A class that a corpus lacks is ignored there.
    true = ["sad", "angry", "sad", "sad"]
    predicted = ["sad", "sad", "sad", "angry"]
    found = bootstrap_interval(true, predicted, corpora=["a", "a", "b", "b"])
    assert found.value == pytest.approx((0.5 + 0.5) / 2)


def test_width_over_units_is_that_of_their_means():
    # 20 corpora with one right share each: the standard error of a mean of 20.
    shares = np.random.default_rng(0).uniform(0.3, 0.9, 20)
    corpora = np.repeat(np.arange(20), 100)
    right = np.tile(np.arange(100), 20) < 100 * shares[corpora]
    true = np.full(2000, "sad")
    predicted = np.where(right, "sad", "angry")
    expected = 2 * 1.96 * np.std(shares) / np.sqrt(20)
    for column in ({"corpora": corpora}, {"speakers": corpora}):
        found = bootstrap_interval(true, predicted, **column, draw=tuple(column))
        assert width(found) == pytest.approx(expected, rel=0.12)
    clips = bootstrap_interval(true, predicted, corpora=corpora, draw=("clips",))
    assert width(clips) < 0.5 * expected
    every = bootstrap_interval(true, predicted, corpora=corpora)
    assert width(every) > width(clips)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        true = generator.choice(["sad", "angry"], 150, p=[0.8, 0.2])
        predicted = predictions(true, rate=0.7, seed=trial)
        interval = bootstrap_interval(true, predicted, n_resamples=300)
        covered += interval.low <= 0.7 <= interval.high
    assert 175 <= covered <= 200


def test_paired_difference_is_narrow_and_signed():
    true = np.array(["sad", "angry"] * 200)
    weak = predictions(true, rate=0.6, seed=0)
    strong = weak.copy()
    mistakes = np.flatnonzero(weak != true)[:12]
    strong[mistakes] = true[mistakes]
    gain = bootstrap_interval(true, strong, baseline=weak)
    assert gain.value == pytest.approx(uar(true, strong) - uar(true, weak))
    assert 0 < gain.low < gain.value < gain.high
    assert width(gain) < width(bootstrap_interval(true, strong))
    loss = bootstrap_interval(true, weak, baseline=strong)
    assert loss.value == pytest.approx(-gain.value)
    nothing = bootstrap_interval(true, weak, baseline=np.stack([weak, weak]))
    assert nothing == (0.0, 0.0, 0.0)


def test_a_single_unit_warns_that_it_adds_no_width():
    true = np.array(["sad", "angry"] * 20)
    predicted = predictions(true, rate=0.6, seed=0)
    one = np.full(40, "emodb")
    with pytest.warns(UserWarning, match="corpora.*no width") as caught:
        bootstrap_interval(true, predicted, corpora=one)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="speakers.*no width"):
        found = bootstrap_interval(true, predicted, speakers=one, draw=["speakers"])
    assert width(found) == 0
    with pytest.warns(UserWarning, match="clips.*no width"):
        bootstrap_interval(true[:1], predicted[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bootstrap_interval(true, predicted, corpora=one, draw=["clips"])


def test_an_interval_follows_its_seed_and_refuses_bad_settings():
    true = np.array(["sad", "angry"] * 20)
    predicted = predictions(true, rate=0.6, seed=0)
    first = bootstrap_interval(true, predicted)
    assert first == bootstrap_interval(true, predicted)
    assert first != bootstrap_interval(true, predicted, seed=1)
    for settings, words in (
        ({"draw": ["takes"]}, "'corpora', 'speakers', 'clips'"),
        ({"draw": ["speakers"]}, "are given"),
        ({"n_resamples": 0}, "n_resamples=0"),
        ({"n_resamples": np.nan}, "n_resamples=nan"),
        ({"corpora": ["a"]}, r"corpora has shape \(1,\), but must be \(40,\)"),
        ({"speakers": [None] * 40}, "speakers lacks 40"),
        ({"baseline": predicted[:10]}, r"must be \(40,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            bootstrap_interval(true, predicted, **settings)
