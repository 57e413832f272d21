"""Figures in one style: one width, large type, and the message for a title.

Functions return a matplotlib ``Figure`` outside pyplot, to be shown by `lesson.show`.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from sklearn.decomposition import PCA

    Labels = Sequence[str] | np.ndarray | pd.Series
    Styles = dict[str, dict[str, str]]

WIDTH = 8.0  # inches, of every figure
GREY, DARK, LIGHT = "#767676", "#322599", "#ADA6F5"
MARKERS = "^osvDPXhd<>p*"
# Kind -> name -> colour. A hue belongs to one kind: red, green, blue and grey to
# emotions, purple to environments, yellow to corpora, indigo to methods.
COLOURS = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))


def set_style() -> None:
    """Set fonts, grid and resolution of all later figures; global, on purpose."""
    import seaborn as sns
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    settings = {"figure.titlesize": 15, "axes.titlelocation": "left"}
    settings |= {"legend.frameon": False, "savefig.dpi": 150}
    sns.set_theme(style="whitegrid", font_scale=14 / 12, rc=settings)
    if shell := get_ipython():  # a figure that ends a cell is then shown
        select_figure_formats(shell, {"png"})


def styles(names: Iterable[str], *, kind: str | None = None) -> Styles:
    """Return matplotlib's ``color`` and ``marker`` for each name.

    A known name ("EMO-DB", "hall", "sad") looks the same in every figure; others take
    what is left of ``kind``, by default the one that knows a name, or "method".
    """
    keys = {name: re.sub("[^a-z0-9]", "", name.lower()) for name in map(str, names)}
    fitting = [k for k in COLOURS if {*COLOURS[k]} & {*keys.values()}]
    kind = kind or [*fitting, "method"][0]
    pairs = zip(cycle(COLOURS[kind].values()), MARKERS * 6, strict=False)
    looks = [{"color": colour, "marker": marker} for colour, marker in pairs]
    fixed = dict(zip(COLOURS[kind], looks, strict=False))
    used = [fixed[key] for key in keys.values() if key in fixed]
    spare = cycle(look for look in looks if look not in used)
    return {name: fixed.get(key) or next(spare) for name, key in keys.items()}


def new_figure(
    title: str, *, height: float = 4.5, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure outside pyplot and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    lines = [textwrap.fill(line, 70) for line in title.splitlines()]
    figure.suptitle("\n".join(lines), x=0.01, ha="left")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def add_legend(
    figure: Figure, looks: Styles, *, side: str = "center", columns: int = 5
) -> None:
    """Add a legend with large markers below a figure, never on its data."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], ls="", ms=9, label=n, **k) for n, k in looks.items()]
    place = {"loc": f"outside lower {side}", "ncols": min(columns, len(handles))}
    figure.legend(handles=handles, handletextpad=0.1, columnspacing=1.0, **place)


def draw_points(
    axis: Axes, points: np.ndarray, *, labels: Labels, looks: Styles, **keywords: Any
) -> None:
    """Draw ``(n, 2)`` points by label, in mixed order so that none hides another."""
    import seaborn as sns

    if len(labels) != len(points):
        raise ValueError(f"{len(labels)} labels for {len(points)} points; they differ")
    order = np.random.default_rng(0).permutation(len(points))
    x, y = points[order].T
    names, look = np.asarray(labels).astype(str)[order], pd.DataFrame(looks)
    how = {"palette": dict(look.loc["color"]), "markers": dict(look.loc["marker"])}
    how |= {"legend": False, "s": 26, "alpha": 0.8, "linewidth": 0} | keywords
    sns.scatterplot(x=x, y=y, hue=names, style=names, ax=axis, **how)


def pca_map(vectors: Any) -> PCA:
    """Fit the two directions of scikit-learn's PCA to ``(n, dim)``.

    What lies across them is unseen: print a number from the original space beside it.
    """
    from sklearn.decomposition import PCA

    x = _as_array(vectors)
    if x.ndim != 2 or len(x) < 3 or x.shape[1] < 2:
        raise ValueError(f"a map needs (n, dim), n at least 3; got shape {x.shape}")
    return PCA(2, svd_solver="full").fit(x)


def umap_map(embeddings: Any) -> Any:
    """Fit a UMAP (McInnes et al. 2018): neighbours stay near, far means little."""
    from umap import UMAP

    points = _as_array(embeddings)
    near = min(15, len(points) - 1)
    return UMAP(near, metric="cosine", random_state=0, n_jobs=1).fit(points)


def embedding_map(
    embeddings: Any,
    emotions: Labels,
    *,
    title: str,
    domains: Labels | None = None,
    outlined: tuple[Any, Labels] | None = None,
    moves: Mapping[str, Any] | None = None,
    plane: Any = None,
) -> Figure:
    """Draw clips ``(n, dim)`` by emotion ``(n,)`` and, if given, once more by domain.

    ``plane`` is what `pca_map` (default) or `umap_map` fitted; ``outlined`` are more
    points, drawn large, and their emotions; ``moves`` have arrows, or a star.
    """
    points = _as_array(embeddings)
    plane = plane or pca_map(points)
    points, names = plane.transform(points), ["UMAP 1", "UMAP 2"]
    for k, share in enumerate(getattr(plane, "explained_variance_ratio_", [])):
        names[k] = f"principal component {k + 1} ({share:.0%})"
    panels, sides = {"by emotion": emotions}, ["center"]
    if domains is not None:
        panels, sides = panels | {"by domain": domains}, ["left", "right"]
    figure, axes = new_figure(title, columns=len(panels), height=5.2)
    for axis, side, (name, labels) in zip(axes, sides, panels.items(), strict=True):
        looks = styles(sorted(set(map(str, labels))))
        draw_points(axis, points, labels=labels, looks=looks)
        add_legend(figure, looks, side=side, columns=6 // len(panels))
        axis.set(title=name, xlabel=names[0], ylabel=names[1])
        if outlined:
            large = {"edgecolor": "black", "linewidth": 1, "alpha": 1.0, "s": 130}
            places, kinds = plane.transform(_as_array(outlined[0])), outlined[1]
            draw_points(axis, places, labels=kinds, looks=styles(kinds), **large)
            axis.set(title=f"{name}; large, outlined: sentences")
        for name, vectors in (moves or {}).items():
            path = plane.transform(_as_array(vectors))
            arrow = {"arrowstyle": "-|>", "lw": 2, "color": "black"}
            axis.annotate("", path[-1], path[0], arrowprops=arrow)
            axis.scatter(*path[-1], s=190, marker="*", color="black", zorder=3)
            box = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1}
            place = {"xytext": (9, 7), "textcoords": "offset points", "bbox": box}
            axis.annotate(name, path[-1], **place)
    return figure


def spectrogram(
    waves: Mapping[str, Any], *, title: str, sample_rate: int = 16_000
) -> Figure:
    """Draw the spectrograms of waves ``(samples,)`` by name, side by side."""
    figure, axes = new_figure(title, height=3.8, columns=len(waves))
    how = {"NFFT": 512, "noverlap": 352, "Fs": sample_rate, "cmap": "magma"}
    images, floor = [], np.random.default_rng(0)
    for axis, (name, wave) in zip(axes, waves.items(), strict=True):
        wave = np.pad(_as_array(wave), (0, max(0, 1024 - len(wave))))
        wave = wave + 1e-6 * floor.standard_normal(len(wave))  # silence has a level
        images.append(axis.specgram(wave, **how)[3])
        axis.set(title=name, xlabel="time (s)", ylabel="frequency (Hz)")
        axis.label_outer()  # one scale for all
        axis.grid(False)
    peak = max(image.get_array().max() for image in images)
    for image in images:
        image.set_clim(peak - 80, peak)
    figure.colorbar(images[0], ax=axes, label="level (dB)")
    return figure


def heat_map(table: pd.DataFrame, *, title: str, label: str, **keywords: Any) -> Figure:
    """Draw a table as squares with numbers (``keywords``: `seaborn.heatmap`)."""
    import seaborn as sns

    figure, (axis,) = new_figure(title, height=2.4 + 0.55 * len(table))
    how = {"annot": True, "fmt": ".2f", "cmap": "Greys", "linewidths": 0.5} | keywords
    sns.heatmap(table, ax=axis, cbar_kws={"label": label}, **how)
    axis.tick_params(axis="y", rotation=0)
    long = max(len(str(column)) for column in table.columns) > 9
    axis.tick_params(axis="x", rotation=30 if long else 0)
    return figure


def score_bars(
    scores: pd.DataFrame, *, title: str, highlight: Sequence[str] = (), **look: Any
) -> Figure:
    """Draw ``value`` of each row, best on top, with whiskers from ``low`` to ``high``.

    ``highlight`` are dark rows; ``look``: ``label`` ("UAR") and the ``chance``.
    """
    figure, axis, scores = _score_rows(scores, title=title, **look)
    colours = [DARK if name in highlight else LIGHT for name in scores.index]
    axis.barh(range(len(scores)), scores["value"], color=colours)
    offset = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
    for row, score in enumerate(scores.itertuples()):
        axis.annotate(f"{score.value:.2f}", (score.high, row), **offset)
    axis.margins(x=0.12)
    return figure


def score_dots(
    scores: pd.DataFrame, *, title: str, highlight: Sequence[str] = (), **look: Any
) -> Figure:
    """Draw methods (rows) by test corpora (columns), the best mean on top.

    A black tick is a row's mean; ``highlight`` are shaded rows; ``look``: `score_bars`.
    """
    means = pd.DataFrame({"value": scores.mean(axis=1)})
    figure, axis, means = _score_rows(means, title=title, **look)
    scores = scores.loc[means.index].rename(columns=str)
    rows, columns = np.indices(scores.shape).reshape(2, -1)
    points = np.column_stack([scores.to_numpy().ravel(), rows])
    labels, looks = scores.columns.to_numpy()[columns], styles(scores.columns)
    draw_points(axis, points, labels=labels, looks=looks, s=90, alpha=1, zorder=3)
    tick = {"color": "black", "marker": "|"}
    axis.scatter(means["value"], range(len(means)), **tick, s=320, lw=3, zorder=4)
    for row in np.flatnonzero(scores.index.isin(highlight)):
        axis.axhspan(row - 0.45, row + 0.45, color="#E8E6FA", zorder=0)
    add_legend(figure, {**looks, "mean": tick}, columns=6)
    return figure


def _score_rows(
    scores: pd.DataFrame, *, title: str, chance: float | None = None, label: str = "UAR"
) -> tuple[Figure, Axes, pd.DataFrame]:
    """Sort and name rows, draw whiskers and chance; return the rows with their ends."""
    scores = scores.sort_values("value", ascending=False)
    scores = scores.reindex(columns=["value", "low", "high"]).ffill(axis=1)
    figure, (axis,) = new_figure(title, height=2.0 + 0.45 * len(scores))
    rows = range(len(scores))
    axis.hlines(rows, scores["low"], scores["high"], color="black", lw=2, zorder=3)
    axis.set_yticks(rows, scores.index)
    axis.set(xlabel=label, ylabel="", ylim=(len(rows) - 0.5, -0.5))
    if chance is not None:
        axis.axvline(chance, color=GREY, ls="--", zorder=2)
        axis.set(xlabel=f"{label} (dashed: chance)")
    return figure, axis, scores


def _as_array(vectors: Any) -> np.ndarray:
    if hasattr(vectors, "detach"):  # a tensor: any device, any float, with gradients
        vectors = vectors.detach().double().cpu()
    return np.asarray(vectors, dtype=np.float64)
