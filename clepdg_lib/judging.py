"""Judge clips that nothing has heard, by every method, in rows of one shape.

A row is ``{"method", "setting", "test", "seed", "uar", "war", "n"}``; tables and
figures are made of rows and of nothing else.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from clepdg_lib.acpt import random_contexts, tune_contexts
from clepdg_lib.clap import Clap, EmbeddedCorpus
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.evaluation import uar, war
from clepdg_lib.probes import linear_probe
from clepdg_lib.transfer import fit_text_classifier, zero_shot


def judge_methods(
    clap: Clap,
    clep: Clap,
    heard_by_clap: EmbeddedCorpus,
    heard_by_clep: EmbeddedCorpus,
    *,
    setting: str,
    test: str,
    seed: int,
    emotions: Sequence[str] = EMOTIONS,
) -> list[dict]:
    """Judge the left-out clips with every text-trained method.

    Returns:
        A row ``{"method", "setting", "test", "seed", "uar", "war", "n"}`` each.
    """
    tuned = tune_contexts(clep, emotions, seed=seed, progress=False)
    untrained = random_contexts(clep, n_contexts=len(tuned), seed=seed)

    def fit(contexts=None):
        return fit_text_classifier(clep, emotions, contexts=contexts, seed=seed)

    judges = {
        "clap-zero-shot": (zero_shot(clap, emotions), heard_by_clap),
        "clep-zero-shot": (zero_shot(clep, emotions), heard_by_clep),
        "text-classifier": (fit(), heard_by_clep),
        "random-contexts": (fit(untrained), heard_by_clep),
        "clep-dg": (fit(tuned), heard_by_clep),
    }
    share = 1 / len(emotions)
    about = {"setting": setting, "test": test, "seed": seed}
    n = len(heard_by_clep)
    rows = [{"method": "chance", **about, "uar": share, "war": share, "n": n}]
    for method, (judge, heard) in judges.items():
        truth = heard.clips["emotion"].to_numpy()
        guess = judge.predict(heard.embeddings)
        scores = {"uar": uar(truth, guess), "war": war(truth, guess)}
        rows.append({"method": method, **about, **scores, "n": len(heard)})
    return rows


def judge_measurements(
    measured: np.ndarray, clips: pd.DataFrame, *, test: str, strength: float = 0.01
) -> dict:
    """Judge a corpus by a logistic regression on what was measured in the others.

    Args:
        measured: (n, d), for instance 88 eGeMAPS functionals, of all corpora.
        clips: n rows with the columns corpus and emotion.
        test: The corpus to leave out of training.
        strength: Inverse of the L2 penalty.

    Returns:
        A row of the method ``egemaps-lr``.
    """
    left_out = (clips["corpus"] == test).to_numpy()
    labels = clips["emotion"].to_numpy()
    truth = labels[left_out]
    guess = linear_probe(
        measured[~left_out], labels[~left_out], measured[left_out], strength=strength
    )
    scores = {"uar": uar(truth, guess), "war": war(truth, guess), "n": len(truth)}
    return {
        "method": "egemaps-lr",
        "setting": "loco",
        "test": test,
        "seed": 0,
        **scores,
    }


def summarise(rows: Sequence[dict], *, score: str = "uar") -> pd.DataFrame:
    """Tabulate the mean score over seeds: a row per method, a column per test set."""
    frame = pd.DataFrame(rows)
    order = list(dict.fromkeys(frame["method"]))
    order.sort(key=lambda m: (m != "chance", m == "clep-dg"))
    table = frame.pivot_table(index="method", columns="test", values=score).loc[order]
    table["mean"] = table.mean(axis=1)
    return table
