"""Measure what clap-mini knows, for its card: sounds, places, voices, and emotions.

    CLEPDG_CORPORA=../shared/corpora python data/evaluate_clap_mini.py \\
        --json data/results/clap-mini.json

Everything is zero-shot, on clips that the model was not trained on: ESC-10's fold 5,
EmoGator's test speakers placed in random environments, four corpora of speech and
emosynth. One row asks the text tower alone: which of four captions is nearest to a
sentence about an emotion, 200 of them that no training text has. With
``--model clep-mini`` the four corpora, on which that was trained, are left out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clepdg_lib.captions import CANONICAL, PROPERTIES
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.corpora import EMOTIONS, Corpus, load_corpus
from clepdg_lib.evaluation import linear_probe, uar, war
from clepdg_lib.files import PROJECT, write_atomically
from clepdg_lib.pictures import PLACES, draw_corpus

SPEECH = ("emodb", "ravdess", "tess", "nemo", "emosynth")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--model", default="clap-mini")
    arguments.add_argument("--shared", type=Path, default=Path("../shared"))
    arguments.add_argument("--json", type=Path)
    args = arguments.parse_args()
    clap = load_clap(args.model)
    unheard = ("emosynth",) if "clep" in args.model else SPEECH
    rows = [sounds(clap, args.shared), *places(clap)]
    rows += [*voices(clap, unheard), *feelings(clap, unheard), paraphrases(clap)]
    for row in rows:
        print(row)
    if args.json:
        found = {"model": args.model, "rows": rows}
        write_atomically(args.json, json.dumps(found, indent=1) + "\n")


def score(task: str, test: str, clap: Clap, mels, truth, options) -> dict:
    """Compare clips with a sentence (or several) for each option."""
    text = torch.stack([clap.embed_text(list(o)).mean(0) for o in options])
    text = torch.nn.functional.normalize(text, dim=-1)
    guess = (clap.embed_mels(torch.from_numpy(mels)) @ text.T).argmax(1).numpy()
    scores = {"uar": uar(truth, guess), "war": war(truth, guess)}
    chance = 1 / len(set(np.asarray(truth).tolist()))
    return {"task": task, "test": test, **scores, "chance": chance, "n": len(truth)}


def sounds(clap: Clap, shared: Path) -> dict:
    esc = load_corpus(shared / "acoustics" / "esc10")
    held = esc.clips["clip"].str.split("/").str[-1].str.startswith("5-")
    esc = replace(esc, clips=esc.clips[held])
    pictures = draw_corpus(esc, clap.log_mel, n_places=0)
    names = esc.clips["emotion"].iloc[pictures.kept].str.split(" ", n=1).str[1]
    kinds = sorted(set(names))
    truth = np.array([kinds.index(n) for n in names])
    options = [[f"the sound of {k}"] for k in kinds]
    return score("sound", "esc10 fold 5", clap, pictures.mels[:, :1], truth, options)


def places(clap: Clap) -> list[dict]:
    """By sentences, and by a probe that learned from other speakers' clips.

    The probe says how much of a place the audio tower hears at all, in whatever words.
    """
    rows, test = [], "emogator test speakers"
    mels, found = placed_bursts(clap, "test", seed=1)
    others, known = placed_bursts(clap, "train", seed=0)
    points = [clap.embed_mels(torch.from_numpy(m)).numpy() for m in (others, mels)]
    for k, aspect in enumerate(PLACES):
        truth = found[:, k].astype(int)
        options = list(PROPERTIES[aspect].values())
        rows.append(score(aspect, test, clap, mels, truth, options))
        guess = linear_probe(points[0], known[:, k].astype(int), points[1])
        scores = {"uar": uar(truth, guess), "war": war(truth, guess)}
        about = {"task": f"{aspect}, by a linear probe", "test": test}
        rows.append({**about, **scores, "chance": rows[-1]["chance"], "n": len(truth)})
    return rows


def placed_bursts(clap: Clap, split: str, *, seed: int) -> tuple:
    """Pictures of first takes in random environments, and these environments."""
    bursts = load_corpus("emogator").select(splits=split)
    first = bursts.clips["clip"].str.endswith("-1")
    bursts = replace(bursts, clips=bursts.clips[first])
    pictures = draw_corpus(bursts, clap.log_mel, n_places=1, seed=seed)
    return pictures.mels[:, 1:2], pictures.places[:, 1]


def voices(clap: Clap, corpora) -> list[dict]:
    rows = []
    for name in corpora:
        if name == "tess":  # women only
            continue
        corpus, pictures = speech(name, clap)
        sexes = list(PROPERTIES["sex"])
        truth = np.array([sexes.index(s) for s in corpus.clips["sex"]])
        options = list(PROPERTIES["sex"].values())
        rows.append(score("sex", name, clap, pictures.mels[:, :1], truth, options))
    return rows


def feelings(clap: Clap, corpora) -> list[dict]:
    rows = []
    for name in corpora:
        corpus, pictures = speech(name, clap)
        truth = np.array([EMOTIONS.index(e) for e in corpus.clips["emotion"]])
        options = [[CANONICAL.format(emotion=e)] for e in EMOTIONS]
        mels = pictures.mels[:, :1]
        rows.append(score("emotion", name, clap, mels, truth, options))
    return rows


def paraphrases(clap: Clap) -> dict:
    listed = pd.read_csv(PROJECT / "tests" / "data" / "emotion_paraphrases.csv")
    truth = np.array([EMOTIONS.index(e) for e in listed["emotion"]])
    captions = clap.embed_text([CANONICAL.format(emotion=e) for e in EMOTIONS])
    said = clap.embed_text(listed["sentence"].tolist())
    guess = (said @ captions.T).argmax(1).numpy()
    scores = {"uar": uar(truth, guess), "war": war(truth, guess)}
    chance, n = 1 / len(EMOTIONS), len(truth)
    test = f"{n} paraphrases"
    return {"task": "paraphrase", "test": test, **scores, "chance": chance, "n": n}


def speech(name: str, clap: Clap) -> tuple[Corpus, object]:
    corpus = load_corpus(name).select(emotions=EMOTIONS)
    if name == "emosynth":
        corpus = corpus.select(splits="test")
    pictures = draw_corpus(corpus, clap.log_mel, n_places=0)
    clips = corpus.clips.iloc[pictures.kept]
    return replace(corpus, clips=clips), pictures


if __name__ == "__main__":
    main()
