"""Sound to tensor: read a file, picture it as a model sees it.

Reading gives mono float32 waves, or one clear error. `LogMel` computes what
`transformers.ClapFeatureExtractor` computes, in about a tenth of the time.

Lesson: notebooks/00_welcome.ipynb
Shapes: n samples or clips, F frames, M mel bands.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from clepdg_lib.reading import read_audio, read_recording
from clepdg_lib.waves import (
    LEVEL_DB,
    SAMPLE_RATE,
    SILENCE_DB,
    AudioError,
    check_wave,
    level,
    resample,
    rms_db,
    trim,
)

__all__ = [
    "LEVEL_DB",
    "SAMPLE_RATE",
    "SILENCE_DB",
    "AudioError",
    "LogMel",
    "check_wave",
    "level",
    "read_audio",
    "read_recording",
    "resample",
    "rms_db",
    "trim",
]

MAX_WINDOWS = 20
# In single precision, the rounding of a loud low tone fills the bands above it that are
# this far below it, or farther. No voice has such bands; a pure tone has.
SINGLE_PRECISION_DB = 90.0


@dataclass(frozen=True)
class LogMel:
    """The log-mel picture that a CLAP audio tower looks at.

    Equal to `transformers.ClapFeatureExtractor` (power spectrum, mel bands, 10 log10
    with a floor of 1e-10), except that nothing is cropped at random: `windows` covers
    long clips instead. The fused checkpoints see the same pictures by another mel
    scale; of the four channels that they were trained with, the last three show parts
    of a clip longer than a window, and no window is.

    The defaults are `clap-mini`'s; `from_extractor` copies any other model's.

    Example:
        >>> LogMel()([torch.zeros(16_000)]).shape
        torch.Size([1, 1, 251, 64])
    """

    sample_rate: int = SAMPLE_RATE
    n_fft: int = 1024
    hop_length: int = 192
    n_mels: int = 64
    f_min: float = 50.0
    f_max: float = 8000.0
    max_seconds: float = 3.0
    padding: str = "repeatpad"
    mel_scale: str = "slaney"

    def __post_init__(self) -> None:
        if self.padding not in ("repeatpad", "repeat", "pad"):
            raise ValueError(
                f"padding is {self.padding!r}; it must be 'repeatpad', 'repeat' or "
                "'pad'."
            )

    @classmethod
    def from_extractor(cls, extractor: object) -> LogMel:
        """Copy the settings of a `ClapFeatureExtractor`.

        Raises:
            ValueError: A `truncation` that is neither of the two that CLAP knows.
        """
        scales = {"fusion": "htk", "rand_trunc": "slaney"}  # as in transformers
        if extractor.truncation not in scales:
            raise ValueError(
                f"this feature extractor has truncation={extractor.truncation!r}; "
                f"LogMel knows {list(scales)}."
            )
        return cls(
            sample_rate=extractor.sampling_rate,
            n_fft=extractor.fft_window_size,
            hop_length=extractor.hop_length,
            n_mels=extractor.feature_size,
            f_min=float(extractor.frequency_min),
            f_max=float(extractor.frequency_max),
            max_seconds=float(extractor.max_length_s),
            padding=extractor.padding,
            mel_scale=scales[extractor.truncation],
        )

    @property
    def n_samples(self) -> int:
        """Samples in one window."""
        return round(self.max_seconds * self.sample_rate)

    @property
    def n_frames(self) -> int:
        """Frames in one picture."""
        return self.n_samples // self.hop_length + 1

    def windows(self, wave: torch.Tensor) -> list[torch.Tensor]:
        """Cut a wave into pieces that fit the model.

        A wave that fits is one piece. A longer one becomes full windows, evenly
        spaced, first at the start and last at the end, as few as cover the whole;
        beyond 20 windows there are 20, with gaps between them. So of an hour, a model
        with windows of 3 s hears 3 s out of every 189 s, and always both ends.
        """
        surplus = wave.numel() - self.n_samples
        if surplus <= 0:
            return [wave]
        n_windows = min(MAX_WINDOWS, -(-wave.numel() // self.n_samples))
        starts = [round(i * surplus / (n_windows - 1)) for i in range(n_windows)]
        return [wave[start : start + self.n_samples] for start in starts]

    def pad(self, wave: torch.Tensor) -> torch.Tensor:
        """Fill a wave up to `n_samples` the way this model was trained with."""
        n = wave.numel()
        if n > self.n_samples:
            raise AudioError(
                f"clip has {n} samples; this model takes at most {self.n_samples} "
                f"({self.max_seconds:g} s). Cut it with LogMel.windows first."
            )
        if n == 0:
            raise AudioError("clip is empty (0 samples); it needs at least one.")
        if self.padding == "repeat":
            wave = wave.repeat(self.n_samples // n + 1)[: self.n_samples]
        elif self.padding == "repeatpad":  # whole repeats only, then silence
            wave = wave.repeat(self.n_samples // n)
        return F.pad(wave, (0, self.n_samples - wave.numel()))

    def __call__(self, waves: Sequence[torch.Tensor]) -> torch.Tensor:
        """Log-mel pictures of clips no longer than `max_seconds`.

        Args:
            waves: n tensors (samples,), or one tensor (n, samples), at `sample_rate`.

        Returns:
            (n, 1, F, M) float32 in decibels, from -100 up, on the waves' device.

        Raises:
            AudioError: No clips, or a clip is empty or longer than `max_seconds`.
        """
        if len(waves) == 0:
            raise AudioError("there are no clips; LogMel needs at least one.")
        batch = torch.stack([self.pad(wave) for wave in waves])  # (n, samples)
        half = self.n_fft // 2
        batch = F.pad(batch.unsqueeze(1), (half, half), mode="reflect").squeeze(1)
        # One by one on a processor: a spectrum should not leave its cache.
        at_once = 1 if batch.device.type == "cpu" else len(batch)
        return torch.cat([self._draw(part) for part in batch.split(at_once)])

    def _draw(self, batch: torch.Tensor) -> torch.Tensor:
        """(n, samples and half a frame at either end) -> (n, 1, F, M)."""
        found = self._measure(batch)
        if batch.device.type == "mps":  # which has no double precision
            return found
        spread = (found.amax(dim=-1) - found.amin(dim=-1)).max()
        if spread <= SINGLE_PRECISION_DB:
            return found
        return self._measure(batch.double())

    def _measure(self, batch: torch.Tensor) -> torch.Tensor:
        frames = batch.unfold(-1, self.n_fft, self.hop_length)  # (n, F, n_fft)
        spectrum = torch.fft.rfft(frames * _hann(self.n_fft).to(batch))
        filters, first, stop = self._filters()  # no band listens beyond these bins
        # Real and imaginary parts side by side: one pass over them, not two.
        parts = torch.view_as_real(spectrum[..., first:stop]).float().square()
        mel = (parts[..., 0] + parts[..., 1]) @ filters.to(parts)  # (n, F, M)
        return mel.clamp_min_(1e-10).log10_().mul_(10).unsqueeze(1)

    def _filters(self) -> tuple[torch.Tensor, int, int]:
        return _mel_filters(
            self.n_fft,
            self.n_mels,
            self.f_min,
            self.f_max,
            self.sample_rate,
            self.mel_scale,
        )


@functools.lru_cache(maxsize=8)
def _hann(n_fft: int) -> torch.Tensor:
    return torch.hann_window(n_fft, dtype=torch.float64)


@functools.lru_cache(maxsize=8)
def _mel_filters(
    n_fft: int, n_mels: int, f_min: float, f_max: float, sample_rate: int, scale: str
) -> tuple[torch.Tensor, int, int]:
    """Mel filters from transformers' own function, where they are not zero.

    Returns:
        (stop - first, M) float32, and the range of bins that they weigh.
    """
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=n_fft // 2 + 1,
        num_mel_filters=n_mels,
        min_frequency=f_min,
        max_frequency=f_max,
        sampling_rate=sample_rate,
        norm="slaney" if scale == "slaney" else None,
        mel_scale=scale,
    )
    weighed = filters.any(axis=1).nonzero()[0]
    first, stop = int(weighed[0]), int(weighed[-1]) + 1
    return torch.from_numpy(filters[first:stop]).float(), first, stop
