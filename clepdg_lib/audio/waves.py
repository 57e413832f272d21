"""Waves: read a sound file, check, resample, trim and level. Shapes: n samples."""

import io
import math
import numbers
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
import torch
from torch.nn.functional import pad

SAMPLE_RATE = 16_000
LEVEL_DB = -26.0  # ITU-T P.56 speech level; leaves headroom for speech's peaks
SILENCE_DB = -90.0  # below one step of a 16-bit recording
MIN_RATE, MAX_RATE = 1_000, 768_000  # hertz
MAX_SAMPLES = 60_000_000  # of one wave: an hour at 16 kHz, 240 MB
MAX_PEAK = 2.0**32  # even integers stored as floats are smaller
BLOCK = 1 << 20  # samples that are decoded or squared at once
CHUNKED = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF")
FORMATS = (*CHUNKED, "AU", "NIST", "FLAC", "OGG", "MP3", "MPEG")
# How files begin whose second one, joined by `cat`, a decoder would not read.
BEGIN = rb"(RIFF|RF64)....WAVE|riff\x2e\x91\xcf|FORM....AIF|\.snd\x00\x00|"
BEGIN += rb"caff\x00\x01|NIST_1A|fLaC[\x00\x80]\x00\x00\x22"


class AudioError(ValueError):
    """Something that should be audio is not usable as audio."""


def as_wave(wave: object, *, name: str = "clip") -> torch.Tensor:
    """Return floats of shape (n,), (n, 1) or (1, n) as (n,) float32 on the CPU."""
    try:
        if not isinstance(wave, torch.Tensor):
            array = np.asarray(wave)
            kind = np.float32 if array.dtype.kind == "f" else None
            with np.errstate(over="ignore"):  # too large for float32: infinite
                wave = torch.from_numpy(np.require(array, kind, ["C", "W"]))
        wave = wave.detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        problem = f"{name} is a {type(wave).__name__} that holds no wave"
        raise AudioError(f"{problem}; pass 1-D floats, or use read_audio.") from error
    wave = wave.reshape(-1) if wave.ndim == 2 and 1 in wave.shape else wave
    if wave.ndim != 1:
        problem = "average the channels, with .mean(1) or .mean(0), or pass one clip"
    elif wave.numel() == 0:
        problem = "it is empty, use a longer one"
    elif not wave.is_floating_point():
        problem = "samples are floats from -1 to 1, so divide 16-bit integers by 32768"
    elif not torch.stack(wave.float().aminmax()).abs().max() < MAX_PEAK:
        problem = "it holds NaN, infinite or absurd samples, record or convert it again"
    else:
        return wave.to(torch.float32)
    name = f"{name} (shape {tuple(wave.shape)}, type {wave.dtype})"
    raise AudioError(f"{name} is no wave: {problem}.")


def as_clips(clips: object) -> list:
    """Return a clip, a batch (n_clips, n_samples), or any iterable, as a list.

    Of paths and waves; an array as narrow as (n_samples, n_channels) is refused.
    """
    paths, waves = str | os.PathLike, torch.Tensor | np.ndarray | list | tuple
    clips = clips.to_numpy() if hasattr(clips, "to_numpy") else clips  # a Series
    if isinstance(clips, torch.Tensor | np.ndarray):
        text = isinstance(clips, np.ndarray) and clips.dtype.kind in "OUT"
        narrow = clips.ndim == 2 and clips.shape[1] < max(3, min(64, len(clips)))
        if not text and (clips.ndim < 2 or narrow):
            return [as_wave(clips)]
    single = isinstance(clips, paths | bytes | dict | set)
    clips = [clips] if single or not isinstance(clips, Iterable) else list(clips)
    if len(clips) > 1 and all(isinstance(clip, numbers.Real) for clip in clips):
        return [as_wave(clips)]
    for clip in clips:
        if not isinstance(clip, paths | waves):
            remedy = "pass a path, a 1-D wave or a list (bytes go to read_recording)"
            raise AudioError(f"a clip is {clip!r:.60}; {remedy}.")
    return [Path(clip) if isinstance(clip, paths) else clip for clip in clips]


def check_rate(sample_rate: object) -> int:
    """Return a sample rate as an int; it must lie between 1 and 768 kHz."""
    number = isinstance(sample_rate, numbers.Real)
    if not (number and MIN_RATE <= sample_rate <= MAX_RATE and sample_rate % 1 == 0):
        limits = f"a whole number from {MIN_RATE} to {MAX_RATE} hertz, such as 16000"
        raise AudioError(f"sample_rate is {sample_rate!r}; it must be {limits}.")
    return int(sample_rate)


def resample(wave: torch.Tensor, *, from_rate: int, to_rate: int) -> torch.Tensor:
    """Change the sample rate with soxr's high-quality filter."""
    rates = check_rate(from_rate), check_rate(to_rate)
    if rates[0] == rates[1]:
        return as_wave(wave)
    samples = soxr.resample(as_wave(wave).numpy(), *rates, quality="HQ")
    return as_wave(samples, name=f"a wave of {len(wave)} samples at {to_rate} Hz")


def rms_db(wave: torch.Tensor) -> float:
    """Root-mean-square level in decibels below full scale; silence is `-inf`."""
    # In blocks: an hour in double precision would not fit beside itself.
    total = sum(float(x.double().square().sum()) for x in wave.split(BLOCK))
    return 10 * math.log10(total / wave.numel()) if total > 0 else -math.inf


def is_silent(wave: torch.Tensor) -> bool:
    """Say whether a wave holds but a constant and thumps (the rest is below -90 dB)."""
    frames = pad(wave - wave.mean(), (0, -len(wave) % 320)).view(-1, 320)
    frames = frames - frames.mean(dim=1, keepdim=True)  # about its own mean, each
    return _frame_powers(frames.flatten(), 320)[1] < 10 ** (SILENCE_DB / 10)


def level(wave: torch.Tensor) -> torch.Tensor:
    """Bring a wave to -26 dB, or as near as its peak allows; silence stays."""
    if (now := rms_db(wave)) < SILENCE_DB:
        return wave
    peak = float(torch.stack(wave.aminmax()).abs().max())  # without a copy
    return wave * min(10 ** ((LEVEL_DB - now) / 20), 1.0 / peak)


def _frame_powers(wave: torch.Tensor, n_frame: int) -> tuple[torch.Tensor, float]:
    """Power of each frame, and what the loudest fiftieth, at least five, all reach."""
    frames = pad(wave, (0, -len(wave) % n_frame)).view(-1, n_frame)
    power = torch.linalg.vector_norm(frames, dim=1).square() / n_frame
    rank = min(5 + len(power) // 50, (len(power) + 1) // 2)
    return power, float(power.topk(rank).values[-1])


def trim(wave: torch.Tensor, *, sample_rate: int = SAMPLE_RATE) -> torch.Tensor:
    """Cut the quiet before and after, to 50 ms; pauses stay, and so does silence.

    Frames of 20 ms are quiet if they lie 35 dB below the level that a fiftieth of the
    clip, and at least 0.1 s, reaches: a thump is shorter.
    """
    n_frame = check_rate(sample_rate) // 50
    power, reference = _frame_powers(wave, n_frame)
    if reference < 10 ** (SILENCE_DB / 10):
        return wave
    loud = torch.nonzero(power > reference * 10 ** (-35 / 10)).flatten() * n_frame
    margin = round(0.05 * sample_rate)
    return wave[max(0, int(loud[0]) - margin) : int(loud[-1]) + n_frame + margin]


def prepare(wave: torch.Tensor, *, sample_rate: int = SAMPLE_RATE) -> torch.Tensor:
    """Prepare a clip for a tower: no DC, ends trimmed, at -26 dB; silence is zeros."""
    wave = as_wave(wave)
    if is_silent(wave):
        return torch.zeros_like(wave)
    return level(trim(wave - wave.mean(), sample_rate=sample_rate))


def read_audio(path: str | Path, *, sample_rate: int = SAMPLE_RATE) -> torch.Tensor:
    """Read all of a sound file as a mono wave at its own loudness, or `AudioError`.

    The content counts, not the suffix: WAV, FLAC, Ogg, MP3, AIFF, AU, CAF or NIST.
    """
    sample_rate = check_rate(sample_rate)
    try:
        path = Path(path).expanduser()
        if path.exists() and not path.is_file():
            raise OSError("a folder, pipe or device; load_corpus reads folders")
        stream = path.open("rb", buffering=0)
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        cause = getattr(error, "strerror", None) or error
        raise AudioError(f"{path} cannot be opened ({cause}); check it.") from error
    stream.name = ""  # soundfile would believe a suffix ".raw"
    with stream:
        return _read(stream, str(path), sample_rate)


def read_recording(content: bytes, *, name: str, sample_rate: int) -> torch.Tensor:
    """Read a sound file that is in memory, such as an upload, as `read_audio` does."""
    return _read(io.BytesIO(content), name, check_rate(sample_rate))


def _read(stream: BinaryIO, name: str, sample_rate: int) -> torch.Tensor:
    """Bring a file to one channel and one rate, block by block: all of it, or none."""
    head, size = stream.read(1024), stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size == 0:
        raise AudioError(f"{name} is empty (0 bytes); copy or download it again.")
    made = np.empty(MAX_SAMPLES, np.float32)  # takes memory only as it is filled
    n_made, n_read, last = 0, 0, False
    # An open file where that works: errors in Python's own streams print tracebacks.
    shared = isinstance(stream, io.FileIO) and os.name == "posix"
    source = stream.fileno() if shared else stream
    try:
        with soundfile.SoundFile(source, closefd=False) as file:
            rate, kind, promised = file.samplerate, file.format, file.frames
            if kind not in FORMATS or not MIN_RATE <= rate <= MAX_RATE:
                raise soundfile.SoundFileRuntimeError(f"{kind}, sample rate {rate:,}")
            soxr_stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32")
            n_frames = max(1, BLOCK // file.channels)
            while not last:
                block = file.read(n_frames, dtype="float32", always_2d=True)
                n_read, last = n_read + len(block), len(block) == 0
                with np.errstate(over="ignore", invalid="ignore"):
                    block = block.mean(axis=1)
                if rate != sample_rate:
                    block = soxr_stream.resample_chunk(block, last=last)
                n_made += len(block)
                if max(n_made, n_read * file.channels / 16) > MAX_SAMPLES:
                    limit = f"{MAX_SAMPLES:,} samples at {sample_rate:,} Hz"
                    raise AudioError(f"{name} is longer than {limit}. Cut it.")
                made[n_made - len(block) : n_made] = block
            log, n_left = file.extra_info, size - stream.tell()
        joined = kind != "OGG" and _begins_again(stream)
    except (soundfile.SoundFileError, OSError) as error:
        cause = getattr(error, "error_string", str(error)).rstrip(".")
        problem = f"{name} cannot be read as audio ({cause}); it should be a whole WAV,"
        remedy = "FLAC, Ogg or MP3 file. Convert or download it again."
        raise AudioError(f"{problem} {remedy}") from error
    if kind == "NIST" and (count := re.search(rb"sample_count -i (\d+)", head)):
        promised = int(count[1])
    # Without a header of its own, the length of an MP3 is estimated.
    promised *= 0.98 if kind in ("MP3", "MPEG") else 1
    problem = "" if n_read else "holds no samples"
    if n_read < promised < 2**48:
        problem = f"promises {promised:,.0f} samples and holds {n_read:,}"
    for stated, actual in re.findall(r": +(\d+) \(should be (\d+)\)", log):
        # SoX and others write these sizes into a pipe, where the length is unknown.
        piped = 0x7FFFF000 <= int(stated) <= 0x80000100 or int(stated) >= 0xFFFFFFF0
        if int(stated) > int(actual) + 1 and not piped:  # padding is often forgotten
            problem = f"promises {int(stated):,} bytes and holds {int(actual):,}"
    if "lacks an end-of-stream" in log or "after the last page" in log:
        problem = "has no proper last Ogg page"
    elif joined:
        problem = "has the beginning of another file in it"
    # Two files joined by `cat`, or a header that counts only the beginning.
    elif n_left > 512 and (kind not in CHUNKED or "Exiting parser" in log):
        problem = f"has {n_left:,} bytes after what its header counts"
    if problem:
        problem += ": it is truncated, or several files in one"
        raise AudioError(f"{name} {problem}. Download or convert it again.")
    return as_wave(made[:n_made].copy(), name=name)


def _begins_again(stream: BinaryIO) -> bool:
    """Say whether a second sound file begins in a file: a decoder reads the first."""
    begins, last = re.compile(BEGIN, re.DOTALL), b""
    stream.seek(4)
    while block := stream.read(BLOCK):
        if begins.search(last + block):
            return True
        last = block[-16:]
    return False
