"""A wave is checked, levelled, resampled and trimmed without changing its nature."""

import math

import numpy as np
import pytest
import torch

from clepdg_lib.waves import (
    LEVEL_DB,
    AudioError,
    check_wave,
    level,
    resample,
    rms_db,
    trim,
)


def tone(seconds=1.0, *, hertz=440.0, sample_rate=16_000, peak=0.5):
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    return peak * torch.sin(2 * math.pi * hertz * time)


def test_a_good_wave_comes_back_as_float32():
    for wave in (np.zeros(5), [0.0, 0.5], torch.zeros(3, dtype=torch.float64)):
        assert check_wave(wave).dtype == torch.float32


@pytest.mark.parametrize(
    ("wave", "says"),
    [
        (torch.zeros(2, 100), r"shape \(2, 100\)"),
        (torch.zeros(0), "empty"),
        (torch.tensor([0.0, float("nan"), float("inf")]), "2 NaN or infinite"),
        (torch.zeros(9, dtype=torch.int16), "32768"),
        ("speech.wav", "str"),
    ],
)
def test_a_bad_wave_is_named_and_explained(wave, says):
    with pytest.raises(AudioError, match=says) as error:
        check_wave(wave, name="my clip")
    assert str(error.value).startswith("my clip")


def test_level_reaches_the_level():
    for peak in (1e-3, 0.1, 0.9):
        assert rms_db(level(tone(peak=peak))) == pytest.approx(LEVEL_DB, abs=1e-3)


def test_level_never_clips():
    click = torch.zeros(16_000)
    click[100] = 0.01
    levelled = level(click)
    assert float(levelled.abs().max()) == pytest.approx(1.0)
    assert rms_db(levelled) < LEVEL_DB


def test_silence_stays_silent():
    assert rms_db(torch.zeros(10)) == -math.inf
    assert not level(torch.zeros(100)).any()
    whisper = torch.full((100,), 1e-6)
    assert torch.equal(level(whisper), whisper)


@pytest.mark.parametrize("from_rate", [8_000, 24_414, 48_000])
def test_resampling_keeps_the_tone(from_rate):
    wave = resample(tone(sample_rate=from_rate), from_rate=from_rate, to_rate=16_000)
    assert abs(len(wave) - 16_000) <= 1
    middle = slice(2_000, 14_000)
    assert torch.allclose(wave[middle], tone()[middle], atol=2e-3)


def test_resampling_to_the_same_rate_changes_nothing():
    assert torch.equal(resample(tone(), from_rate=16_000, to_rate=16_000), tone())
    with pytest.raises(AudioError, match="above 0"):
        resample(tone(), from_rate=0, to_rate=16_000)


def test_trim_cuts_the_ends_and_keeps_the_pause():
    quiet = 1e-4 * tone(0.5)
    wave = torch.cat([quiet, tone(0.5), quiet, tone(0.5), quiet])
    kept = trim(wave, margin_seconds=0.0)
    assert abs(len(kept) - 24_000) <= 640  # 1.5 s, to a frame at either end
    assert len(trim(wave)) - len(kept) == 1_600  # two margins of 50 ms


def test_trim_leaves_something_of_anything():
    assert len(trim(torch.zeros(1_000))) == 1_000
    assert len(trim(torch.ones(1))) == 1
    assert len(trim(tone())) == 16_000
