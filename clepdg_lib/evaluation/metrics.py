"""Scores of predictions with intervals. Shapes: n clips, S seeds."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, recall_score

from clepdg_lib.captions import normalise_emotion

Labels = Sequence[str] | np.ndarray | pd.Series
LEVEL = 0.95  # of intervals
MISSING = ("", "nan", "None", "<NA>")  # what arrays of text make of no label


class Interval(NamedTuple):
    """A score, or a difference of scores, with its bootstrap interval."""

    value: float
    low: float
    high: float


def uar(y_true: Labels, y_pred: Labels) -> float:
    """Return the unweighted average recall (Schuller et al. 2009) of classes there are.

    >>> uar(["sad", "sad", "sad", "angry"], ["sad", "sad", "sad", "sad"])
    0.5
    """
    true, predicted = _check_pair(y_true, y_pred)
    return float(recall_score(true, predicted, labels=np.unique(true), average="macro"))


def war(y_true: Labels, y_pred: Labels) -> float:
    """Return the weighted average recall, which is accuracy."""
    return float(accuracy_score(*_check_pair(y_true, y_pred)))


def confusion(y_true: Labels, y_pred: Labels, *, labels: Labels = ()) -> pd.DataFrame:
    """Count true labels (rows) against predictions (columns), of ``labels`` or all.

    Other predictions are in a column "(others)", so that rows sum up to their clips.
    """
    true, predicted = _check_pair(y_true, y_pred)
    labels = list(labels) or sorted({*true, *predicted})
    table = pd.crosstab(true, predicted, rownames=["true"], colnames=["predicted"])
    table = table.reindex(index=labels, fill_value=0)
    others = table.drop(columns=labels, errors="ignore").sum(axis=1)
    table = table.reindex(columns=labels, fill_value=0)
    return table.assign(**{"(others)": others}) if others.any() else table


def bootstrap_interval(
    y_true: Labels,
    y_pred: Labels | Sequence[Labels],
    *,
    baseline: Labels | Sequence[Labels] | None = None,
    corpora: Labels | None = None,
    speakers: Labels | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    draw: Sequence[str] = ("corpora", "speakers", "clips"),
) -> Interval:
    """Return UAR with a hierarchical 95 % percentile bootstrap interval (Efron 1979).

    Draws corpora, which weigh alike, speakers in them and clips of these (``draw``),
    with replacement. Over a handful of units it is too narrow.

    Args:
        y_pred: ``(n,)`` or ``(S, n)``; seeds are averaged first.
        baseline: Predictions of another method, for the (paired) difference.
        corpora, speakers: ``(n,)`` names; None is one.
    """
    units = {"corpora": corpora, "speakers": speakers, "clips": y_true}
    drawn = {name for name in draw if units.get(name) is not None}
    if not n_resamples >= 1 or not drawn or not set(draw) <= set(units):
        valid = f"{n_resamples=} must be positive, {draw=} some of {list(units)}"
        raise ValueError(f"{valid} that are given")
    gain = _mean_hits(y_true, y_pred)
    gain = gain if baseline is None else gain - _mean_hits(y_true, baseline)
    # Clips of one speaker, class and gain are alike: only their number matters.
    clips = pd.DataFrame({"corpora": 0, "speakers": 0, "class": 0, "gain": gain})
    for name, labels in (("class", y_true), *units.items()):
        if labels is not None and name != "clips":
            clips[name] = pd.factorize(_check_labels(labels, name, n=len(gain)))[0]
    cells = clips.groupby(list(clips)).size().reset_index(name="n")
    rng = np.random.default_rng(seed)

    def repeat(name, times, sizes):  # (R,), (units,) -> (R, units)
        if name not in drawn:
            return times[:, None] * sizes
        if len(sizes) == 1 and (name != "clips" or len(gain) == 1):
            advice = f"leave {name!r} out of draw, or claim nothing about others"
            warnings.warn(f"one of {name} adds no width; {advice}", stacklevel=3)
        return rng.multinomial(times * sizes.sum(), sizes / sizes.sum())

    n_corpora, n_classes = 1 + cells[["corpora", "class"]].max()
    once, counts = np.ones(int(n_resamples), int), []
    weights = repeat("corpora", once, np.ones(n_corpora, int))
    for times, (_, corpus) in zip(weights.T, cells.groupby("corpora"), strict=True):
        parts = [part["n"].to_numpy() for _, part in corpus.groupby("speakers")]
        people = repeat("speakers", times, np.ones(len(parts), int))
        for person, part in zip(people.T, parts, strict=True):
            counts.append(repeat("clips", person, part))
    counts = np.vstack([cells["n"], np.hstack(counts)])  # row 0: as observed
    group = cells["corpora"] * n_classes + cells["class"]
    member = np.eye(n_corpora * n_classes)[group]  # (cells, corpora x classes)
    hits = counts @ (member * cells[["gain"]].to_numpy())
    hits, n = np.reshape([hits, counts @ member], (2, -1, n_corpora, n_classes))
    recall = (hits / np.maximum(n, 1)).sum(2) / np.maximum((n > 0).sum(2), 1)
    scores = (np.vstack([np.ones(n_corpora), weights]) * recall).mean(axis=1)
    low, high = np.quantile(scores[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(scores[0]), float(low), float(high))


def _mean_hits(y_true: Labels, y_pred: Labels | Sequence[Labels]) -> np.ndarray:
    runs = np.atleast_2d(np.asarray(y_pred))
    true, _ = _check_pair(y_true, runs[0])
    _check_pair(np.tile(true, len(runs)), runs.ravel())
    return (runs == true).mean(axis=0)


def _check_pair(y_true: Labels, y_pred: Labels) -> tuple[np.ndarray, np.ndarray]:
    true = _check_labels(y_true, "y_true")
    predicted = _check_labels(y_pred, "y_pred", n=len(true))
    if isinstance(true[0], str) != isinstance(predicted[0], str):
        raise ValueError("y_true and y_pred mix text and numbers; use one kind")
    names = pd.Series(sorted({*true, *predicted}))
    alike = names[names.map(normalise_emotion).duplicated(keep=False)]
    if len(alike):
        raise ValueError(f"labels {[*map(str, alike)]} mean the same; write them alike")
    return true, predicted


def _check_labels(labels: Labels, name: str, *, n: int | None = None) -> np.ndarray:
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) == 0 or len(array) != (n or len(array)):
        wrong = f"{name} has shape {array.shape}, but must be ({n or 'n'},)"
        raise ValueError(f"{wrong}; check that the selection of clips is not empty")
    if missing := int((pd.isna(array) | np.isin(array.astype(str), MISSING)).sum()):
        raise ValueError(f"{name} lacks {missing} of {len(array)} labels; drop them")
    return array
