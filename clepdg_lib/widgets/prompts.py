"""Prompt explorer: type a sentence, see and play the clips that are nearest to it."""

import pandas as pd
from ipywidgets import Combobox, VBox

from clepdg_lib.audio import ENVIRONMENTS
from clepdg_lib.captions import CANONICAL, EMOTIONS
from clepdg_lib.clap import Clap
from clepdg_lib.embeddings import EmbeddedCorpus
from clepdg_lib.widgets import parts

N_COUNTED = 50  # nearest clips, of which the emotions are counted
PLACES = ("", *(f" {e.caption}" for e in ENVIRONMENTS.values()))
PROMPTS = [CANONICAL.format(emotion=e) + place for place in PLACES for e in EMOTIONS]


def render_prompt_results(
    clap: Clap, embedded: EmbeddedCorpus, *, prompt: str, other: str = "", n: int = 3
) -> parts.View:
    """Find the n clips nearest to a prompt, and beside it those of another prompt.

    The view has `table` (nearest clips first: row in ``embedded``, labels, cosine) and
    `shares` (of emotions among the nearest 50 clips, by prompt).
    """
    clips = embedded.clips.rename_axis("row")
    prompts = list(dict.fromkeys(filter(None, (prompt.strip(), other.strip()))))
    if not prompt.strip() or clips.empty:
        html = f"<p>Type a prompt to search {len(clips)} clips: <i>{PROMPTS[0]}</i></p>"
        return parts.View(html=html, table=clips[:0], shares=pd.DataFrame())
    cosines = embedded.embeddings @ clap.embed_text(prompts).T  # (n clips, 1 or 2)
    shown = [c for c in ("clip", "emotion", "domain") if c in clips]
    nearest, shares, columns = [], {}, []
    for text, column in zip(prompts, cosines.T.double().numpy(), strict=True):
        found = clips.assign(cosine=column).iloc[(-column).argsort(kind="stable")]
        shares[text] = found["emotion"][:N_COUNTED].value_counts(normalize=True)
        nearest.append(found[[*shown, "cosine"]][:n])
        caption = f"Nearest to: {text}"
        columns.append(parts.clips_html(nearest[-1], clips, caption=caption))
    shares = pd.DataFrame(shares).fillna(0.0).sort_index().rename_axis("emotion")
    caption = f"Emotions among the nearest {N_COUNTED} of {len(clips)} clips"
    html = parts.table_html(shares, caption=caption) + parts.side_by_side(*columns)
    return parts.View(html=html, table=nearest[0], shares=shares)


def explore_prompts(clap: Clap, embedded: EmbeddedCorpus) -> VBox:
    """Build the explorer: type one prompt or two, or take suggested ones."""

    def render(**texts: str) -> parts.View:
        return render_prompt_results(clap, embedded, **texts)

    first = Combobox(value=PROMPTS[0], options=PROMPTS, description="prompt")
    second = Combobox(options=PROMPTS, description="compare with")
    return parts.shell(render, prompt=first, other=second)
