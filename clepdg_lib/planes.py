"""A flat picture of embeddings that stays put while points are added to it.

`plots.project` flattens what it is given; a `Plane` is fitted once, so that a clip put
into a place, or your own voice, moves over a map that does not move with it. A plane
is a PCA: distances on it are real, what lies across it is unseen. So a number from the
original space belongs beside every picture.

Lesson: notebooks/04_transfer_across_modalities.ipynb
Shapes: n clips, m added points, dim the embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from clepdg_lib.embedding import EmbeddedCorpus
from clepdg_lib.scatter import scatter_svg
from clepdg_lib.style import draw, emotion_style, marker_legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_DRAWN = 600  # points in the background; more would only make it darker


@dataclass(frozen=True)
class Plane:
    """The two widest directions of some clips, and the clips on it.

    Attributes:
        mean: (dim,) what is taken away first.
        directions: (dim, 2), orthonormal.
        points: (n, 2), the clips that it was fitted to.
        labels: (n,) their emotions.
        width: Share of the clips' variance that the two directions hold.
    """

    mean: torch.Tensor
    directions: torch.Tensor
    points: np.ndarray
    labels: np.ndarray
    width: float

    def flatten(self, embeddings: torch.Tensor) -> np.ndarray:
        """Drop embeddings (m, dim) onto the plane: (m, 2)."""
        return ((embeddings - self.mean) @ self.directions).numpy()


def fit_plane(embedded: EmbeddedCorpus) -> Plane:
    """Fit a plane to clips; each direction points the same way on every machine.

    Raises:
        ValueError: Fewer than three clips.
    """
    if len(embedded) < 3:
        raise ValueError(f"a plane needs at least 3 clips; there are {len(embedded)}")
    mean = embedded.embeddings.mean(dim=0)
    centred = embedded.embeddings - mean  # (n, dim)
    exact = centred.double()
    values, vectors = torch.linalg.eigh(exact.T @ exact)  # ascending
    directions = vectors[:, [-1, -2]].float()  # (dim, 2)
    largest = directions.abs().argmax(dim=0)  # a sign is free: fix it
    directions = directions * directions[largest, [0, 1]].sign()
    return Plane(
        mean=mean,
        directions=directions,
        points=(centred @ directions).numpy(),
        labels=embedded.clips["emotion"].astype(str).to_numpy(),
        width=float(values[-2:].sum() / values.sum().clamp_min(1e-12)),
    )


def draw_moves(
    plane: Plane, moves: Mapping[str, torch.Tensor], *, title: str
) -> Figure:
    """Draw paths over a plane: each from its first point to its last.

    Args:
        plane: The background.
        moves: Name to (m, dim) embeddings in order; a single one is a star, more
            are joined by an arrow.
        title: The message, with a number from the original space.
    """
    figure, (axis,) = new_figure(title, width=6.4, height=4.2)
    draw_background(plane, axis)
    for name, embeddings in moves.items():
        path = plane.flatten(embeddings)
        if len(path) > 1:
            arrow = {"arrowstyle": "-|>", "lw": 1.8, "color": "black"}
            axis.annotate("", path[-1], path[0], arrowprops=arrow, zorder=4)
            axis.scatter(*path[0], s=60, color="white", edgecolors="black", zorder=5)
        axis.scatter(*path[-1], s=170, marker="*", color="black", zorder=6)
        axis.annotate(
            name,
            path[-1],
            xytext=(8, 6),
            textcoords="offset points",
            bbox={"fc": "white", "ec": "none", "alpha": 0.85, "pad": 1},
            zorder=7,
        )
    return figure


def moves_svg(plane: Plane, embeddings: torch.Tensor, *, alt: str) -> str:
    """Draw a path (m, dim) over a plane as SVG, which takes a browser no time."""
    order = np.random.default_rng(0).permutation(len(plane.points))[:MAX_DRAWN]
    labels = plane.labels[order]
    return scatter_svg(
        plane.points[order],
        labels=labels,
        styles={e: emotion_style(e) for e in sorted(set(labels))},
        alt=alt,
        path=plane.flatten(embeddings),
    )


def draw_background(
    plane: Plane, axis, *, emotions: Sequence[str] | None = None
) -> None:
    """Draw a plane's own clips, faintly, by emotion."""
    order = np.random.default_rng(0).permutation(len(plane.points))[:MAX_DRAWN]
    points, labels = plane.points[order], plane.labels[order]
    styles = {e: emotion_style(e) for e in emotions or sorted(set(labels))}
    for emotion, style in styles.items():
        chosen = points[labels == emotion]
        axis.scatter(*chosen.T, s=14, alpha=0.45, lw=0, **draw(style))
    marker_legend(axis, styles)
    axis.set(xlabel="principal component 1", ylabel="principal component 2")
