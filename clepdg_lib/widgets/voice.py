"""Your voice: record or upload it, into memory alone, and see the predictions."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import anywidget
import pandas as pd
import traitlets

from clepdg_lib import audio
from clepdg_lib.audio import AudioError
from clepdg_lib.clap import Clap
from clepdg_lib.widgets import parts

MAX_SECONDS = 60
HELP = """<p>Record, or choose a file: WAV, FLAC, Ogg, MP3 and what this browser plays,
often M4A and WebM. It stays in this kernel. The last two takes are compared.</p>"""
VIDEO = "For a video, M4A or WebM file: ffmpeg -i FILE voice.wav"


def render_voice(
    content: bytes | Mapping[str, bytes],
    *,
    clap: Clap,
    name: str = "your recording",
    **asked: Any,
) -> parts.View:
    """Prepare the first 60 s of a sound file, or of two by name; embed and classify.

    The other keywords, and the view, are those of `parts.render_waves`; it also has
    `takes` (lengths, level and peak) and `problem`: "", or what is wrong with a file;
    where none is usable, all else is None.
    """
    rate, waves, rows, problems = clap.sample_rate, {}, {}, []
    for take, sound in parts.by_name(content, name=name).items():
        try:
            whole = audio.read_recording(sound, name=take, sample_rate=rate)
            wave = whole[: MAX_SECONDS * rate]
            if audio.is_silent(wave):
                cure = "see whether the microphone is muted, and record again"
                raise AudioError(f"{take} is silent; {cure}.")
        except AudioError as error:
            is_video = sound[4:8] == b"ftyp" or sound[:4] == b"\x1aE\xdf\xa3"
            problems.append(f"{error} {VIDEO if is_video else ''}".strip())
            continue
        kept = audio.prepare(wave, sample_rate=rate)
        waves[take if isinstance(content, Mapping) else "your voice"] = kept
        peak = f"{wave.abs().max():.2f}"
        peak += " (clipped)" * (peak >= "0.99")
        lengths = [f"{len(w) / rate:.1f} s" for w in (whole, kept)]
        rows[take] = [*lengths, f"{audio.rms_db(wave):.0f} dB", peak]
    view = parts.View(html="", **dict.fromkeys(("probabilities", "figure", "map")))
    columns = ["recorded", "kept", "level", "peak"]
    takes = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    if waves:
        title = " against ".join(f"{take}: {row[1]}" for take, row in rows.items())
        how = {"title": f"{title}, trimmed and levelled", "sample_rate": rate}
        view = parts.render_waves(waves, clap=clap, **how, **asked)
        caption = f"Level and trim; the first {MAX_SECONDS} s are used"
        view.html += parts.table_html(takes, caption=caption)
    view.html = "".join(map(parts.alert, problems)) + view.html
    view.takes, view.problem = takes, " ".join(problems)
    return view


class Recorder(anywidget.AnyWidget):
    """Records, or decodes a file, in the page; `value` has the last two takes."""

    _esm, _css = parts.HERE / "recorder.js", parts.HERE / "widgets.css"
    rate = traitlets.Int().tag(sync=True)  # hertz
    seconds = traitlets.Int(MAX_SECONDS).tag(sync=True)  # then it stops
    value = traitlets.Dict()  # name -> content of a sound file
    description, n_recorded = "recording", 0

    def add(self, _widget: Any, content: dict[str, str], buffers: list) -> None:
        """Keep what the page sends: a take without a name was recorded."""
        self.n_recorded += not content["name"]
        name = content["name"] or f"take {self.n_recorded}"
        others = [(n, sound) for n, sound in self.value.items() if n != name]
        self.value = dict([*others, (name, bytes(buffers[0]))][-2:])


def try_your_voice(clap: Clap, classifiers: Any, **asked: Any) -> parts.Panel:
    """Build the recorder for a classifier, or name to classifier."""
    recorder = Recorder(rate=clap.sample_rate)
    recorder.on_msg(recorder.add)
    how = {"clap": clap, "classifiers": classifiers, **asked}

    def render(recording: dict[str, bytes]) -> parts.View:
        if not recording:
            return parts.View(html=HELP)
        view = render_voice(recording, **how)
        if view.problem:  # a wrong file is named once, and forgotten
            recorder.value = {n: recording[n] for n in view.takes.index}
        view.code = parts.code_of(partial(render_voice, recorder.value, **how))
        return view

    return parts.shell(render, recording=recorder)
