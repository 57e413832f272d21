"""Many clips at once: stream them through an audio tower, and remember the rows.

A corpus is heard once by each audio tower, and what the tower said is kept in the
cache; the layers above it are quick, so that models which share a tower, a CLAP and the
CLEPs whose tower kept still, share what it heard. What comes back is the table of the
corpus's clips with an embedding for every row. Waves pass through in batches, so memory
holds a batch of windows however large the corpus.

Lesson: notebooks/01_probe_clap.ipynb
Shapes: n clips, W windows of a clip, C width of the tower, dim of the joint space.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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

FLUSH_ROWS = 256  # rows that an interrupted run may lose
READERS, AHEAD = 2, 64  # threads that read files, and clips read before their turn
# Part of every key: a new number where the same clip would come out otherwise.
VERSION = "3"


class AudioTower(Protocol):
    """What `clap.Clap` offers here, and all that is asked of a model."""

    log_mel: LogMel
    width: int  # C

    def hear_mels(self, mels: torch.Tensor, *, batch_size: int = 64) -> torch.Tensor:
        """Run the tower on log-mel pictures: (n, 1, frames, mels) -> (n, C)."""

    def project(self, heard: torch.Tensor) -> torch.Tensor:
        """Embed what the tower heard: (n, C) -> (n, dim) unit rows."""

    def fingerprint(self) -> str:
        """Name preprocessing and tower, without what is above it, in one string."""


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


def hear_waves(
    tower: AudioTower,
    waves: Iterable[torch.Tensor],
    *,
    batch_size: int = 64,
    total: int | None = None,
    progress: bool = False,
) -> Iterator[torch.Tensor]:
    """Stream waves through a tower: a batch of windows in memory at a time.

    Args:
        tower: A `Clap`.
        waves: 1-D tensors at the tower's sample rate.
        batch_size: Windows that go through the tower at once.
        total: How many waves, for the bar.
        progress: Show a bar.

    Yields:
        (W, C) for each wave, in order: what the tower says of each of its windows.
    """
    windows: list[torch.Tensor] = []
    counts: list[int] = []  # windows of each wave still in `windows`

    def flush() -> Iterator[torch.Tensor]:
        heard = tower.hear_mels(tower.log_mel(windows), batch_size=batch_size)
        yield from heard.split(counts)

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


def project_clips(tower: AudioTower, heard: Sequence[torch.Tensor]) -> torch.Tensor:
    """Embed clips of which a tower said something, each (W, C) -> (n, dim).

    A clip longer than the tower's window counts as the mean direction of its windows.
    """
    counts = torch.tensor([len(windows) for windows in heard])
    rows = tower.project(torch.cat(list(heard)))
    owner = torch.arange(len(counts)).repeat_interleave(counts)
    sums = torch.zeros(len(counts), rows.shape[1]).index_add_(0, owner, rows)
    return F.normalize(sums, dim=-1)


def read_in_turn(
    read: Callable[[int], torch.Tensor], numbers: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor | AudioError]]:
    """Read clips when their turn comes, in this thread: for what is in memory.

    Yields:
        The number, and the wave or what is wrong with it.
    """
    for number in numbers:
        try:
            yield number, read(number)
        except AudioError as error:
            yield number, error


def read_ahead(
    read: Callable[[int], torch.Tensor], numbers: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor | AudioError]]:
    """Read clips in threads, some before their turn, and give them in order.

    Decoding files then goes on while the tower computes; memory holds a few clips.
    There is nothing to decode in a tensor, and threads that only check it take the
    processor from the tower: use `read_in_turn`.

    Yields:
        The number, and the wave or what is wrong with it.
    """
    waiting: deque = deque()
    pool = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="reading")
    try:
        for number in numbers:
            waiting.append((number, pool.submit(read, number)))
            if len(waiting) < AHEAD:
                continue
            yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:  # also if nobody asks for the rest
        pool.shutdown(cancel_futures=True)


def _result(number: int, future) -> tuple[int, torch.Tensor | AudioError]:
    try:
        return number, future.result()
    except AudioError as error:
        return number, error


def embed_all(
    tower: AudioTower,
    read: Callable[[int], torch.Tensor],
    n_clips: int,
    *,
    key: Callable[[str, int], str] | None,
    on_bad: Callable[[int, AudioError], None],
    about: str = "",
    ahead: bool = True,
    batch_size: int = 64,
    progress: bool = False,
) -> tuple[list[int], torch.Tensor]:
    """Embed numbered clips; the tower hears those alone that the cache does not hold.

    Args:
        tower: A `Clap`.
        read: Gives a clip's wave, or raises `AudioError`.
        n_clips: How many there are.
        key: Gives a clip's key under a prefix that names the model; None for no cache.
        on_bad: Told of every clip that cannot be read.
        about: What `read` does to a sound, for the keys.
        ahead: Read in threads, before their turn.
        batch_size: Windows that go through the tower at once.
        progress: Show a bar.

    Returns:
        The numbers of the clips that could be read, in order, and their embeddings:
        (n, dim) unit rows.
    """
    store = None if key is None else EmbeddingCache()
    keys: dict[int, str] = {}
    heard: dict[int, torch.Tensor] = {}
    if store is not None:
        prefix = f"{tower.fingerprint()}|{VERSION}|{about}"
        for i in range(n_clips):
            with suppress(OSError):  # reading it will say what is wrong
                keys[i] = key(prefix, i)
        known = store.get(list(keys.values()))
        hits = ((i, known[k]) for i, k in keys.items() if k in known)
        heard = {i: torch.from_numpy(row).view(-1, tower.width) for i, row in hits}
    missing = [i for i in range(n_clips) if i not in heard]
    order: list[int] = []  # runs ahead of what is heard by a batch, never behind

    def waves() -> Iterator[torch.Tensor]:
        for i, wave in (read_ahead if ahead else read_in_turn)(read, missing):
            if isinstance(wave, AudioError):
                on_bad(i, wave)
                continue
            order.append(i)
            yield wave

    stream = hear_waves(
        tower, waves(), batch_size=batch_size, total=len(missing), progress=progress
    )
    fresh: dict[str, np.ndarray] = {}
    try:
        for n, windows in enumerate(stream):
            heard[order[n]] = windows
            if order[n] in keys:
                fresh[keys[order[n]]] = windows.numpy().ravel()
            if store is not None and len(fresh) >= FLUSH_ROWS:
                store.put(fresh)
                fresh = {}
    finally:  # an interrupted run keeps what it has
        if store is not None and fresh:
            store.put(fresh)
    kept = sorted(heard)
    if not kept:
        return [], torch.zeros(0, 0)
    return kept, project_clips(tower, [heard[i] for i in kept])


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
        cache: Keep what the tower hears on disk, and use what is kept.
        progress: Show a bar.

    Raises:
        AudioError: No clip of the corpus can be read.
    """
    paths = list(corpus.clips["path"])
    problems: list[tuple[str, str]] = []

    def read(i: int) -> torch.Tensor:
        wave = corpus.read(i)
        return resample(wave, from_rate=SAMPLE_RATE, to_rate=clap.log_mel.sample_rate)

    kept, rows = embed_all(
        clap,
        read,
        len(paths),
        key=(lambda prefix, i: content_key(prefix, paths[i])) if cache else None,
        about="trim|level",
        on_bad=lambda i, error: problems.append((paths[i], str(error))),
        batch_size=batch_size,
        progress=progress,
    )
    if problems:
        warnings.warn(
            f"{corpus.name}: {len(problems)} of {len(paths)} clips left out; the "
            f"first: {problems[0][1]}",
            stacklevel=2,
        )
    if not kept:
        raise AudioError(f"{corpus.name}: none of its {len(paths)} clips is usable")
    return EmbeddedCorpus(
        embeddings=rows,
        clips=corpus.clips.iloc[kept].reset_index(drop=True),
        problems=pd.DataFrame(problems, columns=["path", "problem"]),
    )
