"""What rooms and channels do to a wave: echo it, narrow it, colour it.

All of it is linear filtering through the FFT, at lengths that the FFT likes, so that
a clip costs milliseconds.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n samples.
"""

from __future__ import annotations

import math

import torch
import torchaudio.functional as F

from clepdg_lib.audio import SAMPLE_RATE


def room_response(
    rt60_seconds: float,
    direct_to_reverb_db: float,
    *,
    generator: torch.Generator,
    sample_rate: int = SAMPLE_RATE,
) -> torch.Tensor:
    """Impulse response of an invented room.

    A direct sound of 1 at sample 0, a dozen early reflections, then noise that
    decays exponentially (Moorer 1979), above about 2 kHz twice as fast, as air and
    curtains make it.

    Returns:
        (n,) float32 with n about rt60_seconds * sample_rate.
    """
    if rt60_seconds <= 0:
        raise ValueError(f"rt60_seconds is {rt60_seconds}; it must be above 0.")
    n = max(64, round(rt60_seconds * sample_rate))
    seconds = torch.arange(n) / sample_rate
    decay = torch.exp(-math.log(1000) / rt60_seconds * seconds)
    rough = torch.randn(n, generator=generator)
    smooth = torch.nn.functional.avg_pool1d(
        rough[None], kernel_size=5, stride=1, padding=2
    )[0]
    tail = smooth * decay + (rough - smooth) * decay.square()
    # The bigger the room, the later its first echo; reflections grow dense with time.
    first = 1 + round(min(0.015, 0.004 + 0.006 * rt60_seconds) * sample_rate)
    tail[: min(first, n // 2)] = 0
    span = min(n - 1, first + round(0.05 * sample_rate))
    where = torch.randint(min(first, span - 1), span, (12,), generator=generator)
    sign = torch.randint(0, 2, (12,), generator=generator) * 2.0 - 1
    tail[where] += 3.0 * sign * decay[where]
    tail[0] = 0
    energy = tail.square().sum().clamp_min(1e-12)
    tail *= (10 ** (-direct_to_reverb_db / 10) / energy).sqrt()
    tail[0] = 1.0
    return tail


def convolve(wave: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """First n samples of the convolution, at a length that the FFT likes."""
    n = len(wave)
    response = response[:n]
    spare = fast_length(n + len(response)) - n + 1 - len(response)
    response = torch.nn.functional.pad(response, (0, spare))
    return F.fftconvolve(wave[None], response[None])[0, :n]


def fast_length(n: int) -> int:
    """Next length that is a small number times a power of two."""
    return min(m << max(0, math.ceil(math.log2(n / m))) for m in (8, 9, 10, 12, 15))


def colour(
    wave: torch.Tensor,
    *,
    low_hz: float,
    high_hz: float,
    tilt_db: float,
    sample_rate: int,
) -> torch.Tensor:
    """Zero-phase band pass (eighth-order Butterworth slopes) and tilt."""
    n = fast_length(len(wave) + 1024)  # room for the filter's ringing
    hertz = torch.fft.rfftfreq(n, 1 / sample_rate)
    gain = torch.ones_like(hertz)
    if low_hz > 0:
        gain /= (1 + (low_hz / hertz.clamp_min(1e-3)) ** 16).sqrt()
    if high_hz < sample_rate / 2:
        gain /= (1 + (hertz / high_hz) ** 16).sqrt()
    if tilt_db != 0:
        gain *= 10 ** (tilt_db / 20 * (hertz.clamp_min(50) / 1000).log2())
    return torch.fft.irfft(torch.fft.rfft(wave, n) * gain, n)[: len(wave)]
