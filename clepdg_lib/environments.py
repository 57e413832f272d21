"""Put a voice in a room, a crowd, a telephone.

An environment is the physical thing that shifts a domain: a room's reverberation,
the noise in it, the channel the sound came through. (An acoustic *context*, in
`acpt`, is the learned thing.) Everything is synthesised from a seed; there are no
recordings here. It is quick enough to give every training clip a new place.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torchaudio.functional as F

from clepdg_lib.audio import SAMPLE_RATE, SILENCE_DB, check_wave, level, rms_db
from clepdg_lib.noises import (
    NOISE_WORDS,
    NOISES,
    check_choice,
    noise,
    pick,
    uniform,
)
from clepdg_lib.rooms import colour, convolve, room_response

__all__ = [
    "CHANNELS",
    "ENVIRONMENTS",
    "NOISES",
    "ROOMS",
    "Environment",
    "describe",
    "noise",
    "place",
    "random_environment",
    "room_response",
    "vary",
]

CHANNELS = ("full", "telephone", "radio")
ROOMS = ("none", "small", "medium", "large")
# RT60 in seconds: furnished rooms, classrooms and offices, halls and churches
# (ranges as in ISO 3382-2 surveys and the ACE challenge's rooms).
ROOM_RT60 = {"small": (0.15, 0.4), "medium": (0.4, 0.9), "large": (1.0, 2.4)}


@dataclass(frozen=True)
class Environment:
    """A place, in numbers and in words.

    Attributes:
        name: Key in `ENVIRONMENTS`, or "random".
        caption: The place in words, to follow a clause: "a man speaks {caption}".
        room: One of `ROOMS`.
        rt60_seconds: Time in which reverberation falls by 60 dB; 0 is no room.
        direct_to_reverb_db: Direct sound over reverberation; low means far away.
        noise: One of `NOISES`, or "none".
        snr_db: Voice (with its reverberation) over noise.
        low_hz: Lower edge of the pass band; 0 is none.
        high_hz: Upper edge of the pass band; 8000 is none.
        tilt_db: Colour of microphone and distance, decibels per octave around
            1 kHz; below 0 is dull, above 0 is thin.
        channel: "full", "telephone" (8-bit mu-law) or "radio" (overdriven).
    """

    name: str
    caption: str
    room: str = "none"
    rt60_seconds: float = 0.0
    direct_to_reverb_db: float = 20.0
    noise: str = "none"
    snr_db: float = 40.0
    low_hz: float = 0.0
    high_hz: float = 8000.0
    tilt_db: float = 0.0
    channel: str = "full"

    def __post_init__(self) -> None:
        check_choice("room", self.room, ROOMS)
        check_choice("noise", self.noise, ("none", *NOISES))
        check_choice("channel", self.channel, CHANNELS)


def place(
    wave: torch.Tensor,
    environment: str | Environment,
    *,
    generator: torch.Generator,
    severity: float = 1.0,
    sample_rate: int = SAMPLE_RATE,
) -> torch.Tensor:
    """Let a clip be heard in an environment.

    First the room, then the noise, then the channel, then the usual level.

    Args:
        wave: (n,) floats.
        environment: A name in `ENVIRONMENTS`, or an `Environment`.
        generator: Draws the room's echoes and the noise.
        severity: From 0 (the clip untouched) through 1 (the environment as
            described) to 3. It multiplies the amplitude of reverberation and noise,
            and its square root the octaves that the channel takes away.
        sample_rate: In hertz.

    Returns:
        (n,) float32, levelled to -26 dB; a silent clip comes back as it is.

    Raises:
        ValueError: Unknown environment, or severity outside 0 to 3.
    """
    environment = _find(environment)
    wave = check_wave(wave)
    if not 0 <= severity <= 3:
        raise ValueError(f"severity is {severity}; it must lie between 0 and 3.")
    if severity == 0 or rms_db(wave) < SILENCE_DB:
        return wave.clone()  # no ratio to a voice that is not there
    harder_db = 20 * math.log10(severity)
    heard = wave
    if environment.rt60_seconds > 0:
        response = room_response(
            environment.rt60_seconds,
            environment.direct_to_reverb_db - harder_db,
            generator=generator,
            sample_rate=sample_rate,
        )
        heard = convolve(heard, response)
    if environment.noise != "none":
        sound = noise(
            environment.noise, len(wave), generator=generator, sample_rate=sample_rate
        )
        snr = torch.tensor([environment.snr_db - harder_db])
        heard = F.add_noise(heard[None], sound[None], snr)[0]
    nyquist = sample_rate / 2
    low = environment.low_hz * math.sqrt(severity)
    high = nyquist * min(1.0, environment.high_hz / nyquist) ** math.sqrt(severity)
    tilt = environment.tilt_db * severity
    if low > 0 or high < nyquist or tilt != 0:
        heard = colour(
            heard, low_hz=low, high_hz=high, tilt_db=tilt, sample_rate=sample_rate
        )
    heard = level(heard)
    if environment.channel == "telephone":
        # 8-bit mu-law, as in ITU-T G.711
        heard = F.mu_law_decoding(F.mu_law_encoding(heard.clamp(-1, 1), 256), 256)
    elif environment.channel == "radio":
        heard = torch.tanh(6 * severity * heard)
    return level(heard)


def random_environment(
    generator: torch.Generator, *, name: str = "random"
) -> Environment:
    """Draw a place: room, distance, noise, level of noise, channel.

    Three in ten have no room, three in ten no noise, seven in ten the full band.
    `caption` says in words what was drawn, and nothing of the numbers.

    Returns:
        An `Environment`.

    Example:
        >>> generator = torch.Generator().manual_seed(5)
        >>> place(torch.ones(16_000), random_environment(generator),
        ...       generator=generator).shape
        torch.Size([16000])
    """
    room = pick(("none",) * 3 + ("small", "medium", "large") * 2, generator)
    kinds = tuple(NOISES)
    kind = "none" if uniform(0, 1, generator) < 0.3 else pick(kinds, generator)
    channel = pick(("full",) * 7 + ("telephone",) * 2 + ("radio",), generator)
    low, high = 0.0, 8000.0
    if channel == "telephone":
        low, high = uniform(200, 400, generator), uniform(2800, 3800, generator)
    elif channel == "radio":
        low, high = uniform(100, 300, generator), uniform(3800, 5500, generator)
    rt60 = uniform(*ROOM_RT60[room], generator) if room != "none" else 0.0
    drawn = Environment(
        name=name,
        caption="",
        room=room,
        rt60_seconds=rt60,
        direct_to_reverb_db=uniform(-6, 10, generator),
        noise=kind,
        snr_db=uniform(0, 25, generator),
        low_hz=low,
        high_hz=high,
        tilt_db=uniform(-2, 2, generator),
        channel=channel,
    )
    return replace(drawn, caption=describe(drawn))


def vary(environment: str | Environment, *, generator: torch.Generator) -> Environment:
    """The same kind of place on another day: its numbers moved by a little."""
    place_ = _find(environment)
    high = place_.high_hz * uniform(0.9, 1.1, generator)
    return replace(
        place_,
        rt60_seconds=place_.rt60_seconds * uniform(0.75, 1.3, generator),
        direct_to_reverb_db=place_.direct_to_reverb_db + uniform(-3, 3, generator),
        snr_db=place_.snr_db + uniform(-4, 4, generator),
        low_hz=place_.low_hz * uniform(0.85, 1.15, generator),
        high_hz=high if place_.high_hz < 8000 else place_.high_hz,
        tilt_db=place_.tilt_db + uniform(-0.5, 0.5, generator),
    )


def describe(environment: Environment) -> str:
    """Room, noise and channel in words: "in a large room, with rain"."""
    parts = []
    if environment.room != "none":
        far = " far away" if environment.direct_to_reverb_db < -2 else ""
        parts.append(f"{far} in a {environment.room} room".strip())
    if environment.noise != "none":
        loud = "loud " if environment.snr_db < 8 else ""
        parts.append(f"with {loud}{NOISE_WORDS[environment.noise]}")
    if environment.channel != "full":
        words = {"telephone": "over the telephone", "radio": "over the radio"}
        parts.append(words[environment.channel])
    return ", ".join(parts) or "close to the microphone, in silence"


def _find(environment: str | Environment) -> Environment:
    if isinstance(environment, Environment):
        return environment
    check_choice("environment", environment, tuple(ENVIRONMENTS))
    return ENVIRONMENTS[environment]


ENVIRONMENTS: dict[str, Environment] = {
    place_.name: place_
    for place_ in (
        Environment("studio", "in a quiet studio", noise="pink", snr_db=45.0),
        Environment(
            "telephone",
            "over the telephone",
            room="small",
            rt60_seconds=0.2,
            direct_to_reverb_db=10.0,
            noise="white",
            snr_db=18.0,
            low_hz=300.0,
            high_hz=3400.0,
            tilt_db=2.5,
            channel="telephone",
        ),
        Environment(  # a voice assistant at the other end of the sofa
            "living room",
            "in a living room",
            room="small",
            rt60_seconds=0.5,
            direct_to_reverb_db=-3.0,
            noise="fan",
            snr_db=10.0,
            high_hz=6500.0,
            tilt_db=-2.5,
        ),
        Environment(  # a hand-held recorder with its low cut on
            "street",
            "in a busy street",
            noise="traffic",
            snr_db=2.0,
            low_hz=150.0,
            tilt_db=2.0,
        ),
        Environment(  # a seat in the back row
            "hall",
            "in a large hall",
            room="large",
            rt60_seconds=2.2,
            direct_to_reverb_db=-8.0,
            noise="pink",
            snr_db=16.0,
            low_hz=100.0,
            high_hz=5000.0,
            tilt_db=-3.5,
        ),
    )
}
