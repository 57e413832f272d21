"""What others make of the same clips: references that hear audio, not sentences.

A logistic regression on measurements that nobody here learned: the 88 functionals of
eGeMAPS, where openSMILE is installed, and the features of a network that heard
AudioSet, where they lie beside the corpora.

Lesson: notebooks/05_generalise_across_domains.ipynb
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from clepdg_lib.arrays import read_arrays
from clepdg_lib.corpora import EMOTIONS, Corpus
from clepdg_lib.judging import judge_measurements
from clepdg_lib.material import REAL
from clepdg_lib.properties import measure_corpus, measuring_is_possible
from clepdg_lib.verdicts import Verdict

# EfficientAT's mn04_as, which heard the first ten seconds of every clip.
TEACHER = Path("teachers", "audioset_mobilenet.npz")


def measured_reference(
    corpora: Mapping[str, Corpus], *, test: str, progress: bool = True
) -> list[Verdict]:
    """`egemaps-lr`: trained on the other speech corpora; none without openSMILE."""
    if not measuring_is_possible():
        return []

    # All of a corpus is measured, as for training, so that both find it kept.
    return _judge(
        corpora,
        lambda corpus: measure_corpus(corpus, progress=progress),
        test=test,
        method="egemaps-lr",
    )


def audioset_reference(
    corpora: Mapping[str, Corpus], *, test: str, file: Path | None = None
) -> list[Verdict]:
    """`audioset-lr`: the same on an AudioSet network's features.

    Args:
        corpora: Name -> corpus.
        test: The one to leave out.
        file: npz with ``path`` (n,), relative to the folder above ``teachers``, and
            ``embedding`` (n, d); default `TEACHER` beside ``$CLEPDG_CORPORA``.

    Returns:
        Verdicts as of `judge_measurements`; none where there is no such file.
    """
    if file is None:
        root = os.environ.get("CLEPDG_CORPORA")
        file = Path(root).resolve().parent / TEACHER if root else None
    if file is None or not file.is_file():
        return []
    arrays = read_arrays(file, names=["path", "embedding"])
    row_of = {str(path): row for row, path in enumerate(arrays["path"])}
    home = file.resolve().parent.parent

    def features(corpus: Corpus) -> np.ndarray:
        found = np.full((len(corpus), arrays["embedding"].shape[1]), np.nan, np.float32)
        for i, path in enumerate(corpus.clips["path"]):
            row = row_of.get(os.path.relpath(Path(path).resolve(), home))
            if row is not None:
                found[i] = arrays["embedding"][row]
        return found

    return _judge(corpora, features, test=test, method="audioset-lr")


def _judge(
    corpora: Mapping[str, Corpus],
    measure: Callable[[Corpus], np.ndarray],
    *,
    test: str,
    method: str,
) -> list[Verdict]:
    parts = []
    for name in REAL:
        measured = measure(corpora[name])
        clips = corpora[name].clips[["emotion"]].assign(corpus=name)
        keep = clips["emotion"].isin(EMOTIONS).to_numpy() & ~np.isnan(measured[:, 0])
        parts.append((measured[keep], clips[keep]))
    measured = np.concatenate([values for values, _ in parts])
    clips = pd.concat([c for _, c in parts])
    return judge_measurements(measured, clips, test=test, method=method)
