"""Another microphone, another moment: log-mels changed as the world would change them.

What is cheap to change in a picture is changed anew for every batch: level, frequency
response, start, and parts hidden. Rooms and noises are drawn beforehand (`pictures`).

Shapes: B batch, F frames, M mel bands.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from clepdg_lib.trainer import Recipe

FLOOR_DB = -100.0  # of a log-mel


def augment(
    pictures: torch.Tensor, recipe: Recipe, *, generator: torch.Generator
) -> torch.Tensor:
    """Another level, microphone and start, parts hidden: (B, F, M) -> (B, 1, F, M)."""
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
    shift = int(torch.randint(0, n_frames, (1,), generator=generator))
    return pictures.roll(shift, dims=1).unsqueeze(1)
