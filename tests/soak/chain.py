"""The whole chain in one process, small: what some tests run in a fresh Python.

    python tests/soak/chain.py MODEL CLIPS OUT

MODEL is a folder of `tiny.make_model`, CLIPS one that `tiny.make_corpus` fills, OUT an
npz that receives every number on the way.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def run_chain(model: Path, clips: Path) -> dict:
    """CLAP, CLEP, contexts, transfer and judgement: arrays by name."""
    import torch

    from clepdg_lib.acpt import embed_contexts, random_contexts, tune_contexts
    from clepdg_lib.clap import embed_corpus, load_clap
    from clepdg_lib.clep import finetune_clep
    from clepdg_lib.contrast import Recipe
    from clepdg_lib.corpora import load_corpus, split_speakers
    from clepdg_lib.environments import place, random_environment
    from clepdg_lib.evaluation import (
        bootstrap_interval,
        linear_probe,
        mean_discrepancy,
        proxy_a_distance,
        uar,
    )
    from clepdg_lib.gap import modality_gap
    from clepdg_lib.transfer import fit_text_classifier, zero_shot

    clap, corpus = load_clap(model), load_corpus(clips)
    heard = embed_corpus(clap, corpus)
    recipe = Recipe(epochs=2, batch_size=8, probe_steps=5, precision="float32")
    clep = finetune_clep(clap, corpus, recipe=recipe, progress=False, seed=3)
    better = embed_corpus(clep, corpus)
    tuned = tune_contexts(
        clep, corpus.emotions, n_contexts=3, n_tokens=2, steps=8, progress=False
    )
    classifier = fit_text_classifier(clep, corpus.emotions, contexts=tuned)
    truth = better.clips["emotion"].to_numpy()
    guess = classifier.predict(better.embeddings)
    generator = torch.Generator().manual_seed(5)
    placed = place(
        corpus.read(0), random_environment(generator), generator=generator
    ).numpy()
    gap = modality_gap(better.embeddings, clep.embed_text(list(corpus.emotions)))
    x = better.embeddings.numpy()
    return {
        "placed": placed,
        "clap": heard.embeddings.numpy(),
        "clep": x,
        "history": clep.history[["loss"]].to_numpy(),
        "contexts": tuned.vectors.numpy(),
        "random": random_contexts(clep, n_contexts=2).vectors.numpy(),
        "placed_words": embed_contexts(clep, tuned, corpus.emotions).numpy(),
        "classifier": classifier.weight.numpy(),
        "zero_shot": zero_shot(clap, corpus.emotions).weight.numpy(),
        "shares": classifier.predict_proba(better.embeddings).numpy(),
        "scores": [uar(truth, guess), *bootstrap_interval(truth, guess)],
        "gap": [gap.distance, gap.cosine_between],
        "distances": [
            proxy_a_distance(x[::2], x[1::2], n_folds=2),
            mean_discrepancy(x[::2], x[1::2]),
        ],
        "probed": linear_probe(x[::2], truth[::2], x[1::2]) == truth[1::2],
        "splits": split_speakers(corpus.clips)["split"].to_numpy().astype(str),
    }


if __name__ == "__main__":
    from clepdg_lib.arrays import write_arrays

    write_arrays(Path(sys.argv[3]), **run_chain(Path(sys.argv[1]), Path(sys.argv[2])))
