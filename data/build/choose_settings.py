"""Choose the settings of `clep-dg` on corpora left out of training, on nothing else.

    python data/build/choose_settings.py

For every two of the five corpora, CLEP is trained on the other three and judged on the
two: on clips as recorded and on the pairs in *simulated* places. The score that a
setting has *for* a corpus is its mean over those trainings that left that corpus out,
judged on the other corpus of the two: nested, so that no clip of the corpus itself is
used. The recorded places of `shift` are never opened. One setting differs from the
chosen ones in each row of ``data/results/settings.json``; the choice changes only where
the gain is above twice its standard error over trainings.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import joblib
import pandas as pd
from tqdm.auto import tqdm

from clepdg_lib.acpt import text_shifts, tune_contexts
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import load_clap
from clepdg_lib.evaluation.benchmark import Fold, TextSide, fit_map
from clepdg_lib.evaluation.metrics import uar
from clepdg_lib.evaluation.real_speech import CORPORA, load_features
from clepdg_lib.files import data_root, versions, write_atomically

# Where a setting belongs, and the values that are tried beside the chosen ones.
TRAINING = {"l2": (1, 2.5, 10, 20), "scale": (5, 20), "consistency": (0.3, 1)}
TRAINING |= {"augment_weight": (0.5, 2)}
BENDING = {"amplitude": (0.75, 1, 2, 3), "residual_bank": (True,)}
MAP = {"steps": (25, 50, 200)}
TUNING = {"n_contexts": (4, 32, 64), "n_tokens": (4,), "kappa": (10, 30)}
TUNING |= {"diversity": (0, 0.1, 1), "steps": (50,), "learning_rate": (0.02,)}
SETS = ("none", "random", "written", "published", "captions", "shuffled")


def judge(out: tuple[str, str], seed: int, text: TextSide, tuned: dict) -> list[dict]:
    """Train every variant without two corpora, and judge it on each of them."""
    clap, clean, pairs = load_clap("clap-mini"), load_features(), load_features("pairs")
    known, mixed = (
        d.take(~d.clips["corpus"].isin(out).to_numpy()) for d in (clean, pairs)
    )
    fold = Fold(clap, text, known, mixed, seed)
    chosen, maps = fold.config, {"chosen": fold.place_map}
    for steps in MAP["steps"]:
        maps[steps] = fit_map(mixed, text.shifts, steps=steps, seed=seed)
    models = {
        ("contexts", name): partial(fold.train_method, f"latent-{name}")
        for name in SETS
    }
    models["contexts", "none"] = lambda: fold.plain
    models["chosen", ""] = partial(fold.bent, "tuned")
    for name, values in BENDING.items():
        models |= {(name, v): partial(fold.bent, "tuned", **{name: v}) for v in values}
    models |= {
        ("G steps", v): partial(fold.bent, "tuned", maps[v]) for v in MAP["steps"]
    }
    for key, tau in tuned.items():
        text.tau[key] = tau
        models[key] = partial(fold.bent, key)
    rows = []
    changes = {(n, v): {n: v} for n, values in TRAINING.items() for v in values}
    for key in [*models, *changes]:
        fold.config = replace(chosen, **changes.get(key, {}))
        model = models[key]() if key in models else fold.bent("tuned")
        for test, other in itertools.permutations(out):
            row = {"setting": key[0], "value": str(key[1]), "seed": seed}
            row |= {"for": test, "other": other}
            for name, data in (("clean", clean), ("simulated", pairs)):
                here = data.take((data.clips["corpus"] == other).to_numpy())
                guess = text.classifiers["text-classifier"].predict(
                    model.project(here.features)
                )
                row[name] = uar(here.clips["emotion"], guess)
            rows.append(row)
    return rows


def words(seed: int, shifts: pd.DataFrame) -> tuple[TextSide, dict]:
    """What a seed makes of words: the benchmark's side, and other tuned contexts."""
    clap, tuned = load_clap("clap-mini"), {}
    captions = {"captions": list(shifts.index), "seed": seed, "progress": False}
    for name, values in TUNING.items():
        for value in values:
            contexts = tune_contexts(clap, EMOTIONS, **captions, **{name: value})
            tuned[f"tuning {name}", value] = text_shifts(clap, contexts)
    return TextSide(clap, shifts, seed=seed), tuned


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    out = data_root() / "results/settings.json"
    arguments.add_argument("--out", type=Path, default=out)
    args = arguments.parse_args()
    captions = list(dict.fromkeys(load_features("pairs").clips["caption"]))
    shifts = text_shifts(load_clap("clap-mini"), captions).numpy()
    shifts = pd.DataFrame(shifts, index=captions)
    parallel = joblib.Parallel(n_jobs=joblib.cpu_count(), return_as="generator")
    sides = list(parallel(joblib.delayed(words)(seed, shifts) for seed in args.seeds))
    tasks = [
        joblib.delayed(judge)(out, seed, *side)
        for seed, side in zip(args.seeds, sides, strict=True)
        for out in itertools.combinations(CORPORA, 2)
    ]
    rows = [row for part in tqdm(parallel(tasks), total=len(tasks)) for row in part]
    table = pd.DataFrame(rows)
    table["mean"] = table[["clean", "simulated"]].mean(axis=1)
    keys = ["setting", "value"]
    means = table.groupby(keys, sort=False)[["clean", "simulated", "mean"]].mean()
    runs = table.pivot_table("mean", keys, ["for", "other"], sort=False)
    gains = runs - runs.loc[("chosen", "")]  # of the seeds' means, paired by training
    means["gain"], means["standard error"] = gains.mean(axis=1), gains.sem(axis=1)
    print(means.round(4).to_string())
    nested = runs.drop("contexts", level=0).T.groupby("for").mean().T
    print("best for each corpus, which it never saw:", dict(nested.idxmax()))
    rows = means.round(4).reset_index().to_dict("records")
    result = {"seeds": args.seeds, "rows": rows, "made_with": versions()}
    write_atomically(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
