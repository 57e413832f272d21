"""A corpus as features and embeddings: encoded once, kept on disk, by one or many.

The cache has one file a clip, named after the tower, the preparation and the *content*
of the sound file. Shapes: n clips, D width of the tower, dim of the joint space.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from clepdg_lib import files
from clepdg_lib.audio import AudioError
from clepdg_lib.clap import Clap
from clepdg_lib.corpora import Corpus


@dataclass(frozen=True)
class EmbeddedCorpus:
    """Clips with what a model makes of them, row by row."""

    embeddings: torch.Tensor  # (n, dim) float32, L2-normalised
    features: torch.Tensor  # (n, D) float32, from the audio tower
    clips: pd.DataFrame  # n rows of `Corpus.clips`
    problems: pd.DataFrame = field(default_factory=pd.DataFrame)  # path and problem

    def __len__(self) -> int:
        return len(self.clips)

    def select(self, **columns: Any) -> EmbeddedCorpus:
        """Keep rows by value: ``select(split="test", emotion=["angry", "sad"])``."""
        keep = np.ones(len(self), dtype=bool)
        if unknown := sorted(set(columns) - set(self.clips)):
            raise ValueError(f"no columns {unknown}; the table has {[*self.clips]}")
        for column, value in columns.items():
            values = [value] if isinstance(value, str) else list(value)
            keep &= self.clips[column].isin(values).to_numpy()
        return self.take(keep)

    def take(self, rows: np.ndarray) -> EmbeddedCorpus:
        """Keep rows by number or by mask."""
        kept = {"embeddings": self.embeddings[rows], "features": self.features[rows]}
        return replace(self, clips=self.clips.iloc[rows].reset_index(drop=True), **kept)

    def embedded_by(self, clap: Clap) -> EmbeddedCorpus:
        """The same clips in the space of another model that has the same tower."""
        return replace(self, embeddings=clap.project(self.features))


def embed_corpus(
    clap: Clap,
    corpus: Corpus,
    *,
    batch_size: int = 32,
    cache: bool = True,
    progress: bool = False,
) -> EmbeddedCorpus:
    """Embed a corpus; clips that are unusable are left out, listed and warned of.

    With `cache`, features on disk are used, and new ones are kept there. Raises an
    `AudioError` if no clip is usable.
    """
    paths = list(corpus.clips["path"])
    tower = hashlib.sha256(clap.fingerprint().encode()).hexdigest()[:16]
    folder = files.cache_root() / "features" / tower
    cached: dict[int, Path] = {}
    rows: dict[int, torch.Tensor] = {}
    for i, path in enumerate(paths if cache else []):
        with suppress(OSError, ValueError):  # a clip or its row is none, or damaged
            cached[i] = folder / f"{files.sha256(path)}.npz"
            row = files.read_arrays(cached[i], names=["features"])["features"]
            if row.shape == (clap.width,) and np.isfinite(row).all():
                rows[i] = torch.from_numpy(row.astype(np.float32))
    problems: dict[int, AudioError] = {}
    read = partial(corpus.read, sample_rate=clap.sample_rate)
    missing = [i for i in range(len(paths)) if i not in rows]
    how = {"problems": problems, "batch_size": batch_size, "progress": progress}
    for i, row in clap.stream_features(read, missing, **how):
        rows[i] = row
        with suppress(KeyError, OSError):  # where there is a cache, and room in it
            files.write_arrays(cached[i], features=row.numpy())
    if not rows:
        raise AudioError(f"{corpus.name}: none of its {len(paths)} clips is usable")
    features = torch.stack([rows[i] for i in sorted(rows)])
    clips = corpus.clips.iloc[sorted(rows)].reset_index(drop=True)
    left_out = [(paths[i], str(error)) for i, error in problems.items()]
    left_out = pd.DataFrame(left_out, columns=["path", "problem"])
    return EmbeddedCorpus(clap.project(features), features, clips, left_out)


def write_shard(
    clap: Clap, corpus: Corpus, path: str | Path, *, rank: int = 0, world: int = 1
) -> Path:
    """Embed every `world`-th clip of a corpus and write NAME-00000-of-00002.npz.

    The file (of one process alone, NAME.npz) holds embeddings, features and columns of
    the clips, without the path. One that is finished is left as it is.
    """
    if (n := len(corpus)) < world:
        raise ValueError(f"{world} processes are too many for {n} clips; start {n}")
    number = f"-{rank:05d}-of-{world:05d}" if world > 1 else ""
    path = files.as_path(path)
    path = path.with_name(f"{path.name.removesuffix('.npz')}{number}.npz")
    share = replace(corpus, clips=corpus.clips.iloc[rank::world])
    inputs = [clap.fingerprint(), *share.clips["path"]]
    made_by = hashlib.sha256("\n".join(inputs).encode())
    made_by.update(clap.project(torch.eye(clap.width)).numpy())  # what it projects to
    with suppress(OSError, ValueError):
        if files.read_arrays(path, names=["made_by"])["made_by"] == made_by.hexdigest():
            return path
    embedded = embed_corpus(clap, share, progress=rank == 0)
    arrays = {c: v.to_numpy(str) for c, v in embedded.clips.items() if c != "path"}
    arrays["embeddings"] = embedded.embeddings.numpy()
    arrays["features"] = embedded.features.numpy()
    return files.write_arrays(path, made_by=made_by.hexdigest(), **arrays)
