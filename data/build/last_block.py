"""Does it pay to train the tower's last block, too? A small answer from recordings.

    CLEPDG_CORPORA=... python data/build/last_block.py

One corpus of five is left out in turn, with the same few clips of each. CLEP's
projection is trained on frozen features; then the last of the three blocks learns
together with that projection, by the same loss; then the projection is trained anew on
the features of the tuned tower. Both are judged by the classifier of sentences, on the
corpus left out. Nothing is chosen by the scores. -> ``data/results/last_block.json``
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from clepdg_lib.captions import EMOTIONS, emotion_sentences
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.clep import (
    CaptionAttribute,
    TrainConfig,
    balanced_weights,
    emotion_labels,
    label_aware_loss,
    train_projection,
)
from clepdg_lib.corpora import Corpus, load_corpus
from clepdg_lib.evaluation.metrics import uar, war
from clepdg_lib.evaluation.real_speech import CORPORA
from clepdg_lib.files import data_root, versions, write_atomically
from clepdg_lib.transfer import fit_text_classifier

BATCH, SCALE = 16, TrainConfig().scale


def read(corpus: Corpus, n: int) -> tuple[list[Tensor], pd.DataFrame]:
    """Draw n clips, as many of each emotion, and read them."""
    drawn = corpus.clips.groupby("emotion").sample(n // len(EMOTIONS), random_state=0)
    waves = [corpus.read(row) for row in tqdm(drawn.index, desc=corpus.name)]
    return waves, drawn.reset_index(drop=True)


def fit(clap: Clap, waves: list[Tensor], clips: pd.DataFrame) -> Clap:
    """CLEP's projection on features of this model's own tower."""
    texts = [emotion_sentences(emotion) for emotion in EMOTIONS]
    labels, weights = emotion_labels(clips, EMOTIONS), balanced_weights(clips)
    attribute = CaptionAttribute("emotion", texts, labels, weights)
    features = clap.audio_tower.features(waves)
    return train_projection(
        clap, features, [attribute], config=TrainConfig(), progress=False
    )


def tune(clep: Clap, waves: list[Tensor], clips: pd.DataFrame, *, epochs: int) -> Clap:
    """Train the tower's last block and the projection by the label-aware loss."""
    clep, draw = copy.deepcopy(clep), torch.Generator().manual_seed(0)
    block, projection = clep.audio_tower.encoder.layers[-1], clep.audio_projection
    learns = [*block.requires_grad_().parameters()]
    learns += [*projection.requires_grad_().parameters()]
    optimizer = torch.optim.AdamW(learns, lr=3e-5, weight_decay=0.05)
    sentences = [clep.embed_text(list(emotion_sentences(e))) for e in EMOTIONS]
    texts = torch.stack([each.mean(dim=0) for each in sentences])
    labels = torch.tensor(emotion_labels(clips, EMOTIONS))
    weights = balanced_weights(clips)
    for _ in range(epochs):
        order = torch.randperm(len(waves), generator=draw)
        for rows in tqdm(order.split(BATCH), desc="tuning"):
            hidden = clep.audio_tower.encode([waves[i][:160_000] for i in rows])
            loss = label_aware_loss(
                projection(hidden), texts, labels[rows], SCALE, weights=weights[rows]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return clep.requires_grad_(False)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--clips", type=int, default=160, help="of each corpus")
    arguments.add_argument("--epochs", type=int, default=2)
    out = data_root() / "results/last_block.json"
    arguments.add_argument("--out", type=Path, default=out)
    args = arguments.parse_args()
    clap, rows = load_clap("clap-mini"), []
    classifier = fit_text_classifier(clap, EMOTIONS)
    data = {
        name: read(load_corpus(name).select(emotions=EMOTIONS), args.clips)
        for name in CORPORA
    }
    for test in CORPORA:
        waves = [wave for name in CORPORA if name != test for wave in data[name][0]]
        tables = [data[name][1] for name in CORPORA if name != test]
        clips = pd.concat(tables, ignore_index=True)
        frozen = fit(clap, waves, clips)
        tuned = fit(tune(frozen, waves, clips, epochs=args.epochs), waves, clips)
        judged, truth = data[test][0], data[test][1]["emotion"]
        for method, model in (("frozen", frozen), ("last-block", tuned)):
            features = model.audio_tower.features(judged)
            guess = classifier.predict(model.project(features))
            row = {"method": method, "setting": f"{args.clips} clips a corpus"}
            row |= {"test": test, "seed": 0, "n": len(judged)}
            rows.append(row | {"uar": uar(truth, guess), "war": war(truth, guess)})
            print(rows[-1])
    result = {"rows": rows, "epochs": args.epochs, "made_with": versions()}
    write_atomically(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
