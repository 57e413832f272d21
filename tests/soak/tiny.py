"""The stand-ins of the tests as a campaign needs them: a CLAP, a corpus in a folder."""

import sys
from dataclasses import replace
from pathlib import Path

from clepdg_lib.corpora import Corpus
from clepdg_lib.files import PROJECT

sys.path.insert(0, str(PROJECT / "tests"))
from stand_ins import tiny_clap as make_clap  # noqa: E402, F401
from stand_ins import tone_corpus  # noqa: E402


def make_corpus(folder: Path, *, name: str = "tones", n_each: int = 2) -> Corpus:
    """Write tones in which the pitch is the emotion, and their clips.csv."""
    corpus = tone_corpus(folder, name=name, n_each=n_each)
    clips = corpus.clips.assign(domain=name)
    clips.to_csv(folder / "clips.csv", index=False)
    return replace(corpus, clips=clips)
