"""Small sounds for any test: nothing here needs a corpus or a network."""

from __future__ import annotations

import functools
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clepdg_lib.files import PROJECT


def _refuse_network(event, args):
    """Let tests talk to this machine alone, whoever tries it (PEP 578)."""
    if event == "socket.connect":
        address = args[1]
        local = not isinstance(address, tuple) or address[0] in HERE
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        local = args[0] in (None, "", b"", *HERE, *(h.encode() for h in HERE))
    else:
        return
    if not local:
        raise OSError(f"tests have no network: {event} {args[-1]!r}")


HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", socket.gethostname())
sys.addaudithook(_refuse_network)
collect_ignore = ["soak"]  # campaigns of an hour: `make soak`

EMOTIONS = ("angry", "happy", "neutral", "sad")


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


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """Keep what tests embed out of the cache that people use."""
    before = os.environ.get("CLEPDG_CACHE")
    os.environ["CLEPDG_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("CLEPDG_CACHE")
    if before is not None:
        os.environ["CLEPDG_CACHE"] = before


@pytest.fixture
def private_cache(tmp_path, monkeypatch):
    """An empty cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CLEPDG_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_clap_folder(tmp_path_factory):
    """A whole CLAP in Hugging Face layout, with random weights and few of them."""
    from soak.tiny import make_model

    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_clap(tiny_clap_folder):
    """The tiny CLAP, loaded; shared by all tests, so none may change it."""
    from clepdg_lib.clap import load_clap

    return load_clap(tiny_clap_folder)


@pytest.fixture
def feeling_corpus(tmp_path):
    """Make a corpus in which emotions are pitches: easy even for tiny models."""
    from soak.tiny import make_corpus

    def make(name="tones", **how):
        return make_corpus(tmp_path / name, name=name, **how)

    return make


@pytest.fixture
def quick(monkeypatch):
    """Few contexts, few steps: for tests of a protocol, not of its scores."""
    from clepdg_lib import methods

    brief = {
        "tune_contexts": {"n_contexts": 2, "n_tokens": 1, "steps": 2},
        "fit_on_points": {"epochs": 2},
    }
    monkeypatch.setattr(methods, "_fitted", {})
    for name, how in brief.items():
        few = functools.partial(getattr(methods, name), **how)
        monkeypatch.setattr(methods, name, few)
