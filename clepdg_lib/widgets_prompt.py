"""Type a sentence, see and hear the clips it finds, and what one word changes.

The widget is a thin shell around `render_prompt_results`, which gives the same picture
without a browser: use it for the static twin below a widget, and in tests. HTML and
players are set as values, so that they also work where no kernel prints (Voila).

Lesson: notebooks/01_probe_clap.ipynb
Shapes: n clips, dim the embedding width.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor

from clepdg_lib.acpt import BARE
from clepdg_lib.captions import CANONICAL
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.environments import ENVIRONMENTS
from clepdg_lib.markup import bars_html, player, table_html
from clepdg_lib.pauses import without_pauses

if TYPE_CHECKING:
    import ipywidgets

    from clepdg_lib.clap import Clap
    from clepdg_lib.corpora import Corpus

START = CANONICAL.format(emotion=EMOTIONS[0])
SPEAKERS = {"anyone": "this person", "a woman": "this woman", "a man": "this man"}
PLACES = {"anywhere": "", **{e.name: e.caption for e in ENVIRONMENTS.values()}}


@dataclass(frozen=True)
class PromptResults:
    """What a prompt found.

    Attributes:
        prompt: The prompt, without spaces around it.
        table: Best clips first: ``row`` (position in the clips given), ``score``
            (cosine), and the columns of the clips; empty if nothing was asked.
        shares: Part of each emotion among the best clips, by ``n_counted``.
        change: What another prompt had found: ``before`` and ``now`` by emotion,
            or None without one.
        html: The same, to be shown.
    """

    prompt: str
    table: pd.DataFrame
    shares: pd.Series
    change: pd.DataFrame | None
    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def compose_prompt(
    *, emotion: str = "", speaker: str = "anyone", place: str = "anywhere"
) -> str:
    """Make a prompt of an emotion, a speaker and a place.

    Args:
        emotion: Any word; empty for a sentence without a feeling.
        speaker: One of `SPEAKERS`.
        place: One of `PLACES`.

    Raises:
        ValueError: An unknown speaker or place.

    Example:
        >>> compose_prompt(emotion="sad", speaker="a woman", place="telephone")
        'this woman is feeling sad over the telephone'
    """
    for what, value, valid in (
        ("speaker", speaker, SPEAKERS),
        ("place", place, PLACES),
    ):
        if value not in valid:
            raise ValueError(f"{what} is {value!r}; it must be one of {list(valid)}")
    sentence = CANONICAL.format(emotion=emotion) if emotion else BARE
    return f"{sentence} {PLACES[place]}".strip().replace(
        SPEAKERS["anyone"], SPEAKERS[speaker]
    )


def render_prompt_results(
    clap: Clap,
    audio_embeddings: Tensor,
    *,
    clips: pd.DataFrame,
    prompt: str,
    before: str = "",
    n: int = 5,
    n_counted: int = 50,
) -> PromptResults:
    """Find the clips that lie nearest to a prompt.

    Args:
        clap: Embeds the prompt.
        audio_embeddings: ``(n_clips, dim)``, one row per row of ``clips``.
        clips: Table with ``emotion``; ``clip``, ``speaker`` and ``domain`` are shown.
        prompt: Any sentence. An empty one is answered with a sentence, not an error.
        before: Another prompt to compare with: which words differ, how many of the
            best clips stayed, and how the emotions among them changed.
        n: How many clips to list.
        n_counted: Of how many best clips to count the emotions.

    Raises:
        ValueError: As many embeddings as clips were expected.
    """
    if len(audio_embeddings) != len(clips):
        raise ValueError(
            f"audio_embeddings has {len(audio_embeddings)} rows and clips {len(clips)};"
            " embed the same selection that you show"
        )
    prompt, before = prompt.strip(), before.strip()
    if not prompt or clips.empty:
        missing = "Type a prompt to begin." if not prompt else "No clip to search."
        html = f"<p>{missing} For example: <i>{escape(START)}</i></p>"
        empty = pd.Series(dtype=float)
        return PromptResults(prompt, clips.iloc[:0], empty, None, html)
    compared = before and before != prompt
    asked = [prompt, before] if compared else [prompt]
    scores = audio_embeddings @ clap.embed_text(asked).T  # (n_clips, 1 or 2)
    orders = scores.argsort(dim=0, descending=True, stable=True).T.tolist()
    order, names = orders[0], sorted(clips["emotion"].astype(str).unique())
    counted = [
        clips["emotion"].iloc[o[:n_counted]].value_counts(normalize=True)
        for o in orders
    ]
    shares = counted[0].sort_index().rename("share")
    shown = [c for c in ("clip", "emotion", "domain", "speaker") if c in clips]
    table = clips.iloc[order[:n]][shown].reset_index(drop=True)
    table.insert(0, "score", scores[order[:n], 0].tolist())
    table.insert(0, "row", order[:n])
    bars = pd.DataFrame({"share": counted[0]}).reindex(names).fillna(0.0)
    n_best, change, told = min(n_counted, len(clips)), None, ""
    if compared:
        change = pd.DataFrame({"before": counted[1], "now": counted[0]})
        bars = change = change.reindex(names).fillna(0.0)
        stayed = len(set(order[:n_best]) & set(orders[1][:n_best]))
        told = (
            f"<p>{_changed_words(before, prompt)}: {stayed} of the best {n_best} clips "
            "are the same as before.</p>"
        )
    named = ", ".join(f"{escape(str(e))} {s:.0%}" for e, s in shares.items())
    html = (
        f"<p>Nearest to <b>{escape(prompt)}</b>, of {len(clips)} clips. "
        f"Among the best {n_best}: {named}.</p>{told}"
        + bars_html(bars, caption=f"Share of each emotion among the best {n_best}")
        + table_html(table, caption="Best clips: their cosine to the prompt")
    )
    return PromptResults(prompt, table, shares, change, html)


def _changed_words(before: str, after: str) -> str:
    """Say in HTML which words of a prompt were replaced."""
    old, new = before.split(), after.split()
    told = []
    for kind, i, j, k, m in difflib.SequenceMatcher(a=old, b=new).get_opcodes():
        if kind != "equal":
            gone, come = " ".join(old[i:j]) or "nothing", " ".join(new[k:m])
            told.append(f"<i>{escape(gone)}</i> → <i>{escape(come or 'nothing')}</i>")
    return ", ".join(told) or "The same words"


@without_pauses
def explore_prompts(
    clap: Clap,
    audio_embeddings: Tensor,
    *,
    corpus: Corpus,
    prompt: str = START,
    n: int = 3,
) -> ipywidgets.VBox:
    """Build a search box: type a prompt or compose one, see and hear what it finds.

    Args:
        clap: Embeds the prompts.
        audio_embeddings: ``(n_clips, dim)`` of the corpus, in its order.
        corpus: Where the clips are read from, for the players.
        prompt: What is asked at first.
        n: Clips to list and to play.

    Returns:
        A box of: the prompt (``Text``; press Enter), a row of emotion, speaker and
        place that compose one (``Dropdown``), the domain to search (``Dropdown``),
        results (``HTML``), players (``VBox``).
    """
    import ipywidgets

    text = ipywidgets.Text(
        value=prompt,
        description="prompt",
        continuous_update=False,
        layout=ipywidgets.Layout(width="36em"),
    )
    emotions = [("no feeling", ""), *((e, e) for e in EMOTIONS)]
    parts = {
        "emotion": ipywidgets.Dropdown(options=emotions, value=EMOTIONS[0]),
        "speaker": ipywidgets.Dropdown(options=list(SPEAKERS)),
        "place": ipywidgets.Dropdown(options=list(PLACES)),
    }
    for name, control in parts.items():
        control.description = name
        control.layout = ipywidgets.Layout(width="15em")
    domains = sorted(corpus.clips["domain"].astype(str).unique())
    domain = ipywidgets.Dropdown(options=["all", *domains], description="search in")
    results, players = ipywidgets.HTML(), ipywidgets.VBox()

    def update(change: dict | None = None) -> None:
        rows = list(range(len(corpus.clips)))
        if domain.value != "all":
            rows = [i for i in rows if str(corpus.clips["domain"][i]) == domain.value]
        typed = change is not None and change["owner"] is text
        found = render_prompt_results(
            clap,
            audio_embeddings[rows],
            clips=corpus.clips.iloc[rows],
            prompt=text.value,
            before=change["old"] if typed else "",
            n=n,
        )
        results.value = found.html
        players.children = [
            player(corpus.read(rows[row]), name=f"clip {rank}")
            for rank, row in enumerate(found.table.get("row", []), start=1)
        ]

    def compose(_change: dict) -> None:
        text.value = compose_prompt(**{k: part.value for k, part in parts.items()})

    text.observe(update, "value")
    domain.observe(update, "value")
    for part in parts.values():
        part.observe(compose, "value")
    update()
    row = ipywidgets.HBox(list(parts.values()))
    row.layout.flex_flow = "row wrap"
    return ipywidgets.VBox([text, row, domain, results, players])
