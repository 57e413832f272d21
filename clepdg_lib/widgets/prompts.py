"""Prompt explorer: type a sentence, see and play the clips that are nearest to it."""

from functools import partial

import pandas as pd
from ipywidgets import Combobox, Text

from clepdg_lib.audio import ENVIRONMENTS
from clepdg_lib.captions import CANONICAL, EMOTIONS
from clepdg_lib.clap import Clap
from clepdg_lib.embeddings import EmbeddedCorpus
from clepdg_lib.transfer import zero_shot
from clepdg_lib.widgets import parts

N_COUNTED = 50  # nearest clips, of which the emotions are counted
PLACES = ("", *(f" {e.caption}" for e in ENVIRONMENTS.values()))
PROMPTS = [CANONICAL.format(emotion=e) + place for place in PLACES for e in EMOTIONS]


def render_prompt_results(
    clap: Clap,
    embedded: EmbeddedCorpus,
    *,
    prompt: str,
    other: str = "",
    emotion: str = "",
    n: int = 3,
) -> parts.View:
    """Find the n clips nearest to a prompt, and beside it those of another prompt.

    The view has `table` (nearest clips first: row in ``embedded``, labels, cosines),
    `shares` (of emotions among the nearest 50 clips, by prompt) and `taken` (by
    emotion, the share of clips nearer to one more `emotion` than to the four).
    """
    clips = embedded.clips.rename_axis("row")
    prompts = list(dict.fromkeys(filter(None, (prompt.strip(), other.strip()))))
    if not prompt.strip() or clips.empty:
        html = f"<p>Type a prompt to search {len(clips)} clips: <i>{PROMPTS[0]}</i></p>"
        return parts.View(html=html, table=clips[:0], shares=pd.DataFrame())
    cosines = embedded.embeddings @ clap.embed_text(prompts).T  # (n clips, 1 or 2)
    cosines = pd.DataFrame(cosines.double().numpy(), clips.index, prompts)
    shown = clips.filter(["clip", "emotion", "domain"])
    nearest, shares, columns = {}, {}, []
    for text in prompts:
        found = shown.assign(cosine=cosines[text])
        if len(prompts) > 1:
            found["cosine to the other"] = cosines.drop(columns=text)
        found = found.sort_values("cosine", ascending=False, kind="stable")
        shares[text] = found["emotion"][:N_COUNTED].value_counts(normalize=True)
        nearest[text] = found[:N_COUNTED]
        caption = f"Nearest to: {text}"
        columns.append(parts.clips_html(found[:n], clips, caption=caption))
    shares = pd.DataFrame(shares).fillna(0.0).sort_index().rename_axis("emotion")
    first, last = (nearest[text].index for text in (prompts[0], prompts[-1]))
    caption = f"Emotions among the nearest {N_COUNTED} of {len(clips)} clips"
    caption += f"; {len(first.intersection(last))} are near both" * (len(prompts) > 1)
    tables, view = {caption: shares}, parts.View(shares=shares, taken=None)
    view.table = nearest[prompts[0]][:n]
    if emotion := emotion.strip().lower():
        guess = zero_shot(clap, (*EMOTIONS, emotion)).predict(embedded.embeddings)
        view.taken = pd.DataFrame({emotion: guess == emotion}).groupby(clips["emotion"])
        view.taken = view.taken.mean()
        tables[f"Clips nearer to {emotion} than to {', '.join(EMOTIONS)}"] = view.taken
    html = [parts.table_html(table, caption=name) for name, table in tables.items()]
    view.html = parts.side_by_side(*html) + parts.side_by_side(*columns)
    return view


def explore_prompts(clap: Clap, embedded: EmbeddedCorpus) -> parts.Panel:
    """Build the explorer: type prompts, or take suggested ones; name an emotion."""

    def render(**texts: str) -> partial:
        return partial(render_prompt_results, clap, embedded, **texts)

    first = Combobox(value=PROMPTS[0], options=PROMPTS, description="prompt")
    second = Combobox(options=PROMPTS, description="compare with")
    third = Text(placeholder="bored", description="one more emotion")
    return parts.shell(render, prompt=first, other=second, emotion=third)
