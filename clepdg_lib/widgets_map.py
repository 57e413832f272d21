"""Explore embeddings: colour them by emotion, corpus, speaker or sex, pick a point.

A map is a `PreparedMap` (coordinates and numbers, computed once for each method), drawn
by `render_embedding_map` as a figure for a page and as SVG for a browser, where every
point tells what it is under the pointer.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n clips, dim the embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch

from clepdg_lib.embedding import EmbeddedCorpus
from clepdg_lib.markup import player, table_html
from clepdg_lib.pauses import without_pauses
from clepdg_lib.plots import project
from clepdg_lib.scatter import scatter_svg
from clepdg_lib.style import (
    EmotionStyle,
    cycle_styles,
    draw,
    emotion_style,
    new_figure,
)

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

    from clepdg_lib.corpora import Corpus

Method = Literal["pca", "umap"]
METHODS = ("pca", "umap")
COLUMNS = ("emotion", "corpus", "speaker", "sex", "domain", "language")
MAX_NAMED = 12  # groups that a legend names


@dataclass(frozen=True)
class PreparedMap:
    """Clips with their place on a map.

    Attributes:
        clips: Their table, one row per point.
        points: ``(n, 2)``.
        neighbour: ``(n,)`` for each clip, the row of the one nearest to it in the
            original space.
        method: "pca" or "umap".
    """

    clips: pd.DataFrame
    points: np.ndarray
    neighbour: np.ndarray
    method: str


@dataclass(frozen=True)
class MapView:
    """A map coloured by one column, with a number that does not depend on the map.

    Attributes:
        agreement: Share of clips whose nearest neighbour in the original space has
            the same value.
        chance: The same share if neighbours were drawn blindly.
        picked: The row of the table that was picked, or None.
        figure: For a page.
        alt: The figure in words.
        html: For a browser.
    """

    agreement: float
    chance: float
    picked: pd.Series | None
    figure: Figure = field(repr=False)
    alt: str
    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def colour_columns(clips: pd.DataFrame) -> list[str]:
    """Columns that divide the clips into two groups or more."""
    return [c for c in COLUMNS if c in clips and clips[c].astype(str).nunique() > 1]


def thin_out(embedded: EmbeddedCorpus, *, n: int, seed: int = 0) -> EmbeddedCorpus:
    """Keep at most n clips, drawn at random, in their order."""
    if len(embedded) <= n:
        return embedded
    kept = np.sort(np.random.default_rng(seed).permutation(len(embedded))[:n])
    return EmbeddedCorpus(
        embedded.embeddings[torch.from_numpy(kept)],
        embedded.clips.iloc[kept].reset_index(drop=True),
        embedded.problems,
    )


def prepare_map(embedded: EmbeddedCorpus, *, method: Method = "pca") -> PreparedMap:
    """Compute what a map needs: coordinates, and nearest neighbours in all dimensions.

    Raises:
        ValueError: Fewer than three clips, or an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {METHODS}")
    points = project(embedded.embeddings, method=method)
    cosines = embedded.embeddings @ embedded.embeddings.T  # (n, n)
    neighbour = cosines.fill_diagonal_(-2.0).argmax(dim=1).numpy()
    return PreparedMap(embedded.clips, points, neighbour, method)


def render_embedding_map(
    prepared: PreparedMap, *, colour: str = "emotion", pick: int | None = None
) -> MapView:
    """Draw a map, coloured by a column; say what a picked point is.

    Args:
        prepared: From `prepare_map`.
        colour: A column of the clips.
        pick: Row of the clip to mark and describe; None marks none.

    Raises:
        ValueError: An unknown column, or a row that is not there.
    """
    clips = prepared.clips
    if colour not in clips:
        raise ValueError(f"no column {colour!r}; there are {colour_columns(clips)}")
    if pick is not None and not 0 <= pick < len(clips):
        raise ValueError(f"clip {pick} does not exist; there are 0 to {len(clips) - 1}")
    labels = clips[colour].astype(str).replace("", "unknown").to_numpy()
    agreement = float((labels == labels[prepared.neighbour]).mean())
    chance = _blind_agreement(labels)
    styles = _styles(labels, colour)
    what = (
        f"the nearest neighbour of a clip has the same {colour} in {agreement:.0%} of "
        f"cases (drawn blindly: {chance:.0%})"
    )
    name = prepared.method.upper()
    alt = (
        f"{name} of {len(clips)} clips, coloured by {colour}; in all dimensions {what}."
    )
    told = [_describe(row) for row in clips.to_dict("records")]
    svg = scatter_svg(
        prepared.points,
        labels=labels,
        styles=styles,
        tips=[f"{i}: {text}" for i, text in enumerate(told)],
        alt=alt,
        mark=pick,
    )
    note = "Rest the pointer on a point to see what it is; its number picks it."
    if prepared.method == "umap":
        note += " UMAP keeps neighbours together; its distances and sizes mean nothing."
    html = f"<p>In all dimensions, {what}.</p>{svg}<p>{note}</p>"
    picked = None
    if pick is not None:
        picked = clips.iloc[pick]
        near = clips.iloc[[pick, prepared.neighbour[pick]]]
        shown = [c for c in ("clip", *COLUMNS) if c in near]
        html += table_html(near[shown], caption=f"Clip {pick}, and its neighbour")
    figure = _draw(prepared, labels, styles, colour, agreement, chance, pick=pick)
    return MapView(agreement, chance, picked, figure, alt, html)


@without_pauses
def explore_embeddings(
    embedded: EmbeddedCorpus | Mapping[str, EmbeddedCorpus],
    *,
    corpus: Corpus | None = None,
    n_points: int = 1_000,
) -> ipywidgets.VBox:
    """Build an explorer: choose embeddings, a method and a colour; pick a point.

    Args:
        embedded: Embeddings of clips, or name to embeddings (CLAP beside CLEP, say).
        corpus: Where picked clips are read from, to be heard. None, or a clip that is
            not in it: the point is described only.
        n_points: At most so many clips are shown, drawn at random.

    Returns:
        A box of: embeddings, method and colour (``Dropdown``), number of the picked
        clip (``BoundedIntText``), map (``HTML``), player (``VBox``).
    """
    import ipywidgets

    many = isinstance(embedded, Mapping)
    named = dict(embedded) if many else {"embeddings": embedded}
    named = {name: thin_out(e, n=n_points) for name, e in named.items()}
    rows_of = (
        {} if corpus is None else {c: i for i, c in enumerate(corpus.clips["clip"])}
    )
    maps: dict[tuple[str, str], PreparedMap] = {}
    first = next(iter(named.values()))
    which = ipywidgets.Dropdown(options=list(named), description="clips")
    method = ipywidgets.Dropdown(options=METHODS, description="method")
    colour = ipywidgets.Dropdown(
        options=colour_columns(first.clips) or ["emotion"], description="colour"
    )
    pick = ipywidgets.BoundedIntText(
        value=0, min=0, max=len(first) - 1, description="pick clip"
    )
    view, heard = ipywidgets.HTML(), ipywidgets.VBox()

    def choose(_change: object = None) -> None:
        """Offer what divides the chosen clips; keep the colour if it still does."""
        columns = colour_columns(named[which.value].clips) or ["emotion"]
        kept = colour.value if colour.value in columns else columns[0]
        with colour.hold_trait_notifications():
            colour.options = columns
            colour.value = kept

    def update(_change: object = None) -> None:
        chosen = which.value, method.value
        if chosen not in maps:
            if method.value == "umap":
                view.value = "<p>Drawing a UMAP: some seconds, once.</p>"
            maps[chosen] = prepare_map(named[which.value], method=method.value)
        found = maps[chosen]
        pick.max = len(found.clips) - 1
        shown = render_embedding_map(found, colour=colour.value, pick=pick.value)
        view.value = shown.html
        row = shown.picked
        here = corpus is not None and row.get("corpus", corpus.name) == corpus.name
        number = rows_of.get(row.get("clip")) if here else None
        heard.children = (
            [] if number is None else [player(corpus.read(number), name="picked clip")]
        )

    which.observe(choose, "value")
    for control in (which, method, colour, pick):
        control.observe(update, "value")
    update()
    controls = [which, method, colour, pick] if many else [method, colour, pick]
    return ipywidgets.VBox([*controls, view, heard])


def _blind_agreement(labels: np.ndarray) -> float:
    counts = pd.Series(labels).value_counts().to_numpy(dtype=float)
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def _styles(labels: np.ndarray, colour: str) -> dict[str, EmotionStyle]:
    if colour == "emotion":
        return {e: emotion_style(e) for e in sorted(set(labels))}
    return cycle_styles(labels)


def _describe(row: Mapping[str, object]) -> str:
    known = [str(row[c]) for c in COLUMNS if row.get(c) not in (None, "")]
    return escape(", ".join(known))


def _draw(
    prepared: PreparedMap,
    labels: np.ndarray,
    styles: Mapping[str, EmotionStyle],
    colour: str,
    agreement: float,
    chance: float,
    *,
    pick: int | None,
) -> Figure:
    name = prepared.method.upper()
    figure, (axis,) = new_figure(
        f"Neighbours share their {colour}: {agreement:.0%} (blindly {chance:.0%})",
        width=6.8,
        height=4.6,
    )
    order = np.random.default_rng(0).permutation(len(labels))
    for part in np.array_split(order, min(10, len(order))):  # no group hides another
        for label, style in styles.items():
            chosen = prepared.points[part[labels[part] == label]]
            axis.scatter(*chosen.T, s=16, alpha=0.75, lw=0, **draw(style))
    for label, style in list(styles.items())[:MAX_NAMED]:
        axis.scatter([], [], s=40, lw=0, label=label, **draw(style))
    more = len(styles) - MAX_NAMED
    title = f"{MAX_NAMED} of {len(styles)}" if more > 0 else None
    axis.legend(fontsize=9, title=title, loc="center left", bbox_to_anchor=(1, 0.5))
    if pick is not None:
        where = prepared.points[pick]
        axis.scatter(*where, s=190, facecolors="none", edgecolors="black", lw=2)
    kind = "principal component" if name == "PCA" else "UMAP dimension"
    axis.set(xlabel=f"{kind} 1", ylabel=f"{kind} 2")
    if name == "UMAP":
        axis.set(xticks=[], yticks=[])
    return figure
