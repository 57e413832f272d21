"""Build data/real_speech: embeddings of four corpora, for claims without recordings.

    CLEPDG_CORPORA=... make benchmark                    # trains the CLEPs it needs
    CLEPDG_CORPORA=... python data/build_real_speech.py --seeds 0 1 2 3 4

Each corpus is embedded by clap-mini and, for every seed, by the CLEP that the benchmark
trained on the other corpora; the 88 eGeMAPS functionals are measured beside. No sound
is written. What exists already in the cache is not embedded again.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clepdg_lib.benchmark import LOCO_RECIPE, run_folder, training_of
from clepdg_lib.clap import Clap, embed_corpus, load_clap
from clepdg_lib.corpora import EMOTIONS, Corpus, CorpusError, load_corpus
from clepdg_lib.files import data_root
from clepdg_lib.material import REAL
from clepdg_lib.properties import measure_corpus
from clepdg_lib.real_speech import MEASURED, write_embeddings


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--work", type=Path, default=Path("build/benchmark"))
    arguments.add_argument("--out", type=Path, default=data_root() / "real_speech")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = arguments.parse_args()
    clap = load_clap("clap-mini")
    try:
        whole = {name: load_corpus(name) for name in REAL}
    except CorpusError as error:
        raise SystemExit(f"all four corpora are needed: {error}") from error
    cleps = {}
    for name, seed in itertools.product(REAL, args.seeds):
        kept = run_folder(args.work, clap, LOCO_RECIPE, f"loco-{name}", seed)
        cleps[name, seed] = load_trained(kept)
    tables, parts = [], {}
    for name, corpus in whole.items():
        shared = corpus.select(emotions=EMOTIONS)
        heard = embed_corpus(clap, shared, progress=True)
        tables.append(heard.clips)
        parts.setdefault("clap-mini", []).append(heard.embeddings)
        for seed in args.seeds:
            clep = cleps[name, seed]
            rows = embed_corpus(clep, shared, progress=True).embeddings
            parts.setdefault(f"clep-{seed}", []).append(rows)
        parts.setdefault(MEASURED, []).append(measured(corpus, heard.clips))
    training = {
        seed: {name: known_of(cleps[name, seed], name, whole) for name in REAL}
        for seed in args.seeds
    }
    arrays = {name: torch.cat(rows).numpy() for name, rows in parts.items()}
    table = pd.concat(tables, ignore_index=True)
    listing = write_embeddings(args.out, table, arrays, training=training)
    print(listing.read_text())


def load_trained(folder: Path) -> Clap:
    if not (folder / "SHA256SUMS").is_file():
        raise SystemExit(
            f"no finished model in {folder}; first run "
            "`python -m clepdg_lib benchmark --tier audio --work ...` with these seeds"
        )
    return load_clap(folder)


def known_of(clep: Clap, test: str, whole: dict[str, Corpus]):
    known = training_of(clep, [whole[n] for n in REAL if n != test])
    return known.mean, known.probe


def measured(corpus: Corpus, clips: pd.DataFrame) -> torch.Tensor:
    """The functionals of some of a corpus's clips, in their order."""
    values = measure_corpus(corpus, progress=True)
    row_of = {clip: row for row, clip in enumerate(corpus.clips["clip"])}
    return torch.from_numpy(values[np.array([row_of[c] for c in clips["clip"]])])


if __name__ == "__main__":
    main()
