"""Embedding explorer: colour a map of clips, hear or read one, count in a lasso."""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import torch
import traitlets
from ipywidgets import BoundedIntText

from clepdg_lib import plots
from clepdg_lib.embeddings import EmbeddedCorpus
from clepdg_lib.widgets import parts

COLUMNS = ("emotion", "corpus", "domain", "place", "speaker", "sex", "language")
N_COLOURS = 11  # rarer values are "other"


def render_embedding_map(
    embedded: EmbeddedCorpus,
    *,
    colour: str = "emotion",
    pick: int | None = None,
    lasso: Sequence[int] = (),
    beside: EmbeddedCorpus | None = None,
    n_points: int | None = None,
) -> parts.View:
    """Draw a PCA coloured by a column; mark and play row `pick` and its neighbour.

    The same clips may stand `beside`, in another space; of many, `n_points` are drawn.
    The view has `agreement` (share of clips whose nearest neighbour *of another
    speaker*, in all dimensions, has the same value), `chance` (of any clip of another
    speaker; both NaN where there is none), `neighbours`, `counts` (of the rows in the
    lasso), `figure` and `alt`.
    """
    how = {"colour": colour, "pick": pick}
    embedded = draw_clips(embedded, n_points)
    view = _describe(embedded, find_others(embedded), lasso=lasso, **how)
    moves = {f"clip {row}": embedded.embeddings[[row]] for row in view.neighbours.index}
    look = {"title": view.title, "moves": moves}
    view.figure = plots.embedding_map(embedded.embeddings, view.labels, **look)
    view.figure.axes[0].set_title(f"by {colour}")
    view.alt = f"PCA of {len(embedded)} clips by {colour}. {view.title}"
    view.html = parts.image_html(view.figure, alt=view.alt) + view.html
    if beside is not None:
        second = render_embedding_map(beside, n_points=n_points, **how)
        view.html = parts.side_by_side(view.html, second.html)
    return view


def draw_clips(embedded: EmbeddedCorpus, n_points: int | None) -> EmbeddedCorpus:
    """Some clips, each time the same, in their order."""
    rows = np.random.default_rng(0).permutation(len(embedded))[:n_points]
    return embedded.take(np.sort(rows))


def find_others(embedded: EmbeddedCorpus) -> tuple[np.ndarray, np.ndarray]:
    """Which clips are of another speaker, (n, n), and the nearest of these, (n,)."""
    people = embedded.clips.reindex(columns=["corpus", "speaker"], fill_value="")
    person = people.groupby(["corpus", "speaker"]).ngroup().to_numpy()
    others = person[:, None] != person  # unknown speakers count as one
    cosines = embedded.embeddings @ embedded.embeddings.T
    return others, cosines.masked_fill(torch.from_numpy(~others), -2).argmax(1).numpy()


def _describe(embedded, found, *, colour, pick, lasso=()) -> parts.View:
    clips, n = embedded.clips.rename_axis("row"), len(embedded)
    others, nearest = found
    if colour not in clips or not {pick or 0, *lasso} <= {*range(n)}:
        valid = f"the columns {list(clips)}, and rows from 0 to {n - 1}"
        raise ValueError(f"colour is {colour!r} and pick {pick}; valid are {valid}")
    labels = clips[colour].astype(str).replace("", "unknown")
    codes, known = labels.factorize()[0], others.any(axis=1)
    agreement = float(pd.Series(codes == codes[nearest])[known].mean())
    alike = ((codes[:, None] == codes) & others)[known].sum(axis=1)
    chance = float(pd.Series(alike / others[known].sum(axis=1)).mean())
    title = f"The nearest clip of another speaker has the same {colour}: "
    title += f"{agreement:.0%} (any clip: {chance:.0%})"
    labels = labels.where(labels.isin(labels.value_counts().index[:N_COLOURS]), "other")
    counts = {"in the lasso": np.isin(range(n), lasso), "of all": 1}
    counts = pd.DataFrame(counts, clips.index).groupby(labels).sum()
    rows = [] if pick is None else [pick, nearest[pick]][: 1 + known[pick]]
    neighbours = clips.iloc[rows].filter(["clip", "text", "caption", *COLUMNS])
    html = ""
    if rows:
        caption = "The picked clip, and the nearest clip of another speaker"
        html = parts.clips_html(neighbours, clips, caption=caption)
    if lasso:
        html += parts.table_html(counts, caption=f"{len(lasso)} clips in the lasso")
    values = {"agreement": agreement, "chance": chance, "title": title, "html": html}
    return parts.View(labels=labels, counts=counts, neighbours=neighbours, **values)


class Scatter(anywidget.AnyWidget):
    """Points on canvases side by side; `value` has the rows in the lasso."""

    _esm, _css = parts.HERE / "scatter.js", parts.HERE / "widgets.css"
    panels = traitlets.List().tag(sync=True)  # name, and xy: (n, 2) float32 as bytes
    near = traitlets.List().tag(sync=True)  # the picked clip's neighbour in each panel
    looks = traitlets.List().tag(sync=True)  # name, color and marker of each label
    codes = traitlets.Bytes().tag(sync=True)  # look of each clip
    pick = traitlets.Int().tag(sync=True)
    value = traitlets.List().tag(sync=True)
    description = "lasso"


def explore_embeddings(embedded: Any, *, n_points: int = 4_000) -> parts.Panel:
    """Build the explorer for `n_points` clips of an `EmbeddedCorpus`, or name to it."""
    named, scatter = parts.by_name(embedded, name="embeddings"), Scatter()
    drawn = {name: draw_clips(each, n_points) for name, each in named.items()}

    @cache
    def prepare(name: str) -> tuple[Any, bytes]:
        points = drawn[name].embeddings.numpy()
        points = plots.pca_map(points).transform(points).astype(np.float32)
        return find_others(drawn[name]), points.tobytes()

    def render(clips: str, beside: str, colour: str, pick: int, lasso: list) -> Any:
        names, n = [clips, *{beside} - {clips, ""}], len(drawn[clips])
        if not drawn[clips].clips.equals(drawn[names[-1]].clips):
            raise ValueError(f"{clips} and {beside} are not the same clips")
        pick_box.value = pick = min(pick, n - 1)  # other clips may have been more
        rows = [row for row in lasso if row < n]
        how = {"colour": colour, "pick": pick}
        views = [_describe(drawn[n], prepare(n)[0], **how) for n in names]
        views[0] = _describe(drawn[clips], prepare(clips)[0], lasso=rows, **how)
        looks, panels = plots.styles(sorted(set(views[0].labels))), []
        for name, view in zip(names, views, strict=True):
            panels.append({"name": f"{name}. {view.title}", "xy": prepare(name)[1]})
        with scatter.hold_sync():  # the page draws once
            scatter.looks = [{"name": name, **look} for name, look in looks.items()]
            scatter.codes = bytes(map(list(looks).index, views[0].labels))
            scatter.panels, scatter.value = panels, rows
            scatter.near = [int(view.neighbours.index[-1]) for view in views]
        how |= {"lasso": rows, "n_points": n_points}
        how |= {"beside": named[beside]} if len(names) > 1 else {}
        code = parts.code_of(partial(render_embedding_map, named[clips], **how))
        html = parts.side_by_side(*(view.html for view in views))
        return parts.View(html=html, code=code)

    columns = [c for c in COLUMNS if any(c in e.clips for e in drawn.values())]
    pick_box = BoundedIntText(max=max(map(len, drawn.values())) - 1, description="pick")
    traitlets.link((scatter, "pick"), (pick_box, "value"))
    choices = {"clips": list(named), "beside": ["", *named], "colour": columns}
    return parts.shell(render, **choices, pick=pick_box, lasso=scatter)
