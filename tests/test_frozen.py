"""A tower that keeps still is asked once for each picture, whoever asks."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from clepdg_lib import frozen
from clepdg_lib.clap import Clap
from clepdg_lib.processes import Team

pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture
def heard(monkeypatch):
    """Count the pictures that towers are asked about."""
    counts, hear = [], Clap.hear_mels

    def count(clap, mels, **how):
        counts.append(len(mels))
        return hear(clap, mels, **how)

    monkeypatch.setattr(Clap, "hear_mels", count)
    return counts


def draw(clap, n):
    shape = (n, clap.log_mel.n_frames, clap.log_mel.n_mels)
    noise = np.random.default_rng(0).standard_normal(shape)
    return (10 * noise - 40).astype(np.float16)


def test_a_picture_is_heard_once_in_whatever_company(tiny_clap, heard, monkeypatch):
    monkeypatch.setattr(frozen, "TOGETHER", 4)
    pictures = draw(tiny_clap, 9)
    first = frozen.hear_frozen(tiny_clap, pictures[:6])
    assert heard == [4, 2] and first.shape == (6, tiny_clap.width)
    again = frozen.hear_frozen(tiny_clap, pictures[[8, 3, 3, 0, 7, 8]])
    assert heard == [4, 2, 2], "the eighth and the ninth were new"
    assert torch.equal(again[[1, 2, 3]], first[[3, 3, 0]])
    alone = tiny_clap.hear_mels(torch.from_numpy(pictures[8:9]).unsqueeze(1))
    torch.testing.assert_close(again[[0, 5]], alone.expand(2, -1), atol=1e-5, rtol=0)


def test_another_tower_is_asked_anew_and_other_layers_above_are_not(tiny_clap, heard):
    pictures = draw(tiny_clap, 3)
    before = frozen.hear_frozen(tiny_clap, pictures)
    other = copy.deepcopy(tiny_clap)
    with torch.no_grad():
        for weight in other.model.audio_projection.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    assert torch.equal(frozen.hear_frozen(other, pictures), before)
    assert heard == [3]
    with torch.no_grad():
        for weight in other.model.audio_model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    after = frozen.hear_frozen(other, pictures)
    assert heard == [3, 3] and not torch.allclose(before, after)


def test_an_interrupted_hearing_keeps_what_it_heard(tiny_clap, monkeypatch):
    monkeypatch.setattr(frozen, "TOGETHER", 2)
    pictures, truly, calls = draw(tiny_clap, 6), Clap.hear_mels, []

    def breaks(clap, mels, **how):
        calls.append(len(mels))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return truly(clap, mels, **how)

    monkeypatch.setattr(Clap, "hear_mels", breaks)
    with pytest.raises(KeyboardInterrupt):
        frozen.hear_frozen(tiny_clap, pictures)
    frozen.hear_frozen(tiny_clap, pictures)
    assert calls == [2, 2, 2, 2], "four of six had been heard"


def test_two_processes_hear_half_each(tiny_clap, heard):
    pictures = draw(tiny_clap, 8)
    parts, both = [], threading.Barrier(2)

    class Half(Team):
        def __init__(self, rank):
            self.rank, self.size = rank, 2

        def collect(self, own):
            parts.append(own)
            both.wait()
            return parts

    def work(rank):
        return frozen.hear_frozen(copy.deepcopy(tiny_clap), pictures, team=Half(rank))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, (0, 1))
    assert heard == [4, 4]
    assert torch.equal(first, second)
    alone = tiny_clap.hear_mels(torch.from_numpy(pictures).unsqueeze(1))
    torch.testing.assert_close(first, alone, atol=1e-5, rtol=0)
