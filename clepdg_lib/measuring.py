"""What an audio tower is asked to measure, beside being asked for sentences.

A sentence says little of a clip, and a label less. Measurements say much: eighty-eight
numbers of a whole clip, or what another network makes of each moment in it. To predict
those, moment by moment, a small tower must hear details that a mean over the clip
would never have asked it for (frame-level distillation, as DistilHuBERT does it: Chang
et al. 2022). What predicts them is dropped after the training.

Shapes: B batch, T moments that the tower tells apart.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F
from transformers import ClapModel

MEAN_SHARE = 2.0  # of the error of a clip's mean, which an embedding is made of


def miss(said: torch.Tensor, wanted: np.ndarray) -> torch.Tensor:
    """How far predicted measurements of clips are off, where there are any.

    Args:
        said: (B, d).
        wanted: (B, d), NaN where unknown.

    Returns:
        Scalar: the mean Huber loss, 0 if nothing is known.
    """
    target = torch.as_tensor(wanted, dtype=torch.float32, device=said.device)
    known = ~torch.isnan(target)
    if not known.any():
        return said.sum() * 0.0
    return F.smooth_l1_loss(said[known], target[known])


def miss_moments(told: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How far predictions are off in each moment, and in the mean over a clip.

    Args:
        told: (B, T, e).
        wanted: (B, T, e), NaN in moments of which nothing is known.

    Returns:
        Scalar: the mean Huber loss over moments and twice the squared error of
        the clips' means; 0 if nothing is known.
    """
    wanted = wanted.to(told)
    known = ~torch.isnan(wanted[..., 0])  # (B, T)
    if not known.any():
        return told.sum() * 0.0
    each = F.smooth_l1_loss(told[known], wanted[known])
    off = (told - wanted.nan_to_num()) * known.unsqueeze(-1)
    some = known.any(dim=1)
    mean = off.sum(dim=1)[some] / known.sum(dim=1)[some].unsqueeze(-1)
    return each + MEAN_SHARE * mean.square().mean()


def count_moments(model: ClapModel) -> int:
    """How many moments of a window the audio tower tells apart in the end."""
    encoder = model.audio_model.audio_encoder
    rows, columns = encoder.input_resolutions[-1]  # of tokens; time folded into rows
    bands = max(1, rows // encoder.freq_ratio)
    return rows * columns // bands


def check_moments(moments: np.ndarray | None, model: ClapModel, *, n: int) -> None:
    """Refuse measurements that do not fit the clips or the tower.

    Args:
        moments: What `train_towers` was given.
        model: Whose audio tower shall predict them.
        n: How many clips there are.

    Raises:
        ValueError: Says which shape they have and which they must have.
    """
    if moments is None:
        return
    n_moments = count_moments(model)
    if moments.ndim != 3 or moments.shape[:2] != (n, n_moments):
        raise ValueError(
            f"moments have shape {moments.shape}; for {n} clips and this audio tower "
            f"they must have ({n}, {n_moments}, measurements)"
        )
