"""What sentences can say of clips: aspects, their levels, and words for each level.

Shapes: n clips, V versions of each, A levels of an aspect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clepdg_lib.trainer import Trainer


@dataclass(frozen=True)
class Aspect:
    """Something about a clip that sentences can say.

    Attributes:
        name: For the log.
        sentences: For each of ``A`` levels, the sentences that say it.
        labels: (n,) or (n, V) level of every clip (and version), -1 if unknown.
        weight: Share in the loss.
    """

    name: str
    sentences: Sequence[Sequence[str]]
    labels: np.ndarray
    weight: float = 1.0


class Sentences:
    """A sentence for each level of an aspect; those of a frozen tower are kept."""

    def __init__(self, trainer: Trainer, aspects: Sequence[Aspect]) -> None:
        self.trainer, self.aspects = trainer, aspects
        self.known: list[list[torch.Tensor]] | None = None
        if not trainer.tunes_text:  # it says the same every time: ask it once
            device = trainer.clap.device
            self.known = [
                [trainer.clap.embed_text(list(s)).to(device) for s in aspect.sentences]
                for aspect in aspects
            ]

    def draw(self, k: int, generator: torch.Generator) -> torch.Tensor:
        """One sentence for each level of aspect k: (A, dim)."""
        levels = self.aspects[k].sentences
        picks = [int(torch.randint(len(s), (1,), generator=generator)) for s in levels]
        if self.known is not None:
            return torch.stack([self.known[k][a][i] for a, i in enumerate(picks)])
        return self.trainer.read([levels[a][i] for a, i in enumerate(picks)])
