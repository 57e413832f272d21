"""Another microphone, another moment: log-mels changed as the world would change them.

What is cheap to change in a picture is changed anew for every batch: level, frequency
response, start, and parts hidden. Rooms and noises are drawn beforehand (`pictures`).

Shapes: B batch, F frames, M mel bands, T moments of e measurements.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from clepdg_lib.recipe import Recipe

FLOOR_DB = -100.0  # of a log-mel


def augment(
    pictures: torch.Tensor, recipe: Recipe, *, generator: torch.Generator
) -> torch.Tensor:
    """Another level and microphone, parts hidden: (B, F, M), as they came."""
    n, n_frames, n_mels = pictures.shape
    gain = recipe.gain_db * torch.randn(n, 1, 1, generator=generator)
    if recipe.equaliser_db > 0:
        knots = recipe.equaliser_db * torch.randn(n, 1, 6, generator=generator)
        gain = gain + F.interpolate(knots, n_mels, mode="linear", align_corners=True)
    pictures = (pictures + gain).clamp_min(FLOOR_DB)
    if recipe.masks:
        fill = pictures.mean(dim=(1, 2), keepdim=True)
        for size, length, axis in ((n_frames, 24, 1), (n_mels, 8, 2)) * 2:
            width = torch.randint(0, length, (n, 1, 1), generator=generator)
            start = torch.randint(
                0, max(1, size - length), (n, 1, 1), generator=generator
            )
            shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
            place = torch.arange(size).view(shape)
            hidden = (place >= start) & (place < start + width)
            pictures = torch.where(hidden, fill, pictures)
    return pictures


def start_elsewhere(
    pictures: torch.Tensor,
    moments: torch.Tensor | None = None,
    *,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Begin clips at another moment; what came before comes last.

    Args:
        pictures: (B, F, M) log-mels.
        moments: (B, T, e) what was measured along the same stretch of time, if it
            was: it moves along, to within half a frame.
        generator: Draws the moment, one for all.

    Returns:
        (B, F, M) and (B, T, e), or None.
    """
    n_frames = pictures.shape[1]
    if moments is None:
        shift = int(torch.randint(0, n_frames, (1,), generator=generator))
        return pictures.roll(shift, dims=1), None
    steps = int(torch.randint(0, moments.shape[1], (1,), generator=generator))
    shift = round(steps * n_frames / moments.shape[1])
    return pictures.roll(shift, dims=1), moments.roll(steps, dims=1)
