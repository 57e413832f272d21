"""Train a classifier on sentences, apply it to audio; n points, E emotions."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clepdg_lib import captions
from clepdg_lib.acpt import AcousticContexts, embed_contexts
from clepdg_lib.captions import CANONICAL, EMOTIONS, check_emotions
from clepdg_lib.clap import Clap, check_range, check_rows, pin_defaults, refuse_alike


@dataclass(frozen=True)
class TextClassifier:
    """A linear classifier without bias on unit-length embeddings."""

    emotions: tuple[str, ...]  # E labels
    weight: Tensor  # (E, dim) directions of unit length
    scale: float = 5.0  # of the cosines: the confidence, never which emotion wins

    def __post_init__(self) -> None:
        object.__setattr__(self, "emotions", check_emotions(self.emotions))
        if len(check_rows(self.weight, name="weight")) != len(self.emotions):
            given = f"{len(self.weight)} rows of weights for {self.emotions}"
            raise ValueError(f"{given}; give one for each, in their order")

    def logits(self, audio: Tensor) -> Tensor:
        """Scaled cosines, (n, E), for embeddings (n, dim)."""
        audio = check_rows(audio, name="audio", dim=self.weight.shape[1])
        return self.scale * F.normalize(audio, dim=-1) @ self.weight.T

    def predict_proba(self, audio: Tensor) -> Tensor:
        """One probability per emotion, (n, E), columns as `emotions`."""
        return self.logits(audio).softmax(dim=-1)

    def predict(self, audio: Tensor) -> np.ndarray:
        """The most likely emotion of each clip, (n,) strings."""
        return np.array(self.emotions)[self.logits(audio).argmax(dim=-1).numpy()]


@dataclass(frozen=True)
class TextPoints:
    """Text embeddings with the emotion each stands for; iterates over the tensors."""

    vectors: Tensor  # (n, dim), L2-normalised
    labels: Tensor  # (n,), index into the emotions
    weights: Tensor  # (n,), every emotion and every source counts the same
    emotions: tuple[str, ...] = EMOTIONS

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.vectors, self.labels, self.weights))


def zero_shot(
    clap: Clap,
    emotions: Sequence[str] = EMOTIONS,
    *,
    templates: Sequence[str] = (CANONICAL,),
) -> TextClassifier:
    """Make a classifier of the means of prompts (Radford et al. 2021, 3.1.4)."""
    points = text_points(clap, emotions, templates=templates)
    weight = class_means(points, len(points.emotions))
    return TextClassifier(points.emotions, weight, clap.logit_scale)


def fit_text_classifier(
    clap: Clap,
    emotions: Sequence[str] = EMOTIONS,
    *,
    contexts: AcousticContexts | None = None,
    templates: Sequence[str] | None = None,
    seed: int = 0,
    **training: Any,
) -> TextClassifier:
    """Run `fit_on_points` on `text_points`: no audio is used, the model stays."""
    points = text_points(clap, emotions, contexts=contexts, templates=templates)
    return fit_on_points(points, seed=seed, **training)


@pin_defaults
def text_points(
    clap: Clap,
    emotions: Sequence[str] = EMOTIONS,
    *,
    contexts: AcousticContexts | None = None,
    templates: Sequence[str] | None = None,
) -> TextPoints:
    """Embed captions, or `templates` filled in, and all emotions in all contexts."""
    emotions = check_emotions(emotions)
    groups = [captions.emotion_sentences(emotion) for emotion in emotions]
    if templates is not None:
        groups = captions.emotion_prompts(emotions, templates=templates)
    vectors = [clap.embed_text([s for group in groups for s in group])]
    labels = [torch.tensor([i for i, group in enumerate(groups) for _ in group])]
    if contexts is not None:
        placed = embed_contexts(clap, contexts, emotions)  # (K, E, dim)
        vectors.append(placed.flatten(0, 1))
        labels.append(torch.arange(len(emotions)).repeat(len(placed)))
    weights = [_balanced_weights(y, len(emotions)) / len(labels) for y in labels]
    points = TextPoints(*map(torch.cat, (vectors, labels, weights)), emotions)
    refuse_alike(class_means(points, len(emotions)), emotions)
    return points


@torch.inference_mode(False)
@pin_defaults
def fit_on_points(
    points: TextPoints | tuple[Tensor, Tensor],
    *,
    emotions: Iterable[str] | None = None,
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
    own = getattr(points, "emotions", None)
    emotions = check_emotions(emotions or own or EMOTIONS)
    if own not in (None, emotions):
        raise ValueError(f"emotions is {emotions}, but the points' labels mean {own}")
    if loss not in ("arcface", "cross-entropy"):
        raise ValueError(f"loss is {loss!r}; it must be 'arcface' or 'cross-entropy'")
    check_range(least=0, whole=True, epochs=epochs)
    check_range(least=0, most=math.pi / 2, margin=margin)
    check_range(least=1e-6, most=1e3, scale=scale, learning_rate=learning_rate)
    points = list(points)
    vectors = F.normalize(check_rows(points[0], name="points"), dim=-1)
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
    for _ in range(epochs):
        order = torch.randperm(len(vectors), generator=generator)
        for batch in order.split(128):
            y, w = labels[batch], points.weights[batch]
            cosines = vectors[batch] @ F.normalize(weight, dim=-1).T
            widened = add_margin(cosines, y, margin=margin * (loss == "arcface"))
            losses = F.cross_entropy(scale * widened, y, reduction="none")
            optimizer.zero_grad()
            ((w * losses).sum() / w.sum()).backward()
            optimizer.step()
    weight = F.normalize(weight.detach(), dim=-1)
    if not weight.isfinite().all():
        raise ValueError(f"diverged at {scale=} and {learning_rate=}; lower one")
    return TextClassifier(emotions, weight, scale)


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
    return F.normalize((member * points.weights[:, None]).T @ points.vectors, dim=-1)


def _balanced_weights(labels: Tensor, n_emotions: int) -> Tensor:
    """(n,) weights that sum to one, and to the same for each emotion."""
    return 1.0 / (n_emotions * labels.bincount()[labels].float())


class ModalityGap(NamedTuple):
    """How far apart the clouds of audio and text embeddings lie."""

    distance: float  # length of mean_text - mean_audio, 0 to 2
    cosine_within_audio: float  # mean over pairs of different clips
    cosine_between: float  # mean over pairs of a clip and a sentence


def modality_gap(audio: Tensor, text: Tensor) -> ModalityGap:
    """Compare the means (Liang et al. 2022, section 2) of (n, dim) and (m, dim)."""
    audio = check_rows(audio, name="audio")
    text = check_rows(text, name="text", dim=audio.shape[1])
    distance = (text.mean(dim=0) - audio.mean(dim=0)).norm().item()
    clips, words = F.normalize(audio, dim=-1), F.normalize(text, dim=-1)
    n, total = len(clips), clips.sum(dim=0).square().sum().item()  # of all pairs
    within = (total - n) / (n * (n - 1)) if n > 1 else math.nan
    between = (clips.mean(dim=0) @ words.mean(dim=0)).item()
    return ModalityGap(distance, within, between)


def close_gap(audio: Tensor, *, mean_audio: Tensor, mean_text: Tensor) -> Tensor:
    """Move audio (n, dim) to the text, by the difference of *training* means (dim,)."""
    audio = check_rows(audio, name="audio", dim=len(mean_audio))
    return F.normalize(audio + mean_text.float() - mean_audio.float(), dim=-1)


def transductive_centre(audio: Tensor, *, home: Tensor | None = None) -> Tensor:
    """Replace the mean of *all test clips* by `home` or 0: never a headline number."""
    audio = check_rows(audio, name="audio")
    centred = audio - audio.mean(dim=0)
    return centred if home is None else centred + home.float()
