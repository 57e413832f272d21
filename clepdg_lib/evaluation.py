"""Say how well it works, how sure that is, and how far apart two domains lie.

UAR, the mean of the recalls of the classes, is the headline: a recogniser that
always says "neutral" scores chance, however many clips are neutral. WAR is plain
accuracy. Both ignore classes that do not occur among the true labels.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n clips, S seeds, dim the embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from clepdg_lib.folds import Fold, leave_groups_out
from clepdg_lib.probes import (
    as_array,
    linear_probe,
    mean_discrepancy,
    proxy_a_distance,
)

if TYPE_CHECKING:
    from torch import Tensor

    Labels = Sequence[str] | np.ndarray | pd.Series
    Vectors = Tensor | np.ndarray


__all__ = [
    "Fold",
    "Interval",
    "bootstrap_interval",
    "collapsed",
    "confusion",
    "leave_groups_out",
    "linear_probe",
    "mean_discrepancy",
    "proxy_a_distance",
    "recall_per_class",
    "retrieval_at_1",
    "uar",
    "war",
]


class Interval(NamedTuple):
    """A score, or a difference of scores, with its bootstrap interval."""

    value: float
    low: float
    high: float


def recall_per_class(
    y_true: Labels, y_pred: Labels, *, labels: Sequence[str] | None = None
) -> pd.Series:
    """Return the share of each class's clips that were found.

    Args:
        y_true: ``(n,)`` true labels.
        y_pred: ``(n,)`` predicted labels; may hold classes that ``y_true`` lacks.
        labels: Classes to report, in order; None takes those of ``y_true``, sorted.

    Returns:
        Recall by class, NaN for a class absent from ``y_true``: it has no recall,
        which is not a recall of zero.

    Raises:
        ValueError: No clips, a missing label or different lengths.
    """
    true, predicted = _check_pair(y_true, y_pred)
    labels = sorted(set(true)) if labels is None else list(labels)
    hits = pd.Series(true == predicted, dtype=float).groupby(true).mean()
    return hits.reindex(labels).rename("recall")


def uar(y_true: Labels, y_pred: Labels) -> float:
    """Return the unweighted average recall, the mean over classes of the recall.

    Classes absent from ``y_true`` are ignored; predicting one is still a mistake.
    This is the score of the Interspeech 2009 Emotion Challenge (Schuller et al.).

    Example:
        >>> uar(["sad", "sad", "sad", "angry"], ["sad", "sad", "sad", "sad"])
        0.5
    """
    return float(recall_per_class(y_true, y_pred).mean())


def war(y_true: Labels, y_pred: Labels) -> float:
    """Return the weighted average recall, which is accuracy.

    Example:
        >>> war(["sad", "sad", "sad", "angry"], ["sad", "sad", "sad", "sad"])
        0.75
    """
    true, predicted = _check_pair(y_true, y_pred)
    return float((true == predicted).mean())


def confusion(
    y_true: Labels,
    y_pred: Labels,
    *,
    labels: Sequence[str] | None = None,
    normalise: bool = False,
) -> pd.DataFrame:
    """Count true labels (rows) against predicted ones (columns).

    Args:
        y_true: ``(n,)`` true labels.
        y_pred: ``(n,)`` predicted labels.
        labels: Classes in order; None takes all that occur on either side.
        normalise: Divide each row by its sum, so that the diagonal holds recalls
            (a row of an absent class is NaN).
    """
    true, predicted = _check_pair(y_true, y_pred)
    labels = sorted({*true, *predicted}) if labels is None else list(labels)
    counts = pd.crosstab(true, predicted)
    counts = counts.reindex(index=labels, columns=labels, fill_value=0)
    counts.index.name, counts.columns.name = "true", "predicted"
    return counts.div(counts.sum(axis=1), axis=0) if normalise else counts


def collapsed(y_pred: Labels, *, limit: float = 0.9) -> bool:
    """Tell whether one class takes ``limit`` or more of all predictions.

    Example:
        >>> collapsed(["sad"] * 19 + ["angry"])
        True
    """
    shares = pd.Series(np.asarray(y_pred)).value_counts(normalize=True)
    if shares.empty:
        raise ValueError("y_pred is empty; a score needs at least one clip")
    return bool(shares.iloc[0] >= limit)


def bootstrap_interval(
    y_true: Labels,
    y_pred: Labels | Sequence[Labels],
    *,
    baseline: Labels | Sequence[Labels] | None = None,
    corpora: Labels | None = None,
    drawn: Labels | None = None,
    score: Literal["uar", "war"] = "uar",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a score and its percentile bootstrap interval (Efron 1979).

    Clips are drawn with replacement inside each corpus, the score is taken in each
    corpus and averaged over corpora, and seeds are averaged before anything is
    drawn: the interval is about other clips, not about other seeds. With
    ``baseline`` it is about the difference, both methods judged on the same draws
    (paired), which is far narrower than two intervals side by side.

    Args:
        y_true: ``(n,)`` true labels.
        y_pred: ``(n,)`` predictions, or ``(S, n)`` of ``S`` seeds.
        baseline: Predictions of the method to compare with, ``(n,)`` or ``(S', n)``.
        corpora: ``(n,)`` names; None treats all clips as one corpus.
        drawn: ``(n,)`` what is drawn together: give speakers for an interval about
            other speakers, wider and more honest. None draws clips.
        score: ``"uar"`` or ``"war"``.
        level: Coverage.
        n_resamples: How many draws.
        seed: Seed of the draws.
    """
    if score not in ("uar", "war"):
        raise ValueError(f"score is {score!r}, but must be 'uar' or 'war'")
    if not 0 < level < 1 or n_resamples < 1:
        raise ValueError(
            f"level is {level} and n_resamples {n_resamples}; they must be between 0 "
            "and 1, and 1 or more"
        )
    true = _check_labels(y_true, name="y_true")
    gain = _mean_hits(true, y_pred)  # (n,) mean over seeds of right or wrong
    if baseline is not None:
        gain = gain - _mean_hits(true, baseline)
    n = len(true)
    names = np.zeros(n) if corpora is None else np.asarray(corpora)
    units = np.arange(n) if drawn is None else np.asarray(drawn)
    if len(names) != n or len(units) != n:
        raise ValueError(
            f"corpora has {len(names)} and drawn {len(units)} entries, but there are "
            f"{n} clips; give one per clip"
        )
    generator = np.random.default_rng(seed)
    values, draws = [], []
    for name in pd.unique(names):
        inside = names == name
        classes = true[inside] if score == "uar" else np.zeros(inside.sum())
        member = pd.get_dummies(classes).to_numpy(float)  # (clips, classes)
        _, unit = np.unique(units[inside], return_inverse=True)
        n_units = unit.max() + 1
        even = np.full(n_units, 1 / n_units)
        counts = generator.multinomial(n_units, even, size=n_resamples)
        counts = np.vstack([np.ones(n_units), counts])  # row 0: as observed
        times = counts[:, unit]  # (1 + draws, clips)
        found = times @ (member * gain[inside][:, None])
        present = times @ member
        # A class that a draw happens to miss is ignored, as in uar itself.
        recalls = np.divide(
            found, present, out=np.full_like(found, np.nan), where=present > 0
        )
        scores = np.nanmean(recalls, axis=1)
        values.append(scores[0])
        draws.append(scores[1:])
    tail = (1 - level) / 2
    low, high = np.quantile(np.mean(draws, axis=0), [tail, 1 - tail])
    return Interval(float(np.mean(values)), float(low), float(high))


def retrieval_at_1(
    audio: Vectors, text: Vectors, *, audio_labels: Labels, text_labels: Labels
) -> float:
    """Return the share of clips whose nearest caption is a right one.

    Args:
        audio: ``(n, dim)``, L2-normalised.
        text: ``(m, dim)``, L2-normalised.
        audio_labels: ``(n,)`` what each clip is.
        text_labels: ``(m,)`` what each caption describes; several captions may
            share a label, any of them is right.
    """
    nearest = (as_array(audio, name="audio") @ as_array(text, name="text").T).argmax(
        axis=1
    )
    found = _check_labels(text_labels, name="text_labels")[nearest]
    return war(audio_labels, found)


def _mean_hits(true: np.ndarray, y_pred: Labels | Sequence[Labels]) -> np.ndarray:
    runs = np.atleast_2d(np.asarray(y_pred))
    if runs.shape[1] != len(true):
        raise ValueError(
            f"predictions have shape {runs.shape}, but there are {len(true)} true "
            "labels; give (n,) or (seeds, n)"
        )
    return (runs == true).mean(axis=0)


def _check_pair(y_true: Labels, y_pred: Labels) -> tuple[np.ndarray, np.ndarray]:
    true = _check_labels(y_true, name="y_true")
    predicted = _check_labels(y_pred, name="y_pred")
    if len(true) != len(predicted):
        raise ValueError(
            f"y_true has {len(true)} labels and y_pred {len(predicted)}; they must "
            "belong to the same clips"
        )
    return true, predicted


def _check_labels(labels: Labels, *, name: str) -> np.ndarray:
    found = np.asarray(labels)
    if found.ndim != 1 or len(found) == 0:
        raise ValueError(
            f"{name} has shape {found.shape}, but must be (n,) with n at least 1; "
            "check that the selection of clips is not empty"
        )
    missing = int(pd.isna(found).sum())
    if missing:
        raise ValueError(f"{name} lacks {missing} of {len(found)} labels; drop them")
    return found
