"""What can be measured in a voice: eGeMAPS, and the words for it.

The extended Geneva minimalistic acoustic parameter set (Eyben et al. 2016, eGeMAPS
v02, 88 functionals) is measured by openSMILE, which the `build` extra brings. It
serves training (property captions, auxiliary targets) and the classical baseline;
nothing that a student runs needs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from clepdg_lib.audio import SAMPLE_RATE
from clepdg_lib.cache import load_arrays, store_arrays
from clepdg_lib.captions import PROPERTIES
from clepdg_lib.corpora import Corpus
from clepdg_lib.files import cache_root

# Aspect of captions.PROPERTIES -> the functional that decides, low level first.
MEASURED = {
    "pitch": "F0semitoneFrom27.5Hz_sma3nz_amean",
    "melody": "F0semitoneFrom27.5Hz_sma3nz_stddevNorm",
    "effort": "alphaRatioV_sma3nz_amean",  # energy above 1 kHz over energy below
    "tempo": "loudnessPeaksPerSec",
    "texture": "HNRdBACF_sma3nz_amean",
}


def measuring_is_possible() -> bool:
    """Say whether openSMILE is installed."""
    import importlib.util

    return importlib.util.find_spec("opensmile") is not None


def feature_names() -> list[str]:
    """Return the names of the 88 functionals, in their order."""
    return Measurer().names


def measure_corpus(
    corpus: Corpus, *, cache: bool = True, progress: bool = False
) -> np.ndarray:
    """Measure the 88 functionals of every clip, trimmed and levelled.

    Returns:
        (n, 88) float32; a row of NaN for a file that cannot be read.

    Raises:
        ImportError: openSMILE is not installed.
    """
    digest = hashlib.sha256()
    for path in corpus.clips["path"]:
        size = Path(path).stat().st_size if Path(path).is_file() else -1
        digest.update(f"{path}|{size}\n".encode())
    name = f"{corpus.name[:40]}-{digest.hexdigest()[:24]}.npz"
    file = cache_root() / "egemaps" / name
    if cache and (arrays := load_arrays(file)):
        return arrays["egemaps"]
    measure = Measurer()
    values = np.full((len(corpus), len(measure.names)), np.nan, np.float32)
    bar = tqdm(
        corpus.iter_waves(),
        total=len(corpus),
        desc="measuring",
        unit="clip",
        disable=not progress,
    )
    for i, wave in bar:
        values[i] = measure(wave)
    if cache:
        store_arrays(file, egemaps=values)
    return values


def property_levels(
    measured: np.ndarray, names: Sequence[str], *, reference: np.ndarray | None = None
) -> Mapping[str, np.ndarray]:
    """Sort measurements into the levels that have captions, by thirds.

    Args:
        measured: (n, 88); rows of NaN stay unknown.
        names: Of the columns.
        reference: (m, 88) whose thirds are the borders; default `measured` itself.

    Returns:
        Aspect -> (n,) int64 level in `captions.PROPERTIES[aspect]`, or -1.
    """
    reference = measured if reference is None else reference
    levels = {}
    for aspect, functional in MEASURED.items():
        column = list(names).index(functional)
        borders = np.nanquantile(reference[:, column], (1 / 3, 2 / 3))
        level = np.digitize(measured[:, column], borders)
        level[np.isnan(measured[:, column])] = -1
        assert len(PROPERTIES[aspect]) == 3
        levels[aspect] = level.astype(np.int64)
    return levels


class Measurer:
    """openSMILE, ready to measure one clip after the other.

    Raises:
        ImportError: openSMILE is not installed.
    """

    def __init__(self) -> None:
        self._smile = _smile()
        self.names = list(self._smile.feature_names)

    def __call__(self, wave: torch.Tensor) -> np.ndarray:
        """Measure a clip: (n,) at 16 kHz -> (88,) float32."""
        row = self._smile.process_signal(wave.numpy(), SAMPLE_RATE).to_numpy()[0]
        return np.nan_to_num(row).astype(np.float32)


def _smile():
    try:
        import opensmile
    except ImportError as error:
        raise ImportError(
            "openSMILE is not installed; pip install 'clepdg-lib[build]' (or "
            "pip install opensmile) brings it. It is free for research only."
        ) from error
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.Functionals,
    )


def standardise(values: np.ndarray) -> np.ndarray:
    """Bring each column to mean 0 and deviation 1, outliers cut at 4; NaN stay."""
    mean, deviation = np.nanmean(values, axis=0), np.nanstd(values, axis=0) + 1e-6
    return np.clip((values - mean) / deviation, -4, 4).astype(np.float32)
