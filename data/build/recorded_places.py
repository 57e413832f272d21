"""Five places made of recorded impulse responses, recorded noises and real codecs.

No training uses any of these: training knows only the simulation of
`clepdg_lib.audio.places`. Severity 1 is what one meets; 2 and 3 are harder.

Shapes: n samples.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional as F

from clepdg_lib.audio import SAMPLE_RATE, level, read_audio, resample

SEVERITIES = (1, 2, 3)
DIRECT = round(0.005 * SAMPLE_RATE)  # samples of direct sound in a response


@dataclass(frozen=True)
class RecordedPlace:
    """A place, by the recordings that make it.

    Attributes:
        name: Of the place.
        caption: The place in words, to follow "this person is speaking".
        response: Stem of an impulse response, or "".
        direct: Gain of the direct sound (the response's first 5 ms), per severity:
            the lower, the farther away.
        noise: ESC-10 class whose fold 5 is heard, or "".
        snr_db: Voice over noise, per severity.
        codec: "", "mu-law", "opus" or "mp3".
        low_pass_hz: What the codec's line lets through, per severity.
    """

    name: str
    caption: str
    response: str = ""
    direct: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: str = ""
    snr_db: tuple[float, float, float] = (15.0, 5.0, -2.0)
    codec: str = ""
    low_pass_hz: tuple[float, float, float] = (8000.0, 8000.0, 8000.0)


PLACES = {
    place.name: place
    for place in (
        RecordedPlace(
            "telephone",
            "over the telephone, with rain in the background",
            response="telephone_filter",
            noise="Rain",
            snr_db=(15.0, 5.0, -2.0),
            codec="mu-law",
            low_pass_hz=(3400.0, 3000.0, 2400.0),
        ),
        RecordedPlace(
            "chapel",
            "in a chapel with a long echo",
            response="openair_chapel",
            direct=(1.0, 0.5, 0.1),
        ),
        RecordedPlace(
            "kitchen",
            "in a kitchen, with a crackling fire in the background",
            response="kitchen",
            direct=(1.0, 0.7, 0.4),
            noise="Fire_crackling",
            snr_db=(8.0, 1.0, -6.0),
        ),
        RecordedPlace(
            "airfield",
            "outdoors, with a loud helicopter",
            noise="Helicopter",
            snr_db=(5.0, -3.0, -10.0),
        ),
        RecordedPlace(
            "video call",
            "far away in a lecture room, over a bad video call",
            response="lecture_room_s2r23",
            direct=(1.0, 0.7, 0.4),
            noise="Clock_tick",
            snr_db=(20.0, 12.0, 4.0),
            codec="opus",
            low_pass_hz=(8000.0, 5000.0, 3000.0),
        ),
    )
}


class RecordedPlaces:
    """Reads the recordings once and puts voices in places.

    Args:
        acoustics: Folder with `rir/*.flac` and `esc10/*/5-*`.
    """

    def __init__(self, acoustics: Path) -> None:
        self.responses, self.noises = {}, {}
        for place in PLACES.values():
            if place.response:
                file = acoustics / "rir" / f"{place.response}.flac"
                response = read_audio(file)
                response = response[int(response.abs().argmax()) :]  # no delay
                self.responses[place.name] = response / response.norm()
            if place.noise:
                files = sorted(acoustics.glob(f"esc10/*_{place.noise}/5-*"))
                self.noises[place.name] = [read_audio(file) for file in files]

    def place(
        self, wave: torch.Tensor, name: str, *, severity: int, seed: int
    ) -> torch.Tensor:
        """Put a prepared wave (n,) in a place: room, noise, codec -> (n,)."""
        place, step = PLACES[name], severity - 1
        draw = np.random.default_rng(seed)
        if place.response:
            response = self.responses[name].clone()
            response[:DIRECT] *= place.direct[step]
            wave = level(F.fftconvolve(wave, response)[: len(wave)])
        if place.noise:
            sound = self.noises[name][draw.integers(len(self.noises[name]))]
            start = int(draw.integers(len(sound)))
            sound = torch.roll(sound, -start).repeat(-(-len(wave) // len(sound)))
            ratio = torch.tensor([place.snr_db[step]])
            wave = F.add_noise(wave[None], sound[None, : len(wave)], ratio)[0]
        edge = place.low_pass_hz[step]
        if edge < SAMPLE_RATE / 2:
            down = max(2 * round(edge), 4000)
            wave = resample(
                resample(wave, from_rate=SAMPLE_RATE, to_rate=down),
                from_rate=down,
                to_rate=SAMPLE_RATE,
            )
        return level(encode_decode(level(wave), place.codec, severity=severity))


def encode_decode(wave: torch.Tensor, codec: str, *, severity: int) -> torch.Tensor:
    """Pass a wave (n,) through a codec at 8 kHz mu-law, or low-rate Opus or MP3."""
    if codec == "mu-law":
        narrow = resample(wave, from_rate=SAMPLE_RATE, to_rate=8000)
        coded = F.mu_law_encoding(narrow.clamp(-1, 1), 256)
        narrow = F.mu_law_decoding(coded, 256)
        wave = resample(narrow, from_rate=8000, to_rate=SAMPLE_RATE)
    elif codec in ("opus", "mp3"):
        kind = ("OGG", "OPUS") if codec == "opus" else ("MP3", "MPEG_LAYER_III")
        buffer = io.BytesIO()
        # 1 is the strongest compression that libsndfile offers.
        strength = {1: 0.8, 2: 0.95, 3: 1.0}[severity]
        soundfile.write(
            buffer,
            wave.clamp(-1, 1).numpy(),
            SAMPLE_RATE,
            format=kind[0],
            subtype=kind[1],
            compression_level=strength,
        )
        buffer.seek(0)
        decoded, rate = soundfile.read(buffer, dtype="float32")
        wave = resample(torch.from_numpy(decoded), from_rate=rate, to_rate=SAMPLE_RATE)
    return wave
