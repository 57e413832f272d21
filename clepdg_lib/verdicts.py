"""What methods said of clips, in rows of one shape, and differences in pairs.

A verdict holds what a method said of every clip; a row is its summary, plain numbers
and words for a table or a JSON file. Verdicts of two methods on the same clips are
compared in pairs, which is far sharper than two intervals side by side.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clepdg_lib.evaluation import (
    bootstrap_interval,
    collapsed,
    recall_per_class,
    war,
)
from clepdg_lib.methods import CONTROLS, METHODS

N_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Verdict:
    """What one method said of every clip of a test set.

    Attributes:
        method: One of `methods.METHODS`.
        setting: "loco", "lodo", ...
        test: The corpus or domain that was left out.
        seed: Of the whole chain.
        truth: (n,) emotions.
        guess: (n,) emotions.
        gap_correction: "none", or "mean-shift" by the training corpora's mean.
        transductive: The test set's own unlabelled mean was removed. Never a headline.
        selection: How settings were chosen (Gulrajani and Lopez-Paz 2021).
    """

    method: str
    setting: str
    test: str
    seed: int
    truth: np.ndarray
    guess: np.ndarray
    gap_correction: str = "none"
    transductive: bool = False
    selection: str = "none"

    def row(self, *, n_resamples: int = N_RESAMPLES) -> dict:
        """Summarise: scores, interval of UAR over clips, recalls, collapse."""
        value, low, high = bootstrap_interval(
            self.truth, self.guess, n_resamples=n_resamples
        )
        recalls = recall_per_class(self.truth, self.guess)
        return {
            "method": self.method,
            "setting": self.setting,
            "test": self.test,
            "seed": self.seed,
            "uar": value,
            "war": war(self.truth, self.guess),
            "n": len(self.truth),
            "ci_low": low,
            "ci_high": high,
            "recall": {str(k): float(v) for k, v in recalls.items()},
            "collapsed": collapsed(self.guess),
            "selection": self.selection,
            "gap_correction": self.gap_correction,
            "transductive": self.transductive,
        }


def rows_of(verdicts: Sequence[Verdict]) -> list[dict]:
    """Summarise all verdicts, with a row of chance before the first of a test set."""
    rows, begun = [], set()
    for verdict in verdicts:
        about = {"setting": verdict.setting, "test": verdict.test, "seed": verdict.seed}
        if tuple(about.values()) not in begun:
            begun.add(tuple(about.values()))
            rows.append(chance_row(verdict.truth, **about))
        rows.append(verdict.row())
    return rows


def chance_row(truth: Sequence[str], *, setting: str, test: str, seed: int) -> dict:
    """The row of a judge who says every emotion equally often, whatever is heard."""
    share = 1 / len(set(truth))
    return {
        **{"method": "chance", "setting": setting, "test": test, "seed": seed},
        **{"uar": share, "war": share, "n": len(truth)},
        **{"ci_low": share, "ci_high": share, "recall": {}, "collapsed": False},
        **{"selection": "none", "gap_correction": "none", "transductive": False},
    }


def compare(
    verdicts: Sequence[Verdict],
    *,
    a: str = "clep-dg",
    others: Sequence[str] = CONTROLS,
    gap_correction: str = "none",
    n_resamples: int = N_RESAMPLES,
) -> list[dict]:
    """Compare a method with others on the same clips, seeds averaged first.

    Returns:
        A row ``{"a", "b", "setting", "mean_difference", "ci_low", "ci_high"}`` for
        each setting and other method; the difference is of UAR, averaged over test
        sets, with a paired bootstrap interval of 95 % over clips.
    """
    rows = []
    kept = [
        v for v in verdicts if not v.transductive and v.gap_correction == gap_correction
    ]
    for setting in dict.fromkeys(v.setting for v in kept):
        mine = _stacked([v for v in kept if (v.setting, v.method) == (setting, a)])
        for b in others:
            theirs = [v for v in kept if (v.setting, v.method) == (setting, b)]
            if mine is None or not theirs:
                continue
            truth, guesses, tests = mine
            _, baseline, _ = _stacked(theirs)
            value, low, high = bootstrap_interval(
                truth,
                guesses,
                baseline=baseline,
                corpora=tests,
                n_resamples=n_resamples,
            )
            rows.append(
                {
                    **{"a": a, "b": b, "setting": setting},
                    **{"mean_difference": value, "ci_low": low, "ci_high": high},
                }
            )
    return rows


def _stacked(
    verdicts: Sequence[Verdict],
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Truth (n,), guesses (S, n) and test sets (n,), test sets one after the other."""
    if not verdicts:
        return None
    tests = sorted({v.test for v in verdicts})
    seeds = sorted({v.seed for v in verdicts})
    found = {(v.test, v.seed): v for v in verdicts}
    first = [found[test, seeds[0]] for test in tests]
    truth = np.concatenate([v.truth for v in first])
    names = np.concatenate([[v.test] * len(v.truth) for v in first])
    guesses = [np.concatenate([found[t, s].guess for t in tests]) for s in seeds]
    return truth, np.stack(guesses), names


def summarise(
    rows: Sequence[dict],
    *,
    score: str = "uar",
    gap_correction: str = "none",
    transductive: bool = False,
) -> pd.DataFrame:
    """Tabulate the mean score over seeds: a row per method, a column per test set."""
    frame = pd.DataFrame(rows)
    for column, wanted in (
        ("gap_correction", gap_correction),
        ("transductive", transductive),
    ):
        if column in frame:
            frame = frame[frame[column] == wanted]
    order = sorted(frame["method"].unique(), key=_rank)
    table = frame.pivot_table(index="method", columns="test", values=score).loc[order]
    table["mean"] = table.mean(axis=1)
    return table


def _rank(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS) - 2
