"""An environment changes a clip as described, more with severity, alike with a seed."""

import math
from dataclasses import replace

import pytest
import torch
from random_places import random_environment
from stand_ins import odd_torch

from clepdg_lib import audio
from clepdg_lib.audio import ENVIRONMENTS, NOISES, Environment, level, place, rms_db
from clepdg_lib.audio.places import filter_band, noise, room_response
from clepdg_lib.audio.waves import LEVEL_DB


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def at_16_khz(seed=0):
    return {"generator": generator(seed), "rate": 16_000}


def voice(n=32_000):
    """A buzz that comes and goes: loud enough everywhere to measure."""
    time = torch.arange(n) / 16_000
    buzz = sum(torch.sin(2 * torch.pi * 150 * h * time) / h for h in range(1, 40))
    return level(buzz * (0.6 + 0.4 * torch.sin(2 * torch.pi * 3 * time)))


def put(environment, *, wave=None, **how):
    wave = voice() if wave is None else wave
    return place(wave, environment, generator=generator(), **how)


def distance(one, other):
    """Mean difference of two log spectrograms in decibels."""
    how = {"window": torch.hann_window(512), "return_complex": True}
    both = torch.stft(torch.stack([one, other]), 512, 160, **how)
    power = 10 * both.abs().square().clamp_min(1e-7).log10()
    return float((power[0] - power[1]).abs().mean())


def power_between(sound, low_hz, high_hz):
    power = torch.fft.rfft(sound).abs().square()
    hertz = torch.fft.rfftfreq(len(sound), 1 / 16_000)
    return float(power[(hertz >= low_hz) & (hertz < high_hz)].sum() / power.sum())


# ------------------------------------------------------------------ environments
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_placed_clip_keeps_length_level_and_silence(name):
    for n in (100, 15_999, 32_000):
        placed = place(voice(n), name, generator=generator())
        assert placed.shape == (n,) and placed.dtype == torch.float32
        assert rms_db(placed) == pytest.approx(LEVEL_DB, abs=0.5)
    for silence in (torch.zeros(800), torch.full((800,), 1e-7)):
        assert torch.equal(place(silence, name, generator=generator()), silence)
    assert torch.equal(placed, place(voice(), name, generator=generator()))
    assert not torch.equal(placed, place(voice(), name, generator=generator(1)))


@pytest.mark.parametrize("name", ["telephone", "living room", "street", "hall"])
def test_severity_moves_a_clip_ever_further(name):
    clip = voice()
    placed = [put(name, wave=clip, severity=s) for s in (0, 0.5, 1, 3)]
    assert torch.equal(placed[0], clip)
    moved = [distance(clip, each) for each in placed]
    assert moved == sorted(moved) and moved[1] > 0.5


def test_noise_comes_at_its_ratio():
    clip = voice()
    noisy = Environment("x", "x", noise="white", snr_db=6.0)
    placed = place(clip, noisy, generator=generator())
    # the clip is known, so what is left after projecting onto it is the noise
    share = float(placed @ clip / (clip @ clip))
    left = placed - share * clip
    assert rms_db(share * clip) - rms_db(left) == pytest.approx(6.0, abs=0.2)


@pytest.mark.parametrize("sample_rate", [8_000, 24_000, 48_000])
def test_a_place_is_there_at_any_rate(sample_rate):
    clip = level(torch.randn(sample_rate, generator=generator()))
    for name in ENVIRONMENTS:
        placed = place(clip, name, generator=generator(), sample_rate=sample_rate)
        assert placed.shape == clip.shape and bool(torch.isfinite(placed).all())


def test_random_places_vary_and_are_described():
    source = generator()
    drawn = [random_environment(source) for _ in range(300)]
    assert {each.room for each in drawn} == set(audio.ROOMS)
    assert {each.noise for each in drawn} == {"none", *NOISES}
    assert {each.channel for each in drawn} == set(audio.CHANNELS)
    for each in drawn:
        assert (each.rt60_seconds > 0) == (each.room != "none")
        assert each.caption == audio.describe_environment(each) != ""
        assert "a a" not in each.caption and "  " not in each.caption
    for each in drawn[:40]:
        assert bool(torch.isfinite(place(voice(8_000), each, generator=source)).all())
    assert random_environment(generator(3)) == random_environment(generator(3))


def test_a_description_has_what_is_there_and_no_more():
    nothing = Environment("x", "")
    assert audio.describe_environment(nothing) == "close to the microphone, in silence"
    full = Environment("x", "", room="large", noise="rain", snr_db=3.0)
    assert audio.describe_environment(full) == "in a large room, with loud rain"
    far = replace(full, direct_to_reverb_db=-5.0, snr_db=20.0, channel="radio")
    words = "far away in a large room, with rain, over the radio"
    assert audio.describe_environment(far) == words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: put("cafe"), "'cafe'.*studio, telephone, living room"),
        (lambda: put("hall", severity=4), "severity is 4.*between 0 and 3"),
        (lambda: put("hall", severity=math.nan), "severity is nan"),
        (lambda: put("hall", sample_rate=0), "sample_rate is 0"),
        (lambda: put("hall", wave=torch.zeros(0)), "empty"),
        (lambda: Environment("x", "x", room="huge"), "room is 'huge'.*small"),
        (lambda: Environment("x", "x", snr_db=math.nan), "snr_db is nan; .* -60 to"),
        (lambda: Environment("x", "x", rt60_seconds=-1), "rt60_seconds is -1; .* 0 to"),
        (lambda: Environment("x", "x", noise="thunder"), "noise is 'thunder'.*rain"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_places_do_not_depend_on_what_torch_is_set_to():
    clip = voice(8_000)

    def everywhere():
        source = generator()
        for kind in NOISES:
            drawn = replace(random_environment(source), noise=kind)
            yield place(clip, drawn, generator=source)

    expected = list(everywhere())
    with odd_torch():
        found = list(everywhere())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# ------------------------------------------------------------------ noises
SPECTRA = {  # a band in Hz, and the least share of the power in it
    "white": (4000, 8000, 0.47),
    "traffic": (0, 1000, 0.5),
    "wind": (0, 500, 0.8),
    "rain": (1000, 8000, 0.8),
    "hum": (40, 500, 0.8),
    "babble": (80, 3000, 0.8),
    "fan": (40, 1000, 0.5),
    "music": (100, 2000, 0.8),
}


@pytest.mark.parametrize("kind", NOISES)
def test_a_noise_has_length_level_and_seed(kind):
    for n in (1, 2, 777, 48_000):
        sound = noise(kind, n, **at_16_khz())
        assert sound.shape == (n,) and sound.dtype == torch.float32
        assert bool(torch.isfinite(sound).all())
    assert float(sound.square().mean().sqrt()) == pytest.approx(0.1, rel=1e-3)
    again = noise(kind, 48_000, **at_16_khz())
    other = noise(kind, 48_000, **at_16_khz(1))
    assert torch.equal(sound, again) and not torch.allclose(sound, other)
    if kind in SPECTRA:
        low_hz, high_hz, share = SPECTRA[kind]
        assert power_between(sound, low_hz, high_hz) > share


# ------------------------------------------------------------------ rooms and filters
@pytest.mark.parametrize("rt60", [0.3, 0.8, 2.0])
@pytest.mark.parametrize("ratio_db", [-6.0, 0.0, 10.0])
def test_a_room_has_its_reverberation(rt60, ratio_db):
    response = room_response(rt60, ratio_db, **at_16_khz())
    assert float(response[0]) == 1.0
    tail = response[1:].double().square()
    assert 10 * math.log10(1 / float(tail.sum())) == pytest.approx(ratio_db, abs=0.1)
    # Schroeder's backward integral, between -5 and -25 dB, as in ISO 3382
    left = 10 * torch.log10(tail.flip(0).cumsum(0).flip(0) / tail.sum() + 1e-12)
    fall = torch.nonzero((left < -5) & (left > -25)).flatten()
    measured = 3 * len(fall) / 16_000
    assert 0.4 * rt60 < measured < 1.3 * rt60  # the high half decays twice as fast


@pytest.mark.parametrize(
    ("hertz", "band_hz", "tilt_db", "gain_db"),
    [
        (1000, (300, 3400), 0.0, 0),
        (500, (0, 8000), 3.0, -3),
        (1000, (0, 8000), 3.0, 0),
        (4000, (0, 8000), 3.0, 6),
        (100, (300, 3400), 0.0, -math.inf),
        (6000, (300, 3400), 0.0, -math.inf),
    ],
)
def test_a_filter_cuts_off_outside_its_band_and_tilts(hertz, band_hz, tilt_db, gain_db):
    tone = torch.sin(2 * math.pi * hertz * torch.arange(16_000) / 16_000)
    filtered = filter_band(tone, band_hz, tilt_db=tilt_db, rate=16_000)
    ratio = float(filtered[4000:12_000].std() / tone[4000:12_000].std())
    assert ratio == pytest.approx(10 ** (gain_db / 20), rel=0.01, abs=0.012)
