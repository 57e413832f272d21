"""Parts that the widgets share: HTML (escaped, labelled), calls as text, a panel."""

import base64
import inspect
import io
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anywidget
import ipywidgets
import pandas as pd
import traitlets
from IPython import get_ipython
from IPython.display import Audio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from torch import Tensor

from clepdg_lib import audio, plots
from clepdg_lib.clap import Clap
from clepdg_lib.embeddings import EmbeddedCorpus
from clepdg_lib.transfer import TextClassifier

HERE = Path(__file__).parent


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


def by_name(given: Any, *, name: str) -> Mapping[str, Any]:
    """Return name to item, also of one item alone."""
    return given if isinstance(given, Mapping) else {name: given}


def image_html(figure: Figure, *, alt: str) -> str:
    """Return a figure as an ``img`` that holds its own data."""
    figure.set_dpi(80)
    canvas, file = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()  # once; `savefig` draws twice
    fast = {"compress_level": 1}
    imsave(file, canvas.buffer_rgba(), format="png", pil_kwargs=fast)
    data = base64.b64encode(file.getvalue()).decode()
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
    clap: Clap | Mapping[str, Clap],
    classifiers: TextClassifier | Mapping[str, TextClassifier],
    background: EmbeddedCorpus | None = None,
    sample_rate: int = audio.SAMPLE_RATE,
) -> View:
    """Play, draw, embed and classify one wave (n,), or two, by name.

    Models (of one audio tower) and classifiers may have names. The view has `figure`
    (spectrograms), `probabilities` (by emotion), and for the first model `cosine` (of
    the first and last embedding) and `map` (embeddings among the background, or None).
    """
    rate, columns, last = {"sample_rate": sample_rate}, {}, list(waves)[-1]
    models, kinds = by_name(clap, name=""), by_name(classifiers, name="")
    first = next(iter(models.values()))
    features = first.audio_features(list(waves.values()), **rate)  # (1 or 2, D)
    for wave, row in zip(waves, features, strict=True):
        for (model, each), (kind, fitted) in product(models.items(), kinds.items()):
            (values,) = fitted.predict_proba(each.project(row[None])).double().numpy()
            name = ", ".join(filter(None, (wave, model, kind)))
            columns[name] = pd.Series(values, index=list(fitted.emotions))
    probabilities = pd.concat(columns, axis=1).rename_axis("emotion")
    embedded = first.project(features)
    view = View(probabilities=probabilities, cosine=float(embedded[0] @ embedded[-1]))
    cells = [player(wave, name=name, **rate) for name, wave in waves.items()]
    cells.append(table_html(probabilities, caption="Probability of each emotion"))
    view.figure, view.map = plots.spectrogram(waves, title=title, **rate), None
    drawn = {f"Spectrograms: {', '.join(waves)}. {title}": view.figure}
    if background is not None:
        moved = f"Cosine of embeddings {view.cosine:.2f}" if len(waves) > 1 else title
        clouds = background.embeddings, background.clips["emotion"]
        view.map = plots.embedding_map(*clouds, title=moved, moves={last: embedded})
        view.map.axes[0].set(xticks=[], yticks=[])  # numbers without a meaning
        drawn[f"PCA of clips by emotion, a star at: {last}. {moved}"] = view.map
    for axis in (axis for figure in drawn.values() for axis in figure.axes):
        axis.locator_params(nbins=3)  # placing ticks takes most of the time
    images = [image_html(figure, alt=alt) for alt, figure in drawn.items()]
    view.html = side_by_side(*cells) + side_by_side(*images)
    return view


class CodeButton(anywidget.AnyWidget):
    """A button that shows, and copies, the call behind a view."""

    _esm, _css = HERE / "code.js", HERE / "widgets.css"
    code = traitlets.Unicode().tag(sync=True)


class Panel(ipywidgets.VBox):
    """Controls over a view; `value` has what they are set to, and sets them."""

    value = traitlets.Dict()


def shell(render: Callable[..., View | partial], **choices: Any) -> Panel:
    """Put a control for each argument of a function over the view that it returns.

    Choices are widgets, or those of `ipywidgets.interactive`; errors become sentences.
    A `partial` of a `render_` function is called, and is what "copy as code" copies.
    """
    given, controls = inspect.signature(render).parameters, {}
    for name, item in choices.items():
        if not isinstance(item, ipywidgets.Widget):
            default = given[name].default if name in given else inspect.Parameter.empty
            item = ipywidgets.interactive.widget_from_abbrev(item, default)
        item.description, controls[name] = item.description or name, item
        if item.has_trait("style"):
            item.style.description_width = "initial"  # a label is never cut off
        if item.has_trait("continuous_update"):
            item.continuous_update = False
    top = ipywidgets.HBox([*controls.values()], layout={"flex_flow": "row wrap"})
    panel = Panel([top, ipywidgets.HTML(), CodeButton()])

    def read(_change: Any = None) -> None:
        panel.value = {name: control.value for name, control in controls.items()}

    def show(change: Any) -> None:
        for name, value in change.new.items():
            controls[name].value = value
        if len(change.new) < len(controls):  # set in part
            return read()
        try:
            view = render(**change.new)
            code = getattr(view, "code", "")
            if isinstance(view, partial):
                code, view = code_of(view), view()
        except (ValueError, OSError) as error:
            view, code = View(html=alert(error)), ""
        panel.children[1].value, panel.children[2].code = view.html, code

    panel.observe(show, "value")
    for control in controls.values():
        control.observe(read, "value")
    read()
    return panel


def code_of(call: partial) -> str:
    """Return a call as text that can be pasted into the notebook."""
    name, parameters = call.func.__name__, inspect.signature(call.func).parameters
    words = [name_of(v, n) for v, n in zip(call.args, parameters, strict=False)]
    words += [f"{n}={name_of(v, n)}" for n, v in call.keywords.items()]
    inside = ",\n    ".join(words)
    return f"from clepdg_lib.widgets import {name}\n\n{name}(\n    {inside},\n)"


def name_of(item: Any, default: str) -> str:
    """Return a plain value as text, or what the notebook calls an object."""
    item = getattr(item, "__wrapped__", item)  # behind a cache
    if item is None or isinstance(item, str | int | float | list):
        return repr(item)
    names = dict(getattr(get_ipython(), "user_ns", {}))
    names = {n: v for n, v in names.items() if n[0] != "_" or n[1:].isdigit()}  # _20
    names |= {f"{n}.value": v.value for n, v in names.items() if isinstance(v, Panel)}
    for name, held in list(names.items()):
        if isinstance(held, Mapping):
            names |= {f"{name}[{key!r}]": value for key, value in held.items()}
    inside = {k: name_of(v, "") for k, v in item.items()} if type(item) is dict else {}
    if inside and all(inside.values()):  # written in the call
        default = "{" + ", ".join(f"{k!r}: {text}" for k, text in inside.items()) + "}"
    return next((name for name, value in names.items() if value is item), default)
