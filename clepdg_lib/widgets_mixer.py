"""Put a voice in a place, and watch what a model makes of it.

`render_environment` gives the picture of one setting without a browser; the mixer is a
thin shell around it.

Lesson: notebooks/04_transfer_across_modalities.ipynb
Shapes: samples of one wave, dim the embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from clepdg_lib.audio import LEVEL_DB, SAMPLE_RATE, level
from clepdg_lib.environments import ENVIRONMENTS, NOISES, Environment, describe, place
from clepdg_lib.markup import bars_html, image_html, player
from clepdg_lib.pauses import without_pauses
from clepdg_lib.planes import Plane, draw_moves, moves_svg

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

    from clepdg_lib.clap import Clap
    from clepdg_lib.transfer import TextClassifier


@dataclass(frozen=True)
class EnvironmentResult:
    """A voice in a place, and what a classifier makes of it.

    Attributes:
        wave: ``(samples,)``, levelled.
        figure: Spectrogram before and after.
        map: How the voice's embedding moved; None without a plane.
        cosine: Between the embeddings before and after; None without ``clap``.
        probabilities: By emotion, for the original and for the placed voice
            (columns ``original`` and ``placed``); None without a classifier.
        html: Pictures with alternative texts, and the probabilities as bars.
    """

    wave: Tensor = field(repr=False)
    figure: Figure = field(repr=False)
    map: Figure | None = field(repr=False)
    cosine: float | None
    probabilities: pd.DataFrame | None
    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def mix_place(
    *,
    rt60_seconds: float = 0.0,
    noise: str = "none",
    snr_db: float = 40.0,
    telephone: bool = False,
) -> Environment:
    """Make a place of the four dials of the mixer.

    Args:
        rt60_seconds: Time in which echoes fall by 60 dB; 0 is no room.
        noise: "none" or one of `NOISES`.
        snr_db: Voice over noise.
        telephone: Whether it is heard over the telephone's narrow band.

    Example:
        >>> mix_place(rt60_seconds=2.0, noise="rain", snr_db=5.0).caption
        'far away in a large room, with loud rain'
    """
    room = "none"
    if rt60_seconds > 0:
        room = next(
            (
                name
                for name, top in (("small", 0.4), ("medium", 0.9))
                if rt60_seconds <= top
            ),
            "large",
        )
    line = ENVIRONMENTS["telephone"]
    band = {"low_hz": line.low_hz, "high_hz": line.high_hz, "channel": "telephone"}
    made = Environment(
        name="your mix",
        caption="",
        room=room,
        rt60_seconds=rt60_seconds,
        direct_to_reverb_db=8.0 - 7.0 * rt60_seconds,  # in a larger room, further away
        noise=noise,
        snr_db=snr_db,
        **(band if telephone else {}),
    )
    return replace(made, caption=describe(made))


def render_environment(
    wave: Tensor,
    environment: str | Environment,
    *,
    severity: float = 1.0,
    clap: Clap | None = None,
    classifier: TextClassifier | None = None,
    plane: Plane | None = None,
    sample_rate: int = SAMPLE_RATE,
    seed: int = 0,
) -> EnvironmentResult:
    """Put a voice in a place and ask a classifier before and after.

    Args:
        wave: ``(samples,)``.
        environment: A name in ``ENVIRONMENTS``, or an ``Environment``.
        severity: 0 (untouched) to 3 (hardest).
        clap: Embeds the voice; needed with a classifier or a plane.
        classifier: Judges the embeddings; None shows no probabilities.
        plane: Where to draw the move of the embedding; None draws none.
        sample_rate: In hertz.
        seed: Of the echoes and the noise: same seed, same place.

    Raises:
        ValueError: An unknown environment, a severity out of range, or a classifier
            or a plane without ``clap``.
    """
    if clap is None and (classifier is not None or plane is not None):
        raise ValueError("a classifier or a plane needs embeddings; give clap as well")
    from clepdg_lib.plots import spectrogram

    dry = level(wave, rms_db=LEVEL_DB)
    placed = place(
        dry,
        environment,
        generator=torch.Generator().manual_seed(seed),
        severity=severity,
        sample_rate=sample_rate,
    )
    if isinstance(environment, str):
        name = what = environment
    else:
        name, what = environment.name, environment.caption
    figure = spectrogram(
        {"original": dry, name: placed},
        title=f"The same voice, {what}, severity {severity:g}",
        sample_rate=sample_rate,
    )
    alt = (
        f"Two spectrograms of one voice: the original, and {what} at severity "
        f"{severity:g}."
    )
    html = image_html(figure, alt=alt)
    moved = cosine = probabilities = None
    if clap is not None:
        embedded = clap.embed_audio([dry, placed], sample_rate=sample_rate)  # (2, dim)
        cosine = float(embedded[0] @ embedded[1])
    if plane is not None:
        moved = draw_moves(
            plane,
            {what: embedded},
            title=f"Its embedding moved: cosine of before and after {cosine:.2f}",
        )
        html += (
            "<p>How its embedding moved, on the two widest directions of the corpus "
            f"(ring: original, dot: {what}). In all dimensions, the cosine of the two "
            f"is <b>{cosine:.2f}</b>.</p>"
        ) + moves_svg(
            plane,
            embedded,
            alt=f"PCA of the corpus by emotion; a line leads from the original voice "
            f"to the same voice {what}. Their cosine is {cosine:.2f}.",
        )
    if classifier is not None:
        probabilities = pd.DataFrame(
            classifier.predict_proba(embedded).T.numpy(),
            index=list(classifier.emotions),
            columns=["original", "placed"],
        )
        html += bars_html(probabilities)
    return EnvironmentResult(placed, figure, moved, cosine, probabilities, html)


@without_pauses
def mix_environments(
    waves: Tensor | Mapping[str, Tensor],
    *,
    clap: Clap | None = None,
    classifier: TextClassifier | None = None,
    plane: Plane | None = None,
    sample_rate: int = SAMPLE_RATE,
) -> ipywidgets.VBox:
    """Build a mixer: choose a voice, dial a room, a noise, a telephone; listen.

    Args:
        waves: One voice, or name to voice.
        clap: See :func:`render_environment`.
        classifier: See :func:`render_environment`.
        plane: See :func:`render_environment`.
        sample_rate: In hertz.

    Returns:
        A box of: voice and ready-made place (``Dropdown``), the dials: echo
        (``FloatSlider``), noise (``Dropdown``), SNR (``FloatSlider``), telephone
        (``Checkbox``); player (``VBox``), pictures and probabilities (``HTML``).
    """
    import ipywidgets

    named = dict(waves) if isinstance(waves, Mapping) else {"voice": waves}
    voice = ipywidgets.Dropdown(options=list(named), description="voice")
    ready = ipywidgets.Dropdown(
        options=["my own mix", *ENVIRONMENTS], value="studio", description="place"
    )
    wide = ipywidgets.Layout(width="26em")
    dials = {
        "rt60_seconds": ipywidgets.FloatSlider(
            min=0, max=3, step=0.1, description="echo (s)", layout=wide
        ),
        "noise": ipywidgets.Dropdown(options=["none", *NOISES], description="noise"),
        "snr_db": ipywidgets.FloatSlider(
            min=-5, max=45, step=1, description="SNR (dB)", layout=wide
        ),
        "telephone": ipywidgets.Checkbox(description="over the telephone"),
    }
    for name in ("rt60_seconds", "snr_db"):
        dials[name].continuous_update = False
    heard, picture = ipywidgets.VBox(), ipywidgets.HTML()
    turning = []  # dials that a ready-made place turns are not the student's

    def update(_change: object = None) -> None:
        own = ready.value == "my own mix"
        mix = mix_place(**{n: d.value for n, d in dials.items()}) if own else None
        result = render_environment(
            named[voice.value],
            mix or ready.value,
            clap=clap,
            classifier=classifier,
            plane=plane,
            sample_rate=sample_rate,
        )
        heard.children = [player(result.wave, sample_rate=sample_rate)]
        picture.value = result.html

    def choose(_change: object = None) -> None:
        chosen = ENVIRONMENTS.get(ready.value)
        if chosen is not None:
            turning.append(True)
            for name in ("rt60_seconds", "noise", "snr_db"):
                dials[name].value = getattr(chosen, name)
            dials["telephone"].value = chosen.channel == "telephone"
            turning.clear()
        update()

    def turn(_change: object) -> None:
        if turning:
            return
        if ready.value == "my own mix":
            update()
        else:
            ready.value = "my own mix"  # which updates

    voice.observe(update, "value")
    ready.observe(choose, "value")
    for dial in dials.values():
        dial.observe(turn, "value")
    choose()
    return ipywidgets.VBox([voice, ready, *dials.values(), heard, picture])
