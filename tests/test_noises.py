"""Noises are of one level, the right length, and of the kind they are named."""

import pytest
import torch

from clepdg_lib.noises import NOISE_WORDS, NOISES, noise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def power_between(sound, low_hz, high_hz):
    power = torch.fft.rfft(sound).abs().square()
    hertz = torch.fft.rfftfreq(len(sound), 1 / 16_000)
    return float(power[(hertz >= low_hz) & (hertz < high_hz)].sum() / power.sum())


@pytest.mark.parametrize("kind", NOISES)
def test_a_noise_has_length_level_and_seed(kind):
    for n in (1, 2, 777, 48_000):
        sound = noise(kind, n, generator=generator())
        assert sound.shape == (n,) and sound.dtype == torch.float32
        assert bool(torch.isfinite(sound).all())
    assert float(sound.square().mean().sqrt()) == pytest.approx(0.1, rel=1e-3)
    again = noise(kind, 48_000, generator=generator())
    other = noise(kind, 48_000, generator=generator(1))
    assert torch.equal(sound, again) and not torch.allclose(sound, other)


def test_noises_sound_like_their_names():
    sound = {kind: noise(kind, 48_000, generator=generator()) for kind in NOISES}
    assert power_between(sound["white"], 4000, 8000) == pytest.approx(0.5, abs=0.03)
    assert power_between(sound["traffic"], 0, 1000) > 0.5
    assert power_between(sound["wind"], 0, 500) > 0.8
    assert power_between(sound["rain"], 1000, 8000) > 0.8
    assert power_between(sound["hum"], 40, 500) > 0.8
    assert power_between(sound["babble"], 80, 3000) > 0.8


def test_every_noise_has_its_word_and_no_other_is_known():
    assert set(NOISE_WORDS) == set(NOISES)
    with pytest.raises(ValueError, match="'thunder'.*rain"):
        noise("thunder", 100, generator=generator())
