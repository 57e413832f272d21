"""Small pieces of HTML, and a player: what widgets are filled with.

Everything that came from outside (a prompt, a clip's name) is escaped. Tables have
header cells with a scope and pictures alternative text, for screen readers.

Lesson: notebooks/01_probe_clap.ipynb
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor

from clepdg_lib.audio import SAMPLE_RATE
from clepdg_lib.style import GREY, emotion_style

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure


def player(
    wave: Tensor, *, name: str = "", sample_rate: int = SAMPLE_RATE
) -> ipywidgets.Widget:
    """Return a player of ``(samples,)``, with ``name`` before it if given."""
    import ipywidgets
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, wave.numpy(), sample_rate, format="WAV", subtype="PCM_16")
    audio = ipywidgets.Audio(
        value=file.getvalue(), format="wav", autoplay=False, loop=False
    )
    return ipywidgets.HBox([ipywidgets.Label(name), audio]) if name else audio


def table_html(table: pd.DataFrame, *, caption: str) -> str:
    """Return ranked rows as a table, ``score`` with a bar, ``row`` left out."""
    columns = [c for c in table.columns if c != "row"]
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in ("no.", *columns))
    lines = []
    for rank, row in enumerate(table.to_dict("records"), start=1):
        cells = [
            f"{row[c]:.3f} {_bar(row[c], GREY)}"
            if c == "score"
            else escape(str(row[c]))
            for c in columns
        ]
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{rank}</th>{body}</tr>')
    return (
        f"<table><caption style='white-space:nowrap'>{escape(caption)}</caption>"
        f"<tr>{head}</tr>{''.join(lines)}</table>"
    )


def bars_html(
    probabilities: pd.DataFrame, *, caption: str = "Probability of each emotion"
) -> str:
    """Return emotions (rows) by situation (columns) as numbers with bars."""
    lines = []
    for emotion, row in probabilities.iterrows():
        colour = emotion_style(str(emotion)).colour
        cells = "".join(f"<td>{value:.2f} {_bar(value, colour)}</td>" for value in row)
        lines.append(f'<tr><th scope="row">{escape(str(emotion))}</th>{cells}</tr>')
    columns = ("emotion", *probabilities.columns)
    head = "".join(f'<th scope="col">{escape(str(c))}</th>' for c in columns)
    return (
        f"<table><caption style='white-space:nowrap'>{escape(caption)}</caption>"
        f"<tr>{head}</tr>{''.join(lines)}</table>"
    )


def image_html(figure: Figure, *, alt: str) -> str:
    """Return a figure as an ``img`` that carries its own data."""
    if engine := figure.get_layout_engine():
        # Saving would arrange the axes twice, which is most of what a picture costs.
        engine.execute(figure)
        figure.set_layout_engine("none")
    file = io.BytesIO()
    figure.savefig(file, format="png", pil_kwargs={"compress_level": 3})
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/png;base64,{data}">'


def _bar(value: float, colour: str) -> str:
    """Return a bar of 6 em for 1; what is below 0 has none."""
    return (
        "<span style='display:inline-block;height:0.8em;"
        f"width:{6 * max(value, 0.0):.2f}em;background:{colour}'></span>"
    )
