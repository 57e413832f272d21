"""What every notebook does first, shows and asks.

    lesson = start_lesson("03")       # seeds, device, figure style, what is there
    show(figure, alt="Four clouds, one per emotion, that overlap.")
    play(wave)
    check("03.1", my_function)        # ✅ right, ⏳ not attempted, ❌ with a hint

Lesson: every notebook
"""

from __future__ import annotations

import base64
import html
import io
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from clepdg_lib.audio import SAMPLE_RATE, check_wave, resample
from clepdg_lib.clap import BUNDLED
from clepdg_lib.corpora import list_corpora
from clepdg_lib.exercises import judge
from clepdg_lib.files import data_root
from clepdg_lib.style import set_style

if TYPE_CHECKING:
    from IPython.display import Audio
    from matplotlib.figure import Figure

# Notebook -> minutes to work through it; the course runs far faster than that.
LESSONS = {
    "00_welcome": 15,
    "01_probe_clap": 30,
    "02_finetune_clep": 30,
    "03_tune_acoustic_contexts": 30,
    "04_transfer_across_modalities": 30,
    "05_generalise_across_domains": 30,
    "06_scale_up": 20,
}
SEED = 0


@dataclass(frozen=True)
class Lesson:
    """What a started lesson offers to its cells.

    Attributes:
        name: Of the notebook, without suffix.
        device: Where models run: "cuda" if there is one, else "cpu".
        generator: Seeded source of randomness, on the CPU.
        models: Names of the bundled models that are there.
        corpora: Names of the corpora that are there.
    """

    name: str
    device: torch.device
    generator: torch.Generator
    models: tuple[str, ...]
    corpora: tuple[str, ...]

    def __repr__(self) -> str:
        # A last line `start_lesson("03")` should not print all of it again.
        return f"Lesson({self.name!r})"


def start_lesson(number: str, *, seed: int = SEED) -> Lesson:
    """Seed, choose the device, set the figure style, and say what is there.

    Args:
        number: Of the notebook, such as "03".
        seed: For random, numpy and torch; the course uses 0 everywhere.

    Raises:
        ValueError: There is no such lesson.
    """
    name = _find_lesson(number)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    set_style()
    models = tuple(m for m in BUNDLED if (data_root() / "models" / m).is_dir())
    corpora = list_corpora()
    lesson = Lesson(
        name=name,
        device=device,
        generator=torch.Generator().manual_seed(seed),
        models=models,
        corpora=tuple(corpora.loc[corpora["found"], "name"]),
    )
    print(f"Lesson {name}: about {LESSONS[name]} minutes to work through")
    print(f"Device {_describe(device)}, seed {seed}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"Models: {', '.join(lesson.models) or 'none in data/models'}")
    print(f"Corpora: {', '.join(lesson.corpora) or 'none'}")
    return lesson


def show(figure: Figure, *, alt: str, dpi: int = 100) -> None:
    """Show a figure as a picture that is also described in words, and close it.

    Args:
        figure: A matplotlib figure.
        alt: What a reader who cannot see it should know: what is drawn, and what
            it shows. At least 20 characters.
        dpi: Dots per inch; 100 keeps a notebook below a megabyte.

    Raises:
        ValueError: The description is missing or too short to describe anything.
    """
    from IPython.display import display
    from matplotlib import pyplot

    alt = " ".join(alt.split())
    if len(alt) < 20:
        raise ValueError(
            f"alt={alt!r} has {len(alt)} characters; describe the figure in 20 or "
            "more: what is drawn, and what it shows."
        )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi, metadata={"Software": None})
    pyplot.close(figure)  # or the notebook would draw it a second time, without alt
    content = base64.b64encode(picture.getvalue()).decode("ascii")
    display(
        {"image/png": content, "text/plain": f"[Figure: {alt}]"},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )


def play(
    wave: torch.Tensor | np.ndarray,
    *,
    sample_rate: int = SAMPLE_RATE,
    label: str = "",
) -> Audio:
    """Make a player for a wave; show it as a cell's last line, or with `display`.

    The sound is embedded as MP3, a tenth of a WAV file: every browser plays it and
    the notebook stays small.

    Args:
        wave: 1-D samples; peaks beyond 1 are scaled down, not clipped.
        sample_rate: In hertz; the sound is resampled to 16 kHz.
        label: Shown above the player and read by screen readers.

    Raises:
        AudioError: The wave is empty, not 1-D or not finite.
    """
    import soundfile
    from IPython.display import Audio

    class Player(Audio):
        def _repr_html_(self) -> str:
            if not label:
                return super()._repr_html_()
            text = html.escape(label)
            tag = super()._repr_html_().replace("<audio", f'<audio title="{text}"', 1)
            return f"<figure><figcaption>{text}</figcaption>{tag}</figure>"

    wave = check_wave(wave, name=label or "clip")
    wave = resample(wave, from_rate=sample_rate, to_rate=SAMPLE_RATE)
    wave = wave / wave.abs().max().clamp(min=1.0)
    sound = io.BytesIO()
    soundfile.write(sound, wave.numpy(), SAMPLE_RATE, format="MP3")
    player = Player(data=sound.getvalue())
    player.mimetype = "audio/mpeg"  # Audio takes raw bytes for WAV
    return player


def check(number: str, answer: Any) -> None:
    """Print whether an exercise is solved: ✅, ⏳ not attempted, ❌ with a hint.

    Args:
        number: Of the exercise, such as "03.1".
        answer: Your function or value.

    Raises:
        ValueError: There is no such exercise.

    Example:
        >>> check("01.2", ...)
        ⏳ Exercise 01.2: not attempted yet: replace the ... by your answer
    """
    mark, message = judge(number, answer)
    print(f"{mark} Exercise {number}: {message}")


def _find_lesson(number: str) -> str:
    for name in LESSONS:
        if number in (name, name.partition("_")[0]):
            return name
    valid = ", ".join(name.partition("_")[0] for name in LESSONS)
    raise ValueError(f"no lesson {number!r}; there are {valid}")


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)"
