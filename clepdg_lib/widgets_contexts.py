"""Step through acoustic contexts: what is near them, and which points they add.

`read_contexts` embeds what is needed once, `render_context` shows one context of it
without a browser, `view_contexts` is the shell around the two.

Lesson: notebooks/03_tune_acoustic_contexts.ipynb
Shapes: K contexts, M tokens of each, E emotions, P phrases, dim the embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from clepdg_lib.acpt import BARE, AcousticContexts, append_contexts, embed_contexts
from clepdg_lib.captions import ENVIRONMENT_PHRASES
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.markup import image_html, table_html
from clepdg_lib.pauses import without_pauses
from clepdg_lib.style import draw, emotion_style, marker_legend, new_figure

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

    from clepdg_lib.clap import Clap


@dataclass(frozen=True)
class ReadContexts:
    """Contexts with everything embedded that a view of them needs.

    Attributes:
        emotions: ``E`` labels.
        points: ``(K, E, dim)``, every emotion in every context.
        plain: ``(E, dim)``, the sentences without a context.
        words: ``(K, M)`` nearest words of the vocabulary.
        word_cosines: ``(K, M)``.
        phrases: ``P`` places in words.
        phrase_cosines: ``(K, P)`` between the shift by a context and by a phrase.
        flat: ``(K + 1, E, 2)`` points on their two widest directions; the last row
            holds the plain sentences.
    """

    emotions: tuple[str, ...]
    points: torch.Tensor = field(repr=False)
    plain: torch.Tensor = field(repr=False)
    words: np.ndarray = field(repr=False)
    word_cosines: torch.Tensor = field(repr=False)
    phrases: tuple[str, ...]
    phrase_cosines: torch.Tensor = field(repr=False)
    flat: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class ContextView:
    """One context, seen from three sides.

    Attributes:
        words: Nearest word of each of its vectors, with ``score`` (cosine).
        places: Phrases whose shift points most nearly the same way, best first.
        kept: By emotion: ``cosine`` to the plain sentence, and ``nearest`` emotion.
        figure: The points it adds, among those of all contexts.
        html: All of it, to be shown.
    """

    words: pd.DataFrame
    places: pd.DataFrame
    kept: pd.DataFrame
    figure: Figure = field(repr=False)
    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def read_contexts(
    clap: Clap,
    contexts: AcousticContexts,
    *,
    emotions: Sequence[str] = EMOTIONS,
    phrases: Sequence[str] = ENVIRONMENT_PHRASES,
) -> ReadContexts:
    """Embed contexts, plain sentences and phrases, and look up the nearest words."""
    points = embed_contexts(clap, contexts, emotions)  # (K, E, dim)
    plain = clap.embed_text([contexts.template.format(emotion=e) for e in emotions])
    with torch.no_grad():
        moved = append_contexts(clap, [BARE], contexts.vectors)[:, 0].cpu()  # (K, dim)
        table = clap.model.text_model.get_input_embeddings().weight.detach().cpu()
    bare = clap.embed_text([BARE])  # (1, dim)
    named = clap.embed_text([f"{BARE} {phrase}" for phrase in phrases])
    shift, place = (functional.normalize(x - bare, dim=-1) for x in (moved, named))
    unit = functional.normalize(table, dim=-1)
    nearest = (functional.normalize(contexts.vectors, dim=-1) @ unit.T).max(dim=-1)
    tokens = clap.tokenizer.convert_ids_to_tokens(nearest.indices.flatten().tolist())
    everything = torch.cat([points, plain[None]])  # (K + 1, E, dim)
    centred = everything - everything.mean(dim=(0, 1))
    *_, directions = torch.linalg.svd(centred.flatten(0, 1), full_matrices=False)
    return ReadContexts(
        emotions=tuple(emotions),
        points=points,
        plain=plain,
        words=np.array([_word(t) for t in tokens]).reshape(nearest.indices.shape),
        word_cosines=nearest.values,
        phrases=tuple(phrases),
        phrase_cosines=shift @ place.T,
        flat=(centred @ directions[:2].T).numpy(),
    )


def render_context(
    read: ReadContexts, number: int, *, n_phrases: int = 3
) -> ContextView:
    """Show one context: its nearest words and places, and the points it adds.

    Args:
        read: From `read_contexts`.
        number: Of the context, from 1 to K.
        n_phrases: How many phrases to list.

    Raises:
        ValueError: There is no such context.
    """
    if not 1 <= number <= len(read):
        raise ValueError(f"context {number} does not exist; there are 1 to {len(read)}")
    k = number - 1
    words = pd.DataFrame({"word": read.words[k], "score": read.word_cosines[k].numpy()})
    best = read.phrase_cosines[k].topk(min(n_phrases, len(read.phrases)))
    places = pd.DataFrame(
        {
            "place": [read.phrases[i] for i in best.indices],
            "score": best.values.numpy(),
        }
    )
    cosines = read.points[k] @ read.plain.T  # (E, E)
    nearest = [read.emotions[i] for i in cosines.argmax(dim=1)]
    kept = pd.DataFrame(
        {"cosine": cosines.diagonal().numpy(), "nearest": nearest},
        index=list(read.emotions),
    )
    n_kept = sum(e == found for e, found in zip(read.emotions, nearest, strict=True))
    title = (
        f"Context {number} keeps {n_kept} of {len(nearest)} feelings; its points\n"
        f"lie at a cosine of {kept['cosine'].mean():.2f} from the plain sentences"
    )
    figure = _draw(read, k, title=title)
    alt = (
        f"PCA of the text points of {len(read)} contexts, by emotion, faint; the "
        f"{len(nearest)} points of context {number} are joined to the plain sentences."
    )
    html = (
        f"<p>Context <b>{number}</b> of {len(read)}. Nearest place: "
        f"<i>{escape(places['place'][0])}</i>, cosine {places['score'][0]:.2f}.</p>"
        + table_html(words, caption="The nearest word to each of its vectors")
        + table_html(places, caption="Places in words that shift a sentence alike")
        + image_html(figure, alt=alt)
    )
    return ContextView(words, places, kept, figure, html)


@without_pauses
def view_contexts(
    clap: Clap,
    contexts: AcousticContexts | Mapping[str, AcousticContexts],
    *,
    emotions: Sequence[str] = EMOTIONS,
) -> ipywidgets.VBox:
    """Build a viewer: choose a set of contexts, step through it.

    Args:
        clap: The model that the contexts were made for.
        contexts: One set, or name to set (tuned beside random, for instance).
        emotions: ``E`` labels.

    Returns:
        A box of: set (``Dropdown``), context (``IntSlider``), view (``HTML``).
    """
    import ipywidgets

    named = dict(contexts) if isinstance(contexts, Mapping) else {"contexts": contexts}
    read = {n: read_contexts(clap, c, emotions=emotions) for n, c in named.items()}
    which = ipywidgets.Dropdown(options=list(read), description="contexts")
    number = ipywidgets.IntSlider(
        value=1,
        min=1,
        max=len(read[which.value]),
        description="number",
        continuous_update=False,
    )
    view = ipywidgets.HTML()

    def update(_change: object = None) -> None:
        number.max = len(read[which.value])
        view.value = render_context(read[which.value], number.value).html

    for control in (which, number):
        control.observe(update, "value")
    update()
    return ipywidgets.VBox([which, number, view])


def _word(token: str) -> str:
    """A token as a reader knows it, without the marks of its tokenizer."""
    return token.replace("Ġ", "").replace("</w>", "").replace("##", "") or "(space)"


def _draw(read: ReadContexts, k: int, *, title: str) -> Figure:
    figure, (axis,) = new_figure(title, width=6.4, height=4.2)
    styles = {e: emotion_style(e) for e in read.emotions}
    for i, style in enumerate(styles.values()):
        others, here, plain = read.flat[:-1, i], read.flat[k, i], read.flat[-1, i]
        axis.scatter(*others.T, s=14, alpha=0.35, lw=0, **draw(style))
        axis.plot(*zip(plain, here, strict=True), color="black", lw=1, zorder=2)
        axis.scatter(*plain, s=150, edgecolors="black", lw=1.2, zorder=3, **draw(style))
        axis.scatter(*here, s=70, edgecolors="black", lw=1, zorder=4, **draw(style))
    marker_legend(axis, styles)
    axis.set(xlabel="principal component 1", ylabel="principal component 2")
    return figure
