"""A corpus as features and embeddings: encoded once, kept on disk, by one or many.

The cache has one file a clip, named after the tower, the preparation and the *content*
of the sound file: float32 values and their SHA-256.
Shapes: n clips, D width of the tower, dim of the joint space.
"""

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
from clepdg_lib.clap import Clap, check_range
from clepdg_lib.corpora import Corpus, choose_rows


class Rows:
    """What tensors with a row for each clip, and their table `clips`, can do."""

    def __len__(self) -> int:
        return len(self.clips)

    def select(self, **columns: Any) -> Any:
        """Keep rows by value: ``select(split="test", emotion=["angry", "sad"])``."""
        return self.take(choose_rows(self.clips, **columns))

    def take(self, rows: np.ndarray) -> Any:
        """Keep rows by number or by mask."""
        rows, tensors = torch.tensor(np.array(rows)), vars(self).items()
        kept = {k: v[rows] for k, v in tensors if isinstance(v, torch.Tensor)}
        clips = self.clips.iloc[rows.numpy()].reset_index(drop=True)
        return replace(self, clips=clips, **kept)


@dataclass(frozen=True)
class EmbeddedCorpus(Rows):
    """Clips with what a model makes of them, row by row."""

    embeddings: torch.Tensor  # (n, dim) float32, L2-normalised
    features: torch.Tensor  # (n, D) float32, from the audio tower
    clips: pd.DataFrame  # n rows of `Corpus.clips`
    problems: pd.DataFrame = field(default_factory=pd.DataFrame)  # path and problem
    tower: str = ""  # fingerprint of the tower and the preparation, where it is known

    def embedded_by(self, clap: Clap) -> "EmbeddedCorpus":
        """The same clips in the space of another model that has the same tower."""
        clap.refuse_other_tower(self)
        return replace(self, embeddings=clap.project(self.features))


def embed_corpus(
    clap: Clap,
    corpus: Corpus,
    *,
    batch_size: int = 16,
    cache: bool = True,
    progress: bool = False,
) -> EmbeddedCorpus:
    """Embed a corpus; clips that are unusable are left out, listed and warned of.

    With `cache`, features on disk are used, and new ones are kept there.
    """
    paths = list(corpus.clips["path"])
    tower = clap.fingerprint()
    folder = hashlib.sha256(tower.encode()).hexdigest()[:16]
    folder = files.cache_root() / "features" / folder
    cached: dict[int, str] = {}  # not paths, which would take longer than hashing
    rows: dict[int, torch.Tensor] = {}
    for i, path in enumerate(paths if cache else []):
        with suppress(OSError, ValueError):  # a clip or its row is none, or damaged
            cached[i] = f"{folder}/{files.sha256(path)}.f32"
            with open(cached[i], "rb", buffering=0) as file:
                content = bytearray(file.read())
            row, code = np.frombuffer(content[:-32], np.float32), content[-32:]
            if row.shape == (clap.width,) and hashlib.sha256(row).digest() == code:
                rows[i] = torch.from_numpy(row)
    problems: dict[int, AudioError] = {}
    read = partial(corpus.read, sample_rate=clap.sample_rate)
    missing = [i for i in range(len(paths)) if i not in rows]
    how = {"problems": problems, "batch_size": batch_size, "progress": progress}
    for i, row in clap.stream_features(read, missing, **how):
        rows[i] = row
        with suppress(KeyError, OSError):  # where there is a cache, and room in it
            if files.sha256(paths[i]) in cached[i]:  # no other content since
                content = row.numpy().tobytes()
                code = hashlib.sha256(content).digest()
                files.write_atomically(cached[i], content + code)
    if not rows:
        raise AudioError(f"{corpus.name}: none of its {len(paths)} clips is usable")
    features = torch.stack([rows[i] for i in sorted(rows)])
    clips = corpus.clips.iloc[sorted(rows)].reset_index(drop=True)
    left_out = [(paths[i], str(error)) for i, error in problems.items()]
    left_out = pd.DataFrame(left_out, columns=["path", "problem"])
    return EmbeddedCorpus(clap.project(features), features, clips, left_out, tower)


def write_shard(
    clap: Clap, corpus: Corpus, path: str | Path, *, rank: int = 0, world: int = 1
) -> Path:
    """Embed every `world`-th clip of a corpus and write NAME-00000-of-00002.npz.

    The file (of one process alone, NAME.npz) has embeddings, features and columns of
    the clips but `path`. What was encoded before comes from the cache.
    """
    check_range(least=1, most=len(corpus), whole=True, world=world)
    check_range(least=0, most=world - 1, whole=True, rank=rank)
    number = f"-{rank:05d}-of-{world:05d}" if world > 1 else ""
    path = files.as_path(path)
    path = path.with_name(f"{path.name.removesuffix('.npz')}{number}.npz")
    share = replace(corpus, clips=corpus.clips.iloc[rank::world])
    embedded = embed_corpus(clap, share, progress=rank == 0)
    arrays = {c: v.to_numpy(str) for c, v in embedded.clips.items() if c != "path"}
    arrays["embeddings"] = embedded.embeddings.numpy()
    arrays["features"] = embedded.features.numpy()
    return files.write_arrays(path, **arrays)
