"""Corpora of emotional speech: read, select, split, join."""

from clepdg_lib.corpora.catalogue import list_corpora, load_corpus
from clepdg_lib.corpora.readers import KNOWN_EMOTIONS, CorpusError, normalise_emotion
from clepdg_lib.corpora.table import (
    Corpus,
    identical_clips,
    join_corpora,
    split_speakers,
)

__all__ = [
    "KNOWN_EMOTIONS",
    "Corpus",
    "CorpusError",
    "identical_clips",
    "join_corpora",
    "list_corpora",
    "load_corpus",
    "normalise_emotion",
    "split_speakers",
]
