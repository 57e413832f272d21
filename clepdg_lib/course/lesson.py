"""What every notebook does first, and how it shows, plays and checks."""

from __future__ import annotations

import base64
import html
import io
import os
import random
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clepdg_lib.files import data_root

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

# Notebook -> minutes to work through it.
LESSONS = {
    "00_welcome": 15,
    "01_probe_clap": 30,
    "02_finetune_clep": 30,
    "03_tune_acoustic_contexts": 30,
    "04_transfer_across_modalities": 30,
    "05_generalise_across_domains": 30,
    "06_scale_up": 20,
}
MODELS = ("clap-mini", "clep-mini")


@dataclass(frozen=True)
class Lesson:
    """A started lesson: its device, seeded CPU generator, models and corpora."""

    name: str
    device: torch.device
    generator: torch.Generator
    models: tuple[str, ...]
    corpora: tuple[str, ...]


def start_lesson(number: str, *, seed: int = 0) -> Lesson:
    """Seed random, numpy and torch, set the figure style, print what is there."""
    from clepdg_lib.corpora import list_corpora
    from clepdg_lib.plots import set_style

    names = {known: name for name in LESSONS for known in (name[:2], name)}
    if number not in names:
        valid = ", ".join(name[:2] for name in LESSONS)
        raise ValueError(f"no lesson {number!r}; there are {valid}.")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    set_style()
    lesson = Lesson(
        name=names[number],
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        generator=torch.Generator().manual_seed(seed),
        models=tuple(m for m in MODELS if (data_root() / "models" / m).is_dir()),
        corpora=tuple(list_corpora().query("found")["name"]),
    )
    versions = [f"{p} {metadata.version(p)}" for p in ("torch", "transformers")]
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(f"Lesson {lesson.name}: about {LESSONS[lesson.name]} minutes to work through")
    print(f"Device {lesson.device} ({threads}), seed {seed}; {', '.join(versions)}")
    print(f"Models: {', '.join(lesson.models) or 'none in data/models'}")
    print(f"Corpora: {', '.join(lesson.corpora) or 'none'}")
    return lesson


def show(figure: Figure, *, alt: str, dpi: int = 100) -> None:
    """Show a figure as PNG, described in `alt` in 20 characters or more; close it."""
    from IPython.display import display
    from matplotlib import pyplot

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
    import soundfile
    from IPython.display import HTML

    from clepdg_lib.audio import SAMPLE_RATE, as_wave, resample

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

    Example:
        >>> check("01.2", ...)
        ⏳ Exercise 01.2: not attempted yet: replace the ... by your answer
    """
    from clepdg_lib.course.exercises import grade

    mark, message = grade(number, answer)
    print(f"{mark} Exercise {number}: {message}")
