"""Charts of scores, histories and distances, each with its message for a title.

Lesson: notebooks/02_finetune_clep.ipynb, notebooks/05_generalise_across_domains.ipynb
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from clepdg_lib.style import GREY, PALETTE, cycle_styles, draw, heat, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curve(
    history: pd.DataFrame,
    *,
    title: str,
    x: str = "epoch",
    columns: Sequence[str] | None = None,
) -> Figure:
    """Draw a training history, one panel per quantity, since their units differ.

    Args:
        history: One row per epoch or step.
        title: The message of the figure.
        x: Column of the horizontal axis.
        columns: Which to draw; None draws every other numeric column.
    """
    if columns is None:
        columns = [c for c in history.select_dtypes("number") if c != x]
    n = len(columns)
    figure, axes = new_figure(title, columns=n, width=max(5.6, 3.8 * n), height=3.2)
    colours = list(PALETTE.values())
    for i, (axis, column) in enumerate(zip(axes, columns, strict=True)):
        known = history[[x, column]].dropna()  # validated every few epochs, perhaps
        axis.plot(known[x], known[column], color=colours[i % 6], marker=".")
        axis.set(xlabel=x, ylabel=column.replace("_", " "))
        axis.grid(True)
    return figure


def confusion_map(counts: pd.DataFrame, *, title: str) -> Figure:
    """Draw a table of ``evaluation.confusion``, coloured by row: recall.

    Each cell shows its count; the colour is its share of the true class.
    """
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    figure, (axis,) = new_figure(title, width=5.4, height=4.4)
    heat(axis, shares, label="share of the true emotion", limits=(0, 1), text=counts)
    axis.set(xlabel="predicted", ylabel="true")
    return figure


def distance_map(
    distances: pd.DataFrame, *, title: str, label: str = "proxy A-distance"
) -> Figure:
    """Draw a square table of distances between domains; a missing cell stays empty."""
    figure, (axis,) = new_figure(title, width=6.2, height=4.8)
    heat(axis, distances, label=label, decimals=2, limits=(0, None))
    axis.set(xlabel="", ylabel="")
    return figure


def score_bars(
    scores: pd.DataFrame,
    *,
    title: str,
    chance: float | None = None,
    label: str = "UAR",
) -> Figure:
    """Draw one bar per row, longest on top as given, with its interval.

    Args:
        scores: Index: what is compared. Columns: ``value`` and, for whiskers,
            ``low`` and ``high``.
        title: The message of the figure.
        chance: Level of a dashed line.
        label: Name and unit of the score.
    """
    figure, (axis,) = new_figure(title, width=6.8, height=1.4 + 0.42 * len(scores))
    y = np.arange(len(scores))[::-1]
    values = scores["value"].to_numpy(float)
    axis.barh(y, values, color=PALETTE["sky"], height=0.65)
    ends = values
    if {"low", "high"} <= set(scores.columns):
        below, above = values - scores["low"], scores["high"] - values
        whiskers = np.abs(np.stack([below, above]))
        axis.errorbar(values, y, xerr=whiskers, fmt="none", color="black", capsize=3)
        ends = np.maximum(values, scores["high"].to_numpy(float))
    for value, end, row in zip(values, ends, y, strict=True):
        axis.annotate(
            f"{value:.2f}",
            (end, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    axis.set_yticks(y, scores.index)
    axis.set_xlabel(label)
    axis.margins(x=0.12)
    _chance_line(axis, chance)
    return figure


def score_dots(
    scores: pd.DataFrame,
    *,
    title: str,
    chance: float | None = None,
    label: str = "UAR",
    mean: bool = True,
) -> Figure:
    """Draw a table of methods (rows) by test corpora (columns) as a dot plot.

    One row per method, one marker per corpus, and if `mean`, a black tick there.
    """
    figure, (axis,) = new_figure(title, width=7.4, height=1.6 + 0.42 * len(scores))
    y = np.arange(len(scores))[::-1]
    axis.hlines(y, scores.min(axis=1), scores.max(axis=1), color="#cccccc", zorder=1)
    for corpus, style in cycle_styles(scores.columns).items():
        axis.scatter(scores[corpus], y, s=55, label=corpus, **draw(style))
    if mean:
        means = scores.mean(axis=1)
        axis.scatter(means, y, marker="|", s=260, lw=2.5, color="black", label="mean")
    axis.set_yticks(y, scores.index)
    axis.set_ylim(-0.5, len(scores) - 0.5)  # no row on the frame
    axis.set_xlabel(label)
    axis.grid(True, axis="x")
    _chance_line(axis, chance)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def score_lines(
    scores: pd.DataFrame,
    *,
    title: str,
    chance: float | None = None,
    x_label: str = "severity",
    label: str = "UAR",
    low: pd.DataFrame | None = None,
    high: pd.DataFrame | None = None,
) -> Figure:
    """Draw one line per column over a numeric index, such as severity.

    ``low`` and ``high``, of the same shape, add a shaded interval to each line.
    """
    figure, (axis,) = new_figure(title, width=7.4, height=4.2)
    for name, style in cycle_styles(scores.columns).items():
        axis.plot(scores.index, scores[name], label=name, **draw(style))
        if low is not None and high is not None:
            axis.fill_between(
                scores.index, low[name], high[name], color=style.colour, alpha=0.15
            )
    axis.set(xlabel=x_label, ylabel=label)
    axis.grid(True)
    if chance is not None:
        axis.axhline(chance, color=GREY, ls="--", lw=1.2, label="chance")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _chance_line(axis: Axes, chance: float | None) -> None:
    if chance is None:
        return
    axis.axvline(chance, color=GREY, ls="--", lw=1.2)
    axis.annotate(
        "chance",
        (chance, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, 2),
        textcoords="offset points",
        fontsize=9,
        color=GREY,
    )
