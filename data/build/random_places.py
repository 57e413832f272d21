"""Random places to train in, and captions drawn from the words of the library."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import torch

from clepdg_lib.audio import NOISES, Environment, describe_environment
from clepdg_lib.audio.places import BAND_HZ, CPU, ROOM_RT60
from clepdg_lib.captions import ENVIRONMENT_FORMS, ENVIRONMENT_WORDS, PROPERTIES


def describe(levels: Mapping[str, str], *, generator: random.Random) -> str:
    """Join levels of `PROPERTIES` into a caption; wording and order are drawn."""
    parts = [generator.choice(_captions(*item)) for item in levels.items()]
    generator.shuffle(parts)
    return ", ".join(parts)


def environment_caption(
    *, generator: random.Random, severity: float = 1.0, **levels: str
) -> str:
    """Describe a room, noise and channel (`levels`) in a phrase behind `BARE`.

    By severity it is "with faint rain", above 0.75 "with rain", above 1.5 loud.
    """
    step = "low" if severity <= 0.75 else "medium" if severity <= 1.5 else "high"
    parts = []
    for aspect, level in levels.items():
        if _captions(aspect, level) and level in ENVIRONMENT_WORDS[aspect]:
            word = generator.choice(ENVIRONMENT_WORDS[aspect][level])
            parts.append(generator.choice(ENVIRONMENT_FORMS[aspect][step]).format(word))
    generator.shuffle(parts)
    return ", ".join(parts) or generator.choice(("in a quiet studio", "in silence"))


def _captions(aspect: str, level: str) -> list[str]:
    if level not in PROPERTIES.get(aspect, {}):
        valid = {name: list(options) for name, options in PROPERTIES.items()}
        raise ValueError(f"no caption for {aspect}={level!r}; known are {valid}")
    return PROPERTIES[aspect][level]


def random_environment(generator: torch.Generator) -> Environment:
    """Draw a place: 30% without a room, 30% without noise, 70% with the full band."""

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, **CPU))

    def pick(options: tuple) -> str:
        return options[
            int(torch.randint(len(options), (), generator=generator, device="cpu"))
        ]

    room = pick(("none",) * 3 + ("small", "medium", "large") * 2)
    quiet = draw(0, 1) < 0.3
    kind = "none" if quiet else pick(tuple(NOISES))
    channel = pick(("full",) * 7 + ("telephone",) * 2 + ("radio",))
    low, high = [draw(*ends) for ends in BAND_HZ.get(channel, ())] or (0.0, 8000.0)
    rt60 = draw(*ROOM_RT60[room]) if room != "none" else 0.0
    far, snr, tilt = draw(-6, 10), draw(0, 25), draw(-2, 2)
    drawn = Environment("", "", room, rt60, far, kind, snr, low, high, tilt, channel)
    return replace(drawn, name="random", caption=describe_environment(drawn))
