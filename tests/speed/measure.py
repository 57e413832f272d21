"""How fast this machine is, mostly as ratios of two ways of doing the same thing.

    python tests/speed/measure.py --json data/results/speed.json [--skip course]

Seconds of one machine say little on another, and little on the same one an hour later.
So two ways are timed in turn in one run, and their medians of five are divided.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from clepdg_lib.acpt import fit_place_map, text_shifts, tune_contexts
from clepdg_lib.audio import prepare
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.clep import finetune_clep
from clepdg_lib.corpora import load_corpus
from clepdg_lib.embeddings import embed_corpus
from clepdg_lib.evaluation.real_speech import load_features
from clepdg_lib.files import PROJECT, versions, write_atomically

REPEATS, RATE, N_CLIPS = 5, 16_000, 32
SIZES = (500, 1_000, 4_000, 16_000)  # clips, of `memory`
# Figure -> what it is, and what it should be at least or at most.
FIGURES = {
    "embed_ratio_documented": ("Whisper as documented, 30 s / `embed_audio`", "≥ 4"),
    "embed_ratio_same_lengths": ("its same blocks, same lengths / the same", "≥ 0.9"),
    "embed_min_cosine": ("least cosine with transformers' embedding", "≥ 0.9999"),
    "peak_fraction": ("rate of the audio tower / of float32 matrix products", "≥ 0.5"),
    "cache_hit_ms": ("milliseconds for a clip whose features are cached", "≤ 1"),
    "clep_s": ("seconds of `finetune_clep` on the shipped features", "≤ 10"),
    "contexts_s": ("seconds of words to places and `tune_contexts`", "≤ 30"),
    "benchmark_s": ("seconds of the whole benchmark, five seeds", "≤ 120"),
    "time_exponent": (
        "seconds of `embed_corpus` grow as clips to this power",
        "≤ 1.05",
    ),
    "rss_ratio": ("peak memory: 16,000 clips / 1,000 clips", "≤ 1.2"),
    "import_s": ("seconds of importing `load_clap` above its packages'", "≤ 0.3"),
    "load_s": ("seconds of `load_clap('clap-mini')`", "≤ 1"),
    "course_s": ("seconds of all notebooks on an empty cache", "≤ 630"),
    "course_busy_ratio": (
        "the same beside a busy process for each core / alone",
        "≤ 3",
    ),
}
# A corpus of any length out of the bundled one: every clip is read and encoded.
EMBED = """
import json, resource, sys, time
from dataclasses import replace
import pandas as pd
from clepdg_lib import embed_corpus, load_clap, load_corpus
n, corpus = int(sys.argv[1]), load_corpus("emosynth")
many = pd.concat([corpus.clips] * (n // len(corpus) + 1), ignore_index=True).iloc[:n]
many = replace(corpus, clips=many.assign(clip=many.index.astype(str)))
clap = load_clap("clap-mini")
embed_corpus(clap, replace(corpus, clips=corpus.clips.iloc[:8]), cache=False)  # warm
began = time.perf_counter()
embed_corpus(clap, many, cache=False)
took = time.perf_counter() - began
print(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""
LOAD = """
import time, torch, transformers
from clepdg_lib.clap import load_clap
began = time.perf_counter()
load_clap("clap-mini")
print(time.perf_counter() - began)
"""


def alternate(*ways: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Time several things in turn: median seconds of each, after one run of each."""
    took: list[list[float]] = [[] for _ in ways]
    for i in range(repeats + 1):
        for way, seconds in zip(ways, took, strict=True):
            began = time.perf_counter()
            way()
            if i > 0:
                seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds) for seconds in took]


def run(*command: object, **environment: str) -> str:
    """Run Python in a process of its own and return what it prints."""
    return subprocess.check_output(
        [sys.executable, *map(str, command)],
        text=True,
        cwd=PROJECT,
        env={**os.environ, **environment},
    )


def whisper_encoder(
    clap: Clap, *, n_positions: int, n_blocks: int | None = None
) -> WhisperEncoder:
    """Transformers' encoder with the tower's weights in its first blocks."""
    ours = clap.audio_tower.encoder
    settings = ours.config.to_dict() | {"max_source_positions": n_positions}
    settings["encoder_layers"] = n_blocks or len(ours.layers)
    encoder = WhisperEncoder(WhisperConfig.from_dict(settings))
    weights = ours.state_dict()
    table = weights.pop("embed_positions.weight")[:n_positions]
    encoder.load_state_dict(weights, strict=False)
    if n_blocks is None:
        encoder.layer_norm = torch.nn.Identity()  # Whisper's last, behind all blocks
    encoder.eval().requires_grad_(False).embed_positions.weight[: len(table)] = table
    return encoder


@torch.no_grad()
def embed_with_whisper(clap: Clap, encoder: WhisperEncoder, waves: list) -> Tensor:
    """Embed by transformers alone; an encoder of full length wants 30 s of padding."""
    whole = encoder.config.max_source_positions == 1500
    inputs = WhisperFeatureExtractor()(
        [wave.numpy() for wave in waves],
        sampling_rate=RATE,
        padding="max_length" if whole else "do_not_pad",
        return_tensors="pt",
    )
    output = encoder(inputs.input_features, output_hidden_states=True)
    hidden = output.hidden_states[len(clap.audio_tower.encoder.layers)]  # (n, T, D)
    pairs = zip(hidden, waves, strict=True)
    return clap.project(torch.stack([h[: len(w) // 320].mean(0) for h, w in pairs]))


def least_cosine(clap: Clap) -> float:
    """Compare with transformers on short, long, quiet and noisy clips."""
    generator = torch.Generator().manual_seed(0)
    time_ = torch.arange(10 * RATE) / RATE
    tone = 0.3 * torch.sin(2 * torch.pi * 220 * time_) * (1 + torch.sin(9 * time_))
    noise = 0.1 * torch.randn(23 * RATE, generator=generator)
    clips = [noise[: RATE // 2], noise[: 3 * RATE], noise[: 10 * RATE], tone]
    clips += [tone[: 2 * RATE], 1e-3 * noise[: 4 * RATE], tone + noise[: 10 * RATE]]
    cosines = []
    for clip in map(prepare, clips):
        clip = clip[: len(clip) // 320 * 320]  # whole positions of 20 ms
        encoder = whisper_encoder(clap, n_positions=len(clip) // 320)
        expected = embed_with_whisper(clap, encoder, [clip])
        cosines.append(float(clap.embed_audio(clip) @ expected.T))
    return min(cosines)


def measure_embed() -> dict[str, float]:
    """`embed_audio` and transformers, in turn; agreement; the tower's rate."""
    clap, corpus = load_clap("clap-mini"), load_corpus("emosynth").select(splits="test")
    clips = [corpus.read(i) for i in range(N_CLIPS)]
    whole = whisper_encoder(clap, n_blocks=6, n_positions=1500)
    documented, ours = alternate(
        lambda: embed_with_whisper(clap, whole, clips), lambda: clap.embed_audio(clips)
    )
    figures = {"embed_ratio_documented": documented / ours}
    n_positions = 150  # three seconds
    equal = [clip.repeat(40)[: 320 * n_positions] for clip in clips]
    cut = whisper_encoder(clap, n_positions=n_positions)
    same, ours = alternate(
        lambda: embed_with_whisper(clap, cut, equal), lambda: clap.embed_audio(equal)
    )
    figures["embed_ratio_same_lengths"] = same / ours
    figures["embed_min_cosine"] = least_cosine(clap)
    with FlopCounterMode(display=False) as counter:
        clap.audio_tower.features(equal)
    matrix = torch.randn(2048, 2048)
    product, tower = alternate(
        lambda: matrix @ matrix, lambda: clap.audio_tower.features(equal)
    )
    rate = counter.get_total_flops() / tower
    figures["peak_fraction"] = rate / (2 * 2048**3 / product)
    return figures


def measure_cache() -> dict[str, float]:
    """Embed the bundled corpus's test split again and again from the cache."""
    clap, corpus = load_clap("clap-mini"), load_corpus("emosynth").select(splits="test")
    folder = tempfile.TemporaryDirectory()
    with folder, patch.dict(os.environ, CLEPDG_CACHE=folder.name):
        (seconds,) = alternate(lambda: embed_corpus(clap, corpus))
    return {"cache_hit_ms": 1000 * seconds / len(corpus)}


def measure_learning() -> dict[str, float]:
    """CLEP and contexts on the features that ship, as lessons 02 and 03 learn them."""
    clap, speech = load_clap("clap-mini"), load_features()
    pairs = load_features("pairs")
    captions = pairs.clips["caption"].tolist()

    def tune() -> None:
        shifts = text_shifts(clap, captions)
        place_map = fit_place_map(shifts, pairs.clean, pairs.features)
        phrases = list(dict.fromkeys(captions))
        tune_contexts(clap, EMOTIONS, captions=phrases, place_map=place_map)

    clep, contexts = alternate(lambda: finetune_clep(clap, speech), tune)
    return {"clep_s": clep, "contexts_s": contexts}


def measure_benchmark() -> dict[str, float]:
    """The `benchmark` command, all settings and five seeds, once."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run("-m", "clepdg_lib", "benchmark", "--json", f"{folder}/benchmark.json")
        return {"benchmark_s": time.perf_counter() - began}


def measure_memory(sizes: Sequence[int] = SIZES) -> dict[str, float]:
    """Embed corpora of several lengths, each in a process of its own."""
    pairs = [json.loads(run("-c", EMBED, n).splitlines()[-1]) for n in sizes]
    seconds, peaks = zip(*pairs, strict=True)
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    return {"time_exponent": float(slope), "rss_ratio": peaks[-1] / peaks[1]}


def measure_start() -> dict[str, float]:
    """Imports with and without the library, in turn, and the first model."""
    others = "import pandas, soundfile, torch, torchaudio\n"
    others += "from transformers import AutoTokenizer, ClapModel, WhisperModel"
    library = f"{others}\nfrom clepdg_lib import load_clap"
    with_, without = alternate(lambda: run("-c", library), lambda: run("-c", others))
    loads = [float(run("-c", LOAD)) for _ in range(REPEATS)]
    return {"import_s": with_ - without, "load_s": statistics.median(loads)}


def measure_course() -> dict[str, float]:
    """All notebooks on an empty cache: alone, then on a machine that is busy."""
    busy_loop = [sys.executable, "-c", "while True: pass"]
    script, seconds = PROJECT / "notebooks" / "build" / "course.py", []
    for n_busy in (0, os.cpu_count() or 1):
        busy = [subprocess.Popen(busy_loop) for _ in range(n_busy)]
        with tempfile.TemporaryDirectory() as cache:
            began = time.perf_counter()
            try:
                run(script, "run", CLEPDG_CACHE=cache, OMP_WAIT_POLICY="PASSIVE")
            finally:
                for process in busy:
                    process.kill()
            seconds.append(time.perf_counter() - began)
    return {"course_s": seconds[0], "course_busy_ratio": seconds[1] / seconds[0]}


MEASUREMENTS = {
    measure.__name__.removeprefix("measure_"): measure
    for measure in (measure_embed, measure_cache, measure_learning, measure_benchmark)
    + (measure_memory, measure_start, measure_course)
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, help="default all")
    parser.add_argument("--skip", nargs="+", choices=MEASUREMENTS, default=[])
    args = parser.parse_args(arguments)
    figures = {}
    if args.json and args.json.is_file():  # what is not measured stays as it was
        figures = json.loads(args.json.read_text(encoding="utf-8"))
    for name in args.only or MEASUREMENTS:
        if name not in args.skip:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            measured = MEASUREMENTS[name]()
            figures |= {key: round(value, 6) for key, value in measured.items()}
            write(figures, args.json)


def write(figures: dict, file: Path | None) -> None:
    """Print the figures, and keep them with a table for the pages."""
    figures = {key: figures[key] for key in FIGURES if key in figures}
    rows = []
    for key, value in figures.items():
        what, aim = FIGURES[key]
        rows.append({"figure": key, "what": what, "value": value, "aim": aim})
        print(f"{key:<25} {value:>10.4g}  {aim}")
    if file:
        machine = versions() | {"cores": os.cpu_count()}
        result = {**figures, "rows": rows, "machine": machine}
        write_atomically(file, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
