"""Real speech without recordings: features of five corpora that ship with the course.

Owners of acted corpora rarely let their recordings travel. What a frozen tower gives
of a clip may: one vector a clip, from which nobody can rebuild the voice. From these
vectors CLEP is trained, contexts are tuned and corpora are left out, in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import Clap
from clepdg_lib.embeddings import EmbeddedCorpus
from clepdg_lib.files import (
    MissingFileError,
    data_root,
    read_arrays,
    refuse_changed,
)

CORPORA = ("emodb", "ravdess", "tess", "nemo", "emotale")
BASELINES = ("egemaps", "audioset")


@dataclass(frozen=True)
class RealSpeech:
    """Features of clips in one condition, with their table.

    Its n rows have corpus, clip, emotion, speaker, sex, language; of clips in recorded
    places also place, severity and sentence; of pairs caption, room, noise and channel.
    """

    features: torch.Tensor  # (n, D) float32, in the tower's own units
    clips: pd.DataFrame
    clean: torch.Tensor | None = None  # of pairs and places: (n, D), as recorded

    def __len__(self) -> int:
        return len(self.clips)

    def take(self, rows: np.ndarray) -> RealSpeech:
        """Keep rows by number or by mask."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else np.asarray(rows)
        chosen = torch.from_numpy(rows)
        return replace(
            self,
            features=self.features[chosen],
            clips=self.clips.iloc[rows].reset_index(drop=True),
            clean=None if self.clean is None else self.clean[chosen],
        )

    def embedded_by(self, clap: Clap) -> EmbeddedCorpus:
        """Embed with a model whose tower made the features; another is refused."""
        check_tower(clap)
        return EmbeddedCorpus(clap.project(self.features), self.features, self.clips)


def load_features(
    condition: str = "clean",
    *,
    corpora: str | Sequence[str] | None = None,
    emotions: Sequence[str] | None = EMOTIONS,
    folder: str | Path | None = None,
) -> RealSpeech:
    """Load the shipped features of real speech.

    Args:
        condition: "clean"; "pairs", clips in random simulated environments with
            captions; or "shift", clips in five places of recorded acoustics.
        corpora: Keep these only; default all.
        emotions: Keep these only; None keeps all.
        folder: Where they lie; default ``data/real_speech``.

    Raises:
        ValueError: An unknown condition or corpus.
        MissingFileError: There are no features here.

    Example:
        >>> len(load_features(corpora="emodb"))
        339
    """
    if condition not in ("clean", "pairs", "shift"):
        raise ValueError(
            f"condition is {condition!r}; it must be 'clean', 'pairs' or 'shift'"
        )
    folder = _folder(folder)
    clips = pd.read_csv(folder / "clips.csv", keep_default_na=False, dtype=str)
    corpora = CORPORA if corpora is None else corpora
    wanted = [corpora] if isinstance(corpora, str) else list(corpora)
    if absent := sorted(set(wanted) - set(clips["corpus"])):
        raise ValueError(
            f"no features of {absent}; here are {list(clips['corpus'].unique())}"
        )
    features = _read(folder, "clean")
    result = RealSpeech(features, clips)
    if condition != "clean":
        table = pd.read_csv(folder / f"{condition}.csv.gz", keep_default_na=False)
        if condition == "shift":
            table = table.merge(pd.read_csv(folder / "places.csv"), on="place")
        rows = table["row"].to_numpy()
        described = clips.iloc[rows].reset_index(drop=True)
        result = RealSpeech(
            _read(folder, condition),
            pd.concat([described, table.drop(columns="row")], axis=1),
            features[torch.tensor(rows)],
        )
    keep = result.clips["corpus"].isin(wanted)
    if emotions is not None:
        keep &= result.clips["emotion"].isin(list(emotions))
    return result.take(keep.to_numpy())


def load_baseline(name: str, *, folder: str | Path | None = None) -> RealSpeech:
    """Load the features of a baseline for all clips of a shared emotion.

    Args:
        name: "egemaps", the 88 functionals of openSMILE's eGeMAPSv02, or "audioset",
            the embedding of a MobileNet trained on AudioSet.
        folder: Where they lie; default ``data/real_speech``.

    Raises:
        ValueError: An unknown name.
    """
    if name not in BASELINES:
        raise ValueError(f"baseline is {name!r}; it must be one of {BASELINES}")
    folder = _folder(folder)
    clips = pd.read_csv(folder / "clips.csv", keep_default_na=False, dtype=str)
    (rows,) = read_arrays(folder / f"{name}.npz", names=("rows",)).values()
    return RealSpeech(_read(folder, name), clips.iloc[rows].reset_index(drop=True))


def check_tower(clap: Clap, *, folder: str | Path | None = None) -> None:
    """Refuse a model whose tower did not make the shipped features.

    Raises:
        ValueError: Its fingerprint is another.
    """
    expected = (_folder(folder) / "tower.txt").read_text(encoding="utf-8").strip()
    if clap.fingerprint() != expected:
        raise ValueError(
            f"{clap.name} has another audio tower than the one that made the shipped "
            "features; use clap-mini or a CLEP made from it"
        )


def _folder(folder: str | Path | None) -> Path:
    folder = data_root() / "real_speech" if folder is None else Path(folder)
    if not (folder / "clips.csv").is_file():
        raise MissingFileError(
            f"{folder} holds no features (no clips.csv); with the corpora under "
            "$CLEPDG_CORPORA, data/build/real_speech.py makes them"
        )
    refuse_changed(folder)
    return folder


def _read(folder: Path, name: str) -> torch.Tensor:
    """Undo `data/build/real_speech.py`'s rounding: codes * step -> (n, D)."""
    names = ("high", "low", "step", "mean", "deviation")
    high, low, step, mean, deviation = read_arrays(
        folder / f"{name}.npz", names=names
    ).values()
    codes = high.astype(np.float32) * 256 + low
    return torch.from_numpy(codes * step * deviation + mean)
