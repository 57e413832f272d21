"""Embed a corpus with several processes into one table: nothing lost, nothing twice.

Each process takes every P-th clip, embeds it as ever, with the cache, and hands its
rows to all. Started without Accelerate, one process does the whole.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from clepdg_lib.audio import AudioError
from clepdg_lib.corpora import Corpus
from clepdg_lib.embedding import AudioTower, EmbeddedCorpus, embed_corpus
from clepdg_lib.processes import Team


def embed_together(
    clap: AudioTower,
    corpus: Corpus,
    *,
    team: Team | None = None,
    batch_size: int = 64,
    cache: bool = True,
    progress: bool = False,
) -> EmbeddedCorpus:
    """Embed a corpus with all processes that were launched.

    Args:
        clap: The model, on this process's device.
        corpus: The clips, the same everywhere.
        team: The processes; default those that were launched.
        batch_size: Windows that go through the tower at once, in each process.
        cache: As in :func:`clepdg_lib.embedding.embed_corpus`.
        progress: Show the first process's bar.

    Returns:
        The whole table, in the corpus's order, in every process.

    Raises:
        AudioError: No clip of the corpus can be read.
    """
    team = team or Team()
    mine = np.arange(team.rank, len(corpus), team.size)
    rows, vectors, problems = _embed_part(
        clap,
        replace(corpus, clips=corpus.clips.iloc[mine]),
        batch_size=batch_size,
        cache=cache,
        progress=progress and team.leads,
    )
    parts = team.collect((mine[rows], vectors, problems))
    kept = np.concatenate([part[0] for part in parts])
    if not len(kept):
        raise AudioError(f"{corpus.name}: none of its {len(corpus)} clips is usable")
    order = np.argsort(kept)
    found = np.concatenate([part[1] for part in parts if len(part[0])])
    return EmbeddedCorpus(
        embeddings=torch.from_numpy(found[order]),
        clips=corpus.clips.iloc[kept[order]].reset_index(drop=True),
        problems=pd.DataFrame(
            [row for part in parts for row in part[2]], columns=["path", "problem"]
        ),
    )


def _embed_part(
    clap: AudioTower, corpus: Corpus, **how
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
    """Rows of the part's table that were embedded, their vectors, and what is amiss."""
    if not len(corpus):
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32), []
    try:
        done = embed_corpus(clap, corpus, **how)
    except AudioError as error:  # all of a small part may be bad, and the rest good
        told = [(path, str(error)) for path in corpus.clips["path"]]
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32), told
    bad = set(done.problems["path"])
    rows = np.flatnonzero(~corpus.clips["path"].isin(bad).to_numpy())
    problems = list(done.problems.itertuples(index=False, name=None))
    return rows, done.embeddings.numpy(), problems
