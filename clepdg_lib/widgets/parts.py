"""Parts that the widgets share: HTML (escaped, with labels and alt texts), a shell."""

import functools
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ipywidgets
import pandas as pd
from IPython.core.pylabtools import print_figure
from IPython.display import Audio
from matplotlib.figure import Figure
from torch import Tensor

from clepdg_lib import audio, plots
from clepdg_lib.clap import Clap
from clepdg_lib.embeddings import EmbeddedCorpus
from clepdg_lib.transfer import TextClassifier


class View(SimpleNamespace):
    """What a widget shows: `html`, and the tables, figures and numbers in it."""

    def __repr__(self) -> str:
        return f"View({', '.join(vars(self))})"

    def _repr_html_(self) -> str:
        return self.html


def player(wave: Tensor, *, name: str, sample_rate: int = audio.SAMPLE_RATE) -> str:
    """Return an ``audio`` element that holds a wave (n,) as WAV, under its name."""
    samples, name = audio.as_wave(wave).clamp(-1, 1).numpy(), escape(name)
    sound = Audio(samples, rate=sample_rate, normalize=False)._repr_html_().strip()
    sound = sound.replace("<audio", f'<audio aria-label="{name}"')
    return f"<figure><figcaption>{name}</figcaption>{sound}</figure>"


def clips_html(table: pd.DataFrame, clips: pd.DataFrame, *, caption: str) -> str:
    """Return a table of some clips, and a player for each whose file is here."""
    html = table_html(table, caption=caption)
    for row in table.index:
        path = str(clips.loc[row].get("path", ""))
        if Path(path).is_file():
            html += player(audio.prepare(audio.read_audio(path)), name=f"clip {row}")
    return html


def by_name(given: Any, *, name: str) -> dict[str, Any]:
    """Return a copy of name to item, also of one item alone."""
    return dict(given) if isinstance(given, Mapping) else {name: given}


def image_html(figure: Figure, *, alt: str) -> str:
    """Return a figure as an ``img`` that holds its own data."""
    data = print_figure(figure, fmt="png", base64=True, bbox_inches=None, dpi=80)
    style = 'style="max-width:100%"'
    return f'<img alt="{escape(alt)}" {style} src="data:image/png;base64,{data}">'


def table_html(table: pd.DataFrame, *, caption: str) -> str:
    """Return a table with scopes; floats have a bar (0 to 1), missing ones a dash."""

    def bar(value: float) -> str:
        return f"{value:.2f} " + "█" * round(10 * min(max(value, 0), 1))

    table = table.rename_axis(index=None, columns=table.index.name)
    html = table.to_html(float_format=bar, na_rep="–", border=0, justify="left")
    html = html.replace("<thead>", f"<caption>{escape(caption)}</caption><thead>")
    head, body = html.replace("<th>", '<th scope="col">').split("<tbody>")
    return head + "<tbody>" + body.replace('"col"', '"row"')


def side_by_side(*parts: str) -> str:
    """Return parts in a row that wraps where the page is narrow."""
    cells = "".join(f'<div style="flex:1 1 20em">{part}</div>' for part in parts)
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em">{cells}</div>'


def alert(problem: object) -> str:
    """Return a sentence about input that cannot be used."""
    return f'<p role="alert"><b>Not usable:</b> {escape(str(problem))}</p>'


def render_waves(
    waves: Mapping[str, Tensor],
    *,
    title: str,
    clap: Clap,
    classifiers: TextClassifier | Mapping[str, TextClassifier],
    background: EmbeddedCorpus | None = None,
    sample_rate: int = audio.SAMPLE_RATE,
) -> View:
    """Play, draw, embed and classify one wave (n,), or two, by name.

    The view has `figure` (spectrograms), `cosine` (of the first and last embedding),
    `probabilities` (by emotion) and `map` (embeddings among the background, or None).
    """
    rate, columns, last = {"sample_rate": sample_rate}, {}, list(waves)[-1]
    embedded = clap.embed_audio(list(waves.values()), **rate)  # (1 or 2, dim)
    for kind, fitted in by_name(classifiers, name="").items():
        for name, row in zip(waves, fitted.predict_proba(embedded), strict=True):
            values = pd.Series(row.double(), index=list(fitted.emotions))
            columns[f"{name}, {kind}".removesuffix(", ")] = values
    probabilities = pd.concat(columns, axis=1).rename_axis("emotion")
    view = View(probabilities=probabilities, cosine=float(embedded[0] @ embedded[-1]))
    cells = [player(wave, name=name, **rate) for name, wave in waves.items()]
    cells.append(table_html(probabilities, caption="Probability of each emotion"))
    view.figure, view.map = plots.spectrogram(waves, title=title, **rate), None
    images = [image_html(view.figure, alt=f"Spectrograms: {', '.join(waves)}. {title}")]
    if background is not None:
        moved = f"Cosine of embeddings {view.cosine:.2f}" if len(waves) > 1 else title
        clouds = background.embeddings, background.clips["emotion"]
        view.map = plots.embedding_map(*clouds, title=moved, moves={last: embedded})
        alt = f"PCA of clips by emotion, a star at: {last}. {moved}"
        images.append(image_html(view.map, alt=alt))
    view.html = side_by_side(*cells) + side_by_side(*images)
    return view


def shell(render: Callable[..., View], **choices: Any) -> ipywidgets.VBox:
    """Put a control for each argument of a function over the view that it returns.

    Choices are those of `ipywidgets.interactive`; errors become sentences.
    """
    output = ipywidgets.HTML()

    @functools.wraps(render)
    def update(**chosen: Any) -> None:
        try:
            output.value = render(**chosen).html
        except (ValueError, OSError) as error:
            output.value = alert(error)

    box = ipywidgets.interactive(update, **choices)
    for item in box.kwargs_widgets:
        if "description_width" in item.style.keys:
            item.style.description_width = "initial"  # a label is never cut off
        if "continuous_update" in item.keys:
            item.continuous_update = False
    box.update()
    row = ipywidgets.Layout(flex_flow="row wrap")
    return ipywidgets.VBox([ipywidgets.HBox(box.kwargs_widgets, layout=row), output])
