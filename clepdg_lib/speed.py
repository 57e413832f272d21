"""How fast this machine is: ratios of two ways of doing the same thing.

    python -m clepdg_lib speed --json data/results/speed.json

Seconds of one machine say little on another, and little on the same one an hour
later. So two ways are timed in turn in one run, and their medians are divided: plain
transformers by `embed_audio`, contexts as published by `tune_contexts`. What cannot
be a ratio (memory, start-up) is taken in processes of its own (`speed_processes`).

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import ClapProcessor

from clepdg_lib.cache import EmbeddingCache
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.corpora import load_corpus
from clepdg_lib.files import write_atomically
from clepdg_lib.laion import full_size
from clepdg_lib.speed_contexts import measure_contexts
from clepdg_lib.speed_processes import measure_memory, measure_start
from clepdg_lib.tower import hear
from clepdg_lib.versions import describe_machine

REPEATS = 5
# What each figure is, and what it should be at least or at most.
FIGURES = {
    "embed_ratio_mini": ("`clap-mini`: plain transformers / `embed_audio`", "≥ 4"),
    "embed_ratio_full": ("LAION's size: plain transformers / `embed_audio`", "≥ 1.8"),
    "embed_min_cosine": ("least cosine with transformers' embedding", "≥ 0.9999"),
    "peak_fraction_full": (
        "LAION's size: rate of the tower / of matrix products in the same precision",
        "≥ 0.5",
    ),
    "contexts_ratio": (
        "16 contexts: as published, in plain transformers / `tune_contexts`",
        "≥ 10",
    ),
    "contexts_schedule_ratio": (
        "`tune_contexts`, all emotions in a step: one after the other / all at once",
        "",
    ),
    "contexts_uar_gain": ("UAR of `tune_contexts` minus that as published", ""),
    "contexts_uar_error": ("its standard error over five seeds", ""),
    "cache_hit_ms": ("milliseconds for an embedding from the cache", "≤ 1"),
    "rss_ratio": ("peak memory: 16,000 clips / 1,000 clips", "≤ 1.2"),
    "time_exponent": ("seconds grow as clips to the power of", "≤ 1.05"),
    "import_s": (
        "seconds of `import clepdg_lib` above torch's, transformers'",
        "≤ 0.3",
    ),
    "load_s": ("seconds of `load_clap('clap-mini')`", "≤ 1"),
}


def main(args: argparse.Namespace) -> None:
    """Measure, print, and write what `--json` asks for (`speed` command)."""
    file = Path(args.json) if args.json and args.json != "-" else None
    before = {}
    if args.only and file and file.is_file():  # the other figures stay as they are
        before = json.loads(file.read_text(encoding="utf-8"))
    found = measure(args.only, before=before)
    if args.json == "-":
        print(json.dumps(found, indent=1))
        return
    for row in found["rows"]:
        print(f"{row['figure']:<20} {row['value']:>10.4g}  {row['bar']}")
    if file:
        write_atomically(file, json.dumps(found, indent=1) + "\n")
        print(f"wrote {file}")


def measure(only: list[str] | None = None, *, before: dict | None = None) -> dict:
    """Take the measurements.

    Args:
        only: Some of :data:`MEASUREMENTS`; default all.
        before: What an earlier run returned, whose other figures are kept.

    Returns:
        Every figure by its name, ``rows`` for the tables, and the ``machine``.

    Raises:
        ValueError: An unknown measurement.
    """
    names = list(only or MEASUREMENTS)
    if unknown := sorted(set(names) - set(MEASUREMENTS)):
        raise ValueError(f"unknown {unknown}; valid are {list(MEASUREMENTS)}")
    figures: dict[str, float] = {
        key: value
        for key, value in (before or {}).items()
        if key not in ("rows", "machine")
    }
    cosines = []
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        for key, value in MEASUREMENTS[name]().items():
            if key == "embed_min_cosine":  # of both sizes
                cosines.append(value)
                value = min(cosines)
            figures[key] = round(float(value), 6)
    rows = [
        {"figure": key, "what": what, "value": figures[key], "bar": bar}
        for key, (what, bar) in FIGURES.items()
        if key in figures
    ]
    return {**figures, "rows": rows, "machine": describe_machine()}


def alternate(
    first: Callable[[], object], second: Callable[[], object], *, repeats: int = REPEATS
) -> tuple[float, float]:
    """Time two things in turn: median seconds of each, after one run unseen."""
    first(), second()
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for way, list_ in zip((first, second), took, strict=True):
            began = time.perf_counter()
            way()
            list_.append(time.perf_counter() - began)
    return statistics.median(took[0]), statistics.median(took[1])


def plain_embeddings(clap: Clap, waves: list[torch.Tensor]) -> torch.Tensor:
    """What transformers alone does with clips that fit its window: (n, dim)."""
    processor = ClapProcessor(
        feature_extractor=clap.extractor, tokenizer=clap.tokenizer
    )
    inputs = processor(
        audio=[wave.numpy() for wave in waves],
        sampling_rate=clap.log_mel.sample_rate,
        return_tensors="pt",
        # Or a tokenizer that cuts sentences would have its length cut sounds, too.
        audio_kwargs={"max_length": clap.log_mel.n_samples},
    )
    with torch.no_grad():
        return clap.model.get_audio_features(**inputs).pooler_output


def least_cosine(clap: Clap) -> float:
    """Compare with transformers on short, long, silent and other clips."""
    n, generator = clap.log_mel.n_samples, torch.Generator().manual_seed(0)
    time_ = torch.arange(n) / clap.log_mel.sample_rate
    tone = 0.3 * torch.sin(2 * torch.pi * 220 * time_) * (1 + torch.sin(9 * time_))
    noise = 0.1 * torch.randn(int(2.3 * n), generator=generator)
    clips = [
        noise[: n // 7],
        noise[:n],
        noise,
        tone,
        tone[: n // 2],
        torch.zeros(n // 3),
    ]
    clips += [1e-3 * noise[:n], tone + noise[:n], torch.zeros(n)]
    wanted = [
        # a clip longer than the window is the mean of its windows, here as there
        F.normalize(plain_embeddings(clap, clap.log_mel.windows(clip)).mean(0), dim=0)
        for clip in clips
    ]
    rate = clap.log_mel.sample_rate
    found = clap.embed_audio(clips, sample_rate=rate, cache=False)
    return float(F.cosine_similarity(found, torch.stack(wanted)).min())


def _embed_ratio(clap: Clap, n_clips: int) -> float:
    rate, generator = clap.log_mel.sample_rate, torch.Generator().manual_seed(1)
    waves = [
        0.1 * torch.randn(clap.log_mel.n_samples, generator=generator)
        for _ in range(n_clips)
    ]
    plain, ours = alternate(
        lambda: plain_embeddings(clap, waves),
        lambda: clap.embed_audio(
            waves, sample_rate=rate, batch_size=n_clips, cache=False
        ),
    )
    return plain / ours


def _measure_mini() -> dict[str, float]:
    clap = load_clap("clap-mini")
    return {
        "embed_ratio_mini": _embed_ratio(clap, 64),
        "embed_min_cosine": least_cosine(clap),
    }


def _measure_full() -> dict[str, float]:
    clap = full_size()
    figures = {
        "embed_ratio_full": _embed_ratio(clap, 8),
        "embed_min_cosine": least_cosine(clap),
    }
    mels = clap.log_mel([torch.zeros(480_000)] * 8)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        clap.audio_features(mels)
    clap.embed_mels(mels[:1])  # chooses the way
    dtype = clap._way or torch.float32
    a = torch.randn(2048, 2048).to(dtype)
    product, tower = alternate(
        lambda: a @ a, lambda: hear(clap.model, mels, way=clap._way)
    )
    peak = 2 * 2048**3 / product
    figures["peak_fraction_full"] = counter.get_total_flops() / tower / peak
    figures["peak_gflops"] = peak / 1e9
    figures["clips_per_second_full"] = len(mels) / tower
    return figures


def _measure_cache() -> dict[str, float]:
    """Look up clips of the bundled corpus: key, row and model's fingerprint."""
    from clepdg_lib.cache import content_key

    clap, paths = load_clap("clap-mini"), list(load_corpus("emosynth").clips["path"])
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingCache(Path(folder))
        prefix = clap.fingerprint()
        row = np.zeros(clap.width, np.float32)
        store.put({content_key(prefix, path): row for path in paths})
        took = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            prefix = clap.fingerprint()
            found = store.get([content_key(prefix, path) for path in paths])
            took.append(1000 * (time.perf_counter() - began) / len(paths))
            if not found:
                raise RuntimeError(f"{store.file} kept nothing: is the disk full?")
    return {"cache_hit_ms": statistics.median(took)}


MEASUREMENTS: dict[str, Callable[[], dict[str, float]]] = {
    "mini": _measure_mini,
    "full": _measure_full,
    "contexts": measure_contexts,
    "cache": _measure_cache,
    "memory": measure_memory,
    "start": measure_start,
}
