"""Build clap-mini: a small CLAP that knows sounds, voices and rooms, not emotions.

    python data/build_clap_mini_text.py            # the text tower, once
    python data/gather_voices.py                   # human voices, once
    CLEPDG_CORPORA=../shared/corpora python data/build_clap_mini.py

The audio tower learns against the frozen text tower from captions on sound classes,
AudioSet tags, sex, pitch, melody, effort, tempo, texture, room, channel and noise.
Beside, it predicts three sorts of measurements: the 88 eGeMAPS functionals, an
AudioSet network's features, and what the first blocks of a Whisper-tiny encoder make of
a voice, the first of them moment by moment. Each clip is bent (a shorter or longer
throat, another tempo) and placed in a random environment; the measurements are those of
the bent clip *before* it was placed, so that the tower learns to hear a voice through
its room.

It hears EmoGator's bursts, ESC-10 (folds 1-4), voices from free software
(`gather_voices.py`) and espeak-ng's in a hundred languages. It never hears RAVDESS,
TESS, EMO-DB, nEMO or emosynth, on which the course evaluates, and no emotion label of
any corpus enters. Resumes after the last finished part or epoch.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from build_clap_mini_text import read_wordnet
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
)
from whisper_teacher import (
    Teacher,
    at_moments,
    fetch_model,
    squeeze_moments,
    summarise,
)

from clepdg_lib.arrays import write_arrays
from clepdg_lib.audio import SAMPLE_RATE, LogMel, resample
from clepdg_lib.captions import PROPERTIES
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.contrast import Aspect, Recipe, train_towers
from clepdg_lib.corpora import Corpus, load_corpus
from clepdg_lib.environments import place, random_environment
from clepdg_lib.files import data_root, write_atomically, write_checksums
from clepdg_lib.measuring import count_moments
from clepdg_lib.pictures import PLACES, clip_generator, draw_corpus
from clepdg_lib.properties import (
    Measurer,
    feature_names,
    property_levels,
    standardise,
)

DIM = 192
# Its tokens are whole spectra, 94 ms long, one every 23 ms, and are never merged, so
# that neither formants nor moments are blurred on the way in.
TOWER = {
    "spec_size": 128,
    "num_mel_bins": 64,
    "patch_size": [64, 8],
    "patch_stride": [64, 2],
    "patch_embeds_hidden_size": 320,
    "depths": [3],
    "num_attention_heads": [10],
    "window_size": 2,
    "hidden_size": 320,
    "num_hidden_layers": 1,
    "projection_dim": DIM,
    "enable_fusion": False,
    "fusion_type": None,
}
# First the tower learns to measure, with the captions as a whisper beside; then to name
# what it measures: captions at full weight from the start drown what it could learn.
WHISPER = 0.02
MEASURING = Recipe(
    epochs=12,
    batch_size=96,
    learning_rate=1e-3,
    tower_share=1.0,  # it starts from nothing
    probe_steps=0,
    weight_decay=0.02,
    gain_db=3.0,
    equaliser_db=2.0,
    masks=False,
    norm_moves=True,
    averaging=0.998,
    target_weight=1.0,
)
NAMING = replace(
    MEASURING,
    epochs=2,
    tower_share=0.2,
    probe_steps=300,
    norm_moves=False,
    target_weight=10.0,
    moment_weight=10.0,
)
BEND, MOST_BENT = 0.1, 0.22  # deviation and limit of the logarithm of speed
SHORTEST = 0.25  # seconds that a bent clip must last
PART = 500  # clips that one process bends before it writes them down
N_SYNTHETIC = 2400
WORDNET = Path("/usr/share/wordnet")
VARIANTS = [*(f"m{i}" for i in range(1, 9)), *(f"f{i}" for i in range(1, 6))]
# The languages of emosynth and of the corpora that the course evaluates on.
NOT_SPOKEN = {"en", "de", "pl"}
# Of Whisper's three blocks: which rows of what it says, and to how many directions.
SQUEEZED = ((0, 96), (1, 48), (2, 64), (4, 64))
OF_MOMENT = 128  # directions of what its first block says of a moment
KINDS = {"bursts": 1, "sounds": 6, "voices": 1, "synthetic": 1}  # versions of a clip
N_TAGS = 64  # directions of the AudioSet network's features


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--work", type=Path, default=Path("build/clap-mini"))
    arguments.add_argument("--voices", type=Path, default=Path("build/voices"))
    arguments.add_argument("--shared", type=Path, default=Path("../shared"))
    arguments.add_argument("--out", type=Path, default=data_root() / "models/clap-mini")
    arguments.add_argument("--text-from", help="a model whose text tower to keep")
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    # The judge's pictures stay with the build, not in the user's cache.
    os.environ.setdefault("CLEPDG_CACHE", str(args.work / "cache"))
    teacher = read_teacher(args.shared / "teachers" / "audioset_mobilenet.npz")
    clap = untrained(args, seed=args.seed)
    n_moments = count_moments(clap.model)
    corpora = gather(args)
    heard = [
        bend_corpus(
            corpus, clap.log_mel, args.work / name, times=times, n_moments=n_moments
        )
        for (name, times), corpus in zip(KINDS.items(), corpora, strict=True)
    ]
    clips = pd.concat(
        [c.clips.iloc[h.rows] for c, h in zip(corpora, heard, strict=True)],
        keys=KINDS,
        names=["kind"],
    ).reset_index(level="kind")
    kind = clips["kind"].to_numpy()
    measured = np.concatenate([h.measured for h in heard])
    measured[kind == "sounds"] = np.nan  # no voice to measure
    places = np.concatenate([h.places for h in heard]).astype(np.int64)
    places[kind == "synthetic", 0] = 0  # certainly dry, full-range and quiet
    places[kind == "sounds"] = -1  # a sound is itself noise: nothing to say of noise
    aspects = write_aspects(clips, measured, places, teacher)
    targets = write_targets(clips, heard, measured, teacher)
    moments = write_moments(clips, heard)
    shares = {"bursts": 1.0, "sounds": 1.5, "voices": 1.3, "synthetic": 0.8}
    print(f"{clips['kind'].value_counts(sort=False).to_dict()} clips; aspects:")
    for aspect in aspects:
        known = (aspect.labels >= 0).mean()
        print(f"  {aspect.name}: {len(aspect.sentences)} levels, {known:.0%} known")
    torch.set_num_threads(os.cpu_count() or 1)
    mels = np.concatenate([h.mels for h in heard])
    sampling = clips["kind"].map(shares).to_numpy()
    whispered = [replace(a, weight=WHISPER * a.weight) for a in aspects]
    stages = {"measuring": (MEASURING, whispered), "naming": (NAMING, aspects)}
    logs = {}
    for stage, (name, (recipe, told)) in enumerate(stages.items()):
        clap = train_towers(
            clap,
            mels,
            told,
            recipe=recipe,
            targets=targets,
            moments=moments,
            sampling=sampling,
            seed=args.seed + stage,
            checkpoint=args.work / f"audio-checkpoint-{stage}.safetensors",
            judge=sound_judge(args, clap),
        )
        print(clap.history.to_string(index=False), flush=True)
        logs[name] = clap.history
    clap.save(args.out, half=True)
    log = pd.concat(logs, names=["stage"]).reset_index(level="stage")
    log.to_csv(args.out / "training-log.csv", index=False)
    write_checksums(args.out)


@dataclass(frozen=True)
class Heard:
    """Bent clips, plain and placed, and what was measured in them.

    Attributes:
        mels: (n, 2, F, M) float16 log-mels, plain and placed.
        places: (n, 2, 3) int8 levels of `pictures.PLACES`, -1 unknown.
        measured: (n, 88) eGeMAPS of the plain version.
        taught: (n, 6, 384) float16, Whisper's, of the plain version.
        moments: (n, T, 384) float16, its first block's, for each of the tower's
            moments.
        rows: (n,) row in the corpus's table.
    """

    mels: np.ndarray
    places: np.ndarray
    measured: np.ndarray
    taught: np.ndarray
    moments: np.ndarray
    rows: np.ndarray


def bend_corpus(
    corpus: Corpus, log_mel: LogMel, folder: Path, *, times: int, n_moments: int
) -> Heard:
    """Bend, place, draw and measure all clips, in parts that are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    model = fetch_model(folder.parent / "whisper")
    starts = range(0, len(corpus), PART)
    job = partial(bend_part, corpus, log_mel, model, folder, times, n_moments)
    # Processes that begin anew: one that forks after torch has computed may stop.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        files = list(pool.map(job, starts))
    parts = [np.load(file) for file in files]
    names = Heard.__dataclass_fields__
    return Heard(**{name: np.concatenate([p[name] for p in parts]) for name in names})


def bend_part(
    corpus: Corpus,
    log_mel: LogMel,
    model: Path,
    folder: Path,
    times: int,
    n_moments: int,
    start: int,
) -> Path:
    """Bend `PART` clips from `start` on; returns the file that holds them."""
    file = folder / f"part-{start:06d}.npz"
    if file.is_file():
        return file
    torch.set_num_threads(1)
    measure, teach = Measurer(), Teacher(model)
    part = replace(corpus, clips=corpus.clips.iloc[start : start + PART])
    found: dict[str, list] = {name: [] for name in Heard.__dataclass_fields__}
    for row, wave in part.iter_waves():
        clip = part.clips["clip"].iloc[row]
        for time in range(times):
            generator = clip_generator(clip, seed=time)
            plain = bend(wave, log_mel.n_samples, generator)
            if len(plain) < SHORTEST * SAMPLE_RATE:
                continue
            spot = random_environment(generator)
            placed = place(plain, spot, generator=generator, sample_rate=SAMPLE_RATE)
            levels = [list(PROPERTIES[a]).index(getattr(spot, a)) for a in PLACES]
            found["mels"].append(log_mel([plain, placed])[:, 0].half().numpy())
            found["places"].append(np.array([[-1] * len(PLACES), levels], np.int8))
            found["measured"].append(measure(plain))
            streams = teach(plain.numpy())
            found["taught"].append(summarise(streams))
            found["moments"].append(
                at_moments(
                    streams[0],
                    len(plain),
                    n_window=log_mel.n_samples,
                    n_moments=n_moments,
                )
            )
            found["rows"].append(start + row)
    arrays = {name: np.array(values) for name, values in found.items()}
    return write_arrays(file, **arrays)


def bend(wave: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Play a random stretch of a clip faster or slower: at most n samples."""
    bent, where = (
        torch.randn(1, generator=generator),
        torch.rand(1, generator=generator),
    )
    speed = float((BEND * bent).clamp(-MOST_BENT, MOST_BENT).exp())
    wanted = round(n * speed) + 2
    start = round(max(0, len(wave) - wanted) * float(where))
    piece = wave[start : start + wanted]
    as_if = round(SAMPLE_RATE * speed)
    return resample(piece, from_rate=as_if, to_rate=SAMPLE_RATE)[:n]


def read_teacher(file: Path) -> dict:
    """Load the AudioSet teacher's features and tags, and an index of its clips."""
    if not file.is_file():
        raise SystemExit(f"the teacher features are missing; expected {file}")
    with np.load(file, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    paths = [str(p) for p in found.pop("path")]
    found["row"] = {p.rsplit(".", 1)[0]: i for i, p in enumerate(paths)}
    found["embedding"] = found["embedding"].astype(np.float32)
    return found


def rows_of(clips: pd.DataFrame, teacher: dict) -> np.ndarray:
    """Find clips among the AudioSet teacher's: (n,) row, or -1."""
    folders = {"bursts": "corpora/emogator/", "sounds": "acoustics/esc10/"}
    names = clips["kind"].map(folders).fillna("no/") + clips["clip"]
    return np.array([teacher["row"].get(name, -1) for name in names])


def gather(args) -> tuple[Corpus, Corpus, Corpus, Corpus]:
    """Load bursts, sounds and voices, each without what others are judged on."""
    bursts = load_corpus("emogator")
    bursts = replace(bursts, clips=bursts.clips[bursts.clips["split"] != "test"])
    esc = load_corpus(args.shared / "acoustics" / "esc10")
    inside = ~esc.clips["clip"].str.split("/").str[-1].str.startswith("5-")
    esc = replace(esc, clips=esc.clips[inside])
    if not (args.voices / "clips.csv").is_file():
        raise SystemExit(f"no voices in {args.voices}; run data/gather_voices.py first")
    voices = load_corpus(args.voices)
    return bursts, esc, voices, load_corpus(speak(args.work / "spoken", args.seed))


def write_aspects(
    clips: pd.DataFrame, measured: np.ndarray, places: np.ndarray, teacher: dict
) -> list[Aspect]:
    """Make every aspect that captions speak of, with labels for all clips."""
    is_sound = (clips["kind"] == "sounds").to_numpy()
    # Folders are called "001 dog bark".
    names = clips["emotion"].map(sound_name).where(is_sound, "").to_numpy()
    sounds = sorted(set(names) - {""})
    labels = np.array([sounds.index(s) if s else -1 for s in names])
    aspects = [Aspect("sound", [say(s) for s in sounds], labels, 2.0)]
    rows = rows_of(clips, teacher)
    top = np.where((rows >= 0) & ~is_sound, teacher["top_class"][rows, 0], -1)
    tagged, counts = np.unique(top[top >= 0], return_counts=True)
    common = list(tagged[counts >= 15])
    tags = [str(teacher["class_names"][c]).lower() for c in common]
    labels = np.array([common.index(t) if t in common else -1 for t in top])
    aspects.append(Aspect("tag", [say(t) for t in tags], labels, 1.0))
    sexes = list(PROPERTIES["sex"])
    labels = np.array([sexes.index(s) if s in sexes else -1 for s in clips["sex"]])
    aspects.append(Aspect("sex", list(PROPERTIES["sex"].values()), labels, 0.5))
    for name, levels in property_levels(measured, feature_names()).items():
        aspects.append(Aspect(name, list(PROPERTIES[name].values()), levels, 0.5))
    for k, name in enumerate(PLACES):
        aspects.append(
            Aspect(name, list(PROPERTIES[name].values()), places[..., k], 0.5)
        )
    return aspects


def write_targets(clips, heard: list[Heard], measured, teacher: dict) -> np.ndarray:
    """Put what the tower shall predict side by side: (n, 424), NaN where unknown."""
    rows = rows_of(clips, teacher)
    tagged = teacher["embedding"][rows]
    tagged[rows < 0] = np.nan
    taught = np.concatenate([h.taught for h in heard]).astype(np.float32)
    taught[(clips["kind"] == "sounds").to_numpy()] = np.nan  # it knows speech
    like = (clips["kind"] == "voices").to_numpy()
    parts = [1.3 * standardise(measured), squeeze(tagged, N_TAGS, like=rows >= 0)]
    parts += [squeeze(taught[:, row], n, like=like) for row, n in SQUEEZED]
    return np.concatenate(parts, axis=1)


def write_moments(clips: pd.DataFrame, heard: list[Heard]) -> np.ndarray:
    """What the tower shall predict of each moment: (n, T, 128), NaN where unknown."""
    moments = np.concatenate([h.moments for h in heard])
    moments[(clips["kind"] == "sounds").to_numpy()] = np.nan  # it knows speech
    like = (clips["kind"] == "voices").to_numpy()
    return squeeze_moments(moments, OF_MOMENT, like=like)


def squeeze(values: np.ndarray, n: int, *, like: np.ndarray) -> np.ndarray:
    """Reduce features to n directions, those of little variance raised by its root.

    Args:
        values: (N, d), rows of NaN stay.
        n: Directions to keep.
        like: (N,) which rows give mean, deviation and directions.
    """
    known = values[like]
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-4
    values = np.clip((values - mean) / deviation, -5, 5)
    some = np.random.default_rng(0).permutation(np.flatnonzero(like))[:6000]
    directions = np.linalg.svd(values[some], full_matrices=False)[2][:n]
    found = values @ directions.T
    spread = found[like].std(axis=0)
    return np.clip(1.2 * found / np.sqrt(spread * spread.mean()), -5, 5).astype("f4")


def say(name: str) -> tuple[str, ...]:
    return (f"the sound of {name}", name, f"this is a recording of {name}")


def sound_name(folder: str) -> str:
    return folder.split(" ", 1)[1] if folder[:3].isdigit() else folder


def sound_judge(args, clap: Clap):
    """Zero-shot accuracy on ESC-10's fold 5, for the log; nothing is chosen by it."""
    esc = load_corpus(args.shared / "acoustics" / "esc10")
    held = esc.clips["clip"].str.split("/").str[-1].str.startswith("5-")
    esc = replace(esc, clips=esc.clips[held])
    pictures = draw_corpus(esc, clap.log_mel, n_places=0)
    names = [sound_name(e) for e in esc.clips["emotion"].iloc[pictures.kept]]
    sounds = sorted(set(names))
    truth = np.array([sounds.index(s) for s in names])
    mels = torch.from_numpy(pictures.mels[:, :1])

    def judge(model: Clap) -> dict[str, float]:
        text = model.embed_text([f"the sound of {s}" for s in sounds])
        guess = (model.embed_mels(mels) @ text.T).argmax(dim=1).numpy()
        return {"esc10_fold5": float((guess == truth).mean())}

    return judge


def untrained(args, *, seed: int) -> Clap:
    """Join the trained text tower and a fresh audio tower."""
    if args.text_from is not None:
        return fresh_audio(load_clap(args.text_from), seed=seed)
    folder, weights = (
        args.work / "text-tower",
        args.work / "text-checkpoint.safetensors",
    )
    if not (folder / "config.json").is_file() or not weights.is_file():
        raise SystemExit(
            f"no text tower in {folder}; run data/build_clap_mini_text.py first"
        )
    text = ClapTextConfig.from_pretrained(folder)
    torch.manual_seed(seed)
    config = ClapConfig(
        text_config=text.to_dict(), audio_config=TOWER, projection_dim=DIM
    )
    model = ClapModel(config)
    trained = load_file(weights)
    model.text_model.load_state_dict(
        {k[8:]: v for k, v in trained.items() if k.startswith("student.")}
    )
    model.text_projection.load_state_dict(
        {
            k.replace("head.0", "linear1").replace("head.2", "linear2"): v
            for k, v in trained.items()
            if k.startswith("head.")
        }
    )
    extractor = ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=16_000,
        hop_length=192,
        max_length_s=3,
        fft_window_size=1024,
        frequency_min=50,
        frequency_max=8000,
        truncation="rand_trunc",
        padding="repeatpad",
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Clap(model, tokenizer, extractor, name="clap-mini")


def fresh_audio(clap: Clap, *, seed: int) -> Clap:
    """Keep a CLAP's text side, and put a new audio tower beside it."""
    torch.manual_seed(seed)
    text = clap.model.config.text_config.to_dict()
    model = ClapModel(
        ClapConfig(text_config=text, audio_config=TOWER, projection_dim=DIM)
    )
    for part in ("text_model", "text_projection"):
        known = getattr(clap.model, part).state_dict()
        getattr(model, part).load_state_dict(known)
    return Clap(model.eval(), clap.tokenizer, clap.extractor, name="clap-mini")


def speak(folder: Path, seed: int) -> Path:
    """Let espeak-ng read WordNet's examples in all its voices, pitches and tempos."""
    table = folder / "clips.csv"
    if table.is_file():
        return folder
    if shutil.which("espeak-ng") is None:
        raise SystemExit("espeak-ng is missing: apt-get install espeak-ng")
    folder.mkdir(parents=True, exist_ok=True)
    told = subprocess.run(
        ["espeak-ng", "--voices"], capture_output=True, text=True, check=True
    )
    languages = [line.split()[1] for line in told.stdout.splitlines()[1:]]
    languages = [k for k in languages if k.split("-")[0] not in NOT_SPOKEN]
    sentences = [s for s in read_wordnet(WORDNET) if 15 <= len(s) <= 60]
    draw = random.Random(seed)
    lines = ["path,emotion,speaker,sex,language,split"]
    for i in range(N_SYNTHETIC):
        language, variant = draw.choice(languages), draw.choice(VARIANTS)
        clip = f"{i:05d}.wav"
        command = ["espeak-ng", "-v", f"{language}+{variant}"]
        command += ["-p", str(draw.randint(10, 90)), "-s", str(draw.randint(110, 240))]
        command += ["-g", str(draw.choice((0, 0, 2))), "-w", str(folder / clip)]
        # A few voices need data that Debian leaves out: they say nothing.
        subprocess.run([*command, draw.choice(sentences)], stderr=subprocess.DEVNULL)
        if (folder / clip).is_file():
            sex = "male" if variant[0] == "m" else "female"
            speaker = f"{language}-{variant}"
            lines.append(f"{clip},unknown,{speaker},{sex},{language},train")
    write_atomically(table, "\n".join(lines) + "\n")
    return folder


if __name__ == "__main__":
    main()
