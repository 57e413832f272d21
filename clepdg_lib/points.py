"""Gather the sentences that stand for an emotion, as points to learn from.

Lesson: notebooks/04_transfer_across_modalities.ipynb
Shapes: n points, E emotions, K contexts, dim the embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from clepdg_lib.captions import emotion_prompts, emotion_sentences
from clepdg_lib.corpora import EMOTIONS

if TYPE_CHECKING:
    from clepdg_lib.acpt import AcousticContexts
    from clepdg_lib.clap import Clap


class TextPoints(NamedTuple):
    """Text embeddings with the emotion each stands for, ready to be learned from."""

    vectors: Tensor  # (n, dim), L2-normalised
    labels: Tensor  # (n,), index into the emotions
    weights: Tensor  # (n,), every emotion and every source counts the same


def text_points(
    clap: Clap,
    emotions: Sequence[str] = EMOTIONS,
    *,
    contexts: AcousticContexts | None = None,
    templates: Sequence[str] | None = None,
    include_plain: bool = True,
) -> TextPoints:
    """Embed the sentences that stand for each emotion.

    Args:
        clap: The model; only its text tower is used.
        emotions: ``E`` labels.
        contexts: Acoustic contexts; each is joined with each emotion, ``K x E``
            points. None: context-free sentences only.
        templates: Format strings for the context-free sentences; None takes every
            template, other words and paraphrases of ``captions.emotion_sentences``.
        include_plain: Keep the context-free sentences beside the contexts. Both
            sources then weigh the same, however many points each has.

    Raises:
        ValueError: Fewer than two or doubled emotions, no template, or neither
            source of points asked for.
    """
    emotions = check_emotions(emotions)
    if templates is not None and (isinstance(templates, str) or not templates):
        raise ValueError(
            f"templates is {templates!r}, but must be a list of one or more format "
            "strings with {emotion}; None takes the sentences of captions.py"
        )
    if contexts is None and not include_plain:
        raise ValueError(
            "include_plain=False leaves nothing to learn from without contexts; "
            "give contexts or keep include_plain=True"
        )
    sources: list[tuple[Tensor, Tensor]] = []
    if include_plain:
        sentences = (
            [emotion_sentences(emotion) for emotion in emotions]
            if templates is None
            else emotion_prompts(emotions, templates=templates)
        )
        flat = [sentence for group in sentences for sentence in group]
        labels = [i for i, group in enumerate(sentences) for _ in group]
        sources.append((clap.embed_text(flat), torch.tensor(labels)))
    if contexts is not None:
        from clepdg_lib.acpt import embed_contexts

        placed = embed_contexts(clap, contexts, emotions)  # (K, E, dim)
        labels = torch.arange(len(emotions)).repeat(len(placed))
        sources.append((placed.flatten(0, 1), labels))
    vectors = torch.cat([v.detach().float().cpu() for v, _ in sources])
    weights = [balanced_weights(y, len(emotions)) / len(sources) for _, y in sources]
    labels = torch.cat([y for _, y in sources])
    return TextPoints(vectors, labels, torch.cat(weights))


def jitter_points(
    points: TextPoints, *, noise_std: float, n_copies: int = 20, seed: int = 0
) -> TextPoints:
    """Scatter text points with Gaussian noise: the control without any words.

    Noise on text embeddings is the plain way to widen them towards the other
    modality (Gu et al. 2023, "I can't believe there's no images!"). Contexts have
    to beat it.

    Args:
        points: What to scatter; kept beside the copies.
        noise_std: Expected length of the noise vector, the points being of length
            1; the deviation per dimension is ``noise_std / sqrt(dim)``.
        n_copies: Noisy copies of every point.
        seed: Seed of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    copies = points.vectors.repeat(n_copies, 1)
    noise = torch.randn(copies.shape, generator=generator) / math.sqrt(copies.shape[1])
    noisy = functional.normalize(copies + noise_std * noise, dim=-1)
    return TextPoints(
        torch.cat([points.vectors, noisy]),
        points.labels.repeat(n_copies + 1),
        points.weights.repeat(n_copies + 1) / (n_copies + 1),
    )


def class_means(points: TextPoints, n_emotions: int) -> Tensor:
    """Return each emotion's weighted mean direction, ``(E, dim)``."""
    member = functional.one_hot(points.labels, n_emotions).float()
    sums = (member * points.weights[:, None]).T @ points.vectors  # (E, dim)
    return functional.normalize(sums, dim=-1)


def balanced_weights(labels: Tensor, n_emotions: int) -> Tensor:
    """Return ``(n,)`` weights that sum to one, and to the same for each emotion."""
    counts = torch.bincount(labels, minlength=n_emotions)
    return 1.0 / (n_emotions * counts[labels].float())


def check_emotions(emotions: Sequence[str]) -> tuple[str, ...]:
    """Return two or more different labels, or say what is wrong."""
    named = (emotions,) if isinstance(emotions, str) else tuple(emotions)
    if len(named) < 2 or len(set(named)) < len(named):
        raise ValueError(
            f"emotions is {named!r}, but must be two or more different words, "
            f"for example {EMOTIONS}"
        )
    return named
