"""Many clips at once: stream them through an audio tower, and remember the rows.

A corpus is embedded once for each model and kept in the cache; what comes back is
the table of its clips with an embedding for every row. Waves pass through in
batches, so memory holds a batch of windows however large the corpus.

Lesson: notebooks/01_probe_clap.ipynb
Shapes: n clips, dim width of the joint space.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from clepdg_lib.audio import SAMPLE_RATE, AudioError, LogMel, resample
from clepdg_lib.cache import EmbeddingCache, content_key
from clepdg_lib.corpora import Corpus

FLUSH_ROWS = 1024  # rows that an interrupted run may lose


class AudioTower(Protocol):
    """What `clap.Clap` offers here, and all that is asked of a model."""

    log_mel: LogMel

    def embed_mels(self, mels: torch.Tensor, *, batch_size: int = 64) -> torch.Tensor:
        """Embed log-mel pictures (n, 1, frames, mels) -> (n, dim)."""

    def fingerprint(self) -> str:
        """Name weights and preprocessing in one string."""


@dataclass(frozen=True)
class EmbeddedCorpus:
    """Clips and their embeddings, row by row.

    Attributes:
        embeddings: (n, dim) float32, L2-normalised.
        clips: The table of `Corpus.clips`, one row per embedding.
        problems: Table (path, problem) of the clips that were left out.
    """

    embeddings: torch.Tensor
    clips: pd.DataFrame
    problems: pd.DataFrame

    def __len__(self) -> int:
        return len(self.clips)

    def select(self, **columns: Any) -> EmbeddedCorpus:
        """Keep rows whose column has a value, or one of several.

        Example:
            ``embedded.select(split="test", emotion=["angry", "sad"])``

        Raises:
            ValueError: An unknown column.
        """
        keep = np.ones(len(self), dtype=bool)
        for column, value in columns.items():
            if column not in self.clips:
                raise ValueError(
                    f"no column {column!r}; the table has {list(self.clips.columns)}"
                )
            values = [value] if isinstance(value, str) else list(value)
            keep &= self.clips[column].isin(values).to_numpy()
        return replace(
            self,
            embeddings=self.embeddings[torch.from_numpy(keep)],
            clips=self.clips[keep].reset_index(drop=True),
        )


def embed_waves(
    tower: AudioTower,
    waves: Iterable[torch.Tensor],
    *,
    batch_size: int = 64,
    total: int | None = None,
    progress: bool = False,
) -> Iterator[torch.Tensor]:
    """Stream waves through a tower: a batch of windows in memory at a time.

    A wave longer than the tower's window counts as the mean direction of its windows.

    Args:
        tower: A `Clap`.
        waves: 1-D tensors at the tower's sample rate.
        batch_size: Windows that go through the tower at once.
        total: How many waves, for the bar.
        progress: Show a bar.

    Yields:
        A unit vector (dim,) for each wave, in order.
    """
    windows: list[torch.Tensor] = []
    counts: list[int] = []  # windows of each wave still in `windows`

    def flush() -> Iterator[torch.Tensor]:
        features = tower.embed_mels(tower.log_mel(windows), batch_size=batch_size)
        for part in features.split(counts):  # (windows of one clip, dim)
            yield F.normalize(part.mean(dim=0), dim=-1)

    for wave in tqdm(
        waves, total=total, desc="embedding", unit="clip", disable=not progress
    ):
        pieces = tower.log_mel.windows(wave)
        windows += pieces
        counts.append(len(pieces))
        if len(windows) >= batch_size:
            yield from flush()
            windows, counts = [], []
    if windows:
        yield from flush()


def embed_corpus(
    clap: AudioTower,
    corpus: Corpus,
    *,
    batch_size: int = 64,
    cache: bool = True,
    progress: bool = False,
) -> EmbeddedCorpus:
    """Embed every clip of a corpus, trimmed and levelled; remember the result.

    Clips that cannot be read are left out and listed, not fatal.

    Args:
        clap: The model.
        corpus: The clips.
        batch_size: Windows that go through the tower at once.
        cache: Keep embeddings on disk, and use those kept.
        progress: Show a bar.

    Raises:
        AudioError: No clip of the corpus can be read.
    """
    paths = list(corpus.clips["path"])
    store = EmbeddingCache() if cache else None
    keys: dict[int, str] = {}
    rows: dict[int, torch.Tensor] = {}
    if store is not None:
        prefix = f"{clap.fingerprint()}|trim|level"
        for i, path in enumerate(paths):
            with suppress(OSError):  # reading it will say what is wrong
                keys[i] = content_key(prefix, path)
        known = store.get(list(keys.values()))
        rows = {i: torch.from_numpy(known[k]) for i, k in keys.items() if k in known}
    missing = [i for i in range(len(paths)) if i not in rows]
    problems: list[tuple[str, str]] = []
    order: list[int] = []  # runs ahead of the embeddings by a batch, never behind

    def waves() -> Iterator[torch.Tensor]:
        for i in missing:
            try:
                wave = corpus.read(i)
            except AudioError as error:
                problems.append((paths[i], str(error)))
                continue
            order.append(i)
            yield resample(
                wave, from_rate=SAMPLE_RATE, to_rate=clap.log_mel.sample_rate
            )

    stream = embed_waves(
        clap, waves(), batch_size=batch_size, total=len(missing), progress=progress
    )
    fresh: dict[str, np.ndarray] = {}
    for n, row in enumerate(stream):
        rows[order[n]] = row
        if order[n] in keys:
            fresh[keys[order[n]]] = row.numpy()
        if store is not None and len(fresh) >= FLUSH_ROWS:
            store.put(fresh)
            fresh = {}
    if store is not None and fresh:
        store.put(fresh)
    if problems:
        warnings.warn(
            f"{corpus.name}: {len(problems)} of {len(paths)} clips left out; the "
            f"first: {problems[0][1]}",
            stacklevel=2,
        )
    if not rows:
        raise AudioError(f"{corpus.name}: none of its {len(paths)} clips is usable")
    kept = sorted(rows)
    return EmbeddedCorpus(
        embeddings=torch.stack([rows[i] for i in kept]),
        clips=corpus.clips.iloc[kept].reset_index(drop=True),
        problems=pd.DataFrame(problems, columns=["path", "problem"]),
    )
