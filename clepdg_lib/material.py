"""A corpus made ready to train on: pictures of its clips, measurements, labels.

Preparing takes minutes and is kept on disk; materials of several corpora are joined
for a training, and clips are left out of one without drawing them again.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n clips.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from clepdg_lib.clap import Clap
from clepdg_lib.corpora import (
    EMOTIONS,
    HAPPY_BURSTS,
    Corpus,
    CorpusError,
    join_corpora,
    load_corpus,
)
from clepdg_lib.pictures import Pictures, draw_corpus
from clepdg_lib.properties import measure_corpus, measuring_is_possible

REAL = ("emodb", "ravdess", "tess", "nemo")  # real speech, each left out in turn


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
        keep = np.asarray(keep)
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


def load_all(names: Sequence[str] = REAL) -> dict[str, Corpus]:
    """Load the real corpora, and EmoGator's bursts beside them if they are there.

    Raises:
        CorpusError: One of the corpora is not found.
    """
    loaded = {name: load_corpus(name) for name in names}
    try:
        loaded["emogator"] = load_bursts()
    except CorpusError:
        print("EmoGator is not here; training without its bursts", file=sys.stderr)
    return loaded


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
