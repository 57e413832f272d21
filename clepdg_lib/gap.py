"""Measure, close and mind the gap between what is heard and what is read.

The two towers of a contrastive model share one space, yet audio and text
embeddings lie in two separate clouds of it: the modality gap.

Lesson: notebooks/04_transfer_across_modalities.ipynb
Shapes: n clips, m sentences, dim the embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class ModalityGap:
    """How far apart the clouds of audio and text embeddings lie.

    Attributes:
        distance: Length of ``mean_text - mean_audio``; 0 to 2.
        direction: ``(dim,)`` unit vector from the audio mean to the text mean.
        mean_audio: ``(dim,)``, not re-normalised.
        mean_text: ``(dim,)``, not re-normalised.
        cosine_within_audio: Mean cosine between two different clips.
        cosine_within_text: Mean cosine between two different sentences.
        cosine_between: Mean cosine between a clip and a sentence.
    """

    distance: float
    direction: Tensor = field(repr=False)
    mean_audio: Tensor = field(repr=False)
    mean_text: Tensor = field(repr=False)
    cosine_within_audio: float
    cosine_within_text: float
    cosine_between: float


def modality_gap(audio: Tensor, text: Tensor) -> ModalityGap:
    """Measure the gap between two clouds of embeddings.

    The gap vector is the difference of the two means (Liang et al. 2022, "Mind the
    gap", section 2).

    Args:
        audio: ``(n, dim)`` of training domains, if the gap is to be closed with it.
        text: ``(m, dim)``.

    Example:
        >>> gap = modality_gap(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        >>> round(gap.distance, 3)
        1.414
    """
    audio = check_embeddings(audio, name="audio")
    text = check_embeddings(text, name="text", dim=audio.shape[1])
    mean_audio, mean_text = audio.mean(dim=0), text.mean(dim=0)
    gap = mean_text - mean_audio
    return ModalityGap(
        distance=gap.norm().item(),
        direction=functional.normalize(gap, dim=0),
        mean_audio=mean_audio,
        mean_text=mean_text,
        cosine_within_audio=_mean_cosine(audio),
        cosine_within_text=_mean_cosine(text),
        cosine_between=(_unit_mean(audio) @ _unit_mean(text)).item(),
    )


def close_gap(
    audio: Tensor, *, mean_audio: Tensor, mean_text: Tensor, strength: float = 1.0
) -> Tensor:
    """Move audio embeddings to where the text lies, by the difference of the means.

    Take both means from training data: a mean of the test corpus would be knowledge
    of the test corpus (for that, honestly labelled, see :func:`transductive_centre`).

    Args:
        audio: ``(n, dim)`` to move; any corpus, seen or not.
        mean_audio: ``(dim,)`` mean over training domains' audio.
        mean_text: ``(dim,)`` mean over the text points.
        strength: Part of the way to go; 0 leaves the audio where it is.

    Returns:
        ``(n, dim)``, L2-normalised.
    """
    audio = check_embeddings(audio, name="audio", dim=len(mean_audio))
    return functional.normalize(
        audio + strength * (mean_text.float() - mean_audio.float()), dim=-1
    )


def transductive_centre(audio: Tensor, *, home: Tensor | None = None) -> Tensor:
    """Replace a test corpus's own mean; *transductive*, never a headline number.

    It needs all test clips at once (no labels), which a recogniser that meets one
    stranger's voice does not have. Report it in a row of its own, so marked.

    Args:
        audio: ``(n, dim)``, the whole test corpus.
        home: ``(dim,)`` to centre on: where the classifier is at home, such as the
            mean of the audio that a CLEP learned from, or of the text points; None
            centres on the origin.

    Returns:
        ``(n, dim)``, L2-normalised.
    """
    audio = check_embeddings(audio, name="audio")
    centred = audio - audio.mean(dim=0)
    if home is not None:
        centred = centred + home.float()
    return functional.normalize(centred, dim=-1)


def check_embeddings(vectors: Tensor, *, name: str, dim: int | None = None) -> Tensor:
    """Return ``(n, dim)`` float32 vectors on the CPU, or say what is wrong."""
    vectors = torch.as_tensor(vectors).detach().float().cpu()
    expected = "dim" if dim is None else dim
    wrong_width = vectors.ndim == 2 and dim is not None and vectors.shape[1] != dim
    if vectors.ndim != 2 or len(vectors) == 0 or wrong_width:
        raise ValueError(
            f"{name} has shape {tuple(vectors.shape)}, but must be (n, {expected}) "
            "with n at least 1; embeddings come from Clap.embed_audio or embed_text"
        )
    n_bad = int((~torch.isfinite(vectors)).any(dim=1).sum())
    if n_bad:
        raise ValueError(
            f"{name} has {n_bad} of {len(vectors)} rows with NaN or infinite values; "
            "look for the clips or the model that they come from, and leave them out"
        )
    return vectors


def _unit_mean(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=-1).mean(dim=0)


def _mean_cosine(vectors: Tensor) -> float:
    n = len(vectors)
    if n < 2:
        return float("nan")
    # Sum over all ordered pairs is |sum|^2; n of them are a vector with itself.
    total = (n * _unit_mean(vectors)).square().sum().item()
    return (total - n) / (n * (n - 1))
