"""Two things to play with: prompts that find clips, and places to put a voice in.

Each widget is a thin shell around a pure ``render_...`` function, which gives the
same picture without a browser: use it for the static twin below a widget, and in
tests. HTML, images and players are set as values, so that they also work where no
kernel prints (Voila).

Lesson: notebooks/01_probe_clap.ipynb, notebooks/04_transfer_across_modalities.ipynb
Shapes: n clips, dim the embedding width, samples of one wave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from clepdg_lib.audio import LEVEL_DB, SAMPLE_RATE, level
from clepdg_lib.environments import ENVIRONMENTS, place
from clepdg_lib.markup import bars_html, image_html, player, table_html

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

    from clepdg_lib.clap import Clap
    from clepdg_lib.corpora import Corpus
    from clepdg_lib.transfer import TextClassifier

PROMPTS = (
    "this person is feeling angry",
    "this person is feeling sad",
    "a woman's voice",
    "a man's voice",
    "heard over the telephone",
    "street traffic in the background",
)


@dataclass(frozen=True)
class PromptResults:
    """What a prompt found.

    Attributes:
        prompt: The prompt, without spaces around it.
        table: Best clips first: ``row`` (position in the clips given), ``score``
            (cosine), and the columns of the clips; empty if nothing was asked.
        shares: Part of each emotion among the best clips, by ``n_counted``.
        html: The same, to be shown.
    """

    prompt: str
    table: pd.DataFrame
    shares: pd.Series
    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


@dataclass(frozen=True)
class EnvironmentResult:
    """A voice in a place, and what a classifier makes of it.

    Attributes:
        wave: ``(samples,)``, levelled.
        figure: Spectrogram before and after.
        probabilities: By emotion, for the original and for the placed voice
            (columns ``original`` and ``placed``); None without a classifier.
        html: Picture with alternative text, and the probabilities as bars.
    """

    wave: Tensor = field(repr=False)
    figure: Figure = field(repr=False)
    probabilities: pd.DataFrame | None
    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def render_prompt_results(
    clap: Clap,
    audio_embeddings: Tensor,
    *,
    clips: pd.DataFrame,
    prompt: str,
    n: int = 5,
    n_counted: int = 50,
) -> PromptResults:
    """Find the clips that lie nearest to a prompt.

    Args:
        clap: Embeds the prompt.
        audio_embeddings: ``(n_clips, dim)``, one row per row of ``clips``.
        clips: Table with ``emotion``; ``clip``, ``speaker`` and ``domain`` are shown.
        prompt: Any sentence. An empty one is answered with a sentence, not an error.
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
    prompt = prompt.strip()
    if not prompt or clips.empty:
        missing = "Type a prompt to begin." if not prompt else "No clip to search."
        html = f"<p>{missing} For example: <i>{escape(PROMPTS[0])}</i></p>"
        return PromptResults(prompt, clips.iloc[:0], pd.Series(dtype=float), html)
    scores = audio_embeddings @ clap.embed_text([prompt])[0]  # (n_clips,)
    order = scores.argsort(descending=True, stable=True).tolist()
    counted = clips["emotion"].iloc[order[:n_counted]]
    shares = counted.value_counts(normalize=True).sort_index().rename("share")
    shown = [c for c in ("clip", "emotion", "domain", "speaker") if c in clips]
    table = clips.iloc[order[:n]][shown].reset_index(drop=True)
    table.insert(0, "score", scores[order[:n]].tolist())
    table.insert(0, "row", order[:n])
    named = ", ".join(f"{escape(str(e))} {s:.0%}" for e, s in shares.items())
    html = (
        f"<p>Nearest to <b>{escape(prompt)}</b>, of {len(clips)} clips. "
        f"Among the best {len(counted)}: {named}.</p>"
        + table_html(table, caption="Best clips")
    )
    return PromptResults(prompt, table, shares, html)


def explore_prompts(
    clap: Clap,
    audio_embeddings: Tensor,
    *,
    corpus: Corpus,
    prompts: Sequence[str] = PROMPTS,
    n: int = 3,
) -> ipywidgets.VBox:
    """Build a search box: type or choose a prompt, see and hear what it finds.

    Args:
        clap: Embeds the prompts.
        audio_embeddings: ``(n_clips, dim)`` of the corpus, in its order.
        corpus: Where the clips are read from, for the players.
        prompts: Suggestions; the first is shown at once.
        n: Clips to list and to play.

    Returns:
        A box of: the prompt (``Text``; press Enter), suggestions and domains
        (``Dropdown``), results (``HTML``), players (``VBox``).
    """
    import ipywidgets

    text = ipywidgets.Text(
        value=prompts[0],
        description="prompt",
        continuous_update=False,
        layout=ipywidgets.Layout(width="32em"),
    )
    choice = ipywidgets.Dropdown(
        options=[("choose ...", ""), *((p, p) for p in prompts)],
        description="or choose",
    )
    domains = sorted(corpus.clips["domain"].astype(str).unique())
    domain = ipywidgets.Dropdown(options=["all", *domains], description="domain")
    results, players = ipywidgets.HTML(), ipywidgets.VBox()

    def update(_change: object = None) -> None:
        rows = range(len(corpus.clips))
        if domain.value != "all":
            rows = [i for i in rows if str(corpus.clips["domain"][i]) == domain.value]
        found = render_prompt_results(
            clap,
            audio_embeddings[list(rows)],
            clips=corpus.clips.iloc[list(rows)],
            prompt=text.value,
            n=n,
        )
        results.value = found.html
        players.children = [
            player(corpus.read(rows[row]), name=f"clip {rank}")
            for rank, row in enumerate(found.table.get("row", []), start=1)
        ]

    def choose(change: dict) -> None:
        if change["new"]:
            text.value = change["new"]

    text.observe(update, "value")
    domain.observe(update, "value")
    choice.observe(choose, "value")
    update()
    return ipywidgets.VBox([text, choice, domain, results, players])


def render_environment(
    wave: Tensor,
    environment: str,
    *,
    severity: float = 1.0,
    clap: Clap | None = None,
    classifier: TextClassifier | None = None,
    sample_rate: int = SAMPLE_RATE,
    seed: int = 0,
) -> EnvironmentResult:
    """Put a voice in a place and ask a classifier before and after.

    Args:
        wave: ``(samples,)``.
        environment: A name in ``ENVIRONMENTS``.
        severity: 0 (untouched) to 3 (hardest).
        clap: Embeds the voice; only needed with a classifier.
        classifier: Judges the embeddings; None shows the spectrograms alone.
        sample_rate: In hertz.
        seed: Of the echoes and the noise: same seed, same place.

    Raises:
        ValueError: An unknown environment, a severity out of range, or a classifier
            without ``clap``.
    """
    if classifier is not None and clap is None:
        raise ValueError("a classifier judges embeddings; give clap as well")
    from clepdg_lib.plots import spectrogram

    dry = level(wave, rms_db=LEVEL_DB)
    placed = place(
        dry,
        environment,
        generator=torch.Generator().manual_seed(seed),
        severity=severity,
        sample_rate=sample_rate,
    )
    title = f"The same voice, {environment}, severity {severity:g}"
    figure = spectrogram(
        {"original": dry, environment: placed}, title=title, sample_rate=sample_rate
    )
    alt = (
        f"Two spectrograms of one voice: the original, and in the environment "
        f"{environment} at severity {severity:g}."
    )
    probabilities, bars = None, ""
    if classifier is not None:
        embedded = clap.embed_audio([dry, placed], sample_rate=sample_rate)
        probabilities = pd.DataFrame(
            classifier.predict_proba(embedded).T.numpy(),
            index=list(classifier.emotions),
            columns=["original", "placed"],
        )
        bars = bars_html(probabilities)
    return EnvironmentResult(
        placed, figure, probabilities, image_html(figure, alt=alt) + bars
    )


def mix_environments(
    waves: Tensor | Mapping[str, Tensor],
    *,
    clap: Clap | None = None,
    classifier: TextClassifier | None = None,
    environments: Sequence[str] = tuple(ENVIRONMENTS),
    sample_rate: int = SAMPLE_RATE,
) -> ipywidgets.VBox:
    """Build a mixer: choose a voice and a place, turn the severity, listen.

    Args:
        waves: One voice, or name to voice.
        clap: See :func:`render_environment`.
        classifier: See :func:`render_environment`.
        environments: Names to choose from.
        sample_rate: In hertz.

    Returns:
        A box of: voice and place (``Dropdown``), severity (``FloatSlider``), player
        (``VBox``), picture and probabilities (``HTML``).
    """
    import ipywidgets

    named = dict(waves) if isinstance(waves, Mapping) else {"voice": waves}
    voice = ipywidgets.Dropdown(options=list(named), description="voice")
    where = ipywidgets.Dropdown(options=list(environments), description="place")
    severity = ipywidgets.FloatSlider(
        value=1.0,
        min=0,
        max=3,
        step=0.5,
        description="severity",
        continuous_update=False,
    )
    heard, picture = ipywidgets.VBox(), ipywidgets.HTML()

    def update(_change: object = None) -> None:
        result = render_environment(
            named[voice.value],
            where.value,
            severity=severity.value,
            clap=clap,
            classifier=classifier,
            sample_rate=sample_rate,
        )
        heard.children = [player(result.wave, sample_rate=sample_rate)]
        picture.value = result.html

    for control in (voice, where, severity):
        control.observe(update, "value")
    update()
    return ipywidgets.VBox([voice, where, severity, heard, picture])
