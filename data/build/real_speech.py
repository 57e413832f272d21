"""Write data/real_speech: what the frozen tower gives of every clip of five corpora.

    CLEPDG_CORPORA=../shared/corpora python data/build/real_speech.py --work build/real

Three sets of features (512 numbers a clip):
- clean: every clip of EMO-DB, RAVDESS, TESS, nEMO and EmoTale;
- pairs: up to 1,000 clips a corpus in a random simulated environment, with a caption
  and no use of labels: what "words to places" learns from;
- shift: up to 100 clips a corpus in five places of recorded impulse responses, noises
  and codecs (`recorded_places`), three severities: what robustness is judged on.
Beside them the eGeMAPS functionals (openSMILE) and, where the file of teacher features
is at hand, AudioSet features of the same clips, for the two acoustic baselines.
Resumes after the last finished part.
"""

from __future__ import annotations

import argparse
import gzip
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from random_places import environment_caption, random_environment
from recorded_places import PLACES, SEVERITIES, RecordedPlaces
from tqdm import tqdm

from clepdg_lib.audio import (
    AudioError,
    Environment,
    place,
    prepare,
)
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import load_clap
from clepdg_lib.corpora import Corpus, load_corpus
from clepdg_lib.evaluation.real_speech import CORPORA
from clepdg_lib.files import (
    data_root,
    write_arrays,
    write_atomically,
    write_checksums,
)
from clepdg_lib.towers import AudioTower

# Rounding steps, in standard deviations of a feature: clean features come back within
# a thousandth; a tenth of the others is far below what a place does.
STEPS = {"clean": 0.002, "pairs": 0.2, "shift": 0.2, "egemaps": 0.02}
STEPS |= {"audioset": 0.5}
PART = 500  # clips of one resumable file
N_PAIRS, N_SHIFT = 1000, 100  # clips a corpus
TABLE = ["corpus", "clip", "emotion", "speaker", "sex", "language"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--work", type=Path, default=Path("build/real_speech"))
    arguments.add_argument("--out", type=Path, default=data_root() / "real_speech")
    arguments.add_argument("--shared", type=Path, default=Path("../shared"))
    arguments.add_argument("--threads", type=int, default=2)
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    tower = load_clap("clap-mini").audio_tower
    corpus = recordings()
    clips = corpus.clips
    clean = compute(tower, len(clips), corpus.read, args.work, "clean")
    usable = np.isfinite(clean).all(axis=1)
    pairs, environments = draw_pairs(clips, usable)
    pair_features = compute(
        tower,
        len(pairs),
        lambda i: place(
            corpus.read(pairs["row"][i]),
            environments[i],
            severity=float(pairs["severity"][i]),
            generator=torch.Generator().manual_seed(i),
        ),
        args.work,
        "pairs",
    )
    shift = draw_shift(clips, usable)
    recorded = RecordedPlaces(args.shared / "acoustics")
    shift_features = compute(
        tower,
        len(shift),
        lambda i: recorded.place(
            corpus.read(shift["row"][i]),
            shift["place"][i],
            severity=int(shift["severity"][i]),
            seed=i,
        ),
        args.work,
        "shift",
    )
    baselines = {"egemaps": measure_egemaps(corpus, args.work)}
    teacher = args.shared / "teachers" / "audioset_mobilenet.npz"
    if teacher.is_file():
        baselines["audioset"] = read_audioset(teacher, clips, args.shared)
    write(args.out, clips, usable, clean, pairs, pair_features, shift, shift_features)
    for name, values in baselines.items():
        values = values[usable]
        kept = np.isfinite(values).all(axis=1)
        file = args.out / f"{name}.npz"
        write_rounded(file, values[kept], STEPS[name], rows=np.flatnonzero(kept))
    fingerprint = load_clap("clap-mini").fingerprint()
    write_atomically(args.out / "tower.txt", fingerprint + "\n")
    write_checksums(args.out)


@cache
def recordings() -> Corpus:
    """All clips of the five corpora."""
    clips = [load_corpus(name).clips for name in CORPORA]
    return Corpus("real", pd.concat(clips, ignore_index=True).fillna(""))


def write(out, clips, usable, clean, pairs, pair_features, shift, shift_features):
    """Write the three sets, with row numbers that skip unreadable clips."""
    number = np.cumsum(usable) - 1
    write_csv(out / "clips.csv", clips.loc[usable, TABLE])
    write_rounded(out / "clean.npz", clean[usable], STEPS["clean"])
    places = pd.DataFrame([(p.name, p.caption) for p in PLACES.values()])
    write_csv(out / "places.csv", places.set_axis(["place", "sentence"], axis=1))
    for name, table, features in (
        ("pairs", pairs, pair_features),
        ("shift", shift, shift_features),
    ):
        kept = np.isfinite(features).all(axis=1)
        table = table.assign(row=number[table["row"]])[kept]
        write_csv(out / f"{name}.csv.gz", table.round({"severity": 3}))
        write_rounded(out / f"{name}.npz", features[kept], STEPS[name])


def write_csv(path: Path, table: pd.DataFrame) -> None:
    text = table.to_csv(index=False, lineterminator="\n").encode()
    packed = path.suffix == ".gz"  # without a time: the same rows, the same bytes
    write_atomically(path, gzip.compress(text, mtime=0) if packed else text)


def write_rounded(
    path: Path, values: np.ndarray, step: float, **more: np.ndarray
) -> None:
    """Write an array as whole multiples of a step of its columns' deviations.

    High and low bytes stand apart, so that they compress.
    """
    mean, deviation = values.mean(axis=0), values.std(axis=0) + 1e-12
    codes = np.rint((values - mean) / deviation / step).astype(np.int16)
    write_arrays(
        path,
        high=(codes >> 8).astype(np.int8),
        low=(codes & 255).astype(np.uint8),
        step=np.float32(step),
        mean=mean.astype(np.float32),
        deviation=deviation.astype(np.float32),
        **more,
    )


def compute(
    tower: AudioTower,
    n_clips: int,
    read: Callable[[int], torch.Tensor],
    work: Path,
    name: str,
) -> np.ndarray:
    """Features of numbered clips, part by part: (n_clips, D), NaN where unreadable."""
    parts = []
    for start in tqdm(range(0, n_clips, PART), desc=name, unit="part"):
        file = work / f"{name}-{start:06d}.npy"
        if not file.is_file():
            numbers, waves = [], []
            for i in range(start, min(start + PART, n_clips)):
                try:
                    waves.append(prepare(read(i)))
                    numbers.append(i - start)
                except AudioError as error:
                    print(f"{name} {i}: {error}")
            rows = np.full((min(PART, n_clips - start), tower.width), np.nan, "f4")
            rows[numbers] = tower.features(waves).numpy()
            np.save(file, rows)
        parts.append(np.load(file))
    return np.concatenate(parts)


def draw_pairs(
    clips: pd.DataFrame, usable: np.ndarray
) -> tuple[pd.DataFrame, list[Environment]]:
    """Choose clips, environments and captions: the same ones every time."""
    draw, words = np.random.default_rng(0), random.Random(0)
    generator = torch.Generator().manual_seed(0)
    rows, environments = [], []
    for name in CORPORA:
        chosen = even_choice(clips, usable, name, N_PAIRS, draw, repeat=True)
        for row in chosen:
            environment = random_environment(generator)
            severity = float(np.exp(draw.uniform(np.log(0.5), np.log(2.5))))
            caption = caption_of(environment, severity, words)
            rows.append({"row": row, "caption": caption, "severity": severity})
            environments.append(environment)
    table = pd.DataFrame(rows)
    for column in ("room", "noise", "channel"):
        table[column] = [getattr(environment, column) for environment in environments]
    return table, environments


def caption_of(environment: Environment, severity: float, words: random.Random) -> str:
    """Name what can be noticed of a place, each part as strongly as it is there."""
    harder_db = 20 * np.log10(severity)
    noise_step = 2.5 - (environment.snr_db - harder_db) / 10  # 2.0 at 5 dB, .5 at 20 dB
    room_step = 1.5 - (environment.direct_to_reverb_db - harder_db) / 8
    parts = []
    if environment.room != "none":
        parts.append(
            environment_caption(
                room=environment.room, severity=room_step, generator=words
            )
        )
    if environment.noise != "none":
        parts.append(
            environment_caption(
                noise=environment.noise, severity=noise_step, generator=words
            )
        )
    if environment.channel != "full":
        parts.append(
            environment_caption(
                channel=environment.channel, severity=severity, generator=words
            )
        )
    words.shuffle(parts)
    return ", ".join(parts) or environment_caption(generator=words)


def draw_shift(clips: pd.DataFrame, usable: np.ndarray) -> pd.DataFrame:
    """The same clips of each corpus in every place and severity."""
    draw = np.random.default_rng(1)
    rows = [
        {"row": row, "place": name, "severity": severity}
        for corpus in CORPORA
        for row in even_choice(clips, usable, corpus, N_SHIFT, draw)
        for name in PLACES
        for severity in SEVERITIES
    ]
    return pd.DataFrame(rows)


def even_choice(
    clips: pd.DataFrame,
    usable: np.ndarray,
    corpus: str,
    n: int,
    draw: np.random.Generator,
    *,
    repeat: bool = False,
) -> list[int]:
    """Rows of a corpus, alike of each shared emotion, in random order."""
    chosen: list[int] = []
    for emotion in EMOTIONS:
        mask = (clips["corpus"] == corpus) & (clips["emotion"] == emotion) & usable
        rows = draw.permutation(np.flatnonzero(mask))
        quota = n // len(EMOTIONS)
        if repeat:
            rows = np.resize(rows, quota)
        chosen += rows[:quota].tolist()
    return chosen


def measure_egemaps(corpus: Corpus, work: Path) -> np.ndarray:
    """The 88 eGeMAPSv02 functionals of every clip of a shared emotion, else NaN."""
    import opensmile

    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.Functionals,
    )
    shared = corpus.clips["emotion"].isin(EMOTIONS).to_numpy()
    parts = []
    for start in tqdm(range(0, len(corpus), PART), desc="egemaps", unit="part"):
        file = work / f"egemaps-{start:06d}.npy"
        if not file.is_file():
            stop = min(start + PART, len(corpus))
            rows = np.full((stop - start, 88), np.nan, "f4")
            for i in np.flatnonzero(shared[start:stop]):
                wave = corpus.read(int(start + i)).numpy()
                rows[i] = smile.process_signal(wave, 16_000).to_numpy()[0]
            np.save(file, rows)
        parts.append(np.load(file))
    return np.concatenate(parts)


def read_audioset(file: Path, clips: pd.DataFrame, shared: Path) -> np.ndarray:
    """AudioSet features (384) of every clip of a shared emotion, else NaN."""
    with np.load(file, allow_pickle=False) as arrays:
        embedding = arrays["embedding"].astype("f4")
        names = [Path(p).with_suffix("").as_posix() for p in arrays["path"].astype(str)]
    rows = dict(zip(names, embedding, strict=True))
    root = shared.resolve()
    wanted = [
        Path(p).resolve().relative_to(root).with_suffix("").as_posix()
        for p in clips["path"]
    ]
    kept = clips["emotion"].isin(EMOTIONS).to_numpy()
    missing = np.full(embedding.shape[1], np.nan, "f4")
    return np.stack(
        [
            rows.get(name, missing) if keep else missing
            for name, keep in zip(wanted, kept, strict=True)
        ]
    )


if __name__ == "__main__":
    main()
