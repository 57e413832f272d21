"""What an audio tower says before it learns: asked once, then remembered.

Every fine-tuning begins with layers on top of a tower that keeps still. A benchmark
begins dozens at the same tower, with the same pictures of the same clips in other
company, so what the tower says of a picture is kept in the cache.

Shapes: n pictures, F frames, M mel bands, C width of the tower.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from clepdg_lib.cache import EmbeddingCache
from clepdg_lib.clap import Clap
from clepdg_lib.embedding import VERSION
from clepdg_lib.processes import Team

TOGETHER = 256  # pictures that are heard before they are stored


def hear_frozen(
    clap: Clap, pictures: np.ndarray, *, team: Team | None = None
) -> torch.Tensor:
    """Hear pictures without learning from them, those alone that nobody asked about.

    Args:
        clap: Whose tower hears.
        pictures: (n, F, M) log-mels.
        team: The processes that divide the work; default those that were launched.

    Returns:
        (n, C) float32 on the model's device.
    """
    team, store = team or Team(), EmbeddingCache()
    prefix = f"{clap.fingerprint()}|{VERSION}|picture".encode()
    keys = [hashlib.sha256(prefix + p.tobytes()).hexdigest() for p in pictures]
    row_of = {key: row for row, key in enumerate(keys)}
    # Divided before anybody looks what is known: that changes while others hear.
    mine = list(row_of)[team.rank :: team.size]
    known = store.get(mine)
    new = [key for key in mine if key not in known]
    for start in range(0, len(new), TOGETHER):
        part = new[start : start + TOGETHER]
        mels = torch.from_numpy(pictures[[row_of[key] for key in part]])
        heard = dict(zip(part, clap.hear_mels(mels.unsqueeze(1)).numpy(), strict=True))
        store.put(heard)  # an interrupted run keeps what it has
        known |= heard
    said = {key: row for part in team.collect(known) for key, row in part.items()}
    found = np.stack([said[key] for key in keys])
    return torch.from_numpy(found).to(clap.device)
