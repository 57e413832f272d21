"""Context viewer: what one acoustic context adds to sentences."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from ipywidgets import VBox

from clepdg_lib import plots
from clepdg_lib.acpt import AcousticContexts, embed_contexts, text_shifts
from clepdg_lib.audio import ENVIRONMENTS, place, prepare
from clepdg_lib.captions import EMOTIONS, ENVIRONMENT_PHRASES
from clepdg_lib.clap import Clap
from clepdg_lib.widgets import parts

NAMED = {e.caption: e for e in ENVIRONMENTS.values()}
PHRASES = list(dict.fromkeys((*NAMED, *ENVIRONMENT_PHRASES)))


def render_context(
    clap: Clap,
    contexts: AcousticContexts,
    *,
    number: int = 1,
    emotions: Sequence[str] = EMOTIONS,
    wave: torch.Tensor | None = None,
) -> parts.View:
    """Show one of K contexts: phrases that shift alike, and the points it adds.

    A wave (n,) at 16 kHz is played in the named environment whose phrase is nearest.
    The view has `phrases` (cosine of the shifts, best first), `kept` (by emotion: the
    nearest plain sentence, cosine to its own) and `figure`.
    """
    if not 1 <= number <= len(contexts):
        raise ValueError(f"there is no context {number}; give 1 to {len(contexts)}")
    shifts = text_shifts(clap, contexts)[number - 1 : number]  # (1, dim)
    cosines = torch.cosine_similarity(shifts, text_shifts(clap, PHRASES)).double()
    phrases = pd.DataFrame({"cosine": cosines}, pd.Index(PHRASES, name="phrase"))
    phrases = phrases.sort_values("cosine", ascending=False)
    points = embed_contexts(clap, contexts, emotions)  # (K, E, dim)
    plain = clap.embed_text([contexts.template.format(emotion=e) for e in emotions])
    cosines = points[number - 1] @ plain.T  # (E, E)
    kept = pd.DataFrame(index=pd.Index(emotions, name="emotion"))
    kept["nearest"] = [emotions[i] for i in cosines.argmax(dim=1)]
    kept["cosine"] = cosines.diagonal().double().numpy()
    n_kept = (kept["nearest"] == kept.index).sum()
    title = f"Context {number} keeps {n_kept} of {len(kept)} emotions"
    paths = torch.stack([plain, points[number - 1]], dim=1)  # (E, 2, dim)
    moves = dict(zip(emotions, paths, strict=True))
    look = {"title": title, "outlined": (plain, emotions), "moves": moves}
    labels = list(emotions) * len(points)
    figure = plots.embedding_map(points.flatten(0, 1), labels, **look)
    tables = [
        parts.table_html(phrases[:5], caption="Phrases that shift a sentence alike"),
        parts.table_html(kept, caption="The nearest plain sentence of each emotion"),
    ]
    if wave is not None:
        nearest = phrases.index[phrases.index.isin(NAMED)][0]
        draw = torch.Generator().manual_seed(0)
        placed = place(prepare(wave), NAMED[nearest], generator=draw)
        tables.append(parts.player(placed, name=f"nearest environment: {nearest}"))
    alt = f"PCA of emotions in all contexts, arrows from the plain sentences. {title}"
    html = parts.side_by_side(*tables) + parts.image_html(figure, alt=alt)
    return parts.View(html=html, phrases=phrases, kept=kept, figure=figure)


def view_contexts(clap: Clap, contexts: Any, **asked: Any) -> VBox:
    """Build the viewer for `AcousticContexts`, or name to contexts."""
    sets = parts.by_name(contexts, name="contexts")

    def render(contexts: str, number: int = 1) -> parts.View:
        return render_context(clap, sets[contexts], number=number, **asked)

    most = max(len(chosen) for chosen in sets.values())
    return parts.shell(render, contexts=list(sets), number=(1, most))
