"""Measure what the bundled models know, for their cards.

    CLEPDG_CORPORA=../shared/corpora python data/build/evaluate.py clap-mini
    CLEPDG_CORPORA=../shared/corpora python data/build/evaluate.py clep-mini

Zero-shot, on clips that clap-mini was not trained on: ESC-10's fold 5, EmoGator's test
speakers in random environments, five corpora of speech and emosynth. One row asks the
text tower alone: which of four captions is nearest to 200 sentences about emotions that
no training text has. Of clep-mini, which was trained on the five corpora, only emosynth
and what is not emotion is measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from clap_mini import PLACE_ASPECTS, in_fold_5, load_esc10
from random_places import random_environment

from clepdg_lib.audio import is_silent, place
from clepdg_lib.captions import CANONICAL, EMOTIONS, PROPERTIES
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.corpora import load_corpus
from clepdg_lib.embeddings import EmbeddedCorpus, embed_corpus
from clepdg_lib.evaluation.metrics import uar, war
from clepdg_lib.evaluation.probes import fit_probe
from clepdg_lib.evaluation.real_speech import CORPORA, load_features
from clepdg_lib.files import PROJECT, write_atomically


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", choices=("clap-mini", "clep-mini"))
    arguments.add_argument("--shared", type=Path, default=Path("../shared"))
    args = arguments.parse_args()
    clap = load_clap(args.model)
    esc = load_esc10(args.shared)
    esc = embed_corpus(clap, replace(esc, clips=esc.clips[in_fold_5(esc)]))
    kinds = sorted(set(esc.clips["emotion"]))
    sounds = [[f"the sound of {kind}"] for kind in kinds]
    rows = [score("sound", "ESC-10 fold 5", clap, esc, kinds, sounds, "emotion")]
    rows += places(clap)
    corpora = () if args.model == "clep-mini" else CORPORA
    speech = {name: load_features(corpora=name).embedded_by(clap) for name in corpora}
    emosynth = load_corpus("emosynth").select(emotions=EMOTIONS, splits="test")
    speech["emosynth"] = embed_corpus(clap, emosynth)
    prompts = [[CANONICAL.format(emotion=e)] for e in EMOTIONS]
    sexes = list(PROPERTIES["sex"])
    for name, clips in speech.items():
        if name != "tess":  # women only
            sentences = list(PROPERTIES["sex"].values())
            rows.append(score("sex", name, clap, clips, sexes, sentences, "sex"))
        rows.append(score("emotion", name, clap, clips, EMOTIONS, prompts, "emotion"))
    rows.append(paraphrases(clap))
    print(pd.DataFrame(rows).round(3).to_string())
    text = json.dumps({"model": args.model, "rows": rows}, indent=1) + "\n"
    write_atomically(PROJECT / "data" / "results" / f"{args.model}.json", text)


def score(
    task: str,
    test: str,
    clap: Clap,
    clips: EmbeddedCorpus,
    kinds: Sequence[str],
    sentences: Sequence[Sequence[str]],
    column: str,
) -> dict:
    """Compare clips with the mean of each kind's sentences."""
    text = torch.stack([clap.embed_text(list(s)).mean(dim=0) for s in sentences])
    text = torch.nn.functional.normalize(text, dim=-1)
    guess = np.array(kinds)[(clips.embeddings @ text.T).argmax(dim=1).numpy()]
    return row(task, test, clips.clips[column].to_numpy(dtype=str), guess)


def row(task: str, test: str, truth: np.ndarray, guess: np.ndarray) -> dict:
    scores = {"uar": uar(truth, guess), "war": war(truth, guess)}
    chance = 1 / len(set(truth))
    return {"task": task, "on": test, **scores, "chance": chance, "clips": len(truth)}


def places(clap: Clap) -> list[dict]:
    """Rooms, noises and channels by sentences, and by a probe of other speakers."""
    test, train = (placed_bursts(clap, s, seed=n) for n, s in enumerate(SPLITS))
    rows = []
    for aspect in PLACE_ASPECTS:
        levels = list(PROPERTIES[aspect])
        sentences = list(PROPERTIES[aspect].values())
        about = "EmoGator test speakers"
        rows.append(score(aspect, about, clap, test, levels, sentences, aspect))
        probe = fit_probe(train.features, train.clips[aspect])
        guess = probe.predict(test.features)
        truth = test.clips[aspect].to_numpy(dtype=str)
        rows.append(row(f"{aspect}, linear probe", about, truth, np.asarray(guess)))
    return rows


SPLITS = ("test", "train")


def placed_bursts(clap: Clap, split: str, *, seed: int) -> EmbeddedCorpus:
    """First takes of a split's speakers in random environments."""
    bursts = load_corpus("emogator").select(splits=split)
    first = bursts.clips["clip"].str.endswith("-1")
    bursts = replace(bursts, clips=bursts.clips[first])
    waves, levels = [], []
    for i in range(len(bursts)):
        draw = torch.Generator().manual_seed(10_000 * (seed + 1) + i)
        where, burst = random_environment(draw), bursts.read(i)
        if is_silent(burst):
            continue
        waves.append(place(burst, where, generator=draw))
        levels.append({name: getattr(where, name) for name in PLACE_ASPECTS})
    features = clap.audio_features(waves)
    return EmbeddedCorpus(clap.project(features), features, pd.DataFrame(levels))


def paraphrases(clap: Clap) -> dict:
    """The text tower alone, on sentences that no training text has."""
    listed = pd.read_csv(PROJECT / "tests" / "data" / "emotion_paraphrases.csv")
    captions = clap.embed_text([CANONICAL.format(emotion=e) for e in EMOTIONS])
    nearest = (clap.embed_text(listed["sentence"].tolist()) @ captions.T).argmax(dim=1)
    guess = np.array(EMOTIONS)[nearest.numpy()]
    truth = listed["emotion"].to_numpy(dtype=str)
    return row("paraphrase", f"{len(truth)} sentences", truth, guess)


if __name__ == "__main__":
    main()
