"""Probes: what is there is found, and what is not is not."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clepdg_lib.evaluation.metrics import uar
from clepdg_lib.evaluation.probes import STRENGTH, fit_probe


def linear_probe(train_x, train_y, test_x, **weighing):
    return fit_probe(train_x, train_y, **weighing).predict(test_x)


def cloud(n: int, *, shift: float = 0.0, seed: int = 0, dim: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (n, dim))


def test_a_probe_finds_what_is_there_and_not_what_is_not():
    labels = np.array(["sad", "angry"] * 100)
    x = cloud(200)
    predicted = linear_probe(x[:100], labels[:100], x[100:])
    assert uar(labels[100:], predicted) < 0.7
    x[:, 0] += np.where(labels == "sad", 2.0, -2.0)
    x[:, 0] *= 1e-3  # standardised inside, so the unit does not matter
    train = torch.tensor(x[:100], requires_grad=True)
    predicted = linear_probe(train, labels[:100], torch.tensor(x[100:]).bfloat16())
    assert uar(labels[100:], predicted) > 0.9


@pytest.mark.parametrize("classes", [["sad", "angry"], ["sad", "angry", "happy"]])
def test_a_probe_is_scikit_learns_pipeline(classes):
    labels = np.array(classes * 40)
    x = cloud(len(labels))
    x[:, 3] = 7.0  # a constant column says nothing
    regression = LogisticRegression(C=1 / (STRENGTH * len(x)), max_iter=2000)
    model = make_pipeline(StandardScaler(), regression).fit(x, labels)
    probe = fit_probe(x, labels)
    assert np.allclose(probe.predict_proba(x), model.predict_proba(x), atol=1e-4)
    assert (probe.predict(x) == model.predict(x)).all()
    assert probe.classes_.tolist() == sorted(classes)


def test_strength_means_the_same_for_any_number_of_clips():
    labels = np.array(["sad", "angry"] * 50)
    x = cloud(100)
    once = fit_probe(x, labels)
    thrice = fit_probe(np.tile(x, (3, 1)), np.tile(labels, 3))
    assert np.allclose(once.predict_proba(x), thrice.predict_proba(x), atol=1e-4)


def test_a_probe_weighs_corpora_alike_when_given():
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


def test_a_probe_names_bad_input():
    with pytest.raises(ValueError, match="two classes or more"):
        linear_probe(cloud(4), ["sad"] * 4, cloud(2))
    with pytest.raises(ValueError, match="one label per row"):
        linear_probe(cloud(4), ["sad", "angry"], cloud(2))
    with pytest.raises(ValueError, match="none missing"):
        linear_probe(cloud(3), ["sad", "angry", None], cloud(2))
    with pytest.raises(ValueError, match="finite"):
        linear_probe(np.full((2, 3), np.nan), ["sad", "angry"], cloud(2, dim=3))
    with pytest.raises(ValueError, match="X has 3 features.* 8 features"):
        linear_probe(cloud(2), ["sad", "angry"], cloud(2, dim=3))
