"""The whole chain, with one corpus or one domain left out: CLAP, CLEP, ACPT, transfer.

For every test corpus: fine-tune on the others, tune contexts and train classifiers
from text alone, judge the voices that were left out. Nothing of the test corpus, no
sound, no label and no mean of its embeddings, enters before it is judged.

    CLEPDG_CORPORA=... python -m clepdg_lib benchmark --tier audio --json PATH

Lesson: notebooks/05_generalise_across_domains.ipynb
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from clepdg_lib.acpt import random_contexts, tune_contexts
from clepdg_lib.clap import Clap, EmbeddedCorpus, embed_corpus, load_clap
from clepdg_lib.clep import finetune_clep
from clepdg_lib.contrast import Recipe
from clepdg_lib.corpora import (
    EMOTIONS,
    HAPPY_BURSTS,
    Corpus,
    CorpusError,
    join_corpora,
    load_corpus,
)
from clepdg_lib.evaluation import uar, war
from clepdg_lib.files import write_atomically
from clepdg_lib.pictures import Pictures, draw_corpus
from clepdg_lib.probes import linear_probe
from clepdg_lib.properties import (
    feature_names,
    measure_corpus,
    measuring_is_possible,
    property_levels,
)
from clepdg_lib.transfer import fit_text_classifier, zero_shot

REAL = ("emodb", "ravdess", "tess", "nemo")
# Chosen by leaving out, in turn, each *training* corpus: see the model card.
LOCO_RECIPE = Recipe(
    epochs=7,
    batch_size=96,
    learning_rate=5e-4,
    averaging=0.998,
    target_weight=1.0,
)
# Small enough for a lesson: five models in a minute on two cores.
LODO_RECIPE = Recipe(epochs=5, batch_size=32, learning_rate=7e-4, averaging=0.97)


@dataclass(frozen=True)
class Material:
    """A corpus made ready for training.

    Attributes:
        corpus: ``n`` clips.
        pictures: Their log-mels, clean and in places.
        measured: (n, 88) eGeMAPS, or None where openSMILE is not installed.
    """

    corpus: Corpus
    pictures: Pictures
    measured: np.ndarray | None

    def select(self, keep: np.ndarray) -> Material:
        """Keep some of the clips, given as a mask over the corpus's rows."""
        inside = keep[self.pictures.kept]
        order = np.cumsum(keep) - 1
        pictures = self.pictures.rows(inside)
        return Material(
            replace(self.corpus, clips=self.corpus.clips[keep]),
            replace(pictures, kept=order[pictures.kept]),
            None if self.measured is None else self.measured[keep],
        )


def prepare(corpus: Corpus, clap: Clap, *, progress: bool = True) -> Material:
    """Draw and, if openSMILE is there, measure a corpus; both are kept on disk."""
    pictures = draw_corpus(corpus, clap.log_mel, progress=progress)
    possible = measuring_is_possible()
    measured = measure_corpus(corpus, progress=progress) if possible else None
    return Material(corpus, pictures, measured)


def load_bursts() -> Corpus:
    """Load EmoGator's first two takes of the shared emotions, joyful ones as happy."""
    bursts = load_corpus("emogator", emotion_map=HAPPY_BURSTS, emotions=EMOTIONS)
    first = ~bursts.clips["clip"].str.endswith("-3")
    return replace(bursts, clips=bursts.clips[first])


def join_material(materials: Sequence[Material]) -> Material:
    """Put the materials of several corpora one behind the other."""
    starts = np.cumsum([0, *(len(m.corpus) for m in materials)])
    kept = [m.pictures.kept + s for m, s in zip(materials, starts, strict=False)]
    pictures = Pictures(
        np.concatenate([m.pictures.mels for m in materials]),
        np.concatenate([m.pictures.places for m in materials]),
        np.concatenate(kept),
    )
    measured = None
    if all(m.measured is not None for m in materials):
        measured = np.concatenate([m.measured for m in materials])
    return Material(join_corpora(*(m.corpus for m in materials)), pictures, measured)


def train_on(
    clap: Clap,
    materials: Sequence[Material],
    *,
    recipe: Recipe = LOCO_RECIPE,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> Clap:
    """Fine-tune a CLEP on several corpora, with measurements where there are any."""
    joined = join_material(materials)
    targets = properties = None
    if joined.measured is not None:
        # Each corpus by its own mean: where a microphone stood is not a target.
        targets = np.concatenate([standardise(m.measured) for m in materials])
        properties = dict(property_levels(joined.measured, feature_names()))
    return finetune_clep(
        clap,
        joined.corpus,
        emotions=[e for e in EMOTIONS if e in joined.corpus.emotions],
        recipe=recipe,
        pictures=joined.pictures,
        properties=properties,
        targets=targets,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )


def standardise(values: np.ndarray) -> np.ndarray:
    """Bring each column to mean 0 and deviation 1, outliers cut at 4; NaN stay."""
    mean, deviation = np.nanmean(values, axis=0), np.nanstd(values, axis=0) + 1e-6
    return np.clip((values - mean) / deviation, -4, 4).astype(np.float32)


def judge_methods(
    clap: Clap,
    clep: Clap,
    heard_by_clap: EmbeddedCorpus,
    heard_by_clep: EmbeddedCorpus,
    *,
    setting: str,
    test: str,
    seed: int,
    emotions: Sequence[str] = EMOTIONS,
) -> list[dict]:
    """Judge the left-out clips with every text-trained method.

    Returns:
        A row ``{"method", "setting", "test", "seed", "uar", "war", "n"}`` each.
    """
    tuned = tune_contexts(clep, emotions, seed=seed, progress=False)
    untrained = random_contexts(clep, n_contexts=len(tuned), seed=seed)

    def fit(contexts=None):
        return fit_text_classifier(clep, emotions, contexts=contexts, seed=seed)

    judges = {
        "clap-zero-shot": (zero_shot(clap, emotions), heard_by_clap),
        "clep-zero-shot": (zero_shot(clep, emotions), heard_by_clep),
        "text-classifier": (fit(), heard_by_clep),
        "random-contexts": (fit(untrained), heard_by_clep),
        "clep-dg": (fit(tuned), heard_by_clep),
    }
    share = 1 / len(emotions)
    about = {"setting": setting, "test": test, "seed": seed}
    n = len(heard_by_clep)
    rows = [{"method": "chance", **about, "uar": share, "war": share, "n": n}]
    for method, (judge, heard) in judges.items():
        truth = heard.clips["emotion"].to_numpy()
        guess = judge.predict(heard.embeddings)
        scores = {"uar": uar(truth, guess), "war": war(truth, guess)}
        rows.append({"method": method, **about, **scores, "n": len(heard)})
    return rows


def leave_corpora_out(
    clap: Clap,
    *,
    tests: Sequence[str] = REAL,
    seeds: Iterable[int] = (0,),
    recipe: Recipe = LOCO_RECIPE,
    work: Path | None = None,
    progress: bool = True,
) -> list[dict]:
    """Leave each real corpus out in turn; EmoGator's bursts may always be trained on.

    Args:
        clap: Where every fine-tuning starts.
        tests: Corpora to leave out; all of `REAL` that is not left out is trained on.
        seeds: A whole chain each.
        recipe: Of the fine-tuning.
        work: Folder for checkpoints; an interrupted run resumes from them.
        progress: Show bars.

    Raises:
        CorpusError: One of the four corpora is not found.
    """
    loaded = {name: load_corpus(name) for name in REAL}
    try:
        loaded["emogator"] = load_bursts()
    except CorpusError:
        print("EmoGator is not here; training without its bursts", file=sys.stderr)
    materials = {n: prepare(c, clap, progress=progress) for n, c in loaded.items()}
    rows = []
    for test in tests:
        shared = loaded[test].select(emotions=EMOTIONS)
        by_clap = embed_corpus(clap, shared)
        if materials[test].measured is not None:
            rows += measured_baseline(materials, test=test)
        for seed in seeds:
            file = None if work is None else work / f"loco-{test}-{seed}.safetensors"
            clep = train_on(
                clap,
                [m for name, m in materials.items() if name != test],
                recipe=recipe,
                seed=seed,
                checkpoint=file,
                progress=progress,
            )
            by_clep = embed_corpus(clep, shared)
            about = {"setting": "loco", "test": test, "seed": seed}
            rows += judge_methods(clap, clep, by_clap, by_clep, **about)
            if progress:
                print(summarise(rows).to_string(), file=sys.stderr, flush=True)
    return rows


def leave_domains_out(
    clap: Clap,
    corpus: Corpus,
    *,
    seeds: Iterable[int] = (0,),
    recipe: Recipe = LODO_RECIPE,
    progress: bool = True,
) -> list[dict]:
    """Leave each domain of a corpus out in turn: train on the others' train split.

    The test clips are the left-out domain's test split: other speakers, another place.
    """
    domains = sorted(corpus.clips["domain"].unique())
    train, test = corpus.select(splits="train"), corpus.select(splits="test")
    pictures = draw_corpus(train, clap.log_mel, n_places=0)
    heard = embed_corpus(clap, test)
    emotions = corpus.emotions
    rows = []
    for domain in domains:
        inside = (train.clips["domain"] != domain).to_numpy()
        material = Material(train, pictures, None).select(inside)
        judged = test.select(domains=domain)
        for seed in seeds:
            clep = finetune_clep(
                clap,
                material.corpus,
                emotions=emotions,
                recipe=recipe,
                pictures=material.pictures,
                seed=seed,
                progress=progress,
            )
            rows += judge_methods(
                clap,
                clep,
                heard.select(domain=domain),
                embed_corpus(clep, judged),
                setting="lodo",
                test=domain,
                seed=seed,
                emotions=emotions,
            )
    return rows


def measured_baseline(materials: dict[str, Material], *, test: str) -> list[dict]:
    """eGeMAPS and logistic regression, trained on the other speech corpora."""
    names = [n for n in REAL if n != test]

    def shared(name: str) -> tuple[np.ndarray, np.ndarray]:
        clips = materials[name].corpus.clips
        keep = clips["emotion"].isin(EMOTIONS).to_numpy()
        keep &= ~np.isnan(materials[name].measured[:, 0])
        labels = clips["emotion"].to_numpy()[keep]
        return materials[name].measured[keep], labels

    train = [shared(name) for name in names]
    x, truth = shared(test)
    guess = linear_probe(
        np.concatenate([x for x, _ in train]),
        np.concatenate([y for _, y in train]),
        x,
        strength=0.01,
    )
    scores = {"uar": uar(truth, guess), "war": war(truth, guess), "n": len(x)}
    return [
        {"method": "egemaps-lr", "setting": "loco", "test": test, "seed": 0, **scores}
    ]


def summarise(rows: Sequence[dict], *, score: str = "uar") -> pd.DataFrame:
    """Tabulate the mean score over seeds: a row per method, a column per test set."""
    frame = pd.DataFrame(rows)
    order = list(dict.fromkeys(frame["method"]))
    order.sort(key=lambda m: (m != "chance", m == "clep-dg"))
    table = frame.pivot_table(index="method", columns="test", values=score).loc[order]
    table["mean"] = table.mean(axis=1)
    return table


def main(args: argparse.Namespace) -> None:
    """Run a tier and write its rows; see ``--help``."""
    clap = load_clap(args.model)
    if args.tier == "audio":
        rows = leave_corpora_out(clap, seeds=args.seeds, work=args.work)
    else:
        corpus = load_corpus("emosynth")
        rows = leave_domains_out(clap, corpus, seeds=args.seeds)
    result = {
        "tier": args.tier,
        "model": clap.name,
        "seeds": list(args.seeds),
        "rows": rows,
    }
    text = json.dumps(result, indent=1) + "\n"
    if args.json == "-":
        print(text)
        return
    for score in ("uar", "war"):
        print(f"\n{score.upper()}, mean over {len(args.seeds)} seed(s)")
        print(summarise(rows, score=score).round(3).to_string())
    if args.json:
        write_atomically(Path(args.json), text)
