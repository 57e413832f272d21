"""Real speech without recordings: features of five corpora, one vector a clip.

Owners of acted corpora rarely let recordings travel; nobody rebuilds a voice from this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clepdg_lib import files
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import Clap
from clepdg_lib.embeddings import EmbeddedCorpus, Rows

CORPORA = ("emodb", "ravdess", "tess", "nemo", "emotale")
BASELINES = ("egemaps", "audioset")
CONDITIONS = ("clean", "pairs", "shift", *BASELINES)


@dataclass(frozen=True)
class RealSpeech(Rows):
    """Features of clips in one condition, with their table.

    Its n rows have corpus, clip, emotion, speaker, sex, language; of clips in recorded
    places also place, severity and sentence; of pairs caption, room, noise and channel.
    """

    features: torch.Tensor  # (n, D) float32, in the tower's own units
    clips: pd.DataFrame
    clean: torch.Tensor | None = None  # of pairs and places: (n, D), as recorded
    tower: str = ""  # fingerprint of the tower that made the features, where known

    def embedded_by(self, clap: Clap) -> EmbeddedCorpus:
        """Embed with a model whose tower made the features; another is refused."""
        clap.refuse_other_tower(self)
        about = {"clips": self.clips, "tower": self.tower}
        return EmbeddedCorpus(clap.project(self.features), self.features, **about)


def load_features(
    condition: str = "clean",
    *,
    corpora: str | Sequence[str] | None = None,
    emotions: Sequence[str] | None = EMOTIONS,
    folder: str | Path | None = None,
) -> RealSpeech:
    """Load the shipped features of real speech.

    Conditions are "clean"; "pairs", clips in random simulated environments with
    captions; "shift", clips in five places of recorded acoustics; and, of the clean
    clips, "egemaps" (openSMILE's 88 functionals, eGeMAPSv02) and "audioset" (of a
    MobileNet). `corpora` and `emotions` are kept, None for all. Raises ValueError for
    an unknown name, MissingFileError where there are no features.

    >>> len(load_features(corpora="emodb"))
    339
    """
    if condition not in CONDITIONS:
        raise ValueError(f"condition is {condition!r}; it must be one of {CONDITIONS}")
    folder = files.as_path(folder or files.data_root() / "real_speech")
    if not (folder / "clips.csv").is_file():
        remedy = "data/build/real_speech.py makes them from corpora in $CLEPDG_CORPORA"
        raise files.MissingFileError(f"{folder} holds no features; {remedy}")
    files.refuse_changed(folder)
    clips = pd.read_csv(folder / "clips.csv", keep_default_na=False, dtype=str)
    features, clean, tower = read_features(folder, condition), None, ""
    if condition in BASELINES:
        file = folder / f"{condition}.npz"
        clips = clips.iloc[files.read_arrays(file, names=["rows"])["rows"]]
    else:
        tower = (folder / "tower.txt").read_text("utf-8").strip()
    if condition in ("pairs", "shift"):
        table = pd.read_csv(folder / f"{condition}.csv.gz", keep_default_na=False)
        if condition == "shift":
            table = table.merge(pd.read_csv(folder / "places.csv"), on="place")
        rows = table.pop("row").to_numpy()
        clips = clips.iloc[rows].reset_index(drop=True).join(table)
        clean = read_features(folder, "clean")[torch.tensor(rows)]
    everything = RealSpeech(features, clips, clean, tower)
    return everything.select(corpus=corpora, emotion=emotions)


def read_features(folder: Path, name: str) -> torch.Tensor:
    """Undo `data/build/real_speech.py`'s rounding: codes * step -> (n, D)."""
    names = ("high", "low", "step", "mean", "deviation")
    arrays = files.read_arrays(folder / f"{name}.npz", names=names)
    high, low, step, mean, deviation = arrays.values()
    codes = high.astype(np.float32) * 256 + low
    return torch.from_numpy(codes * step * deviation + mean)
