"""Build clep-mini: clap-mini's towers, a projection learned from emotional speech.

    python data/build/clep_mini.py

From the shipped features alone, in seconds: `finetune_clep` on the four shared emotions
of all five real corpora, its clips bent by contexts that were tuned on captions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from clepdg_lib.acpt import (
    ContextAugmentation,
    fit_place_map,
    text_shifts,
    tune_contexts,
)
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import load_clap
from clepdg_lib.clep import finetune_clep
from clepdg_lib.evaluation.real_speech import load_features
from clepdg_lib.files import data_root, write_checksums


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=data_root() / "models/clep-mini")
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    clap, pairs = load_clap("clap-mini"), load_features("pairs")
    tau = text_shifts(clap, pairs.clips["caption"])
    place_map = fit_place_map(tau, pairs.clean, pairs.features, seed=args.seed)
    contexts = tune_contexts(
        clap,
        EMOTIONS,
        captions=pairs.clips["caption"],
        place_map=place_map,
        seed=args.seed,
    )
    clep = finetune_clep(
        clap,
        load_features("clean"),
        emotions=EMOTIONS,
        augment=ContextAugmentation(place_map, text_shifts(clap, contexts)),
        seed=args.seed,
    )
    clep.name = "clep-mini"
    clep.save(args.out, towers="../clap-mini")
    contexts.save(args.out / "contexts.npz")
    clep.history.round(5).to_csv(args.out / "training-log.csv", index=False)
    write_checksums(args.out)


if __name__ == "__main__":
    main()
