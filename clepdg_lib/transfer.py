"""Train a classifier on sentences, apply it to audio; n points, E emotions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from clepdg_lib import captions
from clepdg_lib.acpt import AcousticContexts, embed_contexts
from clepdg_lib.captions import CANONICAL, EMOTIONS, check_emotions
from clepdg_lib.clap import Clap

LOSSES = ("arcface", "cross-entropy")
ALIKE = 0.9999  # cosine above which two classes' sentences cannot be told apart


@dataclass(frozen=True)
class TextClassifier:
    """A linear classifier without bias on unit-length embeddings."""

    emotions: tuple[str, ...]  # E labels
    weight: Tensor  # (E, dim) directions of unit length
    scale: float = 5.0  # of the cosines: the confidence, never which emotion wins
    history: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)  # by epoch

    def logits(self, audio: Tensor) -> Tensor:
        """Scaled cosines, (n, E), for embeddings (n, dim)."""
        audio = check_embeddings(audio, name="audio", dim=self.weight.shape[1])
        return self.scale * F.normalize(audio, dim=-1) @ self.weight.T

    def predict_proba(self, audio: Tensor) -> Tensor:
        """One probability per emotion, (n, E), columns as `emotions`."""
        return self.logits(audio).softmax(dim=-1)

    def predict(self, audio: Tensor) -> np.ndarray:
        """The most likely emotion of each clip, (n,) strings."""
        return np.array(self.emotions)[self.logits(audio).argmax(dim=-1).numpy()]


class TextPoints(NamedTuple):
    """Text embeddings with the emotion each stands for."""

    vectors: Tensor  # (n, dim), L2-normalised
    labels: Tensor  # (n,), index into the emotions
    weights: Tensor  # (n,), every emotion and every source counts the same


def zero_shot(
    clap: Clap,
    emotions: Sequence[str] = EMOTIONS,
    *,
    templates: Sequence[str] = (CANONICAL,),
) -> TextClassifier:
    """Make a classifier of the means of prompts (Radford et al. 2021, 3.1.4)."""
    points = text_points(clap, emotions, templates=templates)
    weight = class_means(points, len(emotions))
    return TextClassifier(check_emotions(emotions), weight, clap.logit_scale)


def fit_text_classifier(
    clap: Clap,
    emotions: Sequence[str] = EMOTIONS,
    *,
    contexts: AcousticContexts | None = None,
    templates: Sequence[str] | None = None,
    include_plain: bool = True,
    seed: int = 0,
    **training: Any,
) -> TextClassifier:
    """Run `fit_on_points` on `text_points`: no audio is used, the model stays."""
    sources = {"contexts": contexts, "templates": templates}
    points = text_points(clap, emotions, include_plain=include_plain, **sources)
    return fit_on_points(points, emotions=emotions, seed=seed, **training)


def text_points(
    clap: Clap,
    emotions: Sequence[str] = EMOTIONS,
    *,
    contexts: AcousticContexts | None = None,
    templates: Sequence[str] | None = None,
    include_plain: bool = True,
) -> TextPoints:
    """Embed captions, or `templates` filled in, and all emotions in all contexts."""
    emotions = check_emotions(emotions)
    if contexts is None and not include_plain:
        raise ValueError("without contexts, include_plain=False leaves no text points")
    vectors, labels = [], []
    if include_plain:
        groups = [captions.emotion_sentences(emotion) for emotion in emotions]
        if templates is not None:
            groups = captions.emotion_prompts(emotions, templates=templates)
        vectors.append(clap.embed_text([s for group in groups for s in group]))
        labels.append(torch.tensor([i for i, g in enumerate(groups) for _ in g]))
    if contexts is not None:
        placed = embed_contexts(clap, contexts, emotions)  # (K, E, dim)
        vectors.append(placed.flatten(0, 1))
        labels.append(torch.arange(len(emotions)).repeat(len(placed)))
    weights = [_balanced_weights(y, len(emotions)) / len(labels) for y in labels]
    points = TextPoints(torch.cat(vectors), torch.cat(labels), torch.cat(weights))
    means = class_means(points, len(emotions))
    cosines = (means @ means.T).fill_diagonal_(-1)
    if cosines.max() > ALIKE:
        i, j = divmod(int(cosines.argmax()), len(means))
        pair = f"{emotions[i]!r} from {emotions[j]!r}"
        raise ValueError(f"the text tower cannot tell {pair}; use English words")
    return points


def fit_on_points(
    points: TextPoints | tuple[Tensor, Tensor],
    *,
    emotions: Sequence[str] = EMOTIONS,
    loss: str = "arcface",
    scale: float = 5.0,
    margin: float = 0.5,
    epochs: int = 50,
    learning_rate: float = 0.005,
    seed: int = 0,
) -> TextClassifier:
    """Fit the linear classifier on vectors (n, dim) and labels (n,), from class means.

    ArcFace (Deng et al. 2019, equation 3) widens the right class's angle by the margin,
    in radians; cosines are multiplied by the scale. "cross-entropy" has no margin. The
    settings are those of PromptStyler (Cho et al. 2023, section 4.2).

    >>> fitted = fit_on_points((torch.eye(2), [0, 1]), emotions=("angry", "sad"))
    >>> fitted.predict(torch.eye(2)).tolist()
    ['angry', 'sad']
    """
    emotions = check_emotions(emotions)
    positive = min(scale, learning_rate) > 0 and epochs >= 0
    if loss not in LOSSES or not positive or not 0 <= margin <= math.pi / 2:
        given = f"{loss=}, {scale=}, {margin=}, {learning_rate=}, {epochs=}"
        limits = f"loss one of {LOSSES}, margin 0 to pi / 2, epochs 0 or more"
        raise ValueError(f"{given}; must be: {limits}, the others above 0")
    vectors = F.normalize(check_embeddings(points[0], name="points"), dim=-1)
    labels = torch.as_tensor(points[1], dtype=torch.long)
    given, wanted = labels.unique().tolist(), list(range(len(emotions)))
    if labels.shape != vectors.shape[:1] or given != wanted:
        problem = f"labels of shape {tuple(labels.shape)} have the values {given}"
        raise ValueError(f"{problem}; give {len(vectors)}, with each of {wanted}")
    even = _balanced_weights(labels, len(emotions))
    points = TextPoints(vectors, labels, points[2] if len(points) == 3 else even)
    generator = torch.Generator().manual_seed(seed)
    weight = class_means(points, len(emotions)).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=learning_rate, momentum=0.9)
    rows = []
    with torch.enable_grad():  # callers may be inside no_grad
        for epoch in range(1, epochs + 1):
            order = torch.randperm(len(vectors), generator=generator)
            total, n_right = 0.0, 0
            for batch in order.split(128):
                y, w = labels[batch], points.weights[batch]
                cosines = vectors[batch] @ F.normalize(weight, dim=-1).T
                widened = add_margin(cosines, y, margin=margin * (loss == "arcface"))
                losses = F.cross_entropy(scale * widened, y, reduction="none")
                step_loss = (w * losses).sum() / w.sum()
                optimizer.zero_grad()
                step_loss.backward()
                optimizer.step()
                total += step_loss.item() * len(batch)
                n_right += int((cosines.argmax(dim=-1) == y).sum())
            n = len(vectors)
            rows.append({"epoch": epoch, "loss": total / n, "accuracy": n_right / n})
    weight = F.normalize(weight.detach(), dim=-1)
    if not weight.isfinite().all():
        raise ValueError(
            f"diverged at {scale=} and {learning_rate=}; lower one of them"
        )
    return TextClassifier(emotions, weight, scale, pd.DataFrame(rows))


def add_margin(cosines: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """Replace cos(a) of the right class by cos(a + margin): (n, E) -> (n, E)."""
    right = cosines.gather(1, labels[:, None])  # (n, 1)
    # The clamp keeps the gradient of the square root finite at a perfect match.
    sines = (1 - right.square()).clamp_min(1e-7).sqrt()
    harder = right * math.cos(margin) - sines * math.sin(margin)
    # Beyond pi - margin the cosine would rise again: continue linearly.
    beyond = right - margin * math.sin(margin)
    harder = torch.where(right > -math.cos(margin), harder, beyond)
    return cosines.scatter(1, labels[:, None], harder)


def class_means(points: TextPoints, n_emotions: int) -> Tensor:
    """Each emotion's weighted mean direction, (E, dim)."""
    member = F.one_hot(points.labels, n_emotions).float()
    sums = (member * points.weights[:, None]).T @ points.vectors  # (E, dim)
    return F.normalize(sums, dim=-1)


def _balanced_weights(labels: Tensor, n_emotions: int) -> Tensor:
    """(n,) weights that sum to one, and to the same for each emotion."""
    counts = torch.bincount(labels, minlength=n_emotions)
    return 1.0 / (n_emotions * counts[labels].float())


@dataclass(frozen=True)
class ModalityGap:
    """How far apart the clouds of audio and text embeddings lie."""

    distance: float  # length of mean_text - mean_audio, 0 to 2
    direction: Tensor = field(repr=False)  # (dim,) of that difference, unit length
    mean_audio: Tensor = field(repr=False)  # (dim,), not re-normalised
    mean_text: Tensor = field(repr=False)
    cosine_within_audio: float  # mean over pairs of different clips
    cosine_within_text: float
    cosine_between: float  # mean over pairs of a clip and a sentence


def modality_gap(audio: Tensor, text: Tensor) -> ModalityGap:
    """Compare the means (Liang et al. 2022, section 2) of (n, dim) and (m, dim)."""
    audio = check_embeddings(audio, name="audio")
    text = check_embeddings(text, name="text", dim=audio.shape[1])
    gap = text.mean(dim=0) - audio.mean(dim=0)
    units = F.normalize(audio, dim=-1), F.normalize(text, dim=-1)
    return ModalityGap(
        distance=gap.norm().item(),
        direction=F.normalize(gap, dim=0),
        mean_audio=audio.mean(dim=0),
        mean_text=text.mean(dim=0),
        cosine_within_audio=_mean_cosine(units[0]),
        cosine_within_text=_mean_cosine(units[1]),
        cosine_between=(units[0].mean(dim=0) @ units[1].mean(dim=0)).item(),
    )


def _mean_cosine(unit: Tensor) -> float:
    """Mean over pairs of different rows; the sum over all pairs is |sum|^2."""
    n, total = len(unit), unit.sum(dim=0).square().sum().item()
    return (total - n) / (n * (n - 1)) if n > 1 else math.nan


def close_gap(
    audio: Tensor, *, mean_audio: Tensor, mean_text: Tensor, strength: float = 1.0
) -> Tensor:
    """Move audio (n, dim) to the text, by the difference of *training* means (dim,)."""
    audio = check_embeddings(audio, name="audio", dim=len(mean_audio))
    shift = mean_text.float() - mean_audio.float()
    return F.normalize(audio + strength * shift, dim=-1)


def transductive_centre(audio: Tensor, *, home: Tensor | None = None) -> Tensor:
    """Replace the mean of *all test clips* by `home` or 0: never a headline number."""
    audio = check_embeddings(audio, name="audio")
    centred = audio - audio.mean(dim=0)
    return centred if home is None else centred + home.float()


def check_embeddings(vectors: Tensor, *, name: str, dim: int | None = None) -> Tensor:
    """Return (n, dim) float32 vectors on the CPU, or say what is wrong."""
    vectors = torch.as_tensor(vectors).detach().float().cpu()
    fits = vectors.ndim == 2 and len(vectors) and dim in (None, vectors.shape[1])
    if not fits or not vectors.isfinite().all():
        wanted = f"finite numbers, (n, {dim or 'dim'}), such as Clap.embed_audio gives"
        raise ValueError(f"{name} of shape {tuple(vectors.shape)} must be {wanted}")
    return vectors
