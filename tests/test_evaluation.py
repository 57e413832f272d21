"""Scores against hand counts, intervals against theory, folds against leaks."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from clepdg_lib.evaluation import (
    bootstrap_interval,
    collapsed,
    confusion,
    leave_groups_out,
    linear_probe,
    mean_discrepancy,
    proxy_a_distance,
    recall_per_class,
    retrieval_at_1,
    uar,
    war,
)

TRUE = ["sad", "sad", "sad", "angry", "happy", "happy"]
GUESS = ["sad", "sad", "angry", "angry", "sad", "neutral"]


def cloud(n: int, *, shift: float = 0.0, seed: int = 0, dim: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (n, dim))


def test_scores_against_hand_counts():
    assert uar(TRUE, GUESS) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert war(TRUE, GUESS) == pytest.approx(3 / 6)
    recalls = recall_per_class(TRUE, GUESS)
    assert list(recalls.index) == ["angry", "happy", "sad"]
    assert recalls.tolist() == pytest.approx([1, 0, 2 / 3])


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_uar_is_balanced_accuracy():
    generator = np.random.default_rng(0)
    names = np.array(["angry", "happy", "neutral", "sad"])
    true = generator.choice(names, 200, p=[0.7, 0.1, 0.1, 0.1])
    guess = generator.choice(names, 200)
    assert uar(true, guess) == pytest.approx(balanced_accuracy_score(true, guess))
    assert uar(true, np.full(200, "angry")) == pytest.approx(0.25)


def test_absent_classes_are_ignored_not_zero():
    recalls = recall_per_class(TRUE, GUESS, labels=["sad", "neutral"])
    assert np.isnan(recalls["neutral"])
    # Predicting a class that is not there is a mistake, but no class of its own.
    assert uar(["sad", "angry"], ["neutral", "angry"]) == 0.5


def test_scores_take_any_kind_of_labels():
    kinds = [TRUE, tuple(TRUE), np.array(TRUE), pd.Series(TRUE, index=range(5, 11))]
    assert len({uar(kind, GUESS) for kind in kinds}) == 1
    assert uar(pd.Series(TRUE, dtype="category"), GUESS) == uar(TRUE, GUESS)
    assert uar([0, 1, 1], [0, 1, 0]) == 0.75


def test_confusion_rows_are_true():
    table = confusion(TRUE, GUESS)
    assert list(table.index) == list(table.columns)
    assert table.loc["happy", "sad"] == 1
    assert table.loc["sad", "happy"] == 0
    assert table.to_numpy().sum() == 6
    shares = confusion(TRUE, GUESS, labels=["sad", "angry"], normalise=True)
    assert shares.loc["sad"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert shares.loc["angry"].tolist() == [0.0, 1.0]


def test_collapse_is_one_class_taking_nearly_all():
    assert collapsed(["sad"] * 9 + ["angry"])
    assert not collapsed(["sad"] * 8 + ["angry"] * 2)
    assert collapsed(["sad"] * 8 + ["angry"] * 2, limit=0.8)


@pytest.mark.parametrize(
    ("true", "guess", "words"),
    [
        ([], [], "selection of clips is not empty"),
        (["sad"], ["sad", "sad"], "same clips"),
        (["sad", None], ["sad", "sad"], "lacks 1 of 2"),
        ([["sad"]], ["sad"], r"\(1, 1\)"),
    ],
)
def test_bad_labels_are_named(true, guess, words):
    with pytest.raises(ValueError, match=words):
        uar(true, guess)
    with pytest.raises(ValueError, match="empty"):
        collapsed([])


def predictions(true: np.ndarray, *, rate: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    right = generator.random(len(true)) < rate
    return np.where(right, true, "nothing")


def test_interval_value_is_the_mean_over_corpora_and_seeds():
    true = np.array(["sad", "sad", "sad", "angry"] * 15)  # or UAR would be WAR
    corpora = np.repeat(["a", "b", "b"], 20)
    runs = np.stack([predictions(true, rate=0.7, seed=s) for s in range(3)])
    interval = bootstrap_interval(true, runs, corpora=corpora, n_resamples=200)
    by_hand = np.mean(
        [uar(true[corpora == c], run[corpora == c]) for run in runs for c in "ab"]
    )
    assert interval.value == pytest.approx(by_hand)
    by_clip = np.mean(
        [war(true[corpora == c], run[corpora == c]) for run in runs for c in "ab"]
    )
    assert by_hand != pytest.approx(by_clip, abs=1e-3)
    assert interval.low < interval.value < interval.high
    plain = bootstrap_interval(true, runs, score="war", n_resamples=200)
    assert plain.value == pytest.approx((runs == true).mean())


def test_interval_width_is_that_of_a_proportion():
    true = np.full(400, "sad")
    guess = predictions(true, rate=0.5, seed=0)
    interval = bootstrap_interval(true, guess, n_resamples=4000)
    p = interval.value
    half = 1.96 * np.sqrt(p * (1 - p) / 400)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        true = generator.choice(["sad", "angry"], 150, p=[0.8, 0.2])
        guess = predictions(true, rate=0.7, seed=trial)
        interval = bootstrap_interval(true, guess, n_resamples=300)
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
    alone = bootstrap_interval(true, strong)
    assert gain.high - gain.low < alone.high - alone.low
    loss = bootstrap_interval(true, weak, baseline=strong)
    assert loss.value == pytest.approx(-gain.value)
    nothing = bootstrap_interval(true, weak, baseline=np.stack([weak, weak]))
    assert nothing == (0.0, 0.0, 0.0)


def test_drawing_speakers_is_wider_when_speakers_differ():
    true = np.full(400, "sad")
    speakers = np.repeat(np.arange(10), 40)
    guess = np.where(speakers % 2 == 0, "sad", "angry")
    clips = bootstrap_interval(true, guess)
    people = bootstrap_interval(true, guess, drawn=speakers)
    assert people.value == clips.value
    assert people.high - people.low > 2 * (clips.high - clips.low)


def test_interval_follows_its_seed_and_refuses_nonsense():
    true = np.array(["sad", "angry"] * 20)
    guess = predictions(true, rate=0.6, seed=0)
    assert bootstrap_interval(true, guess) == bootstrap_interval(true, guess)
    assert bootstrap_interval(true, guess) != bootstrap_interval(true, guess, seed=1)
    with pytest.raises(ValueError, match="'uar' or 'war'"):
        bootstrap_interval(true, guess, score="f1")
    with pytest.raises(ValueError, match="40 true"):
        bootstrap_interval(true, guess[:10])
    with pytest.raises(ValueError, match="one per clip"):
        bootstrap_interval(true, guess, corpora=["a"])
    with pytest.raises(ValueError, match="one per clip"):
        bootstrap_interval(true, guess, corpora=["a"] * (len(true) + 1))


def test_folds_leave_no_group_and_no_speaker_behind():
    speakers = np.array([f"s{i % 6}" for i in range(60)])
    domains = np.array([f"d{i % 3}" for i in range(60)])
    folds = leave_groups_out(domains)
    assert [fold.name for fold in folds] == ["d0", "d1", "d2"]
    assert sorted(np.concatenate([f.test for f in folds])) == list(range(60))
    for fold in leave_groups_out(speakers, n_folds=3, seed=1):
        assert not set(speakers[fold.train]) & set(speakers[fold.test])
        assert len(fold.train) + len(fold.test) == 60


def test_a_speaker_in_two_groups_leaves_the_training_part():
    groups = ["a", "a", "b", "b"]
    speakers = ["anna", "berta", "anna", "carla"]
    folds = leave_groups_out(groups, speakers=speakers)
    assert folds[0].train.tolist() == [3]
    assert folds[1].train.tolist() == [1]
    with pytest.raises(ValueError, match="no training clip"):
        leave_groups_out(groups, speakers=["anna"] * 4)
    with pytest.raises(ValueError, match="3 folds of 2 groups"):
        leave_groups_out(groups, n_folds=3)
    with pytest.raises(ValueError, match="1 folds of 1 groups"):
        leave_groups_out(["a", "a"])


def test_probe_finds_what_is_there_and_not_what_is_not():
    labels = np.array(["sad", "angry"] * 100)
    x = cloud(200)
    held_out = slice(100, 200)
    guess = linear_probe(x[:100], labels[:100], x[held_out])
    assert uar(labels[held_out], guess) < 0.7
    x[:, 0] += np.where(labels == "sad", 2.0, -2.0)
    x[:, 0] *= 1e-3  # standardised inside, so the unit does not matter
    guess = linear_probe(torch.tensor(x[:100]), labels[:100], x[held_out])
    assert uar(labels[held_out], guess) > 0.9


def test_probe_gives_rare_classes_their_due():
    labels = np.array(["neutral"] * 190 + ["sad"] * 10)
    x = cloud(200)
    x[:, 0] += np.where(labels == "sad", 1.5, 0.0)
    guess = linear_probe(x, labels, x)
    assert (guess == "sad").sum() > 20


def test_probe_weighs_corpora_alike_when_told():
    # In the large corpus dimension 0 tells the label, in the small one it misleads.
    labels = np.array(["sad", "angry"] * 110)
    corpora = np.repeat(["large", "small"], [200, 20])
    x = cloud(220)
    sign = np.where(labels == "sad", 1.0, -1.0)
    x[:, 0] = np.where(corpora == "large", sign, -sign)
    x[:, 1] = sign + 0.5 * x[:, 1]
    small = corpora == "small"
    plain = uar(labels[small], linear_probe(x, labels, x[small]))
    fair = uar(labels[small], linear_probe(x, labels, x[small], corpora=corpora))
    assert plain + 0.1 < fair


def test_probe_names_bad_input():
    with pytest.raises(ValueError, match="two classes or more"):
        linear_probe(cloud(4), ["sad"] * 4, cloud(2))
    with pytest.raises(ValueError, match="one label per row"):
        linear_probe(cloud(4), ["sad", "angry"], cloud(2))
    with pytest.raises(ValueError, match="finite"):
        linear_probe(np.full((2, 3), np.nan), ["sad", "angry"], cloud(2, dim=3))


def test_proxy_a_distance_runs_from_zero_to_two():
    same = proxy_a_distance(cloud(300), cloud(300, seed=1))
    near = proxy_a_distance(cloud(300), cloud(300, shift=0.3, seed=1))
    far = proxy_a_distance(cloud(300), cloud(300, shift=5.0, seed=1))
    assert 0 <= same < 0.3
    assert same < near < far
    assert far == pytest.approx(2.0, abs=0.02)


def test_proxy_a_distance_is_not_fooled_by_sizes():
    assert proxy_a_distance(cloud(500), cloud(50, seed=1)) < 0.5
    with pytest.raises(ValueError, match="fewer than the 5"):
        proxy_a_distance(cloud(3), cloud(100))


def test_mean_discrepancy_is_zero_in_the_mean_for_one_domain():
    pairs = [
        mean_discrepancy(cloud(60, seed=i), cloud(40, seed=99 + i)) for i in range(20)
    ]
    assert min(pairs) < 0 < max(pairs)
    assert abs(np.mean(pairs)) < 0.005
    near = mean_discrepancy(cloud(60), cloud(60, shift=0.5, seed=1))
    far = mean_discrepancy(cloud(60), cloud(60, shift=2.0, seed=1))
    assert 0.01 < near < far


def test_mean_discrepancy_against_its_formula():
    a, b = cloud(5), cloud(4, shift=1.0, seed=1)

    def kernel(x, y):
        return np.exp(-np.sum((x - y) ** 2) / (2 * 3.0**2))

    within_a = np.mean([kernel(x, y) for x in a for y in a if x is not y])
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    within_a = np.mean([kernel(a[i], a[j]) for i, j in pairs])
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    within_b = np.mean([kernel(b[i], b[j]) for i, j in pairs])
    between = np.mean([kernel(x, y) for x in a for y in b])
    expected = within_a + within_b - 2 * between
    assert mean_discrepancy(a, b, bandwidth=3.0) == pytest.approx(expected)
    with pytest.raises(ValueError, match="each needs 2"):
        mean_discrepancy(a[:1], b)


def test_retrieval_counts_any_right_caption():
    text = np.eye(3)
    labels = ["dog", "dog", "rain"]
    audio = np.array([[0.9, 0.1, 0], [0.1, 0.9, 0], [0, 0.2, 0.8], [1, 0, 0]])
    truth = ["dog", "dog", "rain", "rain"]
    assert retrieval_at_1(audio, text, audio_labels=truth, text_labels=labels) == 0.75
