"""How to train: every number that a training depends on, in one frozen record."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from clepdg_lib.tower import bfloat16_is_fast


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults suit a few thousand clips on a laptop.

    Attributes:
        epochs: Times through ``n`` draws; 0 to stop after the probing.
        batch_size: Clips in a step.
        learning_rate: Peak; warm-up over the first tenth, then a cosine to zero.
        tower_share: Part of it that the audio tower gets; the layers above it get all.
        probe_steps: Steps in which, first, the layers above the audio tower learn
            alone: probe, then fine-tune (Kumar et al. 2022) keeps what the tower
            knows and does better on unseen domains. 0 for a tower that knows nothing.
        dropout: Part of what the audio tower says that the layers above it must do
            without, another part for each clip and step: few corpora teach them to
            lean on little.
        other_voices: Part of the clips that, while the layers above the tower learn
            alone, are given the voice of another speaker; see `voices.Voices`.
        text_learning_rate: For the text tower, 0 to leave it frozen.
        weight_decay: AdamW's.
        averaging: Decay of the moving average of the weights that is returned.
        gain_db: Standard deviation of a random gain.
        equaliser_db: Standard deviation of a random smooth gain over the bands:
            another microphone for every clip.
        masks: Time and frequency masks (SpecAugment, Park et al. 2019), 2 of each.
        norm_moves: Let the audio tower's batch normalisation follow the new clips.
            Needed by a tower that starts from nothing; in a fine-tuning the running
            mean of each mel band would drift to the training corpora's microphones.
        target_weight: Share of the auxiliary targets in the loss.
        moment_weight: Share of what is to be predicted moment by moment.
        precision: "float32", "bfloat16", or "auto": bfloat16 where the processor
            multiplies it in hardware.
        pieces: Parts in which a batch passes through the tower. Each is forgotten and
            heard again on the way back (Gao et al. 2021, gradient caching), so that
            memory holds one part and the contrast still sees the whole batch.
        gradient_checkpointing: Forget also within the tower, stage by stage.
        frozen_stages: How many of the audio tower's first stages keep still in each
            epoch, the last number from then on: (4, 2, 0) thaws from the top.
    """

    epochs: int = 6
    batch_size: int = 64
    learning_rate: float = 1e-3
    tower_share: float = 0.2
    probe_steps: int = 600
    dropout: float = 0.0
    other_voices: float = 0.0
    text_learning_rate: float = 0.0
    weight_decay: float = 0.05
    averaging: float = 0.99
    gain_db: float = 6.0
    equaliser_db: float = 4.0
    masks: bool = True
    norm_moves: bool = False
    target_weight: float = 1.0
    moment_weight: float = 1.0
    precision: str = "auto"
    pieces: int = 1
    gradient_checkpointing: bool = False
    frozen_stages: tuple[int, ...] = ()


def fast_precision(device: torch.device, precision: str) -> bool:
    """Decide whether to compute in bfloat16."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(
            f"precision is {precision!r}; it must be 'auto', 'float32' or 'bfloat16'"
        )
    # Measured on AVX-512: a fine-tuning step in half the time.
    return bfloat16_is_fast(device) if precision == "auto" else precision == "bfloat16"
