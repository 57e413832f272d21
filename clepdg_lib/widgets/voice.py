"""Your voice: upload a recording, which stays in memory, and see the predictions."""

from typing import Any

from ipywidgets import FileUpload, VBox

from clepdg_lib import audio
from clepdg_lib.clap import Clap
from clepdg_lib.widgets import parts

MAX_SECONDS = 60
HELP = "<p>A WAV, FLAC, Ogg or MP3 file. It stays in this kernel.</p>"


def render_voice(
    content: bytes, *, clap: Clap, name: str = "your recording", **asked: Any
) -> parts.View:
    """Prepare the first 60 s of a sound file; play, embed and classify them.

    The other keywords, and the view, are those of `parts.render_waves`; it also has
    `problem`: "", or what is wrong with the file; all else is then None.
    """
    rate = {"sample_rate": clap.sample_rate}
    try:
        wave = audio.read_recording(content, name=name, **rate)
        wave = audio.prepare(wave[: MAX_SECONDS * clap.sample_rate], **rate)
        title = f"{name}: {len(wave) / clap.sample_rate:.1f} s, trimmed and levelled"
        waves = {"your voice": wave}
        view = parts.render_waves(waves, title=title, clap=clap, **asked, **rate)
    except audio.AudioError as error:
        empty = dict.fromkeys(("probabilities", "figure", "map"))
        return parts.View(html=parts.alert(error), problem=str(error), **empty)
    view.problem = ""
    return view


def try_your_voice(clap: Clap, classifiers: Any, **asked: Any) -> VBox:
    """Build the upload for a classifier, or name to classifier."""

    def render(recording: tuple) -> parts.View:
        if not recording:
            return parts.View(html=HELP)
        how = {"clap": clap, "classifiers": classifiers, "name": recording[0]["name"]}
        return render_voice(bytes(recording[0]["content"]), **how, **asked)

    upload = FileUpload(accept=".wav,.flac,.ogg,.mp3", description="recording")
    return parts.shell(render, recording=upload)
