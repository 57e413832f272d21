"""What only a fresh process can tell: its greatest memory, and how fast it starts.

Shapes: none; times and bytes only.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from clepdg_lib.files import PROJECT

SIZES = (500, 1_000, 4_000, 16_000)
REPEATS = 5
# A corpus of any length out of the bundled one: every row is read, none is remembered.
EMBED = """
import json, resource, sys, time
from dataclasses import replace
import pandas as pd
from clepdg_lib.clap import embed_corpus, load_clap
from clepdg_lib.corpora import load_corpus

n, corpus = int(sys.argv[1]), load_corpus("emosynth")
many = pd.concat([corpus.clips] * (n // len(corpus) + 1), ignore_index=True).iloc[:n]
many = replace(corpus, clips=many.assign(clip=many.index.astype(str)))
clap = load_clap("clap-mini")
embed_corpus(clap, corpus.select(splits="test"), cache=False)  # warm
began = time.perf_counter()
embedded = embed_corpus(clap, many, cache=False)
assert len(embedded) == n
took = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([took, peak]))
"""
LOAD = """
import time, torch, transformers
from clepdg_lib.clap import load_clap
began = time.perf_counter()
load_clap("clap-mini")
print(time.perf_counter() - began)
"""


def run(code: str, *arguments: object) -> str:
    """Run code in a new interpreter; returns what it printed.

    Raises:
        RuntimeError: It failed; the message holds the end of its complaint.
    """
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        raise RuntimeError(f"a measurement failed: {done.stderr[-1500:]}")
    return done.stdout


def measure_memory(sizes: tuple[int, ...] = SIZES) -> dict[str, float]:
    """Embed corpora of several lengths, each in a process of its own.

    Args:
        sizes: Clips, rising; memory is compared between the second and the last.

    Returns:
        ``rss_ratio``, and ``time_exponent``, the slope of log seconds over log clips.
    """
    told = {n: json.loads(run(EMBED, n).splitlines()[-1]) for n in sizes}
    seconds = [told[n][0] for n in sizes]
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    return {
        "rss_ratio": told[sizes[-1]][1] / told[sizes[1]][1],
        "time_exponent": float(slope),
        "clips_per_second_mini": sizes[-1] / seconds[-1],
    }


def measure_start(repeats: int = REPEATS) -> dict[str, float]:
    """Time imports, with and without the library in turn, and the first model."""
    without, with_ = [], []
    for _ in range(repeats):
        for code, took in (
            ("import torch, transformers", without),
            ("import torch, transformers, clepdg_lib", with_),
        ):
            began = time.perf_counter()
            run(code)
            took.append(time.perf_counter() - began)
    loads = [float(run(LOAD).splitlines()[-1]) for _ in range(repeats)]
    return {
        "import_s": statistics.median(with_) - statistics.median(without),
        "load_s": statistics.median(loads),
    }
