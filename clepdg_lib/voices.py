"""Other voices, same feelings: exchange between clips what is constant in a speaker.

What an audio tower says of a clip is, for the most part, who speaks and over which
microphone. Take a speaker's mean away and put another's in its place: a clip that no
corpus holds, in which the emotion's deviation from the speaker's ordinary voice stays.
Layers that learn from such clips cannot lean on voices.

Source: after MixStyle (Zhou et al. 2021, eq. 3-6), which mixes the statistics of two
clips' feature maps; here it is means alone, and of all that a speaker said.
Shapes: n clips, V versions of each, B batch, C width of the tower.
"""

from __future__ import annotations

import numpy as np
import torch


class Voices:
    """The mean of what a tower said of each speaker.

    Args:
        found: (n, V, C), what the tower said of each clip and version.
        speakers: (n,) who speaks, in whatever names.
    """

    def __init__(self, found: torch.Tensor, speakers: np.ndarray) -> None:
        names, numbers = np.unique(np.asarray(speakers), return_inverse=True)
        owner = torch.as_tensor(numbers, device=found.device)
        sums = torch.zeros(len(names), *found.shape[1:], device=found.device)
        counts = torch.bincount(owner, minlength=len(names)).view(-1, 1, 1)
        self.means = sums.index_add_(0, owner, found) / counts  # (speakers, V, C)
        self.owner = owner

    def exchange(
        self,
        heard: torch.Tensor,
        rows: np.ndarray,
        versions: np.ndarray,
        *,
        share: float,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Give some clips of a batch the voice of another clip of the batch.

        Args:
            heard: (B, C), a batch of `found`.
            rows: (B,) its clips.
            versions: (B,) their versions, which stay: voices change, places do not.
            share: Part of the clips, at random.
            generator: Of that chance and of who gets whose voice.

        Returns:
            (B, C).
        """
        own = self.owner[rows]
        other = own[torch.randperm(len(rows), generator=generator)]
        chosen = torch.rand(len(rows), 1, generator=generator) < share
        places = torch.as_tensor(versions, device=heard.device)
        moved = heard + self.means[other, places] - self.means[own, places]
        return torch.where(chosen.to(heard.device), moved, heard)
