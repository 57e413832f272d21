"""Real speech without recordings: the embeddings of four corpora that ship.

Owners of acted corpora rarely let their recordings travel. What a tower says of a clip
may: one row of numbers, from which nobody can rebuild the voice. So every claim that
the course makes on real speech can be checked offline, without a licence and in
seconds. Neither `clap-mini` nor the CLEP that embedded a corpus had met it in training:
for each corpus there is a CLEP of its own, trained on the other three.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n clips, dim the embedding width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from clepdg_lib.arrays import read_arrays, write_arrays
from clepdg_lib.embedding import EmbeddedCorpus
from clepdg_lib.files import (
    MissingFileError,
    data_root,
    refuse_changed,
    write_atomically,
    write_checksums,
)
from clepdg_lib.probes import LinearProbe

COLUMNS = ("corpus", "clip", "emotion", "speaker", "sex", "language")
TRAINING = ("mean", "labels", "weight", "bias")
MEASURED = "egemaps"  # not unit vectors: what openSMILE measured in the same clips


def load_embeddings(
    model: str = "clap-mini",
    *,
    corpora: str | Sequence[str] | None = None,
    folder: str | Path | None = None,
) -> EmbeddedCorpus:
    """Load the shipped embeddings of real speech.

    Args:
        model: `"clap-mini"`, or `"clep-0"`, `"clep-1"`, ...: for each corpus the
            embeddings by the CLEP (of that seed) that never heard it.
        corpora: Keep these only; default all.
        folder: Where they lie; default ``data/real_speech``.

    Returns:
        (n, dim) float32 unit rows beside a table with the columns corpus, clip,
        emotion, speaker, sex and language.

    Raises:
        ValueError: An unknown model or corpus; the message lists those that are here.
        MissingFileError: There are no embeddings here.

    Example:
        >>> len(load_embeddings(corpora="emodb"))
        339
    """
    folder = _folder(folder)
    models = shipped_models(folder)
    if model not in models:
        raise ValueError(f"no embeddings by {model!r}; here are {models}")
    clips = _clips(folder)
    if corpora is None:
        wanted = list(clips["corpus"].unique())
    else:
        wanted = [corpora] if isinstance(corpora, str) else list(corpora)
    absent = sorted(set(wanted) - set(clips["corpus"]))
    if absent:
        raise ValueError(
            f"no embeddings of {absent}; here are {sorted(clips['corpus'].unique())}"
        )
    keep = clips["corpus"].isin(wanted).to_numpy()
    rows = torch.from_numpy(_array(folder, model)[keep].astype(np.float32))
    return EmbeddedCorpus(
        embeddings=F.normalize(rows, dim=-1),
        clips=clips[keep].reset_index(drop=True),
        problems=pd.DataFrame(columns=["path", "problem"]),
    )


def load_measurements(
    *, folder: str | Path | None = None
) -> tuple[np.ndarray, pd.DataFrame]:
    """Load the 88 eGeMAPS functionals of the same clips, and the table of the clips.

    Returns:
        (n, 88) float32 in openSMILE's own units and order, and the table as in
        `load_embeddings`.

    Raises:
        MissingFileError: They are not here.
    """
    folder = _folder(folder)
    if not (folder / f"{MEASURED}.npz").is_file():
        raise MissingFileError(
            f"{folder / MEASURED}.npz is missing; data/build_real_speech.py makes it"
        )
    return _array(folder, MEASURED).astype(np.float32), _clips(folder)


def load_training(
    seed: int, test: str, *, folder: str | Path | None = None
) -> tuple[torch.Tensor, LinearProbe]:
    """Load what a CLEP's training corpora told, for the one that was left out.

    Args:
        seed: Of the CLEP.
        test: The corpus that it never heard.
        folder: Where it lies; default ``data/real_speech``.

    Returns:
        (dim,) mean embedding of the other three corpora, and the logistic regression
        fitted on them.
    """
    folder = _folder(folder)
    names = [f"{test}.{name}" for name in TRAINING]
    arrays = read_arrays(folder / f"training-{seed}.npz", names=names)
    found = {name: arrays[f"{test}.{name}"] for name in TRAINING}
    probe = LinearProbe(found["labels"], found["weight"], found["bias"])
    return torch.from_numpy(found["mean"]), probe


def shipped_models(folder: str | Path | None = None) -> list[str]:
    """Names that `load_embeddings` takes: clap-mini, then the CLEPs by seed."""
    names = [file.stem for file in _folder(folder).glob("cl*.npz")]
    return sorted(names, key=lambda n: (n != "clap-mini", len(n), n))


def shipped_seeds(folder: str | Path | None = None) -> list[int]:
    """Seeds of the CLEPs whose embeddings are here."""
    found = [re.fullmatch(r"clep-(\d+)", name) for name in shipped_models(folder)]
    return sorted(int(match[1]) for match in found if match)


def write_embeddings(
    folder: str | Path,
    clips: pd.DataFrame,
    arrays: dict[str, torch.Tensor | np.ndarray],
    *,
    training: Mapping[int, Mapping[str, tuple[torch.Tensor, LinearProbe]]]
    | None = None,
) -> Path:
    """Write a table of clips and one array a model, in 8 bits, and checksums.

    A unit row needs no scale beside it: its largest entry becomes 127, and reading
    brings it back to length 1, less than a hundredth of a radian from where it was.

    Args:
        folder: Is created.
        clips: ``n`` rows with at least `COLUMNS`; paths are not written.
        arrays: Name of a model -> (n, dim) unit rows, or `MEASURED` -> (n, d), kept in
            single precision.
        training: Seed -> left-out corpus -> what `load_training` gives back.

    Raises:
        ValueError: A column is missing, or an array has another number of rows.
    """
    missing = [column for column in COLUMNS if column not in clips]
    if missing:
        raise ValueError(f"the table of clips lacks the columns {missing}")
    for name, rows in arrays.items():
        if len(rows) != len(clips):
            raise ValueError(f"{name} has {len(rows)} rows for {len(clips)} clips")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = clips[list(COLUMNS)].to_csv(index=False, lineterminator="\n")
    write_atomically(folder / "clips.csv", table)
    for name, rows in arrays.items():
        rows = np.asarray(rows, dtype=np.float32)
        if name != MEASURED:
            rows = np.rint(127 * rows / np.abs(rows).max(axis=1, keepdims=True))
            rows = rows.astype(np.int8)
        write_arrays(folder / f"{name}.npz", rows=rows)
    for seed, facts in (training or {}).items():
        parts = {}
        for test, (mean, probe) in facts.items():
            single = {"mean": mean, "weight": probe.weight, "bias": probe.bias}
            for name, values in single.items():
                parts[f"{test}.{name}"] = np.asarray(values, dtype=np.float32)
            parts[f"{test}.labels"] = np.asarray(probe.labels, dtype=str)
        write_arrays(folder / f"training-{seed}.npz", **parts)
    return write_checksums(folder)


def _folder(folder: str | Path | None) -> Path:
    folder = data_root() / "real_speech" if folder is None else Path(folder)
    if not (folder / "clips.csv").is_file():
        raise MissingFileError(
            f"{folder} holds no embeddings (no clips.csv); with the four corpora under "
            "$CLEPDG_CORPORA, data/build_real_speech.py makes them"
        )
    refuse_changed(folder)
    return folder


def _clips(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "clips.csv", keep_default_na=False, dtype=str)


def _array(folder: Path, name: str) -> np.ndarray:
    return read_arrays(folder / f"{name}.npz", names=["rows"])["rows"]
