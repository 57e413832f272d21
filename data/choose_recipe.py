"""Choose how CLEP is fine-tuned: train on two corpora, judge the two left out.

    CLEPDG_CORPORA=... python data/choose_recipe.py --json build/recipes.json

Every recipe is tried on all six pairs of RAVDESS, TESS, EMO-DB and nEMO, EmoGator's
bursts always beside them, and the best on the mean becomes the benchmark's for all four
corpora (`clepdg_lib.benchmark.LOCO_RECIPE`). So no fold picks its own, but no corpus is
without a part in the choice either: the benchmark calls it "pooled-leave-two-out".

What is in the file already is not tried again; recipes are named by what they change
from `START`, which stays as it is when the benchmark's own recipe follows the choice.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clepdg_lib.benchmark import train_on, training_of
from clepdg_lib.clap import Clap, embed_corpus, load_clap
from clepdg_lib.contrast import Recipe
from clepdg_lib.corpora import EMOTIONS, Corpus, CorpusError
from clepdg_lib.evaluation import uar
from clepdg_lib.files import write_atomically
from clepdg_lib.gap import close_gap, transductive_centre
from clepdg_lib.material import REAL, Material, load_all, prepare
from clepdg_lib.points import text_points
from clepdg_lib.score_tables import mean_recipes
from clepdg_lib.transfer import fit_on_points

START = Recipe(
    epochs=0,
    learning_rate=4e-4,
    tower_share=0.3,
    probe_steps=200,
    averaging=0.998,
    gain_db=3.0,
    equaliser_db=2.0,
    masks=False,
    target_weight=5.0,
)
RECIPES: dict[str, dict] = {
    "100 steps": {"probe_steps": 100},
    "200 steps": {},
    "300 steps": {"probe_steps": 300},
    "1,000 steps": {"probe_steps": 1000},
    "100 steps, dropout .5": {"probe_steps": 100, "dropout": 0.5},
    "200 steps, dropout .5": {"dropout": 0.5},
    "300 steps, dropout .5": {"probe_steps": 300, "dropout": 0.5},
    "200 steps, dropout .5, strong decay": {"dropout": 0.5, "weight_decay": 1.0},
    "200 steps, other voices": {"other_voices": 1.0},
    "200 steps, dropout .5, half other voices": {"dropout": 0.5, "other_voices": 0.5},
    "200 steps, dropout .5, other voices": {"dropout": 0.5, "other_voices": 1.0},
    "300 steps, dropout .5, other voices": {
        **{"probe_steps": 300, "dropout": 0.5, "other_voices": 1.0},
    },
    "one epoch, gently": {
        **{"dropout": 0.5, "other_voices": 1.0, "epochs": 1},
        **{"learning_rate": 2e-4, "tower_share": 0.1},
    },
    "one epoch": {"dropout": 0.5, "other_voices": 1.0, "epochs": 1},
    "three epochs": {"dropout": 0.5, "other_voices": 1.0, "epochs": 3},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--model", default="clap-mini", help="where CLEPs start")
    arguments.add_argument("--json", type=Path, default=Path("build/recipes.json"))
    arguments.add_argument("--only", nargs="+", choices=RECIPES, help="recipes to try")
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    clap = load_clap(args.model)
    try:
        corpora = load_all()
    except CorpusError as error:
        raise SystemExit(f"all four corpora are needed: {error}") from error
    materials = {name: prepare(corpus, clap) for name, corpus in corpora.items()}
    rows = json.loads(args.json.read_text())["rows"] if args.json.is_file() else []
    for name in args.only or RECIPES:
        recipe = replace(START, **RECIPES[name])
        for pair in itertools.combinations(REAL, 2):
            about = {"model": args.model, "recipe": name, "left_out": list(pair)}
            about["seed"] = args.seed
            if any(about.items() <= row.items() for row in rows):
                continue
            found = try_pair(
                clap, corpora, materials, pair, recipe=recipe, seed=args.seed
            )
            rows += [{**about, **row} for row in found]
            write_atomically(args.json, json.dumps({"rows": rows}, indent=1) + "\n")
        own = [row for row in rows if row["model"] == args.model]
        print(mean_recipes(own).round(4).to_string(), flush=True)


def try_pair(
    clap: Clap,
    corpora: dict[str, Corpus],
    materials: dict[str, Material],
    pair: Sequence[str],
    *,
    recipe: Recipe,
    seed: int,
) -> list[dict]:
    """Train without a pair, and judge both: UAR by words and by a probe on audio."""
    clep = train_on(
        clap,
        [materials[name] for name in corpora if name not in pair],
        recipe=recipe,
        seed=seed,
    )
    known = training_of(clep, [corpora[name] for name in REAL if name not in pair])
    points = text_points(clep, EMOTIONS)
    judge = fit_on_points(
        points.vectors,
        points.labels,
        emotions=EMOTIONS,
        weights=points.weights,
        seed=seed,
    )
    mean_text = points.vectors.mean(dim=0)
    rows = []
    for name in pair:
        heard = embed_corpus(clep, corpora[name].select(emotions=EMOTIONS))
        truth, audio = heard.clips["emotion"], heard.embeddings
        closed = close_gap(audio, mean_audio=known.mean, mean_text=mean_text)
        centred = transductive_centre(audio, home=known.mean)
        rows.append(
            {
                "test": name,
                "words": uar(truth, judge.predict(audio)),
                "words, gap closed": uar(truth, judge.predict(closed)),
                "words, transductive": uar(truth, judge.predict(centred)),
                "audio-probe": uar(truth, known.probe.predict(audio)),
            }
        )
    return rows


if __name__ == "__main__":
    main()
