"""Where in the tower do contexts help? `clep-dg` and its controls, block by block.

    CLEPDG_CORPORA=../shared/corpora python data/build/tower_depth.py

The audio tower is Whisper-base's encoder up to its third block. Here every block of the
six is tried: the same few clips of each corpus as recorded, in simulated places (what G
learns from) and in recorded ones; one corpus is left out in turn, as in the benchmark.
Nothing is chosen by the scores. -> ``data/results/blocks.json``
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from real_speech import TABLE, draw_pairs, draw_shift, recordings
from recorded_places import RecordedPlaces
from tqdm.auto import tqdm
from whisper import CONFIG, beginning, encoder_weights

from clepdg_lib.acpt import text_shifts
from clepdg_lib.audio import place, prepare
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import load_clap
from clepdg_lib.evaluation.benchmark import Fold, TextSide
from clepdg_lib.evaluation.metrics import uar
from clepdg_lib.evaluation.real_speech import CORPORA, RealSpeech, load_features
from clepdg_lib.files import data_root, versions, write_atomically
from clepdg_lib.towers import WhisperTower

METHODS = ("latent-random", "latent-shuffled", "clep-dg", "real-places")
N_POSITIONS = 500
PART = 50  # clips that a process encodes at a time


def encode(work: Path, waves: list[torch.Tensor]) -> torch.Tensor:
    """Mean output of each block over a clip: n waves -> (n, blocks, D)."""
    torch.set_num_threads(1)
    n_blocks, means = CONFIG.encoder_layers, []
    tower = WhisperTower(n_blocks=n_blocks, n_positions=N_POSITIONS)
    weights = beginning(
        encoder_weights(work), n_blocks=n_blocks, n_positions=N_POSITIONS
    )
    tower.encoder.load_state_dict(weights)
    for block in tower.encoder.layers:  # one clip at a time: nothing is padded
        block.register_forward_hook(lambda _, __, out: means.append(out.mean(dim=1)))
    longest = round(tower.window_seconds * tower.sample_rate)
    with torch.no_grad():
        for wave in waves:
            tower.encode([wave[:longest]])
    return torch.cat(means).view(len(waves), n_blocks, -1)


def read(kind: str, rows: pd.DataFrame, shared: Path) -> list[torch.Tensor]:
    """Clips as recorded, in their simulated place, or in a recorded one."""
    corpus = recordings()
    places = RecordedPlaces(shared / "acoustics") if kind == "shift" else None
    waves = []
    for i, row in rows.iterrows():
        wave = corpus.read(row["row"])
        if kind == "pairs":
            draw = torch.Generator().manual_seed(i)
            wave = place(
                wave, row["environment"], severity=row["severity"], generator=draw
            )
        elif kind == "shift":
            wave = places.place(wave, row["place"], severity=row["severity"], seed=i)
        waves.append(prepare(wave))
    return waves


def compute(work: Path, kind: str, rows: pd.DataFrame, shared: Path) -> torch.Tensor:
    """Features of one set, kept in WORK part by part: (n, blocks, D)."""

    def one(start: int) -> torch.Tensor:
        file = work / f"{kind}-{start:06d}.npy"
        if not file.is_file():
            part = rows.iloc[start : start + PART]
            np.save(file, encode(work, read(kind, part, shared)).numpy())
        return torch.from_numpy(np.load(file))

    starts = range(0, len(rows), PART)
    parallel = joblib.Parallel(n_jobs=joblib.cpu_count(), return_as="generator")
    parts = parallel(joblib.delayed(one)(start) for start in starts)
    return torch.cat(list(tqdm(parts, total=len(starts), desc=kind)))


def draw(n_clips: int, n_shift: int) -> dict[str, pd.DataFrame]:
    """The first clips of each corpus and emotion that the shipped features are of."""
    clips = recordings().clips
    shipped = load_features("clean", emotions=None).clips
    key = ["corpus", "clip"]
    usable = clips.set_index(key).index.isin(shipped.set_index(key).index)
    pairs, environments = draw_pairs(clips, usable)
    pairs["environment"] = environments
    tables = {"pairs": pairs, "shift": draw_shift(clips, usable)}
    for name, n in (("pairs", n_clips), ("shift", n_shift)):
        about = clips.loc[tables[name]["row"], TABLE].reset_index(drop=True)
        table = pd.concat([about, tables[name]], axis=1)
        by_clip = table.drop_duplicates("row").groupby(["corpus", "emotion"])
        kept = by_clip.head(n // len(EMOTIONS))["row"]
        tables[name] = table[table["row"].isin(kept)].reset_index(drop=True)
    return {"clean": tables["pairs"], **tables}


def judge(
    block: int, text: TextSide, sets: dict[str, RealSpeech], test: str, *, seed: int
) -> list[dict]:
    """Every method on one corpus left out, at one block."""
    torch.set_num_threads(1)
    clap = load_clap("clap-mini")
    known = (sets["clean"].clips["corpus"] != test).to_numpy()
    fold = Fold(clap, text, sets["clean"].take(known), sets["pairs"].take(known), seed)
    models = {"text-classifier": fold.plain}
    models |= {method: fold.train_method(method) for method in METHODS}
    shift, rows = sets["shift"], []
    for method, model in models.items():
        for severity in (0, 1, 2, 3):
            data, kept = sets["clean"], ~known
            if severity > 0:
                data, of = shift, shift.clips
                kept = (
                    (of["corpus"] == test) & (of["severity"] == severity)
                ).to_numpy()
            judged = data.take(kept)
            guess = text.classifiers["text-classifier"].predict(
                model.project(judged.features)
            )
            score = uar(judged.clips["emotion"], guess)
            row = {"block": block, "method": method, "severity": severity, "seed": seed}
            rows.append(row | {"corpus": test, "uar": round(score, 4)})
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--clips", type=int, default=300, help="of each corpus")
    arguments.add_argument("--shift", type=int, default=32, help="clips of each corpus")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments.add_argument("--work", type=Path, default=Path("build/whisper"))
    arguments.add_argument("--shared", type=Path, default=Path("../shared"))
    out = data_root() / "results/blocks.json"
    arguments.add_argument("--out", type=Path, default=out)
    args = arguments.parse_args()
    encoder_weights(args.work)
    tables = draw(args.clips, args.shift)
    features = {
        kind: compute(args.work, kind, table, args.shared)
        for kind, table in tables.items()
    }
    clap, tasks = load_clap("clap-mini"), []
    captions = list(dict.fromkeys(tables["pairs"]["caption"]))
    shifts = pd.DataFrame(text_shifts(clap, captions).numpy(), index=captions)
    texts = {seed: TextSide(clap, shifts, seed=seed) for seed in args.seeds}
    for block in range(CONFIG.encoder_layers):
        here = {kind: each[:, block].clone() for kind, each in features.items()}
        about = {kind: t.drop(columns="row") for kind, t in tables.items()}
        sets = {kind: RealSpeech(here[kind], about[kind]) for kind in here}
        sets["pairs"] = replace(sets["pairs"], clean=here["clean"])
        tasks += [
            joblib.delayed(judge)(block + 1, text, sets, test, seed=seed)
            for seed, text in texts.items()
            for test in CORPORA
        ]
    parallel = joblib.Parallel(n_jobs=joblib.cpu_count(), return_as="generator")
    rows = [row for part in tqdm(parallel(tasks), total=len(tasks)) for row in part]
    table = pd.DataFrame(rows).query("severity > 0")
    print(table.pivot_table("uar", "block", "method").round(3).to_string())
    result = {"rows": rows, "clips": args.clips, "made_with": versions()}
    write_atomically(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
