"""Background noise, synthesised: rain, traffic, a crowd, a fan.

Nothing is recorded; every kind is a few lines of signal processing and a seed, so a
student can read what a noise *is*. `environments` puts voices into it.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from clepdg_lib.audio import SAMPLE_RATE
from clepdg_lib.rooms import convolve, fast_length


def noise(
    kind: str,
    n_samples: int,
    *,
    generator: torch.Generator,
    sample_rate: int = SAMPLE_RATE,
) -> torch.Tensor:
    """Synthesise background noise.

    Args:
        kind: One of `NOISES`.
        n_samples: How many samples.
        generator: Two states give two different noises of one kind.
        sample_rate: In hertz.

    Returns:
        (n_samples,) float32 of RMS 0.1.
    """
    check_choice("noise", kind, tuple(NOISES))
    sound = NOISES[kind](n_samples, generator, sample_rate)[:n_samples]
    return 0.1 * _unit(sound)


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def pick(options: tuple, generator: torch.Generator):
    return options[int(torch.randint(len(options), (), generator=generator))]


def check_choice(what: str, value: str, valid: tuple) -> None:
    if value not in valid:
        raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(valid)}.")


def _shaped(
    n: int, generator: torch.Generator, rate: int, shape: Callable
) -> torch.Tensor:
    """Noise drawn in the frequency domain, its amplitude there given by `shape`."""
    n_fft = fast_length(n)
    hertz = torch.fft.rfftfreq(n_fft, 1 / rate).clamp_min(20.0)
    parts = torch.randn(2, len(hertz), generator=generator)
    return torch.fft.irfft(torch.complex(parts[0], parts[1]) * shape(hertz), n_fft)[:n]


def _wander(
    n: int, generator: torch.Generator, rate: int, *, per_second: float
) -> torch.Tensor:
    """A smooth random curve from 0 to 1."""
    knots = max(4, round(n / rate * per_second) + 2)
    curve = torch.rand(1, 1, knots, generator=generator)
    return torch.nn.functional.interpolate(
        curve, size=n, mode="linear", align_corners=True
    )[0, 0]


def _unit(sound: torch.Tensor) -> torch.Tensor:
    """Scale to RMS 1."""
    return sound / sound.square().mean().sqrt().clamp_min(1e-9)


def _white(n, generator, rate):
    return torch.randn(n, generator=generator)


def _pink(n, generator, rate):
    return _shaped(n, generator, rate, lambda f: f**-0.5)


def _hum(n, generator, rate):
    mains = pick((50.0, 60.0), generator)
    seconds = torch.arange(n) / rate
    sound = _unit(_pink(n, generator, rate))  # a bed of hiss under the tones
    for harmonic in range(1, 9):
        phase = uniform(0, 2 * math.pi, generator)
        tone = torch.sin(2 * math.pi * mains * harmonic * seconds + phase)
        sound = sound + 6.0 * uniform(0.3, 1, generator) / harmonic * tone
    return sound


def _traffic(n, generator, rate):
    rumble = _shaped(n, generator, rate, lambda f: 1 / (1 + (f / 150) ** 1.3))
    tyres = _shaped(n, generator, rate, lambda f: f / (1 + (f / 900) ** 2.5))
    passing = _wander(n, generator, rate, per_second=0.8)
    return _unit(rumble) + 1.2 * passing.square() * _unit(tyres)


def _fan(n, generator, rate):
    air = _shaped(n, generator, rate, lambda f: 1 / (1 + (f / 400) ** 1.1))
    blades = uniform(60, 140, generator)
    seconds = torch.arange(n) / rate
    tone = sum(torch.sin(2 * math.pi * blades * h * seconds) / h for h in (1, 2, 3))
    return _unit(air) * (1 + 0.1 * tone) + 0.25 * tone


def _rain(n, generator, rate):
    hiss = _shaped(n, generator, rate, lambda f: 1 / (1 + (1500 / f) ** 2))
    drops = torch.zeros(n)
    n_drops = max(1, round(n / rate * uniform(40, 150, generator)))
    where = torch.randint(0, n, (n_drops,), generator=generator)
    drops[where] = torch.rand(n_drops, generator=generator).square()
    seconds = torch.arange(max(8, rate // 200)) / rate
    ring = torch.sin(2 * math.pi * 2500 * seconds) * torch.exp(-900 * seconds)
    drops = convolve(drops, ring)
    return _unit(hiss) + 3.0 * _unit(drops)


def _wind(n, generator, rate):
    air = _shaped(n, generator, rate, lambda f: 1 / (1 + (f / 120) ** 1.6))
    return air * (0.15 + _wander(n, generator, rate, per_second=2.0).square())


def _clicks(n, generator, rate):
    strokes = torch.zeros(n)
    n_strokes = max(1, round(n / rate * uniform(5, 10, generator)))
    where = torch.randint(0, n, (n_strokes,), generator=generator)
    strokes[where] = 0.4 + 0.6 * torch.rand(n_strokes, generator=generator)
    seconds = torch.arange(max(16, rate // 50)) / rate
    burst = torch.randn(len(seconds), generator=generator) * torch.exp(-250 * seconds)
    return convolve(strokes, burst) + 0.003 * torch.randn(n, generator=generator)


def _babble(n, generator, rate, *, n_talkers=4):
    """Talkers who say syllables of random vowels, each at a pitch of their own."""
    size = rate // 4 // 2 * 2  # a quarter of a second, overlapping by half
    n_syllables = 2 * n // size + 2
    shape = (n_talkers, n_syllables, 1)
    seconds = torch.arange(size) / rate
    pitch = 90 + 140 * torch.rand(n_talkers, 1, 1, generator=generator)
    pitch = pitch * (0.85 + 0.3 * torch.rand(shape, generator=generator))
    glide = 1 - 0.4 * torch.rand(shape, generator=generator) * seconds
    buzz = 2 * ((pitch * glide * seconds) % 1) - 1
    hertz = torch.fft.rfftfreq(size, 1 / rate)
    first = 300 + 500 * torch.rand(shape, generator=generator)
    second = 900 + 1300 * torch.rand(shape, generator=generator)
    vowel = 1 / (1 + ((hertz - first) / 120) ** 2)
    vowel = vowel + 0.5 / (1 + ((hertz - second) / 180) ** 2)
    said = torch.fft.irfft(torch.fft.rfft(buzz) * vowel, size)
    loud = torch.rand(shape, generator=generator).square()
    frames = (said * loud * torch.hann_window(size)).sum(dim=0)  # (syllables, size)
    even = frames[0::2].reshape(-1)
    odd = torch.nn.functional.pad(frames[1::2].reshape(-1), (size // 2, 0))
    length = min(len(even), len(odd))
    mixed = even[:length] + odd[:length]
    return mixed[-n:]


def _music(n, generator, rate):
    """Plucked chords, two a second."""
    size = rate // 2
    n_chords = n // size + 1
    scale = torch.tensor([0.0, 3, 5, 7, 10, 12, 15])
    notes = torch.randint(0, 7, (n_chords, 3, 1), generator=generator)
    hertz = uniform(150, 260, generator) * 2 ** (scale[notes] / 12)
    seconds = torch.arange(size) / rate
    tones = sum(
        torch.sin(2 * math.pi * hertz * h * seconds) / h**1.5 for h in (1, 2, 3)
    )
    return (tones.sum(dim=1) * torch.exp(-5 * seconds)).reshape(-1)


NOISES: dict[str, Callable] = {
    "white": _white,
    "pink": _pink,
    "hum": _hum,
    "traffic": _traffic,
    "babble": _babble,
    "fan": _fan,
    "rain": _rain,
    "wind": _wind,
    "clicks": _clicks,
    "music": _music,
}
NOISE_WORDS = {
    "white": "hiss",
    "pink": "rushing air",
    "hum": "electric hum",
    "traffic": "traffic noise",
    "babble": "background chatter",
    "fan": "fan noise",
    "rain": "rain",
    "wind": "wind",
    "clicks": "typing",
    "music": "background music",
}
