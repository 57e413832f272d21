"""An environment changes a clip as described, more with severity, alike with a seed."""

from dataclasses import replace

import pytest
import torch

from clepdg_lib.audio import LEVEL_DB, AudioError, LogMel, level, rms_db
from clepdg_lib.environments import (
    CHANNELS,
    ENVIRONMENTS,
    NOISES,
    ROOMS,
    Environment,
    describe,
    place,
    random_environment,
    vary,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def voice(n=32_000):
    """A buzz that comes and goes: loud enough everywhere to measure."""
    time = torch.arange(n) / 16_000
    buzz = sum(torch.sin(2 * torch.pi * 150 * h * time) / h for h in range(1, 40))
    return level(buzz * (0.6 + 0.4 * torch.sin(2 * torch.pi * 3 * time)))


def distance(one, other):
    return float((LogMel()([one]) - LogMel()([other])).abs().mean())


def test_the_five_places():
    assert list(ENVIRONMENTS) == [
        "studio",
        "telephone",
        "living room",
        "street",
        "hall",
    ]
    assert all(key == place_.name for key, place_ in ENVIRONMENTS.items())
    assert len({place_.caption for place_ in ENVIRONMENTS.values()}) == 5


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_placed_clip_keeps_length_and_level(name):
    for n in (100, 15_999, 32_000):
        heard = place(voice(n), name, generator=generator())
        assert heard.shape == (n,) and heard.dtype == torch.float32
        assert rms_db(heard) == pytest.approx(LEVEL_DB, abs=0.5)
    assert torch.equal(heard, place(voice(), name, generator=generator()))
    assert not torch.equal(heard, place(voice(), name, generator=generator(1)))


@pytest.mark.parametrize("name", ["telephone", "living room", "street", "hall"])
def test_severity_moves_a_clip_ever_further(name):
    clip = voice()
    placed = [
        place(clip, name, generator=generator(), severity=s) for s in (0, 0.5, 1, 3)
    ]
    assert torch.equal(placed[0], clip)
    moved = [distance(clip, heard) for heard in placed]
    assert moved == sorted(moved) and moved[1] > 0.5


def test_the_studio_is_nearer_than_the_rest():
    moved = {
        name: distance(voice(), place(voice(), name, generator=generator()))
        for name in ENVIRONMENTS
    }
    assert min(moved, key=moved.get) == "studio"


def test_noise_comes_at_its_ratio():
    clip = voice()
    quiet = Environment("x", "x", noise="white", snr_db=6.0)
    heard = place(clip, quiet, generator=generator())
    # the clip is known, so what is left after projecting onto it is the noise
    share = float(heard @ clip / (clip @ clip))
    left = heard - share * clip
    assert rms_db(share * clip) - rms_db(left) == pytest.approx(6.0, abs=0.2)


def test_the_telephone_loses_what_is_above_its_band():
    def share_above(wave, hertz):
        power = torch.fft.rfft(wave).abs().square()
        return float(power[int(hertz * len(wave) / 16_000) :].sum() / power.sum())

    clip = level(torch.randn(32_000, generator=generator()))
    heard = place(clip, "telephone", generator=generator())
    assert share_above(clip, 4500) > 0.3 and share_above(heard, 4500) < 0.01


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_silence_stays_silent(name):
    for silence in (torch.zeros(800), torch.full((800,), 1e-7)):
        assert torch.equal(place(silence, name, generator=generator()), silence)


def test_random_places_vary_and_are_described():
    source = generator()
    drawn = [random_environment(source) for _ in range(300)]
    assert {p.room for p in drawn} == set(ROOMS)
    assert {p.noise for p in drawn} == {"none", *NOISES}
    assert {p.channel for p in drawn} == set(CHANNELS)
    for place_ in drawn:
        assert (place_.rt60_seconds > 0) == (place_.room != "none")
        assert place_.caption == describe(place_) != ""
        assert "a a" not in place_.caption and "  " not in place_.caption
    for place_ in drawn[:40]:
        heard = place(voice(8_000), place_, generator=source)
        assert bool(torch.isfinite(heard).all())
    assert random_environment(generator(3)) == random_environment(generator(3))


def test_a_description_says_what_is_there_and_no_more():
    assert describe(Environment("x", "")) == "close to the microphone, in silence"
    full = Environment(
        "x", "", room="large", rt60_seconds=2.0, noise="rain", snr_db=3.0
    )
    assert describe(full) == "in a large room, with loud rain"
    assert "telephone" in describe(replace(full, channel="telephone"))
    assert "far away" in describe(replace(full, direct_to_reverb_db=-5.0))


def test_vary_stays_near_and_what_is_absent_stays_absent():
    source, hall, studio = generator(), ENVIRONMENTS["hall"], ENVIRONMENTS["studio"]
    halls = [vary("hall", generator=source) for _ in range(50)]
    assert len({h.rt60_seconds for h in halls}) == 50
    assert all(0.74 < h.rt60_seconds / hall.rt60_seconds < 1.31 for h in halls)
    assert all(abs(h.snr_db - hall.snr_db) <= 4 for h in halls)
    plain = vary(studio, generator=source)
    assert (plain.rt60_seconds, plain.low_hz, plain.high_hz) == (0, 0, 8000)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="'cafe'.*studio, telephone, living room"):
        place(voice(), "cafe", generator=generator())
    with pytest.raises(ValueError, match="severity is 4.*between 0 and 3"):
        place(voice(), "hall", generator=generator(), severity=4)
    with pytest.raises(AudioError, match="empty"):
        place(torch.zeros(0), "hall", generator=generator())
    with pytest.raises(ValueError, match="room is 'huge'"):
        Environment("x", "x", room="huge")
    with pytest.raises(ValueError, match="noise is 'thunder'"):
        Environment("x", "x", noise="thunder")
