"""What embeddings hold: a linear probe, and two distances between domains.

Shapes: n and m clips, C classes, dim the width of embeddings or features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from clepdg_lib.evaluation.metrics import Labels

STRENGTH = 0.3  # strong: weaker probes generalise worse to corpora left out


def fit_probe(
    features: ArrayLike, labels: Labels, *, corpora: Labels | None = None
) -> Pipeline:
    """Train a logistic regression on standardised features (Alain and Bengio 2016).

    Each class weighs the same; with ``corpora`` (n,) each pair of corpus and class.
    `STRENGTH` is the L2 penalty beside the mean loss, whatever n. The probe, a
    pipeline of scikit-learn's, takes arrays and tensors.
    """
    x, labels = _as_matrix(features), np.asarray(labels)
    cells = pd.DataFrame({"label": labels})
    cells["corpus"] = 0 if corpora is None else np.asarray(corpora)
    if len(x) != len(cells) or cells.isna().any(axis=None) or len(set(labels)) < 2:
        raise ValueError(
            f"features has {len(x)} rows, labels {len(labels)} of {len(set(labels))} "
            "class(es); give one label per row, none missing, two classes or more"
        )
    cell = cells.groupby(["label", "corpus"]).ngroup()
    weights = compute_sample_weight("balanced", cell)
    model = LogisticRegression(C=1 / (len(x) * STRENGTH), max_iter=2000)
    probe = make_pipeline(FunctionTransformer(_as_matrix), StandardScaler(), model)
    return probe.fit(x, labels, logisticregression__sample_weight=weights)


def linear_probe(
    train_x: ArrayLike, train_y: Labels, test_x: ArrayLike, **weighing: Any
) -> np.ndarray:
    """Train a probe (``weighing``: `fit_probe`) and predict other clips: ``(m,)``."""
    return fit_probe(train_x, train_y, **weighing).predict(test_x)


def proxy_a_distance(
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: tuple[Labels, Labels] | None = None,
    n_folds: int = 5,
) -> float:
    """Measure how easily a probe tells two domains apart: ``2 (1 - 2 error)``.

    From 0 (not at all) to 2 (always); ``error`` is balanced and cross-validated
    (Ben-David et al. 2007, section 4). ``groups`` are the speakers of a (n, dim) and of
    b (m, dim), none on both sides of a fold; without, voices leak: it is too large.
    """
    a, b = _as_matrix(a, name="a"), _as_matrix(b, name="b")
    x, domain = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    groups = groups or (range(len(a)), range(len(a), len(x)))
    names = [np.asarray(part) for part in groups]
    sizes = [len(pd.unique(part)) for part in names]
    if [len(part) for part in names] != [len(a), len(b)] or min(sizes) < n_folds:
        raise ValueError(
            f"the domains have {sizes} different clips or groups for {n_folds} folds; "
            "give one group per clip of a and of b, and at most as many folds"
        )
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    guess = np.empty_like(domain)
    for train, test in folds.split(x, domain, groups=np.concatenate(names)):
        guess[test] = linear_probe(x[train], domain[train], x[test])
    return max(0.0, 4 * float(balanced_accuracy_score(domain, guess)) - 2)


def _as_matrix(vectors: ArrayLike, *, name: str = "features") -> np.ndarray:
    if hasattr(vectors, "detach"):  # a tensor: any device, any float, with gradients
        vectors = vectors.detach().double().cpu()
    x = np.asarray(vectors, dtype=np.float64)
    if x.ndim != 2 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"{name} has shape {x.shape}; it must be (n, dim) and finite")
    return x
