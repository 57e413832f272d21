"""Fixtures for every test: short sounds, private caches, no network."""

import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clepdg_lib.files import PROJECT

LOCAL = ("127.0.0.1", "::1", "localhost", "0.0.0.0", socket.gethostname())
collect_ignore = ["soak", "speed"]  # campaigns and measurements, not tests


def _refuse_network(event, args):
    """Let tests talk to this machine alone, whichever package tries (PEP 578)."""
    if event == "socket.connect":
        address = args[1]
        local = not isinstance(address, tuple) or address[0] in LOCAL
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        local = args[0] in (None, "", b"", *LOCAL, *(h.encode() for h in LOCAL))
    else:
        return
    if not local:
        raise OSError(f"tests have no network: {event} {args[-1]!r}")


sys.addaudithook(_refuse_network)


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
    """Write short tones under the given names in a new folder; return the folder."""

    def make(*names, folder="corpus"):
        root = tmp_path / folder
        for name in names:
            write_wave(root / name)
        return root

    return make


@pytest.fixture(scope="module")
def clap():
    """A model of few random weights that knows the words for emotions."""
    from stand_ins import word_clap

    return word_clap()


@pytest.fixture(scope="session")
def real_corpora():
    """Folder of real recordings, or skip: they are never part of the project."""
    chosen = os.environ.get("CLEPDG_CORPORA")
    for folder in (chosen, PROJECT.parent / "shared/corpora"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("no real recordings here: set CLEPDG_CORPORA to their folder")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """Keep what tests embed out of the user's cache; their processes share it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLEPDG_CACHE", str(folder / "cache"))
        yield


@pytest.fixture
def private_cache(tmp_path, monkeypatch):
    """An empty cache folder for one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CLEPDG_CACHE", str(folder))
    return folder
