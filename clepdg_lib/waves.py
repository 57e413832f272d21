"""A wave and what may be done to it: check, resample, level, trim.

Everything downstream sees mono float32 waves at 16 kHz and one loudness, so that a
"domain" is a room or a microphone and not a volume knob. `audio` reads such waves from
files and pictures them; it offers all names of this module too.

Lesson: notebooks/00_welcome.ipynb
Shapes: n samples.
"""

from __future__ import annotations

import math

import numpy as np
import torch

SAMPLE_RATE = 16_000
LEVEL_DB = -26.0  # ITU-T P.56 speech level; leaves headroom for speech's peaks
SILENCE_DB = -90.0  # below one step of a 16-bit recording: nothing to level
PIECE = 1 << 20  # samples that are squared at once


class AudioError(ValueError):
    """Something that should be audio is not usable as audio."""


def check_wave(wave: torch.Tensor | np.ndarray, *, name: str = "clip") -> torch.Tensor:
    """Return a wave as a (n,) float32 tensor, or say what is wrong with it.

    Args:
        wave: 1-D tensor, array or list; integers are refused because their full
            scale is unknown.
        name: What the error message calls it.

    Raises:
        AudioError: Not one-dimensional, empty, not floating point, NaN or infinite.
    """
    try:
        wave = torch.as_tensor(wave)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(
            f"{name} is a {type(wave).__name__}, not a wave; pass a 1-D tensor or "
            "array of floats, or read a file with read_audio."
        ) from error
    if wave.ndim != 1:
        raise AudioError(
            f"{name} has shape {tuple(wave.shape)}; a wave has one dimension. Average "
            "the channels, or pass one clip at a time."
        )
    if wave.numel() == 0:
        raise AudioError(f"{name} is empty (0 samples); it needs at least one.")
    if not wave.is_floating_point():
        raise AudioError(
            f"{name} has type {wave.dtype}; samples must be floats from -1 to 1. "
            "Divide 16-bit integers by 32768."
        )
    wave = wave.to(torch.float32)
    # A sum is finite only if all its terms are; counting them takes ten times as long.
    if torch.isfinite(wave.sum()):
        return wave
    n_bad = sum(int((~torch.isfinite(part)).sum()) for part in wave.split(PIECE))
    if n_bad:
        raise AudioError(
            f"{name} holds {n_bad} NaN or infinite samples of {wave.numel()}; all "
            "must be finite. Record, convert or download it again."
        )
    return wave


def resample(wave: torch.Tensor, *, from_rate: int, to_rate: int) -> torch.Tensor:
    """Change the sample rate with soxr's high-quality filter.

    torchaudio's resampler builds a huge filter for odd ratios such as TESS's
    24,414 Hz to 16 kHz; soxr does not.

    Returns:
        (n * to_rate / from_rate, rounded) float32.
    """
    if min(from_rate, to_rate) <= 0:
        raise AudioError(
            f"sample rates are {from_rate} and {to_rate} Hz; both must be above 0."
        )
    if from_rate == to_rate:
        return wave
    import soxr

    samples = soxr.resample(wave.cpu().numpy(), from_rate, to_rate, quality="HQ")
    if samples.size == 0:  # a file of a few samples, brought down
        raise AudioError(
            f"a wave of {wave.numel()} samples at {from_rate} Hz is too short to "
            f"resample to {to_rate} Hz; use a longer one."
        )
    return torch.from_numpy(samples).to(wave)


def rms_db(wave: torch.Tensor) -> float:
    """Root-mean-square level in decibels below full scale; silence is `-inf`.

    Example:
        >>> round(rms_db(torch.full((100,), 0.1)), 1)
        -20.0
    """
    # In pieces: an hour in double precision would not fit beside itself.
    total = sum(float(part.double().square().sum()) for part in wave.split(PIECE))
    power = total / wave.numel()
    return 10 * math.log10(power) if power > 0 else -math.inf


_rms_db = rms_db  # `level` has an argument of that name


def level(wave: torch.Tensor, *, rms_db: float = LEVEL_DB) -> torch.Tensor:
    """Bring a wave to one loudness; the gain stops where the peak would pass 1.

    A silent wave (below -90 dB) comes back as it is.
    """
    now = _rms_db(wave)
    if now < SILENCE_DB:
        return wave.clone()
    gain = 10 ** ((rms_db - now) / 20)
    return wave * min(gain, 1.0 / float(wave.abs().max()))


def trim(
    wave: torch.Tensor,
    *,
    sample_rate: int = SAMPLE_RATE,
    top_db: float = 35.0,
    margin_seconds: float = 0.05,
) -> torch.Tensor:
    """Cut the quiet before and after; a pause in the middle stays.

    Args:
        wave: (n,).
        sample_rate: In hertz.
        top_db: Frames of 20 ms more than this below the loudest count as quiet.
        margin_seconds: Kept on either side of what is not quiet.

    Returns:
        (m,) with 1 <= m <= n; a silent wave comes back whole.
    """
    frame = max(1, sample_rate // 50)
    n_frames = -(-wave.numel() // frame)
    padded = torch.nn.functional.pad(wave, (0, n_frames * frame - wave.numel()))
    frames = padded.view(n_frames, frame).split(max(1, PIECE // frame))
    power = torch.cat([part.double().square().mean(dim=1) for part in frames])
    if 10 * math.log10(float(power.max()) + 1e-30) < SILENCE_DB:
        return wave
    loud = torch.nonzero(power > power.max() * 10 ** (-top_db / 10)).flatten()
    margin = round(margin_seconds * sample_rate)
    start = max(0, int(loud[0]) * frame - margin)
    stop = min(wave.numel(), (int(loud[-1]) + 1) * frame + margin)
    return wave[start:stop]
