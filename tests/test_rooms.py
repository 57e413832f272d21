"""A room's response decays as told; filters pass what they should."""

import math

import pytest
import torch

from clepdg_lib.rooms import colour, convolve, fast_length, room_response


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rt60", [0.3, 0.8, 2.0])
@pytest.mark.parametrize("ratio_db", [-6.0, 0.0, 10.0])
def test_a_room_has_its_reverberation(rt60, ratio_db):
    response = room_response(rt60, ratio_db, generator=generator())
    assert float(response[0]) == 1.0
    tail = response[1:].double().square()
    assert 10 * math.log10(1 / float(tail.sum())) == pytest.approx(ratio_db, abs=0.1)
    # Schroeder's backward integral, between -5 and -25 dB, as in ISO 3382
    left = 10 * torch.log10(tail.flip(0).cumsum(0).flip(0) / tail.sum() + 1e-12)
    fall = torch.nonzero((left < -5) & (left > -25)).flatten()
    measured = 3 * len(fall) / 16_000
    assert 0.4 * rt60 < measured < 1.3 * rt60  # the high half decays twice as fast


def test_a_bigger_room_rings_longer_and_a_seed_gives_one_room():
    small = room_response(0.3, 0, generator=generator())
    large = room_response(1.5, 0, generator=generator())
    assert len(large) == 5 * len(small)
    assert torch.equal(small, room_response(0.3, 0, generator=generator()))
    with pytest.raises(ValueError, match="above 0"):
        room_response(0, 0, generator=generator())


def test_convolution_is_the_direct_sum():
    wave = torch.randn(200, generator=generator())
    response = torch.randn(50, generator=generator(1))
    expected = [
        sum(float(response[k] * wave[i - k]) for k in range(min(50, i + 1)))
        for i in range(200)
    ]
    assert torch.allclose(convolve(wave, response), torch.tensor(expected), atol=1e-4)
    assert convolve(wave[:30], response).shape == (30,)


def test_fast_lengths_are_long_enough():
    for n in (1, 7, 1000, 48_001, 131_073):
        assert n <= fast_length(n) <= max(8, 1.3 * n)


def test_a_band_keeps_its_middle_and_loses_its_outside():
    time = torch.arange(16_000) / 16_000
    kept = {}
    for hertz in (100, 1000, 6000):
        tone = torch.sin(2 * math.pi * hertz * time)
        heard = colour(tone, low_hz=300, high_hz=3400, tilt_db=0.0, sample_rate=16_000)
        kept[hertz] = float(heard[4000:12_000].std() / tone.std())
    assert kept[1000] == pytest.approx(1, abs=0.01)
    assert kept[100] < 0.01 and kept[6000] < 0.02


def test_tilt_turns_about_one_kilohertz():
    time = torch.arange(16_000) / 16_000
    for hertz, gain_db in ((500, -3), (1000, 0), (4000, 6)):
        tone = torch.sin(2 * math.pi * hertz * time)
        heard = colour(tone, low_hz=0, high_hz=8000, tilt_db=3.0, sample_rate=16_000)
        ratio = float(heard[4000:12_000].std() / tone[4000:12_000].std())
        assert 20 * math.log10(ratio) == pytest.approx(gain_db, abs=0.1)
