"""How a batch passes through a tower that learns: in pieces, in parts, in stages.

A contrast wants many clips at once, memory wants few. `listen` lets the loss see the
whole batch while each process, and within it each piece, holds its own part alone;
`freeze` decides which stages learn at all.

Lesson: notebooks/06_scale_up.ipynb
Shapes: B batch, F frames, M mel bands, T moments.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from clepdg_lib.trainer import Trainer


def listen(
    trainer: Trainer, pictures: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hear and project a batch: each process its share, all of them the whole.

    Args:
        trainer: Whose tower hears.
        pictures: (B, 1, F, M) log-mels, the same in all processes.

    Returns:
        (B, dim) unit rows and (B, d) predicted measurements, as `Trainer.project`,
        and (B, T, e) those of moments, as `Trainer.follow`.

    Raises:
        ValueError: B does not divide among the processes.
    """
    own = pictures[trainer.team.share(len(pictures))]

    def through(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        heard = trainer.hear(part)
        return *trainer.project(heard.mean(dim=1)), trainer.follow(heard)

    if trainer.recipe.pieces == 1:
        parts = [through(own)]
    else:
        parts = [
            checkpoint(through, part, use_reentrant=False)
            for part in own.chunk(trainer.recipe.pieces)
        ]
    audio, said, told = (torch.cat(side) for side in zip(*parts, strict=True))
    return tuple(trainer.team.gather(side) for side in (audio, said, told))


def freeze(trainer: Trainer, epoch: int) -> None:
    """Let those stages of the audio tower learn that the recipe lets learn.

    Args:
        trainer: Whose tower learns.
        epoch: From 0.
    """
    plan = trainer.recipe.frozen_stages
    if not plan:
        return
    n_still = plan[min(epoch, len(plan) - 1)]
    encoder = trainer.clap.model.audio_model.audio_encoder
    for first in (encoder.batch_norm, encoder.patch_embed):
        first.requires_grad_(n_still == 0)
    for i, stage in enumerate(encoder.layers):
        stage.requires_grad_(i >= n_still)
