"""Read corpora that come with metadata tables, and folders of one's own.

nEMO, MELD and IEMOCAP say in text files which recording is what; a corpus of one's
own says it by folder (``my_corpus/<emotion>/*.wav``) or in a csv.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pandas as pd

from clepdg_lib.corpus_readers import (
    SPELLINGS,
    CorpusError,
    Findings,
    normalise_emotion,
    recordings,
)

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


def read_table(path: Path, *, columns: tuple[str, ...], sep: str = ",") -> pd.DataFrame:
    """Read a metadata table as text, or say what is wrong with it.

    Raises:
        CorpusError: The file is missing, is no such table, or lacks a column.
    """
    try:
        table = pd.read_csv(
            path, sep=sep, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
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


def read_nemo(root: Path) -> Findings:
    """Read ``data.tsv`` and ``samples/EB0_fear_74``."""
    found = Findings(root)
    needed = ("file_id", "emotion", "raw_text", "speaker_id", "gender")
    table = read_table(root / "data.tsv", columns=needed, sep="\t")
    table = table.sort_values("file_id")
    files = {path.stem: path for path in recordings(root / "samples")}
    for row in table.to_dict("records"):
        path = files.pop(Path(row["file_id"]).stem, None)
        if path is None:
            found.report(row["file_id"], "listed in data.tsv, not in samples/")
            continue
        found.add(
            path,
            emotion=row["emotion"],
            speaker=row["speaker_id"],
            sex=row["gender"],
            text=row["raw_text"],
        )
    for path in files.values():
        found.report(path, "not listed in data.tsv")
    return found


def read_csv(table_path: Path) -> Findings:
    """Read a table with ``path`` and ``emotion``; other columns are kept.

    Known columns are ``clip``, ``speaker``, ``sex``, ``language``, ``domain``,
    ``split`` and ``text``. Relative paths start at the table's folder.
    """
    root = table_path.parent
    found = Findings(root)
    table = read_table(table_path, columns=("path", "emotion"))
    for number, row in enumerate(table.to_dict("records"), start=2):
        path = root / row.pop("path")
        if not path.is_file():
            found.report(path, f"line {number} of {table_path.name}: no such file")
        elif problem := _misspelt(row["emotion"]):
            found.report(path, f"line {number} of {table_path.name}: {problem}")
        else:
            row.setdefault("speaker", "")
            found.add(path, **row)
    return found


def read_folder(root: Path) -> Findings:
    """Read ``<emotion>/*.wav`` or ``<emotion>/<speaker>/*.wav``."""
    found = Findings(root)
    for path in recordings(root):
        emotion, *between = path.relative_to(root).parts[:-1] or ("",)
        problem = _misspelt(emotion) if emotion else "lies outside an emotion's folder"
        if problem:
            found.report(path, problem)
        else:
            found.add(path, emotion=emotion, speaker=between[0] if between else "")
    return found


def _misspelt(label: str) -> str | None:
    emotion = normalise_emotion(label)
    if not emotion:
        return "no emotion is given"
    names = [*KNOWN_EMOTIONS, *SPELLINGS]
    close = difflib.get_close_matches(emotion, names, n=1, cutoff=0.82)
    if emotion in names or not close:
        return None
    return f"emotion {label!r} is unknown; {normalise_emotion(close[0])!r} was meant?"
