"""What every notebook does first, and how it shows, plays and checks."""

import base64
import html
import io
import json
import os
import random
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from IPython.display import HTML, display
from matplotlib import pyplot
from matplotlib.figure import Figure

from clepdg_lib.audio import SAMPLE_RATE, as_wave, resample
from clepdg_lib.corpora import list_corpora
from clepdg_lib.course.exercises import grade
from clepdg_lib.files import data_root
from clepdg_lib.plots import set_style

# Notebook -> minutes to work through it.
LESSONS = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))


class Lesson(NamedTuple):
    """A started lesson: its device, and a seeded generator on the CPU."""

    device: torch.device
    generator: torch.Generator


def start_lesson(number: str, *, seed: int = 0) -> Lesson:
    """Seed random, numpy and torch, set the figure style, print what is there."""
    names = {name[:2]: name for name in LESSONS}
    if number not in names:
        raise ValueError(f"no lesson {number!r}; there are {', '.join(names)}.")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    set_style()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, folder = names[number], data_root() / "models"
    models = [m for m in ("clap-mini", "clep-mini") if (folder / m).is_dir()]
    versions = [f"{p} {metadata.version(p)}" for p in ("torch", "transformers")]
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(f"Lesson {name}: about {LESSONS[name]} minutes to work through")
    print(f"Device {device} ({threads}), seed {seed}; {', '.join(versions)}")
    print(f"Models: {', '.join(models) or 'none in data/models'}")
    print(f"Corpora: {', '.join(list_corpora().query('found')['name']) or 'none'}")
    return Lesson(device, torch.Generator().manual_seed(seed))


def show(figure: Figure, *, alt: str, dpi: int = 100) -> None:
    """Show a figure as PNG, described in `alt` in 20 characters or more; close it."""
    alt = " ".join(alt.split())
    if len(alt) < 20:
        raise ValueError(f"alt={alt!r}: describe the figure in 20 characters or more.")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi, metadata={"Software": None})
    pyplot.close(figure)  # or the notebook draws it again, without description
    content = base64.b64encode(image.getvalue()).decode()
    data = {"image/png": content, "text/plain": f"[Figure: {alt}]"}
    display(data, metadata={"image/png": {"alt": alt}}, raw=True)


def play(wave: Any, *, sample_rate: int = 16_000, label: str = "") -> HTML:
    """Return a player for a wave ``(n_samples,)``; peaks above 1 are scaled down."""
    wave = as_wave(wave, name=label or "clip")
    wave = resample(wave, from_rate=sample_rate, to_rate=SAMPLE_RATE)
    wave = wave / wave.abs().max().clamp(min=1.0)
    sound = io.BytesIO()
    soundfile.write(sound, wave.numpy(), SAMPLE_RATE, format="MP3")
    source = "data:audio/mpeg;base64," + base64.b64encode(sound.getvalue()).decode()
    text = html.escape(label)
    audio = f'<audio controls title="{text or "clip"}" src="{source}"></audio>'
    return HTML(f"<figure><figcaption>{text}</figcaption>{audio}</figure>")


def check(number: str, answer: Any) -> None:
    """Print the result of an exercise: ✅, ⏳ not attempted, ❌ with a hint.

    >>> check("01.2", ...)
    ⏳ Exercise 01.2: not attempted yet: replace the ... by your answer
    """
    mark, message = grade(number, answer)
    print(f"{mark} Exercise {number}: {message}")
