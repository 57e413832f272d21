"""Context viewer: what acoustic contexts add to sentences, and do to clips."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import torch
from ipywidgets import BoundedIntText

from clepdg_lib import audio, plots
from clepdg_lib.acpt import AcousticContexts, embed_contexts, text_shifts
from clepdg_lib.captions import EMOTIONS, ENVIRONMENT_PHRASES
from clepdg_lib.clap import Clap
from clepdg_lib.widgets import parts
from clepdg_lib.widgets.places import mix_place

NAMED = [environment.caption for environment in audio.ENVIRONMENTS.values()]
PHRASES = list(dict.fromkeys((*NAMED, *ENVIRONMENT_PHRASES)))
ALL = "all, side by side"
RT60 = {"none": 0.0, "small": 0.3, "medium": 0.7, "large": 1.6}  # seconds, by room


def render_context(
    clap: Clap,
    contexts: AcousticContexts | Mapping[str, AcousticContexts],
    *,
    number: int = 1,
    captions: Sequence[str] = PHRASES,
    draw: bool = True,
    **speech: Any,
) -> parts.View:
    """Show one of K contexts, or the same number of several sets side by side.

    With G (`place_map`) and real `clips` in places, their nearest changes are found,
    and a `voice` (n,) is played in such a place; with a `classifier` also what happens
    to the clip in row `clip`. The view has `phrases` (cosine of the captions' shifts,
    best first), `kept` (by emotion: the nearest plain sentence, cosine to its own),
    `figure`, `alike` and `probabilities`; of several sets, `sets`: views by name.
    """
    if isinstance(contexts, Mapping):
        how = {"number": number, "captions": captions, "draw": False, **speech}
        views = {name: render_context(clap, c, **how) for name, c in contexts.items()}
        html = [f"<h4>{escape(name)}</h4>{v.html}" for name, v in views.items()]
        return parts.View(html=parts.side_by_side(*html), sets=views)
    if not 1 <= number <= len(contexts):
        raise ValueError(f"there is no context {number}; give 1 to {len(contexts)}")
    one = AcousticContexts(contexts.vectors[[number - 1]], contexts.template)
    shift = text_shifts(clap, one)  # (1, dim)
    cosines = torch.cosine_similarity(shift, text_shifts(clap, captions))
    phrases = pd.Series(cosines.double().numpy(), pd.Index(captions, name="phrase"))
    phrases = phrases.sort_values(ascending=False).to_frame("cosine")
    plain = clap.embed_text([contexts.template.format(emotion=e) for e in EMOTIONS])
    (points,) = embed_contexts(clap, one, EMOTIONS)  # (E, dim)
    cosines = points @ plain.T  # (E, E)
    kept = pd.DataFrame(index=pd.Index(EMOTIONS, name="emotion"))
    kept["nearest"] = [EMOTIONS[i] for i in cosines.argmax(dim=1)]
    kept["cosine"] = cosines.diagonal().double().numpy()
    view = _show_clips(clap, shift, **speech) if speech else parts.View(html="")
    view.phrases, view.kept, view.figure = phrases, kept, None
    left = parts.table_html(phrases[:5], caption="Phrases that shift a sentence alike")
    right = parts.table_html(kept, caption="The nearest plain sentence of each emotion")
    view.html = parts.side_by_side(left, right) + view.html
    if draw:
        n_kept = (kept["nearest"] == kept.index).sum()
        title = f"Context {number} keeps {n_kept} of {len(kept)} emotions"
        moves = dict(zip(EMOTIONS, torch.stack([plain, points], dim=1), strict=True))
        look = {"title": title, "outlined": (plain, EMOTIONS), "moves": moves}
        cloud = embed_contexts(clap, contexts, EMOTIONS).flatten(0, 1)  # (K E, dim)
        view.figure = plots.embedding_map(cloud, [*EMOTIONS] * len(contexts), **look)
        alt = f"PCA of emotions in all contexts, arrows from plain sentences. {title}"
        view.html += parts.image_html(view.figure, alt=alt)
    return view


def _show_clips(clap, shift, *, clips, place_map, classifier=None, clip=0, voice=None):
    rows = np.sort(np.random.default_rng(0).permutation(len(clips))[:1_000])
    some = clips.take(rows)
    bent = place_map(some.clean, shift.expand(len(rows), -1))
    moves = [(x - some.clean) / place_map.deviation for x in (bent, some.features)]
    cosines = torch.cosine_similarity(*moves).double().numpy()
    alike = some.clips.set_axis(rows).rename_axis("row").assign(cosine=cosines)
    alike = alike.sort_values("cosine", ascending=False)[:3]
    view, first = parts.View(alike=alike, probabilities=None), alike.iloc[0]
    caption = "Clips that a place changed most as this context would"
    shown = alike.filter(["corpus", "emotion", "place", "caption", "cosine"])
    view.html = parts.clips_html(shown, clips.clips, caption=caption)
    if voice is not None and "room" in alike:  # a simulated place
        how = {"noise": first["noise"], "channel": first["channel"], "snr_db": 10.0}
        where = mix_place(echo=RT60[first["room"]], **how)
        how = {"severity": first["severity"], "generator": torch.Generator()}
        placed = audio.place(audio.prepare(voice), where, **how)
        view.html += parts.player(placed, name=f"another voice, {first['caption']}")
    if classifier is not None:
        clean = clips.clean[[clip]]
        ways = {"as recorded": clean, "in the context": place_map(clean, shift)}
        ways["in its place"] = clips.features[[clip]]
        values = classifier.predict_proba(clap.project(torch.cat([*ways.values()])))
        index = pd.Index(classifier.emotions, name="emotion")
        view.probabilities = pd.DataFrame(values.T.double().numpy(), index, [*ways])
        caption = f"Clip {clip}, {clips.clips['emotion'][clip]}"
        view.html += parts.table_html(view.probabilities, caption=caption)
    return view


def view_contexts(clap: Clap, contexts: Any, **asked: Any) -> parts.Panel:
    """Build the viewer for `AcousticContexts`, or name to contexts.

    The keywords are those of `render_context`.
    """
    sets = parts.by_name(contexts, name="contexts")

    def render(contexts: str, number: int = 1, **clip: int) -> partial:
        chosen = sets if contexts == ALL else sets[contexts]
        return partial(render_context, clap, chosen, number=number, **asked, **clip)

    choices = {"contexts": [*[ALL][: len(sets) > 1], *sets]}
    choices["number"] = (1, max(len(chosen) for chosen in sets.values()))
    if "classifier" in asked:
        choices["clip"] = BoundedIntText(max=len(asked["clips"]) - 1)
    return parts.shell(render, **choices)
