"""Sound to tensor: read a file, picture it as a model sees it.

Reading gives mono float32 waves, or one clear error. `LogMel` computes what
`transformers.ClapFeatureExtractor` computes, in one batch and a third of the time.

Lesson: notebooks/00_welcome.ipynb
Shapes: n samples or clips, F frames, M mel bands.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

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


@dataclass(frozen=True)
class LogMel:
    """The log-mel picture that a CLAP audio tower looks at.

    Equal to `transformers.ClapFeatureExtractor` with `truncation="rand_trunc"`
    (Slaney mel scale and area norm, power spectrum, 10 log10 with a floor of 1e-10),
    except that nothing is cropped at random: `windows` covers long clips instead.

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
            ValueError: The extractor is of the fusion kind, whose four-channel
                pictures another architecture expects.
        """
        if extractor.truncation == "fusion":
            raise ValueError(
                "this feature extractor has truncation='fusion'; LogMel gives the "
                "one-channel pictures of truncation='rand_trunc'. Use an unfused "
                "model such as 'laion/clap-htsat-unfused'."
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
        return torch.nn.functional.pad(wave, (0, self.n_samples - wave.numel()))

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
        # Double precision where there is any: in single precision the rounding of a
        # loud low tone would fill the empty bands above it.
        exact = batch.device.type != "mps"
        batch = batch.to(torch.float64 if exact else torch.float32)
        spectrum = torch.stft(
            batch,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            window=torch.hann_window(
                self.n_fft, dtype=batch.dtype, device=batch.device
            ),
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()  # (n, bins, F)
        filters = _mel_filters(
            self.n_fft, self.n_mels, self.f_min, self.f_max, self.sample_rate
        )
        mel = power.transpose(1, 2) @ filters.to(batch)  # (n, F, M)
        return (10 * mel.clamp_min(1e-10).log10()).float().unsqueeze(1)


@functools.lru_cache(maxsize=8)
def _mel_filters(
    n_fft: int, n_mels: int, f_min: float, f_max: float, sample_rate: int
) -> torch.Tensor:
    """Slaney filters, (bins, M) float64, from transformers' own function."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=n_fft // 2 + 1,
        num_mel_filters=n_mels,
        min_frequency=f_min,
        max_frequency=f_max,
        sampling_rate=sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters)
