"""A tower that keeps still is asked once for each picture, whoever asks."""

import numpy as np
import pytest
import torch

from clepdg_lib import frozen
from clepdg_lib.recipe import Recipe
from clepdg_lib.trainer import Trainer


@pytest.fixture
def heard(monkeypatch):
    """Count the pictures that towers are asked about, and forget them all before."""
    counts, hear = [], Trainer.hear

    def count(trainer, pictures):
        counts.append(len(pictures))
        return hear(trainer, pictures)

    monkeypatch.setattr(Trainer, "hear", count)
    monkeypatch.setattr(frozen, "_said", {})
    return counts


def trainer(clap, **changes):
    return Trainer(clap, Recipe(precision="float32", **changes), n_steps=1)


def draw(clap, n):
    shape = (n, clap.log_mel.n_frames, clap.log_mel.n_mels)
    noise = np.random.default_rng(0).standard_normal(shape)
    return (10 * noise - 40).astype(np.float16)


def test_a_picture_is_heard_once_in_whatever_company(tiny_clap, heard, monkeypatch):
    monkeypatch.setattr(frozen, "TOGETHER", 4)
    pictures = draw(tiny_clap, 9)
    first = frozen.hear_frozen(trainer(tiny_clap), pictures[:6])
    assert heard == [4, 2]
    again = frozen.hear_frozen(trainer(tiny_clap), pictures[[8, 3, 3, 0, 7, 8]])
    assert heard == [4, 2, 2], "the eighth and the ninth were new"
    assert torch.equal(again[[1, 2, 3]], first[[3, 3, 0]])
    student = trainer(tiny_clap)
    student.wake_tower(awake=False)
    with torch.no_grad():
        picture = torch.from_numpy(pictures[8:9]).float().unsqueeze(1)
        alone = student.hear(picture).mean(dim=1)
    torch.testing.assert_close(again[[0, 5]], alone.expand(2, -1))


def test_another_tower_is_asked_anew(tiny_clap, heard):
    pictures = draw(tiny_clap, 3)
    before = frozen.hear_frozen(trainer(tiny_clap), pictures)
    moved = trainer(tiny_clap)
    with torch.no_grad():
        for weight in moved.clap.model.audio_model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    after = frozen.hear_frozen(moved, pictures)
    assert heard == [3, 3] and not torch.allclose(before, after)


def test_the_tower_is_awake_again_and_remembers_no_more_than_it_may(
    tiny_clap, heard, monkeypatch
):
    monkeypatch.setattr(frozen, "MOST", 2)
    student, pictures = trainer(tiny_clap), draw(tiny_clap, 3)
    frozen.hear_frozen(student, pictures)
    assert student.clap.model.audio_model.training
    frozen.hear_frozen(student, pictures)
    assert heard == [3, 3]
