"""CLAP to CLEP: let the model hear what people feel.

Plain CLAP has learned from captions about dogs and rain and rarely about feelings.
CLEP is the same model after contrastive training on emotional speech, with
sentences such as "the speaker sounds furious". This is an independent
implementation written from the paper's abstract; the settings are ours.

Lesson: notebooks/02_finetune_clep.ipynb
Shapes: n clips, V versions, E emotions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from clepdg_lib.captions import (
    CANONICAL,
    PROPERTIES,
    emotion_prompts,
    emotion_sentences,
)
from clepdg_lib.clap import Clap
from clepdg_lib.contrast import Aspect, Recipe, train_towers
from clepdg_lib.corpora import Corpus
from clepdg_lib.pictures import PLACES, Pictures, draw_corpus


def finetune_clep(
    clap: Clap,
    corpus: Corpus,
    *,
    emotions: Sequence[str] | None = None,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    n_places: int = 1,
    pictures: Pictures | None = None,
    properties: dict[str, np.ndarray] | None = None,
    property_weight: float = 0.25,
    targets: np.ndarray | None = None,
    validation: Corpus | None = None,
    seed: int = 0,
    progress: bool = True,
    checkpoint: str | Path | None = None,
) -> Clap:
    """Fine-tune a CLAP on emotional speech, contrasting labels and not clips.

    Args:
        clap: Where to start; it is not changed.
        corpus: Clips to train on. If it has a train split and other splits, the
            train split alone is used.
        emotions: The emotions that sentences speak of; default all in the corpus.
            Clips of other emotions still serve `properties` and `targets`.
        recipe: How to train; see :class:`clepdg_lib.contrast.Recipe`.
        epochs: Shorthand for the recipe's.
        n_places: Random environments in which each clip is heard beside the clean
            one.
        pictures: What `draw_corpus` made of `corpus`, to share it between runs.
        properties: Aspect of `captions.PROPERTIES` -> (n,) level of each clip, to
            keep the model hearing pitch and tempo while it learns to hear emotions.
        property_weight: Share of each of those aspects in the loss.
        targets: (n, d) standardised measurements to predict beside, NaN if unknown.
        validation: Clips whose zero-shot UAR is noted after every epoch. It is never
            trained on, and nothing is chosen by it.
        seed: Of everything random.
        progress: Show bars.
        checkpoint: File to resume from and to write after every epoch.

    Returns:
        A new `Clap`; ``history`` has the columns epoch, loss, seconds and, with
        `validation`, validation_uar; for a recipe without epochs, step and loss.

    Raises:
        ValueError: An emotion that the corpus lacks, or fewer than two emotions.
    """
    recipe = recipe or Recipe()
    if epochs is not None:
        recipe = Recipe(**{**vars(recipe), "epochs": epochs})
    if pictures is None:
        splits = set(corpus.clips["split"])
        if "train" in splits and len(splits) > 1:
            if properties is not None or targets is not None:
                raise ValueError(
                    "properties and targets have a row for each clip, but the corpus "
                    "has several splits; pass corpus.select(splits='train')"
                )
            corpus = corpus.select(splits="train")
        pictures = draw_corpus(
            corpus, clap.log_mel, n_places=n_places, progress=progress
        )
    kept = pictures.kept
    emotions = tuple(emotions or corpus.emotions)
    absent = sorted(set(emotions) - set(corpus.emotions))
    if absent or len(emotions) < 2:
        raise ValueError(
            f"emotions are {list(emotions)}, of which the corpus {corpus.name!r} lacks "
            f"{absent}; choose two or more of {list(corpus.emotions)}"
        )
    labels = emotion_labels(corpus, emotions)[kept]
    aspects = [Aspect("emotion", [emotion_sentences(e) for e in emotions], labels)]
    for name, levels in (properties or {}).items():
        sentences = list(PROPERTIES[name].values())
        aspects.append(Aspect(name, sentences, levels[kept], property_weight))
    for k, name in enumerate(PLACES if properties else ()):
        sentences = list(PROPERTIES[name].values())
        where = pictures.places[..., k].astype(np.int64)
        aspects.append(Aspect(name, sentences, where, property_weight))
    judge = None
    if validation is not None:
        judge = _judge(validation, clap, emotions)
    clep = train_towers(
        clap,
        pictures.mels,
        aspects,
        recipe=recipe,
        targets=None if targets is None else targets[kept],
        sampling=balance(corpus)[kept],
        speakers=_speakers(corpus)[kept],
        seed=seed,
        progress=progress,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        judge=judge,
    )
    clep.name = f"clep({clap.name})"
    return clep


def emotion_labels(corpus: Corpus, emotions: Sequence[str]) -> np.ndarray:
    """Return each clip's place in `emotions`, or -1: (n,) int64."""
    place = {emotion: i for i, emotion in enumerate(emotions)}
    return np.array([place.get(e, -1) for e in corpus.clips["emotion"]], np.int64)


def balance(corpus: Corpus, *, power: float = 0.5) -> np.ndarray:
    """Weigh clips so that small corpora and rare emotions are heard: (n,) float64.

    A group (corpus, emotion) of c clips is drawn in proportion to c ** (1 - power):
    power 0 draws clips alike, 1 draws groups alike.
    """
    groups = corpus.clips.groupby(["corpus", "emotion"])["path"].transform("size")
    return groups.to_numpy(dtype=np.float64) ** -power


def _speakers(corpus: Corpus) -> np.ndarray:
    """Name each clip's speaker: two corpora may call theirs alike."""
    names = corpus.clips["corpus"].astype(str) + "|"
    return (names + corpus.clips["speaker"].astype(str)).to_numpy()


def _judge(validation: Corpus, clap: Clap, emotions: Sequence[str]):
    """Make a function that gives the zero-shot UAR on some clips."""
    from sklearn.metrics import balanced_accuracy_score

    validation = validation.select(emotions=list(emotions))
    pictures = draw_corpus(validation, clap.log_mel, n_places=0)
    truth = emotion_labels(validation, emotions)[pictures.kept]
    mels = torch.from_numpy(pictures.mels[:, :1])
    prompts = [p[0] for p in emotion_prompts(emotions, templates=(CANONICAL,))]

    def judge(clep: Clap) -> dict[str, float]:
        audio = clep.embed_mels(mels)
        guess = (audio @ clep.embed_text(prompts).T).argmax(dim=1).numpy()
        return {"validation_uar": float(balanced_accuracy_score(truth, guess))}

    return judge
