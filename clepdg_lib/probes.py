"""Ask embeddings what they hold: a linear probe, and distances between domains.

Lesson: notebooks/01_probe_clap.ipynb, notebooks/05_generalise_across_domains.ipynb
Shapes: n and m clips, dim the embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from torch import Tensor

    Labels = Sequence[str] | np.ndarray | pd.Series
    Vectors = Tensor | np.ndarray


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A fitted logistic regression, as a matrix: small enough to ship.

    Attributes:
        labels: C classes.
        weight: (C, dim).
        bias: (C,).
    """

    labels: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def predict(self, x: Vectors) -> np.ndarray:
        """Return the most likely class of each row, ``(n,)``."""
        found = as_array(x, name="x") @ self.weight.T + self.bias
        return self.labels[found.argmax(axis=1)]


def fit_probe(
    x: Vectors,
    labels: Labels,
    *,
    corpora: Labels | None = None,
    strength: float = 0.01,
) -> LinearProbe:
    """Train a logistic regression on embeddings.

    The probe asks what is in the embeddings (Alain and Bengio 2016). Each dimension
    is standardised by the training clips; each class weighs the same.

    Args:
        x: ``(n, dim)``.
        labels: ``(n,)``.
        corpora: ``(n,)`` names; each corpus-and-class cell then weighs the same, so
            that a large corpus does not decide alone.
        strength: Inverse of the L2 penalty (scikit-learn's ``C``).

    Raises:
        ValueError: Another number of labels than rows, or a single class.
    """
    from sklearn.linear_model import LogisticRegression

    labels = np.asarray(labels)
    x = as_array(x, name="train_x").astype(np.float64)
    if len(x) != len(labels) or len(set(labels)) < 2:
        raise ValueError(
            f"train_x has {len(x)} rows and train_y {len(labels)} labels of "
            f"{len(set(labels))} class(es); give one label per row, two classes or more"
        )
    cells = pd.DataFrame({"label": labels})
    if corpora is not None:
        cells["corpus"] = np.asarray(corpora)
    sizes = cells.groupby(list(cells.columns))["label"].transform("size").to_numpy()
    weights = 1 / sizes
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)  # constant: says nothing
    fitted = LogisticRegression(C=strength, max_iter=2000)
    fitted.fit((x - mean) / deviation, labels, sample_weight=weights / weights.mean())
    weight = fitted.coef_ / deviation
    bias = fitted.intercept_ - weight @ mean
    if len(weight) == 1:  # two classes: one row says how much rather the second
        weight, bias = np.vstack([-weight, weight]), np.concatenate([-bias, bias])
    return LinearProbe(fitted.classes_, weight, bias)


def linear_probe(
    train_x: Vectors,
    train_y: Labels,
    test_x: Vectors,
    *,
    corpora: Labels | None = None,
    strength: float = 0.01,
) -> np.ndarray:
    """Train a probe (`fit_probe`) on some clips and predict others: ``(m,)`` labels."""
    probe = fit_probe(train_x, train_y, corpora=corpora, strength=strength)
    return probe.predict(as_array(test_x, name="test_x"))


def proxy_a_distance(
    a: Vectors, b: Vectors, *, n_folds: int = 5, strength: float = 0.01, seed: int = 0
) -> float:
    """Measure how easily two domains are told apart: ``2 (1 - 2 error)``.

    ``error`` is the balanced, cross-validated error of a linear classifier that
    says which domain an embedding came from (Ben-David et al. 2007, section 4).
    0: cannot be told apart; 2: always can. An error above one half counts as one
    half.

    Args:
        a: ``(n, dim)`` of one domain.
        b: ``(m, dim)`` of the other.
        n_folds: Cross-validation folds, at most the size of the smaller domain.
        strength: Inverse of the L2 penalty.
        seed: Seed of the folds.

    Example:
        >>> here, there = np.eye(3)[[0] * 9], np.eye(3)[[1] * 9]
        >>> proxy_a_distance(here, there)
        2.0
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold

    x = np.concatenate([as_array(a, name="a"), as_array(b, name="b")])
    domain = np.repeat(["a", "b"], [len(a), len(b)])
    if min(len(a), len(b)) < n_folds:
        raise ValueError(
            f"the domains have {len(a)} and {len(b)} clips, fewer than the {n_folds} "
            "folds; give more clips or a smaller n_folds"
        )
    guess = np.empty_like(domain)
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for train, test in folds.split(x, domain):
        guess[test] = linear_probe(x[train], domain[train], x[test], strength=strength)
    error = 1 - balanced_accuracy_score(domain, guess)
    return 2 * (1 - 2 * min(float(error), 0.5))


def mean_discrepancy(
    a: Vectors, b: Vectors, *, bandwidth: float | None = None, seed: int = 0
) -> float:
    """Measure how differently two domains are spread: the squared MMD.

    The unbiased estimate with a Gaussian kernel ``exp(-d^2 / (2 bandwidth^2))``
    (Gretton et al. 2012, equation 3). Being unbiased, it lies around zero, on either
    side, for two samples of one domain.

    Args:
        a: ``(n, dim)`` of one domain, ``n`` at least 2.
        b: ``(m, dim)`` of the other, ``m`` at least 2.
        bandwidth: None takes the median distance between pooled points. Give one
            number for all when several pairs of domains are to be compared.
        seed: Above 2,000 clips a domain is thinned to 2,000 at random.
    """
    from scipy.spatial.distance import cdist

    a, b = as_array(a, name="a"), as_array(b, name="b")
    if min(len(a), len(b)) < 2:
        raise ValueError(f"the domains have {len(a)} and {len(b)} clips; each needs 2")
    generator = np.random.default_rng(seed)
    a, b = (
        x if len(x) <= 2000 else x[generator.choice(len(x), 2000, replace=False)]
        for x in (a, b)
    )
    pooled = cdist(np.concatenate([a, b]), np.concatenate([a, b]))
    if bandwidth is None:
        pairs = pooled[np.triu_indices(len(pooled), k=1)]
        bandwidth = float(np.median(pairs)) or 1.0
    kernel = np.exp(-np.square(pooled) / (2 * bandwidth**2))
    n, m = len(a), len(b)
    within_a = (kernel[:n, :n].sum() - n) / (n * (n - 1))
    within_b = (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(within_a + within_b - 2 * kernel[:n, n:].mean())


def as_array(vectors: Vectors, *, name: str) -> np.ndarray:
    """Return ``(n, dim)`` finite float64 vectors, or say what is wrong."""
    found = np.asarray(vectors, dtype=np.float64)
    if found.ndim != 2 or len(found) == 0 or not np.isfinite(found).all():
        raise ValueError(
            f"{name} has shape {found.shape}, but must be (n, dim) with n at least 1 "
            "and finite values"
        )
    return found
