"""Small sounds for any test: nothing here needs a corpus or a network."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clepdg_lib.files import PROJECT


@pytest.fixture
def write_wave():
    """Write a short tone; every call makes another sound, so no two are duplicates."""
    n_written = 0

    def write(path, *, seconds=0.25, sample_rate=16_000):
        nonlocal n_written
        n_written += 1
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(int(seconds * sample_rate)) / sample_rate
        tone = 0.3 * np.sin(2 * np.pi * (150 + 7 * n_written) * time)
        soundfile.write(path, tone.astype(np.float32), sample_rate)
        return path

    return write


@pytest.fixture
def make_corpus(tmp_path, write_wave):
    """Lay out a corpus of short tones: names below a new folder, which is returned."""

    def make(*names, folder="corpus"):
        root = tmp_path / folder
        for name in names:
            write_wave(root / name)
        return root

    return make


@pytest.fixture(scope="session")
def real_corpora():
    """Folder of real recordings, or skip: they are never part of the project."""
    chosen = os.environ.get("CLEPDG_CORPORA")
    for folder in (chosen, PROJECT.parent / "shared/corpora"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("no real recordings here: set CLEPDG_CORPORA to their folder")
