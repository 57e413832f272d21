"""The known corpora: whose they are, where they lie, and how to load them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from clepdg_lib.corpora import readers, table
from clepdg_lib.corpora.readers import CORPORA, CorpusError, ReadResult
from clepdg_lib.files import data_root, refuse_changed

log = logging.getLogger("clepdg_lib")


def load_corpus(
    name_or_path: str | Path,
    *,
    root: str | Path | None = None,
    emotion_map: Mapping[str, str] | None = None,
    strict: bool = False,
) -> table.Corpus:
    """Read a corpus's table: by name, or a folder or csv of one's own.

    A folder holds `<emotion>/<speaker>/*.wav` (without speakers, all clips share a
    split), perhaps below `train/` and `test/`, or a `clips.csv`. A csv has the columns
    `path` and `emotion`, and perhaps `speaker`, `sex`, `domain`, `split` and others.

    Args:
        name_or_path: A name of :func:`list_corpora`, a folder, or a csv.
        root: The corpus's folder, or one that holds it; default `$CLEPDG_CORPORA`.
        emotion_map: Label to emotion, such as `{"exc": "happy"}`. A folder or csv with
            labels that are no `KNOWN_EMOTIONS` needs it, or these clips are left out.
        strict: Raise if a file or label is not understood; otherwise `problems` has it.

    Example:
        >>> load_corpus("emosynth").emotions
        ('angry', 'happy', 'neutral', 'sad')
    """
    name, mapping = str(name_or_path).lower(), dict(emotion_map or {})
    if name in CORPORA:
        result = _read_known(name, find_corpus(name, root=root))
    else:
        path = (Path(root or "") / Path(name_or_path).expanduser()).absolute()
        name, result = path.name.removesuffix(".csv"), _read_own(path)
    labels = sorted({readers.normalise_emotion(row["emotion"]) for row in result.rows})
    clips = _tabulate(result, mapping, name=name)
    problems = pd.DataFrame(result.problems, columns=table.PROBLEMS)
    unknown = problems[~problems["known"].astype(bool)]
    first = " ".join(unknown["path"][:1] + ": " + unknown["problem"][:1])
    if not len(clips):
        raise CorpusError(
            f"corpus {name!r}: no usable clip in {result.root}. {first} A folder holds "
            f"<emotion>/<speaker>/*{readers.AUDIO_SUFFIXES} or a clips.csv, and may "
            f"need emotion_map; {', '.join(CORPORA)} are loaded by name, with root="
        )
    messages = []
    if len(unknown):
        messages.append(f"{len(unknown)} files left out, the first {first}")
    if unused := [k for k in mapping if readers.normalise_emotion(k) not in labels]:
        messages.append(f"emotion_map has {unused}, the corpus has {labels}")
    for message in messages:
        if strict:
            raise CorpusError(f"corpus {name!r}: {message} (strict=False allows it)")
        log.warning("corpus %r: %s", name, message)
    terms = CORPORA.get(name, {"title": name})
    terms = {key: terms.get(key, "") for key in ("title", "licence", "citation")}
    return table.Corpus(name, clips, problems=problems, **terms)


def list_corpora(*, root: str | Path | None = None) -> pd.DataFrame:
    """List the known corpora, and how many recordings of each are on this machine."""
    columns = ["name", "title", "language", "licence", "citation", "found", "clips"]
    rows = []
    for name, terms in CORPORA.items():
        try:
            n_clips = len(readers.list_files(find_corpus(name, root=root)).sounds)
        except CorpusError:
            n_clips = 0
        rows.append(terms | {"name": name, "found": n_clips > 0, "clips": n_clips})
    return pd.DataFrame(rows)[columns]


def find_corpus(name: str, *, root: str | Path | None = None) -> Path:
    """Find a corpus's folder below `root`, else `$CLEPDG_CORPORA`, else bundled.

    Case and punctuation do not matter, and more may follow: `EMO-DB_v2` is emodb.
    """
    base = Path(root or os.environ.get("CLEPDG_CORPORA") or data_root())
    base = base.expanduser().absolute()
    for folder in sorted(filter(Path.is_dir, base.glob("*"))):
        if re.sub(r"[\W_]", "", folder.name.lower()).startswith(name):
            return folder
    fallback = base if root else data_root() / name
    if fallback.is_dir():
        return fallback
    raise CorpusError(
        f"corpus {name!r} was not found in {base}. Set CLEPDG_CORPORA to the folder "
        f"that holds it, or pass root=. Get it from its owners: "
        f"{CORPORA[name]['citation']} ({CORPORA[name]['licence']})."
    )


def _read_known(name: str, folder: Path) -> ReadResult:
    result = readers.list_files(folder)
    if name == "emosynth":
        refuse_changed(folder)
        readers.read_csv(result, folder / "clips.csv")
        return result
    read = readers.read_lists if "tables" in CORPORA[name] else readers.read_names
    read(result, CORPORA[name])
    for row in result.rows:
        row["speaker"] = row["speaker"] and f"{name}-{row['speaker']}"
    return result


def _read_own(path: Path) -> ReadResult:
    csv = path if path.suffix.lower() == ".csv" else path / "clips.csv"
    if os.path.isfile(csv):  # a list that is not its folder's says nothing of others
        result = ReadResult(csv.parent) if csv == path else readers.list_files(path)
        readers.read_csv(result, csv)
    elif os.path.isdir(path):
        result = readers.list_files(path)
        readers.read_folder(result)
    else:
        raise CorpusError(
            f"unknown corpus {path.name!r}: no folder and no csv is at {path}, and "
            f"the corpora known by name are {', '.join(CORPORA)}"
        )
    return result


def _tabulate(
    result: ReadResult, mapping: Mapping[str, str], *, name: str
) -> pd.DataFrame:
    """Make the table of clips: each recording once, in one split by its speaker."""
    names = {readers.normalise_emotion(key): mapping[key] for key in mapping}
    defaults = dict.fromkeys(table.COLUMNS, "") | {"corpus": name, "domain": name}
    defaults["language"] = CORPORA.get(name, {}).get("language", "")
    rows = []
    for row in result.rows:
        label = readers.normalise_emotion(row["emotion"])
        known = name in CORPORA or label in (*names, *readers.KNOWN_EMOTIONS)
        if not (label and known):
            problem = (
                f"emotion {label!r} is unknown; pass emotion_map={{{label!r}: ...}}"
            )
            result.report(row["path"], problem if label else "no emotion is given")
            continue
        nobody = "-".join(filter(None, (name, row.get("split"), "unknown")))
        own = {"clip": result.name(row["path"]), "speaker": nobody}
        given = {key: str(value) for key, value in row.items() if value}
        emotion = readers.normalise_emotion(names.get(label, label))
        rows.append(defaults | own | given | {"corpus": name, "emotion": emotion})
    clips = pd.DataFrame(rows).fillna("")
    if not rows:
        return clips
    clips["language"] = clips["language"].replace({"DK": "Danish", "EN": "English"})
    sexes = {"f": "female", "w": "female", "m": "male"}  # by first letters
    clips["sex"] = clips["sex"].str[:1].str.lower().map(sexes).fillna("")
    groups = [list(same) for same in clips.groupby("clip").groups.values()]
    groups += table.identical_clips(clips["path"])
    clips, spare = table.drop_doubles(clips, groups, columns=["emotion", "speaker"])
    result.problems += spare.to_dict("records")
    if (clips["split"] == "").all():
        clips["split"] = table.split_speakers(clips)["split"]
    if clips.loc[clips["speaker"].str.endswith("-unknown"), "split"].nunique() > 1:
        log.warning("corpus %r: no speakers are given; splits may share some", name)
    for column in clips.columns.drop([*table.COLUMNS]):
        numbers = pd.to_numeric(clips[column], errors="coerce")
        clips[column] = clips[column] if numbers.isna().any() else numbers
    return clips
