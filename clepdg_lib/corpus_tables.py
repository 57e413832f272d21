"""Read corpora that come with metadata tables, and folders of one's own.

nEMO, IEMOCAP and MELD say in text files which recording is what; a corpus of one's
own says it by folder (``my_corpus/<emotion>/*.wav``) or in a csv.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from clepdg_lib.corpus_findings import (
    KNOWN_EMOTIONS,
    SPELLINGS,
    CorpusError,
    Findings,
    normalise_emotion,
    read_table,
    recordings,
)


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


IEMOCAP_EMOTIONS = {
    "ang": "angry",
    "dis": "disgusted",
    "exc": "excited",
    "fea": "fearful",
    "fru": "frustrated",
    "hap": "happy",
    "neu": "neutral",
    "oth": "other",
    "sad": "sad",
    "sur": "surprised",
    "xxx": "undecided",  # the annotators did not agree
}


def read_iemocap(root: Path) -> Findings:
    """Read ``SessionN/dialog/EmoEvaluation/*.txt`` and ``SessionN/sentences/wav``.

    Excitement is an emotion of its own here, as its owners have it; pass
    ``emotion_map={"excited": "happy"}`` for the four-class convention.
    """
    inner = root / "IEMOCAP_full_release"
    root = inner if inner.is_dir() else root
    found = Findings(root)
    tables = sorted(root.glob("Session*/dialog/EmoEvaluation/*.txt"))
    tables = [table for table in tables if not table.name.startswith(".")]
    if not tables:
        raise CorpusError(
            f"no labels at {root}/Session*/dialog/EmoEvaluation/*.txt; IEMOCAP is read "
            f"from the owners' full release, not from an excerpt"
        )
    files = {}
    for session in sorted(root.glob("Session*")):
        files |= {path.stem: path for path in recordings(session / "sentences/wav")}
    for table in tables:
        texts = _iemocap_texts(table.parents[1] / "transcriptions" / table.name)
        lines = table.read_text("utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            if not re.match(r"\[\d", line):
                continue  # the single annotators' votes, and comments
            match = re.match(r"\[[\d. -]+\]\s+((Ses\d+)\w+_([FM])\w+)\s+(\w+)", line)
            if not match or match[4] not in IEMOCAP_EMOTIONS:
                found.report(table, f"line {number} has no known label: {line[:80]}")
            elif match[1] not in files:
                found.report(table, f"line {number}: no recording {match[1]}")
            else:
                found.add(
                    files.pop(match[1]),
                    emotion=IEMOCAP_EMOTIONS[match[4]],
                    speaker=match[2] + match[3],
                    sex={"F": "female", "M": "male"}[match[3]],
                    text=texts.get(match[1], ""),
                )
    for path in files.values():
        found.report(path, "has no line in EmoEvaluation")
    return found


def _iemocap_texts(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    text = path.read_text("utf-8", errors="replace")
    return dict(re.findall(r"(?m)^(Ses\w+) \[[\d.-]+\]:[ \t]*(.*?)\s*$", text))


def read_meld(root: Path) -> Findings:
    """Read ``*_sent_emo.csv`` and ``dia0_utt0`` in the folders of the three parts.

    The owners ship video; take the sound out beside it (see the error if there is
    none). Their three parts share speakers, so the split here is by speaker and
    theirs is kept as ``owners_split``.
    """
    found = Findings(root)
    tables = sorted(root.rglob("*_sent_emo.csv"))
    if not tables:
        raise CorpusError(
            f"no train_sent_emo.csv, dev_sent_emo.csv or test_sent_emo.csv in {root}; "
            f"they come with MELD.Raw.tar.gz"
        )
    files = {}
    for path in recordings(root):
        match = re.fullmatch(r"(final_videos_test)?dia(\d+)_utt(\d+)", path.stem)
        part = _meld_part(path.relative_to(root))
        if match and part:
            # Where both exist, only the "final" recording fits the csv.
            key = (part, int(match[2]), int(match[3]))
            files[key] = path if match[1] else files.get(key, path)
    if not files and next(root.rglob("dia*.mp4"), None):
        found.report(
            root,
            "holds only video; for each file run: ffmpeg -i dia0_utt0.mp4 -ac 1 "
            "-ar 16000 dia0_utt0.wav",
        )
    needed = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
    for table in tables:
        part = table.name.split("_")[0]
        rows = read_table(table, columns=needed).to_dict("records")
        for number, row in enumerate(rows, start=2):
            numbers = (row["Dialogue_ID"], row["Utterance_ID"])
            if not all(text.isdecimal() for text in numbers):
                found.report(table, f"row {number}: dialogue or utterance no number")
                continue
            path = files.get((part, int(numbers[0]), int(numbers[1])))
            if path is None:
                found.report(table, f"row {number}: no dia{numbers[0]}_utt{numbers[1]}")
                continue
            found.add(
                path,
                emotion=row["Emotion"],
                speaker=row["Speaker"],
                text=row["Utterance"],
                owners_split=part,
            )
    return found


def _meld_part(path: Path) -> str | None:
    for folder in reversed(path.parts[:-1]):
        for part, starts in (
            ("train", ("train",)),
            ("dev", ("dev",)),
            ("test", ("test", "output_repeated")),
        ):
            if folder.lower().startswith(starts):
                return part
    return None


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
        if not os.path.isfile(path):  # also False for a name no system allows
            found.report(path, f"line {number} of {table_path.name}: no such file")
        elif problem := _misspelt(row["emotion"]):
            found.report(path, f"line {number} of {table_path.name}: {problem}")
        else:
            row.setdefault("speaker", "")
            found.add(path, **row)
    if table_path.name == "clips.csv":  # the table of this folder, not just a list
        rows = (*found.rows, *found.problems)
        listed = {os.path.abspath(row["path"]) for row in rows}
        for path in recordings(root):
            if os.path.abspath(path) not in listed:  # its author's choice, so known
                found.report(path, "not listed in clips.csv", known=True)
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
    # A slip seldom hits the first letter, and "unhappy" is not a slip of "happy".
    names = [n for n in (*KNOWN_EMOTIONS, *SPELLINGS) if n[0] == emotion[0]]
    close = difflib.get_close_matches(emotion, names, n=1, cutoff=0.75)
    close = close or [n for n in names if sorted(n) == sorted(emotion)]  # "sda"
    if emotion in names or not close:
        return None
    return f"emotion {label!r} is unknown; {normalise_emotion(close[0])!r} was meant?"
