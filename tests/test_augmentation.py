"""Changed pictures are still pictures: their shape, their floor, their seed."""

from dataclasses import replace

import pytest
import torch

from clepdg_lib.augmentation import FLOOR_DB, augment, start_elsewhere
from clepdg_lib.recipe import Recipe

PLAIN = {"gain_db": 0.0, "equaliser_db": 0.0, "masks": False}
MELS = torch.linspace(-100, 0, 2 * 251 * 64).view(2, 251, 64)


def draw(seed, *, mels=MELS, **changes):
    generator = torch.Generator().manual_seed(seed)
    return augment(mels, replace(Recipe(), **changes), generator=generator)


def test_shape_floor_and_seed_are_kept():
    before = MELS.clone()
    assert draw(0).shape == (2, 251, 64) and float(draw(0).min()) >= FLOOR_DB
    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))
    assert torch.equal(MELS, before)


def test_without_its_parts_it_is_nothing():
    assert torch.equal(draw(0, **PLAIN), MELS)


def start(seed, moments=None):
    generator = torch.Generator().manual_seed(seed)
    return start_elsewhere(MELS, moments, generator=generator)


def test_another_start_is_all_that_changes():
    moved, nothing = start(0)
    shifts = [s for s in range(251) if torch.equal(moved, MELS.roll(s, dims=1))]
    assert len(shifts) == 1 and nothing is None
    assert not torch.equal(moved, start(1)[0])


@pytest.mark.parametrize("n_moments", [8, 128, 251])
def test_what_was_measured_moves_with_the_picture(n_moments):
    places = torch.arange(n_moments).float().view(1, -1, 1).repeat(2, 1, 3)
    for seed in range(5):
        moved, moments = start(seed, places)
        frames = next(s for s in range(251) if torch.equal(moved, MELS.roll(s, dims=1)))
        steps = int((places[0, :, 0] == moments[0, 0, 0]).nonzero())
        steps = (n_moments - steps) % n_moments
        assert abs(frames - steps * 251 / n_moments) <= 0.5
        assert torch.equal(moments, places.roll(steps, dims=1))


def test_a_gain_moves_all_bands_alike_and_an_equaliser_each_smoothly():
    flat = torch.zeros(1, 251, 64)
    gain = draw(0, mels=flat, **{**PLAIN, "gain_db": 6.0})
    assert (gain == gain[0, 0, 0]).all() and gain[0, 0, 0] != 0
    bands = draw(0, mels=flat, **{**PLAIN, "equaliser_db": 6.0})[0]
    assert (bands == bands[0]).all()  # at every moment the same microphone
    steps = (bands[0, 1:] - bands[0, :-1]).abs()
    assert 0 < steps.max() < 4


def test_masks_hide_stretches_of_time_and_bands_behind_the_mean():
    mels = torch.randn(1, 251, 64, generator=torch.Generator().manual_seed(0))
    hidden = [
        draw(seed, mels=mels, **{**PLAIN, "masks": True})[0] == mels.mean()
        for seed in range(8)
    ]
    shares = torch.stack([h.float().mean() for h in hidden])
    assert 0 < shares.mean() < 0.4 and shares.max() < 0.5
    assert any(h.all(dim=1).any() for h in hidden)  # whole moments
    assert any(h.all(dim=0).any() for h in hidden)  # whole bands


def test_pictures_smaller_than_a_mask_are_no_crash():
    assert draw(0, mels=torch.zeros(1, 20, 6)).shape == (1, 20, 6)
