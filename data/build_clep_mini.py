"""Build clep-mini: clap-mini after fine-tuning on all the emotional speech at hand.

    CLEPDG_CORPORA=../shared/corpora python data/build_clep_mini.py

It learns from RAVDESS, TESS, EMO-DB, nEMO and EmoGator at once, by the recipe of the
benchmark (`clepdg_lib.benchmark.LOCO_RECIPE`), so there is no corpus here to test it
on: what the recipe is worth on unseen speech is what the benchmark measures. The text
tower stays clap-mini's, and by that recipe so does the audio tower. A recipe with
epochs resumes after the last finished one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from clepdg_lib.benchmark import train_on
from clepdg_lib.clap import load_clap
from clepdg_lib.corpora import CorpusError, load_corpus
from clepdg_lib.files import data_root, write_checksums
from clepdg_lib.material import REAL, load_bursts, prepare


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--work", type=Path, default=Path("build/clep-mini"))
    arguments.add_argument("--out", type=Path, default=data_root() / "models/clep-mini")
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    clap = load_clap("clap-mini")
    try:
        corpora = [*(load_corpus(name) for name in REAL), load_bursts()]
    except CorpusError as error:
        raise SystemExit(f"all five corpora are needed: {error}") from error
    clep = train_on(
        clap,
        [prepare(corpus, clap) for corpus in corpora],
        seed=args.seed,
        checkpoint=args.work / "checkpoint.safetensors",
    )
    clep.save(args.out, half=True)
    clep.history.to_csv(args.out / "training-log.csv", index=False)
    write_checksums(args.out)
    print(clep.history[::20].to_string(index=False))


if __name__ == "__main__":
    main()
