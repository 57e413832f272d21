"""How fast this machine is, mostly as ratios: tests/speed/measure.py [--only embed]

Seconds of one machine say little on another, and little on the same one an hour later.
So two ways are timed in turn in one run, and their medians of five (of the course:
of three) are divided.
"""

import argparse
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from clepdg_lib.acpt import (
    contexts_from_words,
    fit_place_map,
    random_contexts,
    text_shifts,
    tune_contexts,
)
from clepdg_lib.audio import prepare
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.clep import finetune_clep
from clepdg_lib.corpora import load_corpus
from clepdg_lib.embeddings import embed_corpus
from clepdg_lib.evaluation.real_speech import load_features
from clepdg_lib.files import PROJECT, versions, write_atomically
from clepdg_lib.transfer import fit_text_classifier

REPEATS, RATE, N_CLIPS = 5, 16_000, 32
CORE_HOUR, GPU_HOUR = 0.05, 3.0  # dollars: usual prices of clouds, an assumption
SIZES = (500, 1_000, 4_000, 16_000)  # clips, of `memory`
# Figure -> what it is, and what it should be at least or at most.
FIGURES = json.loads((Path(__file__).parent / "figures.json").read_text("utf-8"))
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
    words, env = [sys.executable, *map(str, command)], {**os.environ, **environment}
    return subprocess.check_output(words, text=True, cwd=PROJECT, env=env)


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


def least_cosine(clap: Clap, clips: list[Tensor]) -> float:
    """Compare with transformers on clips, and on short, long, quiet and noisy ones."""
    generator = torch.Generator().manual_seed(0)
    time_ = torch.arange(10 * RATE) / RATE
    tone = 0.3 * torch.sin(2 * torch.pi * 220 * time_) * (1 + torch.sin(9 * time_))
    noise = 0.1 * torch.randn(23 * RATE, generator=generator)
    clips = [*clips, noise[: RATE // 2], noise[: 3 * RATE], noise[: 10 * RATE], tone]
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
    fast = load_clap("clap-mini", bfloat16=can_multiply_bfloat16())
    clips = [corpus.read(i) for i in range(0, len(corpus), len(corpus) // N_CLIPS)]
    whole = whisper_encoder(clap, n_blocks=6, n_positions=1500)
    documented, ours = alternate(
        lambda: embed_with_whisper(clap, whole, clips), lambda: fast.embed_audio(clips)
    )
    figures = {"embed_ratio_documented": documented / ours}
    (reading,) = alternate(lambda: [corpus.read(i) for i in range(N_CLIPS)])
    figures["read_per_second"] = N_CLIPS / reading
    n_positions = 150  # three seconds
    equal = [clip.repeat(40)[: 320 * n_positions] for clip in clips]
    cut = whisper_encoder(clap, n_positions=n_positions)
    same, plain, ours = alternate(
        lambda: embed_with_whisper(clap, cut, equal),
        lambda: clap.embed_audio(equal),
        lambda: fast.embed_audio(equal),
    )
    figures["embed_ratio_same_lengths"] = same / ours
    figures["embed_ratio_float32"] = same / plain
    figures["clips_per_second"] = N_CLIPS / ours
    figures["embed_min_cosine"] = least_cosine(fast, clips)
    with FlopCounterMode(display=False) as counter:
        clap.audio_tower.features(equal)
    for name, model in (("peak_fraction", fast), ("peak_fraction_float32", clap)):
        kind = torch.bfloat16 if model.audio_tower.low_precision else torch.float32
        matrix = torch.randn(2048, 2048, dtype=kind)
        product, tower = alternate(
            lambda m=matrix: m @ m, lambda m=model: m.audio_tower.features(equal)
        )
        rate = counter.get_total_flops() / tower
        figures[name] = rate / (2 * 2048**3 / product)
    return figures


def can_multiply_bfloat16() -> bool:
    """Say whether 16 bits are faster here than 32."""
    wide = torch.randn(1024, 1024)
    narrow = wide.bfloat16()
    slow, quick = alternate(lambda: wide @ wide, lambda: narrow @ narrow)
    return quick < slow


def measure_cache() -> dict[str, float]:
    """Embed the bundled corpus again and again from the cache."""
    clap, corpus = load_clap("clap-mini"), load_corpus("emosynth")
    folder = tempfile.TemporaryDirectory()
    with folder, patch.dict(os.environ, CLEPDG_CACHE=folder.name):
        (seconds,) = alternate(lambda: embed_corpus(clap, corpus))
    return {"cache_hit_ms": 1000 * seconds / len(corpus)}


def measure_learning() -> dict[str, float]:
    """CLEP and contexts on the features that ship, as lessons 02 and 03 learn them."""
    clap, speech = load_clap("clap-mini"), load_features()
    pairs = load_features("pairs")
    rows, captions = pairs.clips["caption"].factorize()

    def tune() -> None:
        shifts = text_shifts(clap, list(captions))
        tau = shifts[torch.tensor(rows)]
        how = {"place_map": fit_place_map(tau, pairs.clean, pairs.features)}
        how |= {"captions": list(captions), "caption_shifts": shifts}
        tune_contexts(clap, EMOTIONS, progress=False, **how)

    train = partial(finetune_clep, clap, speech, progress=False)
    clep, contexts = alternate(train, tune)
    figures = {"clep_s": clep, "contexts_s": contexts}
    parts = [speech.take(np.arange(0, len(speech), step)) for step in (8, 4, 2, 1)]
    took = alternate(*(partial(finetune_clep, clap, p, progress=False) for p in parts))
    figures["clep_exponent"] = exponent([len(part) for part in parts], took)
    numbers = (4, 8, 16, 32, 64)
    how = {"captions": list(captions)[:64], "progress": False}
    ways = [
        partial(tune_contexts, clap, EMOTIONS, n_contexts=n, **how) for n in numbers
    ]
    figures["contexts_exponent"] = exponent(numbers, alternate(*ways, repeats=2))
    return figures


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The power of its size that work grows with."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


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
    figures = {"corpus_per_second": sizes[-1] / seconds[-1]}
    figures["time_exponent"] = exponent(sizes, seconds)
    return figures | {"rss_ratio": peaks[-1] / peaks[1]}


def measure_start() -> dict[str, float]:
    """Imports with and without the library, in turn, and the first model."""
    others = "import pandas, soundfile, torch, torchaudio\n"
    others += "from transformers import AutoTokenizer, ClapModel, WhisperModel"
    library = f"{others}\nfrom clepdg_lib import load_clap"
    with_, without = alternate(lambda: run("-c", library), lambda: run("-c", others))
    loads = [float(run("-c", LOAD)) for _ in range(REPEATS)]
    return {"import_s": with_ - without, "load_s": statistics.median(loads)}


def measure_course() -> dict[str, float]:
    """All notebooks and the book on an empty cache, alone and beside a busy loop."""
    course = [PROJECT / "notebooks" / "build" / "course.py", "run"]
    took: dict[str, list[float]] = {"pass": [], "while True: pass": []}
    for code, seconds in [*took.items()] * 3:
        other = subprocess.Popen([sys.executable, "-c", code])
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as cache, other:
            try:
                run(*course, CLEPDG_CACHE=cache, OMP_WAIT_POLICY="PASSIVE")
            finally:
                other.kill()
            seconds.append(time.perf_counter() - began)
    print("seconds of each:", took, file=sys.stderr)
    alone, busy = map(statistics.median, took.values())
    return {"course_s": alone, "course_busy_ratio": busy / alone}


def measure_widgets() -> dict[str, float]:
    """Each widget's slowest change of a control, the median of five."""
    from clepdg_lib import widgets  # a machine with a GPU may have no Jupyter

    clap, clep = load_clap("clap-mini"), load_clap("clep-mini")
    studio = load_corpus("emosynth").select(domains="studio")
    spaces = {"CLAP": embed_corpus(clap, studio)}
    spaces["CLEP"] = spaces["CLAP"].embedded_by(clep)
    fitted, pairs = fit_text_classifier(clap), load_features("pairs")
    pairs = pairs.take(np.arange(0, len(pairs), 20))
    captions = pairs.clips["caption"].tolist()
    shifts = text_shifts(clap, captions)
    sets = {"tuned": contexts_from_words(clap, captions[:8])}
    sets["random"] = random_contexts(clap, n_contexts=8)
    own = {"place_map": fit_place_map(shifts, pairs.clean, pairs.features)}
    own |= {"clips": pairs, "classifier": fitted}
    asked = {"clap": clep, "classifiers": fitted, "background": spaces["CLEP"]}
    takes = []
    for i in range(3):
        file = io.BytesIO()
        soundfile.write(file, studio.read(i).numpy(), RATE, format="WAV")
        takes.append({f"take {i}": file.getvalue()})
    pairs_of_takes = [takes[i] | takes[i - 1] for i in range(3)] * 2
    words = {"prompt": [f"a voice in a room, {i}" for i in range(6)]}
    where = {"severity": [0.5, 1.0, 1.5, 2.0, 2.5, 0.25]}
    panels = [
        (widgets.explore_prompts(clap, spaces["CLAP"]), words),
        (widgets.mix_environments(studio.read(0), **asked), where),
        (widgets.view_contexts(clap, sets, **own), {"number": [1, 2, 3, 4, 5, 6]}),
        (widgets.explore_embeddings(spaces), {"colour": ["sex", "emotion"] * 3}),
        (widgets.try_your_voice(**asked), {"recording": takes * 2}),
        (widgets.try_your_voice(**asked), {"recording": pairs_of_takes}),
    ]
    slowest = 0.0
    for panel, changes in panels:
        ((control, values),) = changes.items()
        coming = iter(values)

        def change(panel=panel, control=control, coming=coming) -> None:
            panel.value = panel.value | {control: next(coming)}

        (seconds,) = alternate(change)
        print(f"  {control:<10} {seconds:.2f} s", file=sys.stderr)
        slowest = max(slowest, seconds)
    return {"widget_s": slowest}


def measure_weight() -> dict[str, float]:
    """What a clone weighs, an installation, and the least that runs the course."""
    names = subprocess.check_output(["git", "ls-files"], cwd=PROJECT, text=True)
    clone = sum((PROJECT / name).stat().st_size for name in names.splitlines())
    course, least = needed("test", "book"), needed()
    for name in list(least):  # what torch's build for CPUs does without
        if re.match(r"nvidia-|cuda-|triton$", name):
            del least[name]
    figures = {"clone_mb": clone / 1e6, "install_gb": sum(course.values()) / 1e9}
    return figures | {"least_gb": sum(least.values()) / 1e9}


def needed(*extras: str) -> dict[str, int]:
    """Bytes of every package that the project needs here, and those that they need."""
    sizes: dict[str, int] = {}
    coming = [Requirement(f"clepdg-lib[{','.join(extras)}]")]
    while coming:
        wanted = coming.pop()
        try:
            package = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:
            continue
        files = [file.locate() for file in package.files or ()]
        name = canonicalize_name(wanted.name)
        if name not in sizes or wanted.extras:
            sizes[name] = sum(os.path.getsize(f) for f in files if os.path.isfile(f))
            for line in package.requires or ():
                one = Requirement(line)
                marks = [{"extra": extra} for extra in (*wanted.extras, "")]
                if one.marker is None or any(map(one.marker.evaluate, marks)):
                    coming.append(one)
    return sizes


MEASUREMENTS = {
    measure.__name__.removeprefix("measure_"): measure
    for measure in (measure_embed, measure_cache, measure_learning, measure_widgets)
    + (measure_start, measure_weight, measure_memory, measure_benchmark)
    + (measure_course,)
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, help="default all")
    args = parser.parse_args(arguments)
    figures = {}
    if args.json and args.json.is_file():  # what is not measured stays as it was
        figures = json.loads(args.json.read_text(encoding="utf-8"))
    for name in args.only or MEASUREMENTS:
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
        if rate := figures.get("corpus_per_second"):
            rows = scale(rate, file.with_name("gpu.json"))
            text = json.dumps({"rows": rows}, indent=1) + "\n"
            write_atomically(file.with_name("scale.json"), text)


def scale(rate: float, gpu_file: Path) -> list[dict]:
    """Hours and dollars for large corpora, from measured rates alone."""
    cores, rows = os.cpu_count() or 1, []
    machines = {f"{cores} cores": (rate, cores * CORE_HOUR)}
    machines[f"8 machines of {cores} cores"] = (8 * rate, 8 * cores * CORE_HOUR)
    if gpu_file.is_file():  # what gpu.py measured
        for row in json.loads(gpu_file.read_text("utf-8"))["rows"]:
            for n, name in ((1, "one GPU"), (8, "eight GPUs")):
                key = f"{name}, {row['tower']}, {row['precision']}"
                machines[key] = (n * row["clips_per_second"], n * GPU_HOUR)
    for name, (clips, dollars) in machines.items():
        row = {"machine": name, "clips a second": round(clips)}
        for n, title in ((10**5, "100,000 clips"), (10**6, "1,000,000 clips")):
            hours = n / clips / 3600
            took = f"{hours:.1f} h" if hours >= 0.5 else f"{3600 * hours:,.0f} s"
            row[title] = f"{took}, {hours * dollars:.2f} $"
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
