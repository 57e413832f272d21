"""Context viewer: what one acoustic context adds to sentences."""

from typing import Any

import pandas as pd
import torch
from ipywidgets import VBox

from clepdg_lib import plots
from clepdg_lib.acpt import AcousticContexts, embed_contexts, text_shifts
from clepdg_lib.audio import ENVIRONMENTS
from clepdg_lib.captions import EMOTIONS, ENVIRONMENT_PHRASES
from clepdg_lib.clap import Clap
from clepdg_lib.widgets import parts

NAMED = [environment.caption for environment in ENVIRONMENTS.values()]
PHRASES = list(dict.fromkeys((*NAMED, *ENVIRONMENT_PHRASES)))


def render_context(
    clap: Clap, contexts: AcousticContexts, *, number: int = 1
) -> parts.View:
    """Show one of K contexts: phrases that shift alike, and the points it adds.

    The view has `phrases` (cosine of the shifts, best first), `kept` (by emotion: the
    nearest plain sentence, cosine to its own) and `figure`.
    """
    if not 1 <= number <= len(contexts):
        raise ValueError(f"there is no context {number}; give 1 to {len(contexts)}")
    shifts = text_shifts(clap, contexts)[number - 1 : number]  # (1, dim)
    cosines = torch.cosine_similarity(shifts, text_shifts(clap, PHRASES)).double()
    phrases = pd.DataFrame({"cosine": cosines}, pd.Index(PHRASES, name="phrase"))
    phrases = phrases.sort_values("cosine", ascending=False)
    points = embed_contexts(clap, contexts, EMOTIONS)  # (K, E, dim)
    plain = clap.embed_text([contexts.template.format(emotion=e) for e in EMOTIONS])
    cosines = points[number - 1] @ plain.T  # (E, E)
    kept = pd.DataFrame(index=pd.Index(EMOTIONS, name="emotion"))
    kept["nearest"] = [EMOTIONS[i] for i in cosines.argmax(dim=1)]
    kept["cosine"] = cosines.diagonal().double().numpy()
    n_kept = (kept["nearest"] == kept.index).sum()
    title = f"Context {number} keeps {n_kept} of {len(kept)} emotions"
    paths = torch.stack([plain, points[number - 1]], dim=1)  # (E, 2, dim)
    moves = dict(zip(EMOTIONS, paths, strict=True))
    look = {"title": title, "outlined": (plain, EMOTIONS), "moves": moves}
    labels = list(EMOTIONS) * len(points)
    figure = plots.embedding_map(points.flatten(0, 1), labels, **look)
    html = parts.side_by_side(
        parts.table_html(phrases[:5], caption="Phrases that shift a sentence alike"),
        parts.table_html(kept, caption="The nearest plain sentence of each emotion"),
    )
    alt = f"PCA of emotions in all contexts, arrows from the plain sentences. {title}"
    html += parts.image_html(figure, alt=alt)
    return parts.View(html=html, phrases=phrases, kept=kept, figure=figure)


def view_contexts(clap: Clap, contexts: Any) -> VBox:
    """Build the viewer for `AcousticContexts`, or name to contexts."""
    sets = parts.by_name(contexts, name="contexts")

    def render(contexts: str, number: int = 1) -> parts.View:
        return render_context(clap, sets[contexts], number=number)

    most = max(len(chosen) for chosen in sets.values())
    return parts.shell(render, contexts=list(sets), number=(1, most))
