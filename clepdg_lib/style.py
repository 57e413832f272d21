"""One look for all figures: colours with markers, fonts, and a blank page.

Lesson: every notebook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Labels = Sequence[str] | np.ndarray | pd.Series


class EmotionStyle(NamedTuple):
    """How an emotion is drawn: never by colour alone."""

    colour: str
    marker: str


# Okabe and Ito's eight colours, which people with any colour vision tell apart.
PALETTE = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
    "yellow": "#F0E442",
}
GREY = "#767676"

EMOTION_STYLE: dict[str, EmotionStyle] = {
    "angry": EmotionStyle(PALETTE["vermilion"], "^"),
    "happy": EmotionStyle(PALETTE["green"], "o"),
    "neutral": EmotionStyle(GREY, "s"),
    "sad": EmotionStyle(PALETTE["blue"], "v"),
    "fearful": EmotionStyle(PALETTE["purple"], "D"),
    "disgusted": EmotionStyle(PALETTE["orange"], "P"),
    "surprised": EmotionStyle(PALETTE["yellow"], "X"),
    "calm": EmotionStyle(PALETTE["sky"], "h"),
    "bored": EmotionStyle(PALETTE["black"], "d"),
}
_MARKERS = "osv^DPXhd<>p*"


def set_style() -> None:
    """Set fonts, grid and resolution for every figure that follows.

    This is the one function here that changes global state, on purpose. In a
    notebook it also lets a figure that ends a cell be seen, without pyplot.
    """
    import matplotlib as mpl
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": 100,
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.titlelocation": "left",
            "figure.titlesize": 13,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "grid.color": "#dddddd",
            "legend.frameon": False,
            "image.cmap": "viridis",
        }
    )
    shell = get_ipython()
    if shell is not None and shell.display_formatter is not None:
        select_figure_formats(shell, {"png"})


def emotion_style(emotion: str) -> EmotionStyle:
    """Return the style of any emotion; an unlisted one gets a steady one of its own."""
    if emotion in EMOTION_STYLE:
        return EMOTION_STYLE[emotion]
    number = sum(map(ord, emotion))  # hash() differs from run to run
    colours = list(PALETTE.values())
    return EmotionStyle(
        colours[number % len(colours)], _MARKERS[number % len(_MARKERS)]
    )


def new_figure(
    title: str, *, width: float, height: float, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure outside pyplot and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def draw(style: EmotionStyle) -> dict[str, str]:
    """Return the keywords that matplotlib draws a style with."""
    return {"color": style.colour, "marker": style.marker}


def cycle_styles(names: Labels) -> dict[str, EmotionStyle]:
    """Give each different name (corpus, domain, method) a colour and a marker."""
    unique = list(dict.fromkeys(names))
    if not isinstance(names, pd.Index):  # a table's order means something, data's not
        unique = sorted(unique)
    colours = [*list(PALETTE.values())[:7], GREY]
    return {
        name: EmotionStyle(colours[i % len(colours)], _MARKERS[i % len(_MARKERS)])
        for i, name in enumerate(unique)
    }


def marker_legend(axis: Axes, styles: Mapping[str, EmotionStyle]) -> None:
    """Add a legend whose markers are large, however small the points are."""
    for name, style in styles.items():
        axis.scatter([], [], s=40, lw=0, label=name, **draw(style))
    axis.legend(fontsize=9, handletextpad=0.2, borderaxespad=0.2)


def heat(
    axis: Axes,
    table: pd.DataFrame,
    *,
    label: str,
    limits: tuple[float | None, float | None] = (None, None),
    text: pd.DataFrame | None = None,
    cmap: str = "Blues",
    decimals: int = 1,
    annotate: bool = True,
) -> None:
    """Draw a table as squares of colour with its numbers, ``text``'s if given."""
    import seaborn as sns

    sns.heatmap(
        table,
        ax=axis,
        annot=(table if text is None else text) if annotate else False,
        fmt="d" if text is not None else f".{decimals}f",
        vmin=limits[0],
        vmax=limits[1],
        cmap=cmap,
        linewidths=0.5,
        cbar_kws={"label": label},
        square=True,
    )
    axis.tick_params(axis="y", rotation=0)
    axis.tick_params(
        axis="x", rotation=30 if max(map(len, map(str, table.columns))) > 7 else 0
    )
