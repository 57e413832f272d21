"""Every way of judging voices that is compared: the method, its parts, its controls.

All but the references, first in the list, learn from sentences alone. A control shares
with the method all but the one thing that it is a control for: `random-contexts` the
number and place of the vectors, `caption-contexts` the sentences, `gaussian-text` how
far points are moved.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n clips, E emotions, K contexts, dim the embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from clepdg_lib.acpt import (
    BARE,
    AcousticContexts,
    embed_contexts,
    random_contexts,
    tune_contexts,
)
from clepdg_lib.cache import weights_key
from clepdg_lib.captions import CANONICAL, ENVIRONMENT_PHRASES, TEMPLATES
from clepdg_lib.clap import Clap
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.points import TextPoints, balanced_weights, jitter_points, text_points
from clepdg_lib.transfer import TextClassifier, fit_on_points, zero_shot

# In the order of the tables: reference points first, the whole method last.
METHODS = (
    "chance",
    "egemaps-lr",
    "audioset-lr",
    "audio-probe",
    "clap-zero-shot",
    "clep-zero-shot",
    "clep-zero-shot-ensemble",
    "text-classifier",
    "gaussian-text",
    "text-drift",
    "caption-contexts",
    "random-contexts",
    "clep-dg",
)
CONTROLS = ("text-classifier", "random-contexts", "caption-contexts", "text-drift")
MOST = 32  # towers, sets of emotions and seeds whose judges are remembered
_fitted: dict[tuple, dict[str, TextClassifier]] = {}


def text_judges(
    clap: Clap, clep: Clap, emotions: Sequence[str] = EMOTIONS, *, seed: int = 0
) -> dict[str, TextClassifier]:
    """Fit every text-trained method, or remember what came of the same towers.

    A benchmark judges dozens of CLEPs whose text tower is the CLAP's: what is fitted on
    sentences cannot tell them apart, so it is fitted once while the process lives.

    Args:
        clap: Before fine-tuning; `clap-zero-shot` is its own.
        clep: After; all others use its text tower.
        emotions: E labels.
        seed: Of contexts, noise and the order of points.

    Returns:
        Method -> classifier, in the order of `METHODS`.
    """
    emotions = tuple(emotions)
    key = _reader(clep), emotions, seed
    if key not in _fitted:
        while len(_fitted) >= MOST:
            del _fitted[next(iter(_fitted))]
        _fitted[key] = _fit_judges(clep, emotions, seed)
    return {
        "clap-zero-shot": zero_shot(clap, emotions),
        "clep-zero-shot": zero_shot(clep, emotions),
        "clep-zero-shot-ensemble": zero_shot(clep, emotions, templates=TEMPLATES),
        **_fitted[key],
    }


def _reader(clap: Clap) -> str:
    """Name a text tower with the layers above it."""
    weights = clap.model.state_dict()
    own = {name: weights[name] for name in weights if name.startswith("text_")}
    return weights_key("reads", own)


def _fit_judges(
    clep: Clap, emotions: tuple[str, ...], seed: int
) -> dict[str, TextClassifier]:
    plain = text_points(clep, emotions)
    drifts = text_drifts(clep)
    tuned = tune_contexts(clep, emotions, seed=seed, progress=False)
    untrained = random_contexts(clep, n_contexts=len(tuned), seed=seed)

    def fit(points: TextPoints) -> TextClassifier:
        return fit_on_points(
            points.vectors,
            points.labels,
            emotions=emotions,
            weights=points.weights,
            seed=seed,
        )

    far = drifts.norm(dim=1).mean().item()
    noisy = jitter_points(plain, noise_std=far, n_copies=2, seed=seed)
    return {
        "text-classifier": fit(plain),
        "gaussian-text": fit(noisy),
        "text-drift": fit(_beside(plain, _drifted(clep, emotions, drifts))),
        "caption-contexts": fit(_beside(plain, _in_words(clep, emotions))),
        "random-contexts": fit(points_in_contexts(clep, untrained, emotions)),
        "clep-dg": fit(points_in_contexts(clep, tuned, emotions)),
    }


def points_in_contexts(
    clap: Clap, contexts: AcousticContexts, emotions: Sequence[str]
) -> TextPoints:
    """The points of all sentences, and beside them those of emotions in contexts."""
    emotions = tuple(emotions)
    placed = _labelled(embed_contexts(clap, contexts, emotions))
    return _beside(text_points(clap, emotions), placed)


def text_drifts(
    clap: Clap, phrases: Sequence[str] = ENVIRONMENT_PHRASES, *, bare: str = BARE
) -> Tensor:
    """How naming a place moves a sentence without a feeling in it: (K, dim).

    Training-free: the difference of two embeddings for each phrase.
    """
    placed = clap.embed_text([f"{bare} {phrase}" for phrase in phrases])
    return placed - clap.embed_text([bare])


def _drifted(clap: Clap, emotions: tuple[str, ...], drifts: Tensor) -> TextPoints:
    canonical = clap.embed_text([CANONICAL.format(emotion=e) for e in emotions])
    moved = F.normalize(canonical + drifts[:, None], dim=-1)  # (K, E, dim)
    return _labelled(moved)


def _in_words(clap: Clap, emotions: tuple[str, ...]) -> TextPoints:
    sentences = [
        f"{CANONICAL.format(emotion=emotion)} {phrase}"
        for phrase in ENVIRONMENT_PHRASES
        for emotion in emotions
    ]
    found = clap.embed_text(sentences)
    return _labelled(found.view(len(ENVIRONMENT_PHRASES), len(emotions), -1))


def _labelled(vectors: Tensor) -> TextPoints:
    n_places, n_emotions, _ = vectors.shape
    labels = torch.arange(n_emotions).repeat(n_places)
    weights = balanced_weights(labels, n_emotions)
    return TextPoints(vectors.flatten(0, 1), labels, weights)


def _beside(plain: TextPoints, placed: TextPoints) -> TextPoints:
    """Both sources, of equal weight, as contexts stand beside plain sentences."""
    return TextPoints(
        torch.cat([plain.vectors, placed.vectors]),
        torch.cat([plain.labels, placed.labels]),
        torch.cat([plain.weights, placed.weights]) / 2,
    )
