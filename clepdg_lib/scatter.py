"""A scatter plot as SVG, whose points say what they are under the pointer.

No script and no network: a `<title>` in a shape is what every browser shows as a tip.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n points.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from clepdg_lib.style import EmotionStyle

WIDTH, HEIGHT, MARGIN, LEGEND = 560, 400, 14, 150
MAX_NAMED = 12
# Matplotlib's markers as paths around (0, 0), about 8 units wide.
SHAPES = {
    "o": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
    "s": "M-3.5,-3.5h7v7h-7z",
    "^": "M0,-4.5l4.5,8h-9z",
    "v": "M0,4.5l4.5,-8h-9z",
    "D": "M0,-5l5,5l-5,5l-5,-5z",
    "d": "M0,-5l3,5l-3,5l-3,-5z",
    "P": "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "X": "M-4.5,-2.5l2,-2l2.5,2.5l2.5,-2.5l2,2l-2.5,2.5l2.5,2.5l-2,2l-2.5,-2.5"
    "l-2.5,2.5l-2,-2l2.5,-2.5z",
    "h": "M0,-4.5l4,2.2v4.6l-4,2.2l-4,-2.2v-4.6z",
    "<": "M-4.5,0l8,-4.5v9z",
    ">": "M4.5,0l-8,-4.5v9z",
    "p": "M0,-4.5l4.3,3.1l-1.6,5h-5.4l-1.6,-5z",
    "*": "M0,-5l1.5,3.2l3.5,.4l-2.6,2.4l.7,3.5l-3.1,-1.8l-3.1,1.8l.7,-3.5l-2.6,-2.4"
    "l3.5,-.4z",
}
_numbers = itertools.count()


def scatter_svg(
    points: np.ndarray,
    *,
    labels: Sequence[str] | np.ndarray,
    styles: Mapping[str, EmotionStyle],
    alt: str,
    tips: Sequence[str] = (),
    mark: int | None = None,
    path: np.ndarray | None = None,
) -> str:
    """Return points as an ``svg`` element with a legend.

    Args:
        points: ``(n, 2)``.
        labels: ``(n,)`` keys of ``styles``.
        styles: Colour and marker of each label.
        alt: What a reader who cannot see it should know.
        tips: ``(n,)`` what each point says; HTML-escaped already. None: nothing.
        mark: Row of a point to put a ring around.
        path: ``(m, 2)`` points to join from the first, a ring, to the last, a dot.
    """
    scope = f"points{next(_numbers)}"  # two maps may stand on one page
    everything = points if path is None else np.concatenate([points, path])
    low, high = everything.min(axis=0), everything.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    room = np.array([WIDTH - LEGEND, HEIGHT]) - 2 * MARGIN
    placed = (everything - low) / span
    placed[:, 1] = 1 - placed[:, 1]  # up is up
    placed = np.round(MARGIN + placed * room, 1)
    placed, joined = placed[: len(points)], placed[len(points) :]
    names = {label: f"{scope}-{k}" for k, label in enumerate(styles)}
    kinds = "".join(
        f'<path id="{names[label]}" d="{SHAPES[style.marker]}" fill="{style.colour}" '
        'fill-opacity="0.75"/>'
        for label, style in styles.items()
    )
    order = np.random.default_rng(0).permutation(len(placed))
    body = "".join(
        f'<use href="#{names[labels[i]]}" x="{placed[i, 0]}" y="{placed[i, 1]}">'
        + (f"<title>{tips[i]}</title></use>" if len(tips) else "</use>")
        for i in order
    )
    ring = ""
    if mark is not None:
        x, y = placed[mark]
        ring = f'<circle cx="{x}" cy="{y}" r="9" fill="none" stroke="black" '
        ring += 'stroke-width="2"/>'
    return (
        f'<svg role="img" aria-label="{escape(alt, quote=True)}" width="{WIDTH}" '
        f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'style="max-width:100%;background:white"><defs>'
        f"{kinds}</defs>{body}{ring}{_path(joined)}{_legend(names)}</svg>"
    )


def _path(joined: np.ndarray) -> str:
    if not len(joined):
        return ""
    corners = " ".join(f"{x},{y}" for x, y in joined)
    (x, y), (u, v) = joined[0], joined[-1]
    return (
        f'<polyline points="{corners}" fill="none" stroke="black" stroke-width="2"/>'
        f'<circle cx="{x}" cy="{y}" r="6" fill="white" stroke="black"/>'
        f'<circle cx="{u}" cy="{v}" r="7" fill="black"/>'
    )


def _legend(names: Mapping[str, str]) -> str:
    lines, x = [], WIDTH - LEGEND + 14
    shown = list(names.items())[:MAX_NAMED]
    for k, (label, shape) in enumerate(shown):
        y = 24 + 22 * k
        lines.append(f'<use href="#{shape}" x="{x}" y="{y}"/>')
        lines.append(_text(x + 12, y + 4, label))
    if len(names) > len(shown):
        rest = f"and {len(names) - len(shown)} more"
        lines.append(_text(x + 12, 28 + 22 * len(shown), rest))
    return "".join(lines)


def _text(x: float, y: float, text: str) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="13" font-family="sans-serif" '
        f'fill="black">{escape(text)}</text>'
    )
