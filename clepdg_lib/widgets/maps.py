"""Embedding explorer: colour a map of clips, play one and its neighbour."""

from typing import Any

import numpy as np
import torch
from ipywidgets import BoundedIntText, VBox

from clepdg_lib import plots
from clepdg_lib.embeddings import EmbeddedCorpus
from clepdg_lib.widgets import parts

COLUMNS = ("emotion", "corpus", "sex", "domain", "language")


def render_embedding_map(
    embedded: EmbeddedCorpus, *, colour: str = "emotion", pick: int | None = None
) -> parts.View:
    """Draw a PCA coloured by a column; mark and play row `pick` and its neighbour.

    The view has `agreement` (share of clips whose nearest neighbour *of another
    speaker*, in all dimensions, has the same value), `chance` (of any clip of another
    speaker; both NaN where there is none), `neighbours`, `figure` and `alt`.
    """
    clips, n = embedded.clips.reset_index(drop=True).rename_axis("row"), len(embedded)
    if colour not in clips or pick not in (None, *range(n)):
        valid = f"the columns {list(clips)}, and rows from 0 to {n - 1}"
        raise ValueError(f"colour is {colour!r} and pick {pick}; valid are {valid}")
    labels = clips[colour].astype(str).replace("", "unknown")
    same = labels.to_numpy()[:, None] == labels.to_numpy()  # (n, n)
    people = clips.reindex(columns=["corpus", "speaker"], fill_value="")
    person = people.groupby(["corpus", "speaker"]).ngroup().to_numpy()
    others = person[:, None] != person  # unknown speakers count as one
    cosines = embedded.embeddings @ embedded.embeddings.T
    nearest = cosines.masked_fill(torch.from_numpy(~others), -2).argmax(dim=1).numpy()
    known, agreement, chance = others.any(axis=1), np.nan, np.nan
    if known.any():
        agreement = same[np.arange(n), nearest][known].mean()
        chance = ((same & others).sum(axis=1)[known] / others.sum(axis=1)[known]).mean()
    title = f"The nearest clip of another speaker has the same {colour}: "
    title += f"{agreement:.0%} (any clip: {chance:.0%})"
    rows = [] if pick is None else [pick, nearest[pick]][: 1 + known[pick]]
    look = {"moves": {f"clip {row}": embedded.embeddings[[row]] for row in rows}}
    figure = plots.embedding_map(embedded.embeddings, labels, title=title, **look)
    figure.axes[0].set_title(f"by {colour}")
    alt = f"PCA of {n} clips by {colour}. {title}"
    neighbours = clips.iloc[rows].filter(items=["clip", "speaker", *COLUMNS])
    html = parts.image_html(figure, alt=alt)
    if rows:
        caption = "The picked clip, and the nearest clip of another speaker"
        html += parts.clips_html(neighbours, clips, caption=caption)
    found = {"agreement": float(agreement), "chance": float(chance)}
    return parts.View(html=html, figure=figure, alt=alt, neighbours=neighbours, **found)


def explore_embeddings(embedded: Any, *, n_points: int = 1_000) -> VBox:
    """Build the explorer for `n_points` clips of an `EmbeddedCorpus`, or name to it."""
    named = parts.by_name(embedded, name="embeddings")
    for name, clips in named.items():
        order = np.random.default_rng(0).permutation(len(clips))
        named[name] = clips.take(np.sort(order[:n_points]))

    def render(clips: str, colour: str, pick: int) -> parts.View:
        return render_embedding_map(named[clips], colour=colour, pick=pick)

    columns = [c for c in COLUMNS if any(c in e.clips for e in named.values())]
    last = max(len(clips) for clips in named.values()) - 1
    pick = BoundedIntText(max=last, description="pick")
    return parts.shell(render, clips=list(named), colour=columns, pick=pick)
