"""What embeddings hold: a linear probe. Shapes: n and m clips, dim the width."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from clepdg_lib.clap import check_rows
from clepdg_lib.evaluation.metrics import Labels

STRENGTH = 0.3  # strong: weaker probes generalise worse to corpora left out


def fit_probe(
    features: ArrayLike, labels: Labels, *, corpora: Labels | None = None
) -> Pipeline:
    """Train a logistic regression on standardised features (Alain and Bengio 2016).

    Each class weighs the same; with ``corpora`` (n,) each pair of corpus and class.
    The L2 penalty is `STRENGTH` beside the mean loss, whatever n.
    """
    x, labels = _as_matrix(features), np.asarray(labels)
    cells = pd.DataFrame({"label": labels})
    cells["corpus"] = 0 if corpora is None else np.asarray(corpora)
    if len(x) != len(cells) or cells.isna().any(axis=None) or len(set(labels)) < 2:
        given = f"{len(x)} rows, {len(labels)} labels of {len(set(labels))} class(es)"
        remedy = "give one label per row, none missing, two classes or more"
        raise ValueError(f"features has {given}; {remedy}")
    weights = compute_sample_weight("balanced", cells.groupby([*cells]).ngroup())
    model = LogisticRegression(C=1 / (len(x) * STRENGTH), max_iter=2000)
    probe = make_pipeline(FunctionTransformer(_as_matrix), StandardScaler(), model)
    return probe.fit(x, labels, logisticregression__sample_weight=weights)


def _as_matrix(vectors: ArrayLike) -> np.ndarray:
    vectors = vectors.to_numpy() if hasattr(vectors, "to_numpy") else vectors
    return check_rows(vectors, name="features").numpy()
