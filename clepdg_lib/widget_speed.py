"""How fast do the widgets answer? Measured, not asserted: machines differ.

    python -m clepdg_lib widgets --json data/results/widgets.json

Each widget is built once and then driven as a hand would: a control is set, and the
clock runs until the picture is there (without the browser's share of the way).

Lesson: every notebook with a widget
"""

from __future__ import annotations

import io
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from clepdg_lib.acpt import random_contexts
from clepdg_lib.clap import BUNDLED, embed_corpus, load_clap
from clepdg_lib.corpora import EMOTIONS, load_corpus
from clepdg_lib.files import write_atomically
from clepdg_lib.transfer import fit_text_classifier
from clepdg_lib.versions import describe_machine
from clepdg_lib.widgets import (
    explore_embeddings,
    explore_prompts,
    fit_plane,
    mix_environments,
    render_voice,
    view_contexts,
)

LIMIT_SECONDS = 0.5


def time_answers(
    answer: Callable[[object], object], values: Iterable
) -> list[tuple[float, float]]:
    """Seconds that each of the values took to answer: on the clock, of computing."""
    taken = []
    for value in values:
        begun = time.perf_counter(), time.process_time()
        answer(value)
        taken.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    return taken


def measure_widgets(*, n: int = 10, model: str = BUNDLED[-1]) -> pd.DataFrame:
    """Drive each widget n times on the bundled model and corpus.

    Returns:
        By widget, in seconds: ``first`` answer, ``median`` and ``slowest`` of those
        after it, and the median that was ``computing``, which a busy machine changes
        less.
    """
    import soundfile

    clap, corpus = load_clap(model), load_corpus("emosynth")
    embedded = embed_corpus(clap, corpus)
    plane, classifier = fit_plane(embedded), fit_text_classifier(clap, EMOTIONS)
    file = io.BytesIO()
    soundfile.write(file, corpus.read(0).numpy(), 16_000, format="WAV")
    sets = {name: random_contexts(clap, seed=k) for k, name in enumerate(("a", "b"))}
    prompts = explore_prompts(clap, embedded.embeddings, corpus=corpus)
    mixer = mix_environments(
        corpus.read(0), clap=clap, classifier=classifier, plane=plane
    )
    viewer = view_contexts(clap, sets)
    explorer = explore_embeddings(embedded, corpus=corpus)
    words = itertools.cycle(EMOTIONS)
    drives = {
        "prompt explorer": (
            lambda k: _set(prompts.children[0], f"a {next(words)} voice, take {k}")
        ),
        "environment mixer": lambda k: _set(mixer.children[2], 0.1 + 0.2 * k),
        "context viewer": lambda k: _set(viewer.children[1], 2 + k),
        "embedding explorer": lambda k: _set(explorer.children[2], 1 + k),
        "your own voice": lambda _: render_voice(
            file.getvalue(), clap=clap, classifiers=classifier, plane=plane
        ),
    }
    rows = {}
    for name, drive in drives.items():
        first, *later = time_answers(drive, range(n + 1))
        rows[name] = {
            "first": first[0],
            "median": statistics.median(clock for clock, _ in later),
            "slowest": max(clock for clock, _ in later),
            "computing": statistics.median(work for _, work in later),
        }
    return pd.DataFrame(rows).T


def main(*, n: int = 10, file: Path | None = None) -> int:
    """Print the table and keep it in a file; 1 if a median is above half a second."""
    table = measure_widgets(n=n)
    if file is not None:
        rows = [
            {
                "figure": name,
                "what": f"{name}: seconds to an answer, {which} of {n}",
                "value": round(row[which], 4),
                "bar": f"≤ {LIMIT_SECONDS:g}",
            }
            for name, row in table.iterrows()
            for which in ("median", "slowest")
        ]
        found = {"rows": rows, "machine": describe_machine()}
        write_atomically(file, json.dumps(found, indent=1) + "\n")
    print(f"Seconds until a widget's answer is there, {n} times each:")
    print(table.round(3).to_string())
    slow = list(table.index[table["median"] > LIMIT_SECONDS])
    print(
        f"Above {LIMIT_SECONDS:g} s: {', '.join(slow)}"
        if slow
        else "All are fast enough"
    )
    return 1 if slow else 0


def _set(control: object, value: object) -> None:
    control.value = value
