"""Read a sound file that anybody may have made, and that may be anything at all.

A file is read block by block into one mono wave, so that memory follows the wave that
comes out and not what a header claims. What cannot be read right is refused with one
kind of error that names file, cause and remedy.

The rule for long sound: `read_audio` never shortens. It reads up to 60 million samples
(an hour at 16 kHz) and refuses more; a model then looks at windows of the whole, as
`LogMel.windows` states.

Lesson: notebooks/00_welcome.ipynb
Shapes: n samples.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch

from clepdg_lib.containers import HEAD_BYTES, describe, kind_of, what_is_missing
from clepdg_lib.waves import SAMPLE_RATE, AudioError

if TYPE_CHECKING:
    from soundfile import SoundFile

MAX_SAMPLES = 60_000_000  # of the result: an hour at 16 kHz, 240 MB
MAX_VALUES = 1_000_000_000  # samples times channels that are decoded for it
MIN_RATE, MAX_RATE = 1_000, 768_000  # hertz; outside, a header lies
MAX_PEAK = 2.0**32  # even integers stored as floats are smaller
BLOCK_VALUES = 1 << 20
AGAIN = "copy or download it again"


def read_audio(path: str | Path, *, sample_rate: int = SAMPLE_RATE) -> torch.Tensor:
    """Read a sound file as a mono wave, at its own loudness.

    Args:
        path: WAV, FLAC, Ogg (Vorbis or Opus), MP3, AIFF, AU, CAF or NIST. Several
            channels are averaged. The content counts, not the suffix.
        sample_rate: Rate of the result in hertz; the file is resampled to it.

    Returns:
        (n,) float32, amplitudes as in the file, never cut short.

    Raises:
        AudioError: The file is missing, unreadable, empty, truncated, not audio, a
            folder, longer than 60 million samples at `sample_rate`, of a rate below
            1 kHz or above 768 kHz, or holds NaN or infinite samples. The message
            names the file, the cause and what to do.
    """
    try:
        path = Path(path)
        status = os.stat(path)
    except FileNotFoundError:
        raise AudioError(
            f"{path} does not exist; check the path and its suffix."
        ) from None
    except TypeError as error:
        raise AudioError(
            f"{path!r} is a {type(path).__name__}; pass a str or Path."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        raise _unopened(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(
            f"{path} is a folder, not a sound file; pass one of the files in it, or "
            "read the folder with load_corpus."
        )
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(
            f"{path} is a pipe, a socket or a device; save the sound in a file first."
        )
    if status.st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes); {AGAIN}.")
    _check_rate(path, sample_rate)
    try:
        stream = path.open("rb", buffering=0)  # libsndfile shares its place
    except OSError as error:
        raise _unopened(path, error) from error
    with stream:
        return _read(path, stream, status.st_size, sample_rate)


def read_recording(
    content: bytes, *, name: str = "recording", sample_rate: int = SAMPLE_RATE
) -> torch.Tensor:
    """Read a sound file that is in memory, such as an upload; nothing is written.

    Args:
        content: The whole file.
        name: What errors call it.
        sample_rate: As in `read_audio`.

    Returns:
        (n,) float32, as `read_audio` gives it.

    Raises:
        AudioError: As `read_audio` does.
    """
    _check_rate(name, sample_rate)
    if not content:
        raise AudioError(f"{name} is empty (0 bytes); record or upload it again.")
    return _read(name, io.BytesIO(content), len(content), sample_rate)


def _check_rate(name: str | Path, sample_rate: int) -> None:
    if not (isinstance(sample_rate, int) and MIN_RATE <= sample_rate <= MAX_RATE):
        raise AudioError(
            f"{name} cannot be brought to {sample_rate!r} Hz; sample_rate is a whole "
            f"number from {MIN_RATE} to {MAX_RATE}."
        )


def _read(
    path: str | Path, stream: BinaryIO, size: int, sample_rate: int
) -> torch.Tensor:
    import soundfile

    try:
        head = stream.read(HEAD_BYTES)
        cause = "" if kind_of(head) else describe(head)
        missing = "" if cause else what_is_missing(stream, size=size)
        if missing:
            raise AudioError(f"{path} is truncated: {missing}; {AGAIN}.")
        if not cause:
            stream.seek(0)
            # The open file, not its name: libsndfile would judge by the suffix, and
            # cannot take every name. (Windows cannot share open files between
            # libraries.)
            source = stream
            if isinstance(path, Path):
                source = str(path) if os.name == "nt" else stream.fileno()
            with soundfile.SoundFile(source, closefd=False) as file:
                return _decode(path, file, sample_rate)
    except soundfile.LibsndfileError as error:
        cause = error.error_string.rstrip(".")
    except soundfile.SoundFileRuntimeError as error:
        cause = str(error).rstrip(".")
    except OSError as error:
        raise _unopened(path, error) from error
    raise AudioError(
        f"{path} cannot be read as audio ({cause}); it should be a whole WAV, FLAC, "
        "Ogg or MP3 file. Convert or download it again."
    )


def _decode(path: str | Path, file: SoundFile, sample_rate: int) -> torch.Tensor:
    """Bring an open file to one channel and one rate, a block at a time."""
    import soxr

    rate, promised = file.samplerate, file.frames
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(
            f"{path} claims a sample rate of {rate:,} Hz; a voice has {MIN_RATE:,} to "
            f"{MAX_RATE:,}. Its header is wrong: convert it again."
        )
    resampler = None
    if rate != sample_rate:
        resampler = soxr.ResampleStream(
            rate, sample_rate, 1, dtype="float32", quality="HQ"
        )
    n_read = n_bad = n_made = 0
    peak = 0.0
    parts: list[np.ndarray] = []

    def keep(part: np.ndarray) -> None:
        nonlocal n_made
        n_made += len(part)
        if n_made > MAX_SAMPLES:
            raise _too_long(path, sample_rate)
        parts.append(part)

    for block in _mono_blocks(file):
        n_read += len(block)
        if n_read * file.channels > MAX_VALUES:
            raise _too_long(path, sample_rate)
        good = np.isfinite(block)
        n_bad += len(block) - int(np.count_nonzero(good))
        peak = max(peak, float(np.abs(block[good]).max(initial=0.0)))
        if not n_bad and peak < MAX_PEAK:  # else only counted, to say how many
            keep(resampler.resample_chunk(block) if resampler else block)
    if n_read == 0:
        raise AudioError(f"{path} holds no samples; record or download it again.")
    if n_bad:
        raise AudioError(
            f"{path} holds {n_bad} NaN or infinite samples of {n_read}; all must be "
            "finite. Record, convert or download it again."
        )
    if peak >= MAX_PEAK:
        raise AudioError(
            f"{path} reaches {peak:.3g}; samples lie from -1 to 1, or at least below "
            f"{MAX_PEAK:.3g}. Convert or download it again."
        )
    # An MP3's header only estimates the length; some FLAC headers do not know it.
    if file.format not in ("MP3", "MPEG") and n_read < promised < 2**48:
        raise AudioError(
            f"{path} is truncated: its header promises {promised} samples, it holds "
            f"{n_read}; {AGAIN}."
        )
    if resampler:
        keep(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    if n_made == 0:  # a file of a few samples, brought down
        raise AudioError(
            f"{path} has {n_read} samples at {rate} Hz, too few to resample to "
            f"{sample_rate} Hz; use a longer recording."
        )
    wave = np.empty(n_made, np.float32)
    while parts:  # freed one by one: never the whole wave twice
        part = parts.pop()
        wave[n_made - len(part) : n_made] = part
        n_made -= len(part)
    return torch.from_numpy(wave)


def _mono_blocks(file: SoundFile) -> Iterator[np.ndarray]:
    n_frames = max(1, BLOCK_VALUES // file.channels)
    while len(block := file.read(n_frames, dtype="float32", always_2d=True)):
        # Doubles too large for float32 come out infinite, and are counted as that.
        with np.errstate(over="ignore", invalid="ignore"):
            yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)


def _too_long(path: str | Path, sample_rate: int) -> AudioError:
    minutes = MAX_SAMPLES / sample_rate / 60
    return AudioError(
        f"{path} is longer than is read at once: {MAX_SAMPLES:,} samples, "
        f"{minutes:.0f} minutes at {sample_rate:,} Hz, or {MAX_VALUES:,} values over "
        "all its channels. Cut it into pieces, and read those."
    )


def _unopened(path: str | Path, error: Exception) -> AudioError:
    cause = getattr(error, "strerror", None) or str(error)
    return AudioError(
        f"{path} cannot be opened ({cause}); check its name, and that you may read it."
    )
