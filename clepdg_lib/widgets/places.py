"""Environment mixer: put a voice in a place, play both, see what a model predicts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from ipywidgets import FloatSlider, Text
from torch import Tensor

from clepdg_lib import audio
from clepdg_lib.audio import Environment
from clepdg_lib.clap import Clap
from clepdg_lib.widgets import parts

OWN = "own mix of echo, noise, SNR and channel"


def mix_place(*, echo: float, noise: str, snr_db: float, channel: str) -> Environment:
    """Make an environment of an RT60 in seconds, a noise, an SNR in dB, a channel."""
    room = audio.ROOMS[np.searchsorted([0.0, 0.4, 0.9], echo)]
    far = 8 - 7 * echo  # in a larger room, further away
    band = (0.0, 8000.0) if channel == "full" else (300.0, 3400.0)
    mixed = Environment(OWN, "", room, echo, far, noise, snr_db, *band, 0.0, channel)
    return replace(mixed, caption=audio.describe_environment(mixed))


def render_environment(
    wave: Tensor,
    environment: str | Environment | Mapping[str, Any],
    *,
    severity: float = 1.0,
    clap: Clap | Mapping[str, Clap],
    describe: Callable[[str], Clap] | None = None,
    sentence: str = "",
    **asked: Any,
) -> parts.View:
    """Put a voice (n,) in a place, as `audio.place` does; show it before and after.

    A place may be the keywords of `mix_place`. From a `sentence` about the place of
    use, `describe` makes a model, which stands beside the others. The other keywords
    are those of `parts.render_waves`, and so is the view: "original" and "placed".
    """
    if isinstance(environment, Mapping):
        environment = mix_place(**environment)
    rate = {"sample_rate": asked.get("sample_rate", audio.SAMPLE_RATE)}
    how = {"severity": severity, "generator": torch.Generator().manual_seed(0)}
    original = audio.prepare(wave, **rate)
    placed = audio.place(original, environment, **how, **rate)
    known = audio.ENVIRONMENTS.get(environment, environment)
    title = f"One voice, {known.caption}, severity {severity:g}"
    models = {**parts.by_name(clap, name="")}
    if describe and (sentence := sentence.strip()):
        models[f"described: {sentence}"] = describe(sentence)
    waves = {"original": original, "placed": placed}
    return parts.render_waves(waves, title=title, clap=models, **asked)


def mix_environments(waves: Tensor | Mapping[str, Tensor], **asked: Any) -> parts.Panel:
    """Build the mixer for a voice, or name to voice; `describe` adds a line of text."""
    named = parts.by_name(waves, name="voice")
    choices = {"voice": list(named), "place": [*audio.ENVIRONMENTS, OWN]}
    choices |= {"severity": (0.0, 3.0, 0.25), "echo": (0.0, 3.0, 0.1)}
    choices |= {"noise": ["none", *audio.NOISES], "channel": list(audio.CHANNELS)}
    choices["snr_db"] = FloatSlider(value=10, min=-5, max=45, description="SNR (dB)")
    if "describe" in asked:  # a sentence is learned from once
        asked["describe"] = cache(asked["describe"])
        where = "you will use it"
        choices["sentence"] = Text(placeholder="in a chapel", description=where)

    def render(
        voice: str, place: str, severity: float = 1.0, sentence: str = "", **mix: Any
    ) -> partial:
        how = {"severity": severity, **({"sentence": sentence} if sentence else {})}
        where = mix if place == OWN else place
        return partial(render_environment, named[voice], where, **how, **asked)

    return parts.shell(render, **choices)
