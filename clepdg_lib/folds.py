"""Divide clips so that nobody is trained on and tested on.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

Labels = Sequence[str] | np.ndarray | pd.Series


class Fold(NamedTuple):
    """One train / test division; ``train`` and ``test`` are positions of clips."""

    name: str
    train: np.ndarray
    test: np.ndarray


def leave_groups_out(
    groups: Labels,
    *,
    speakers: Labels | None = None,
    n_folds: int | None = None,
    seed: int = 0,
) -> list[Fold]:
    """Divide clips so that each fold tests on groups that training never saw.

    Leave one corpus, domain or speaker out by passing that column. Clips of a
    speaker who is in the test part leave the training part too.

    Args:
        groups: ``(n,)`` corpus, domain or speaker of each clip.
        speakers: ``(n,)`` names, unique over corpora. None when the groups are
            speakers already.
        n_folds: Join the groups, shuffled, into this many folds; None makes one
            fold per group.
        seed: Seed of the shuffle.

    Raises:
        ValueError: Fewer than two groups or folds, more folds than groups, or a
            fold whose training part would be empty.
    """
    groups = np.asarray(groups)
    names = pd.unique(groups)
    n_folds = len(names) if n_folds is None else n_folds
    if not 2 <= n_folds <= len(names):
        raise ValueError(
            f"{n_folds} folds of {len(names)} groups cannot be made; n_folds must be "
            "at least 2 and at most the number of groups"
        )
    if n_folds < len(names):
        names = np.random.default_rng(seed).permutation(names)
    folds = []
    for i in range(n_folds):
        tested = names[i::n_folds]
        test = np.isin(groups, tested)
        train = ~test
        if speakers is not None:
            train &= ~np.isin(np.asarray(speakers), np.asarray(speakers)[test])
        name = ", ".join(map(str, tested))
        if not train.any():
            raise ValueError(
                f"fold {name!r} leaves no training clip, since its speakers are "
                "everywhere; use fewer groups or speaker names unique over corpora"
            )
        folds.append(Fold(name, np.flatnonzero(train), np.flatnonzero(test)))
    return folds
