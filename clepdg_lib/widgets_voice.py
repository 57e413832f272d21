"""Your own voice: upload a recording, see what a recogniser makes of it.

The recording stays in memory and is gone with the kernel: nothing is written to disk
and nothing leaves the machine. A wrong file gets a sentence, not a traceback.

Lesson: notebooks/06_scale_up.ipynb
Shapes: samples of one wave, dim the embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor

from clepdg_lib.audio import (
    SAMPLE_RATE,
    SILENCE_DB,
    AudioError,
    level,
    read_recording,
    rms_db,
    trim,
)
from clepdg_lib.markup import bars_html, image_html, player
from clepdg_lib.pauses import without_pauses
from clepdg_lib.planes import Plane, draw_moves, moves_svg

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

    from clepdg_lib.clap import Clap
    from clepdg_lib.transfer import TextClassifier

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
MAX_SECONDS = 60.0
MAX_MEGABYTES = 20.0


@dataclass(frozen=True)
class VoiceResult:
    """What became of a recording.

    Attributes:
        wave: ``(samples,)`` at 16 kHz, trimmed and levelled; None if the file could
            not be used.
        steps: Seconds and level after each step: read, trim, level.
        probabilities: Emotions (rows) by classifier (columns); None without a wave.
        figure: Spectrogram; None without a wave.
        map: The voice among the clips of a corpus; None without a plane.
        problem: What is wrong with the file, in a sentence; "" if nothing is.
        html: All of it, to be shown.
    """

    wave: Tensor | None = field(repr=False)
    steps: pd.DataFrame | None
    probabilities: pd.DataFrame | None
    figure: Figure | None = field(repr=False)
    map: Figure | None = field(repr=False)
    problem: str
    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def read_upload(content: bytes, *, name: str = "the file") -> Tensor:
    """Read a recording from memory as a mono wave at 16 kHz.

    Args:
        content: Of a WAV, FLAC, Ogg or MP3 file.
        name: What an error calls it.

    Raises:
        AudioError: Empty, too large, cut short, not audio, silent, or without samples.
            The message says what to do.
    """
    if len(content) > MAX_MEGABYTES * 1e6:
        raise AudioError(
            f"{name} has {len(content) / 1e6:.0f} MB, {MAX_MEGABYTES:g} MB at most; "
            "cut out some seconds, or save it as FLAC, Ogg or MP3."
        )
    wave = read_recording(content, name=name)[: round(MAX_SECONDS * SAMPLE_RATE)]
    if rms_db(wave) < SILENCE_DB:
        raise AudioError(f"{name} is silent; was the microphone switched on?")
    return wave


def render_voice(
    content: bytes,
    *,
    clap: Clap,
    classifiers: TextClassifier | Mapping[str, TextClassifier],
    plane: Plane | None = None,
    name: str = "your recording",
) -> VoiceResult:
    """Read, trim, level and embed a recording, and ask classifiers about it.

    Args:
        content: Of the file. One that cannot be used is answered with a sentence.
        clap: Embeds the voice.
        classifiers: One, or name to classifier (with contexts and without, say).
        plane: Where to draw the embedding among clips of a corpus; None draws none.
        name: Of the file.
    """
    from clepdg_lib.plots import spectrogram

    many = isinstance(classifiers, Mapping)
    named = dict(classifiers) if many else {"probability": classifiers}
    try:
        raw = read_upload(content, name=name)
        cut = trim(raw)
        wave = level(cut)
        embedded = clap.embed_audio([wave])  # (1, dim)
    except AudioError as error:
        html = f'<p role="alert"><b>Not usable:</b> {escape(str(error))}</p>'
        return VoiceResult(None, None, None, None, None, str(error), html)
    waves = {"read": raw, "trim": cut, "level": wave}
    steps = pd.DataFrame(
        {
            step: {"seconds": len(w) / SAMPLE_RATE, "level (dB)": rms_db(w)}
            for step, w in waves.items()
        }
    ).T
    probabilities = pd.DataFrame(
        {title: c.predict_proba(embedded)[0].numpy() for title, c in named.items()},
        index=list(next(iter(named.values())).emotions),
    )
    figure = spectrogram(wave, title="Your recording, trimmed and levelled")
    longer = len(raw) >= (MAX_SECONDS - 0.01) * SAMPLE_RATE
    told = f", of which the first {MAX_SECONDS:g} s were used" if longer else ""
    n_windows = len(clap.log_mel.windows(wave))
    html = (
        f"<p><b>{escape(name)}</b>: {steps.loc['read', 'seconds']:.1f} s{told}. "
        f"Trimmed to {steps.loc['trim', 'seconds']:.1f} s, levelled from "
        f"{steps.loc['trim', 'level (dB)']:.0f} dB to "
        f"{steps.loc['level', 'level (dB)']:.0f} dB, heard in {n_windows} "
        f"window{'s' * (n_windows > 1)} of {clap.log_mel.max_seconds:g} s.</p>"
        + bars_html(probabilities)
        + image_html(figure, alt="Spectrogram of your recording, trimmed and levelled.")
    )
    where = None
    if plane is not None:
        near = plane.flatten(embedded)[0]
        title = f"Your voice on a map that holds {plane.width:.0%} of the variance"
        where = draw_moves(
            plane,
            {"you": embedded},
            title=title,
        )
        html += f"<p>{title} (the black dot)</p>" + moves_svg(
            plane,
            embedded,
            alt="PCA of a corpus by emotion, and a dot where your recording lies: "
            f"at {near[0]:.2f}, {near[1]:.2f}.",
        )
    return VoiceResult(wave, steps, probabilities, figure, where, "", html)


@without_pauses
def try_your_voice(
    clap: Clap,
    classifiers: TextClassifier | Mapping[str, TextClassifier],
    *,
    plane: Plane | None = None,
) -> ipywidgets.VBox:
    """Build an upload: choose a recording, hear it, see what was made of it.

    Args:
        clap: See :func:`render_voice`.
        classifiers: See :func:`render_voice`.
        plane: See :func:`render_voice`.

    Returns:
        A box of: upload (``FileUpload``), player (``VBox``), result (``HTML``).
    """
    import ipywidgets

    upload = ipywidgets.FileUpload(
        accept=",".join(SUFFIXES),
        multiple=False,
        description="Choose a recording",
        layout=ipywidgets.Layout(width="16em"),
    )
    heard, result = ipywidgets.VBox(), ipywidgets.HTML()
    result.value = (
        f"<p>WAV, FLAC, Ogg or MP3, some seconds of speech, at most {MAX_SECONDS:g} s. "
        "It stays in the memory of this kernel.</p>"
    )

    def update(change: dict) -> None:
        if not change["new"]:
            return
        file = change["new"][0]
        found = render_voice(
            bytes(file["content"]),
            clap=clap,
            classifiers=classifiers,
            plane=plane,
            name=file["name"],
        )
        heard.children = [] if found.wave is None else [player(found.wave)]
        result.value = found.html

    upload.observe(update, "value")
    return ipywidgets.VBox([upload, heard, result])
