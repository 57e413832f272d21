"""Train a classifier on sentences, then let it judge voices.

A model whose two towers share one space can learn a boundary on one side and use
it on the other. What stands between is the modality gap: text and audio embeddings
lie in two separate clouds, so a boundary learned in one may miss the other.

Lesson: notebooks/04_transfer_across_modalities.ipynb
Shapes: n clips or points, E emotions, K contexts, dim the embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from clepdg_lib.captions import CANONICAL
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.gap import (
    ModalityGap,
    check_embeddings,
    close_gap,
    modality_gap,
    transductive_centre,
)
from clepdg_lib.points import (
    TextPoints,
    balanced_weights,
    check_emotions,
    class_means,
    jitter_points,
    text_points,
)

if TYPE_CHECKING:
    from clepdg_lib.acpt import AcousticContexts
    from clepdg_lib.clap import Clap


__all__ = [
    "ModalityGap",
    "TextClassifier",
    "TextPoints",
    "close_gap",
    "fit_on_points",
    "fit_text_classifier",
    "jitter_points",
    "modality_gap",
    "text_points",
    "transductive_centre",
    "zero_shot",
]


@dataclass(frozen=True)
class TextClassifier:
    """A linear classifier without bias on unit-length embeddings.

    Attributes:
        emotions: The ``E`` labels, in the order of the rows of ``weight``.
        weight: ``(E, dim)`` directions of unit length.
        scale: What cosines are multiplied by before the softmax; it changes how
            sure the probabilities look, never which emotion wins.
        history: One row per epoch (``epoch``, ``loss``, ``accuracy`` on the text
            points); empty for a classifier that was not trained.
    """

    emotions: tuple[str, ...]
    weight: Tensor
    scale: float = 5.0
    history: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)

    def logits(self, audio: Tensor) -> Tensor:
        """Return scaled cosines, ``(n, E)``, for embeddings ``(n, dim)``."""
        audio = check_embeddings(audio, name="audio", dim=self.weight.shape[1])
        audio = functional.normalize(audio, dim=-1)
        return self.scale * audio @ self.weight.T

    def predict_proba(self, audio: Tensor) -> Tensor:
        """Return one probability per emotion, ``(n, E)``; rows sum to one."""
        return self.logits(audio).softmax(dim=-1)

    def predict(self, audio: Tensor) -> np.ndarray:
        """Return the most likely emotion of each clip, ``(n,)`` strings."""
        return np.array(self.emotions)[self.logits(audio).argmax(dim=-1).numpy()]


def zero_shot(
    clap: Clap,
    emotions: Sequence[str] = EMOTIONS,
    *,
    templates: Sequence[str] = (CANONICAL,),
) -> TextClassifier:
    """Make a classifier of the prompts themselves, nothing trained.

    Each row of the weight is the mean of an emotion's prompt embeddings over the
    templates, brought back to unit length (prompt ensembling, Radford et al. 2021,
    section 3.1.4).

    Args:
        clap: The model; only its text tower is used.
        emotions: ``E`` labels; any word is allowed.
        templates: Format strings with ``{emotion}``.

    Example:
        >>> zero_shot(clap, ["angry", "sad"]).predict(audio)  # doctest: +SKIP
        array(['sad', 'angry'], dtype='<U5')
    """
    emotions = check_emotions(emotions)
    points = text_points(clap, emotions, templates=templates)
    return TextClassifier(emotions, class_means(points, len(emotions)), _scale(clap))


def fit_text_classifier(
    clap: Clap,
    emotions: Sequence[str] = EMOTIONS,
    *,
    contexts: AcousticContexts | None = None,
    templates: Sequence[str] | None = None,
    include_plain: bool = True,
    seed: int = 0,
    **training: object,
) -> TextClassifier:
    """Learn to tell emotions apart from sentences alone; no audio is heard.

    Args:
        clap: The model; only its text tower is used, and it stays as it is.
        emotions: ``E`` labels.
        contexts: Acoustic contexts to put the emotions in, or None.
        templates: See :func:`text_points`.
        include_plain: See :func:`text_points`.
        seed: Seed of the order of the points (and of a random start).
        **training: Passed on to :func:`fit_on_points`: ``loss``, ``scale``,
            ``margin``, ``start``, ``epochs``, ``learning_rate``, ...

    Example:
        >>> classifier = fit_text_classifier(clap, seed=1)  # doctest: +SKIP
        >>> classifier.predict(clap.embed_audio(clips))  # doctest: +SKIP
    """
    points = text_points(
        clap,
        emotions,
        contexts=contexts,
        templates=templates,
        include_plain=include_plain,
    )
    return fit_on_points(
        points.vectors,
        points.labels,
        emotions=emotions,
        weights=points.weights,
        seed=seed,
        **training,  # type: ignore[arg-type]
    )


def fit_on_points(
    points: Tensor,
    labels: Tensor | Sequence[int],
    *,
    emotions: Sequence[str] = EMOTIONS,
    weights: Tensor | None = None,
    loss: Literal["arcface", "cross-entropy"] = "arcface",
    scale: float = 5.0,
    margin: float = 0.5,
    start: Literal["means", "centred", "random"] = "means",
    epochs: int = 50,
    batch_size: int = 128,
    learning_rate: float = 0.005,
    momentum: float = 0.9,
    seed: int = 0,
) -> TextClassifier:
    """Fit the linear classifier on points that are already embedded.

    Logits are cosines times ``scale``. ArcFace (Deng et al. 2019, equation 3)
    replaces the right emotion's ``cos(a)`` by ``cos(a + margin)``. Loss, scale,
    margin, epochs, batch and SGD settings are those of PromptStyler (Cho et al.
    2023, section 4.2). The start is ours: PromptStyler has hundreds of points or
    more, we may have eighty, so fifty epochs are only fifty steps. From a random
    start the loss is then still falling, from the class means it has settled.

    Args:
        points: ``(n, dim)``; brought to unit length here.
        labels: ``(n,)`` integers, each an index into ``emotions``.
        emotions: ``E`` labels, each with at least one point.
        weights: ``(n,)`` weight of each point; None weighs all emotions the same.
        loss: ``"arcface"``, or ``"cross-entropy"`` (the margin is then not used).
        scale: Multiplies the cosines.
        margin: Angle in radians.
        start: Rows of the weight before training: class means, class means less
            their common mean, or random.
        epochs: Passes over the points.
        batch_size: Points a step.
        learning_rate: Of SGD.
        momentum: Of SGD.
        seed: Same seed, same classifier, bit for bit on one machine.

    Raises:
        ValueError: Shapes that do not fit, an emotion without points, an unknown
            ``loss`` or ``start``, or a setting outside its limits.

    Example:
        >>> points = torch.eye(2)
        >>> fitted = fit_on_points(points, [0, 1], emotions=("angry", "sad"))
        >>> fitted.predict(points).tolist()
        ['angry', 'sad']
    """
    emotions = check_emotions(emotions)
    if loss not in ("arcface", "cross-entropy"):
        raise ValueError(f"loss is {loss!r}, but must be 'arcface' or 'cross-entropy'")
    if start not in ("means", "centred", "random"):
        raise ValueError(
            f"start is {start!r}, but must be 'means', 'centred' or 'random'"
        )
    for name, value, holds, limit in (
        ("scale", scale, 0 < scale < math.inf, "above 0"),
        ("margin", margin, 0 <= margin <= math.pi / 2, "from 0 to pi / 2"),
        ("learning_rate", learning_rate, 0 < learning_rate < math.inf, "above 0"),
        ("momentum", momentum, 0 <= momentum < 1, "from 0 to below 1"),
        ("epochs", epochs, epochs >= 0, "0 or more"),
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
    ):
        if not holds:
            raise ValueError(f"{name} is {value}, but must be {limit}")
    n_emotions = len(emotions)
    points = check_embeddings(points, name="points")
    points = functional.normalize(points, dim=-1)
    labels = torch.as_tensor(labels, dtype=torch.long)
    _check_labels(labels, n_points=len(points), emotions=emotions)
    if weights is None:
        weights = balanced_weights(labels, n_emotions)
    generator = torch.Generator().manual_seed(seed)

    if start == "random":
        weight = torch.randn(n_emotions, points.shape[1], generator=generator)
        weight = functional.normalize(weight, dim=-1)
    else:
        weight = class_means(TextPoints(points, labels, weights), n_emotions)
        if start == "centred":
            weight = functional.normalize(weight - weight.mean(dim=0), dim=-1)
    weight.requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=learning_rate, momentum=momentum)
    added = margin if loss == "arcface" else 0.0
    rows = []
    # Callers may be inside no_grad (an evaluation loop); fitting needs gradients.
    with torch.enable_grad():
        for epoch in range(1, epochs + 1):
            order = torch.randperm(len(points), generator=generator)
            total, right = 0.0, 0
            for batch in order.split(batch_size):
                y = labels[batch]
                cosines = points[batch] @ functional.normalize(weight, dim=-1).T
                logits = scale * _add_margin(cosines, y, margin=added)
                losses = functional.cross_entropy(logits, y, reduction="none")
                share = weights[batch] / weights[batch].sum()
                step_loss = (share * losses).sum()
                optimizer.zero_grad()
                step_loss.backward()
                optimizer.step()
                total += step_loss.item() * len(batch)
                right += int((cosines.argmax(dim=-1) == y).sum())
            n = len(points)
            rows.append({"epoch": epoch, "loss": total / n, "accuracy": right / n})
    weight = functional.normalize(weight.detach(), dim=-1)
    if not torch.isfinite(weight).all():
        raise ValueError(
            f"the training ran away at learning_rate {learning_rate} and scale "
            f"{scale}: its weights are no longer numbers; lower one of them"
        )
    return TextClassifier(emotions, weight, scale, pd.DataFrame(rows))


def _add_margin(cosines: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    if margin == 0:
        return cosines
    right = cosines.gather(1, labels[:, None])  # (n, 1)
    # The clamp keeps the gradient of the square root finite at a perfect match.
    sines = (1 - right.square()).clamp_min(1e-7).sqrt()
    harder = right * math.cos(margin) - sines * math.sin(margin)
    # Past pi - margin the cosine would rise again; go on falling, in a line.
    beyond = right - margin * math.sin(margin)
    harder = torch.where(right > -math.cos(margin), harder, beyond)
    return cosines.scatter(1, labels[:, None], harder)


def _scale(clap: Clap) -> float:
    learned = getattr(getattr(clap, "model", None), "logit_scale_a", None)
    return 1 / 0.07 if learned is None else learned.detach().exp().item()


def _check_labels(labels: Tensor, *, n_points: int, emotions: tuple[str, ...]) -> None:
    if labels.shape != (n_points,):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, but there are {n_points} points; "
            "give one index per point"
        )
    if labels.min() < 0 or labels.max() >= len(emotions):
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, but must be 0 to "
            f"{len(emotions) - 1}: indices into {emotions}"
        )
    counts = torch.bincount(labels, minlength=len(emotions))
    missing = [e for e, n in zip(emotions, counts.tolist(), strict=True) if n == 0]
    if missing:
        raise ValueError(f"no points for {missing}; every emotion needs at least one")
