"""What every corpus reader needs: a list of findings, names of emotions, tables.

A reader walks a folder and returns rows and problems; it opens no audio. Labels
are only *renamed* (``anger`` is ``angry``), never merged: what counts as happy is a
decision of the experiment, see ``emotion_map`` in :func:`clepdg_lib.load_corpus`.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")

# Spellings met in the corpora and in students' folders, and the one name used here.
SPELLINGS = {
    "anger": "angry",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "fear": "fearful",
    "disgust": "disgusted",
    "surprise": "surprised",
    "pleasant surprise": "surprised",
    "ps": "surprised",
    "pleasant surprised": "surprised",
    "boredom": "bored",
    "frustration": "frustrated",
    "excitement": "excited",
}

# Names that a typing mistake is measured against; other names are allowed.
KNOWN_EMOTIONS = (
    "angry",
    "bored",
    "calm",
    "disgusted",
    "excited",
    "fearful",
    "frustrated",
    "happy",
    "neutral",
    "sad",
    "surprised",
)


class CorpusError(ValueError):
    """A corpus that cannot be found, read, or split as asked."""


@dataclass
class Findings:
    """What a reader found: clips, and files it could make nothing of."""

    root: Path
    rows: list[dict] = field(default_factory=list)
    problems: list[dict] = field(default_factory=list)

    def add(self, path: Path, /, *, emotion: str, speaker: str, **more: object) -> None:
        emotion = normalise_emotion(emotion)
        self.rows.append({"path": path, "emotion": emotion, "speaker": speaker, **more})

    def report(self, path: Path | str, problem: str, *, known: bool = False) -> None:
        self.problems.append({"path": str(path), "problem": problem, "known": known})


def normalise_emotion(label: str) -> str:
    """Write an emotion's name the way this project does.

    Example:
        >>> normalise_emotion("Pleasant_Surprise"), normalise_emotion(" Awe ")
        ('surprised', 'awe')
    """
    plain = " ".join(re.split(r"[\s_-]+", label.strip().lower())).strip()
    return SPELLINGS.get(plain, plain)


def recordings(folder: Path) -> list[Path]:
    """List audio files below a folder, sorted; hidden and special ones left out."""
    found = []
    for where, folders, files in os.walk(folder):
        # Finder and Jupyter leave copies in such places.
        folders[:] = [f for f in folders if not f.startswith((".", "__"))]
        for name in files:
            path = Path(where, name)
            hidden = name.startswith(".")
            if not hidden and path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
                found.append(path)
    return sorted(found)


def read_table(path: Path, *, columns: tuple[str, ...], sep: str = ",") -> pd.DataFrame:
    """Read a metadata table as text, or say what is wrong with it.

    Raises:
        CorpusError: The file is missing, is no such table, or lacks a column.
    """
    try:
        with warnings.catch_warnings():
            # pandas only warns where it drops what stands behind the last column.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                sep=sep,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                index_col=False,  # or a stray delimiter shifts every column by one
            )
    except pd.errors.ParserWarning as error:
        raise CorpusError(
            f"metadata {path} has rows with more cells than its header names; put "
            f"texts that hold {sep!r} in quotes, or name the other columns"
        ) from error
    except FileNotFoundError:
        raise CorpusError(
            f"metadata {path} is missing; it comes with the corpus: put it there"
        ) from None
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise CorpusError(
            f"metadata {path} cannot be read ({error}); save it as UTF-8 text with "
            f"{sep!r} between the columns {list(columns)}"
        ) from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise CorpusError(
            f"metadata {path} lacks the columns {missing}; it has {list(table)}"
        )
    return table.map(str.strip)
