"""Load a corpus: by its name, or a folder or csv of one's own.

    corpus = load_corpus("ravdess")          # under $CLEPDG_CORPORA
    corpus = load_corpus("my_recordings/")   # my_recordings/<emotion>/*.wav

What comes out is one table, each recording in it once, split by speaker.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from clepdg_lib.corpus import COLUMNS, Corpus, join_corpora, report_problems
from clepdg_lib.corpus_downloads import download_corpus
from clepdg_lib.corpus_findings import (
    AUDIO_SUFFIXES,
    CorpusError,
    Findings,
    recordings,
)
from clepdg_lib.corpus_sources import CORPORA, find_corpus, read_own
from clepdg_lib.corpus_splits import SPLITS, identical_clips, split_speakers
from clepdg_lib.files import refuse_changed

__all__ = [
    "COLUMNS",
    "CORPORA",
    "EMOTIONS",
    "HAPPY_BURSTS",
    "SPLITS",
    "Corpus",
    "CorpusError",
    "download_corpus",
    "join_corpora",
    "list_corpora",
    "load_corpus",
    "split_speakers",
]

EMOTIONS = ("angry", "happy", "neutral", "sad")
# Four of EmoGator's thirty categories that one may call happy: an experimenter's
# decision, so it is made only where it is asked for.
HAPPY_BURSTS = dict.fromkeys(("amusement", "ecstasy", "elation", "triumph"), "happy")


def load_corpus(
    name_or_path: str | Path,
    *,
    root: str | Path | None = None,
    emotions: str | Sequence[str] | None = None,
    emotion_map: Mapping[str, str] | None = None,
    strict: bool = False,
) -> Corpus:
    """Read a corpus's table: by name, or a folder or csv of one's own.

    A corpus with a name lies under `root`, else under `$CLEPDG_CORPORA`, as its
    owners lay it out; emosynth comes with the course. A folder of one's own holds
    `<emotion>/*.wav` or `<emotion>/<speaker>/*.wav`, or a `clips.csv`; a csv has the
    columns `path` and `emotion`, and perhaps `speaker`, `sex`, `language`, `domain`,
    `split`, `text`. Without a `domain` the folder's name is the domain; clips without
    a speaker count as one speaker's, so they all fall into one split.

    Args:
        name_or_path: One of :data:`CORPORA`, a folder, or a csv.
        root: The corpus's own folder, or one that holds it.
        emotions: Keep these only, for example :data:`EMOTIONS`.
        emotion_map: Rename emotions first, for example :data:`HAPPY_BURSTS`.
        strict: Raise if any file's name or label cannot be made out, instead of
            leaving it out and listing it in `.problems`.

    Raises:
        CorpusError: Not found, empty, or metadata that cannot be read.
        ChangedFileError: A file of the bundled corpus differs from its checksum.

    Example:
        >>> load_corpus("emosynth").emotions
        ('angry', 'happy', 'neutral', 'sad')
    """
    name = str(name_or_path).lower()
    if name in CORPORA:
        source = CORPORA[name]
        folder = find_corpus(name, root=root)
        refuse_changed(folder)  # only the bundled corpus has checksums
        found, own = source.read(folder), False
        terms = (source.title, source.licence, source.citation, source.language)
    else:
        folder, name, found = read_own(name_or_path, root=root)
        terms, own = (name, "", "", ""), True
    prefix = "" if own or name == "emosynth" else f"{name}-"
    clips = _tabulate(found, name=name, language=terms[3], prefix=prefix)
    problems = pd.DataFrame(found.problems, columns=["path", "problem", "known"])
    unknown = problems[~problems["known"].astype(bool)]
    if strict and len(unknown):
        raise CorpusError(
            f"corpus {name!r}: {len(unknown)} files cannot be made out, the first "
            f"{unknown['path'].iloc[0]}: {unknown['problem'].iloc[0]}; mend them, or "
            f"load with strict=False to leave them out"
        )
    if not len(clips):
        first = f"; the first: {problems['problem'].iloc[0]}" if len(problems) else ""
        raise CorpusError(
            f"corpus {name!r}: no usable clip in {folder} ({len(problems)} files left "
            f"out{first}); it must hold files ending in {', '.join(AUDIO_SUFFIXES)}"
        )
    report_problems(name, unknown.to_dict("records"), what="left out")
    if emotion_map:
        clips["emotion"] = clips["emotion"].replace(dict(emotion_map))
    corpus = Corpus(name, clips, *terms[:3], problems=problems)
    return corpus if emotions is None else corpus.select(emotions=emotions)


def list_corpora(*, root: str | Path | None = None) -> pd.DataFrame:
    """List the known corpora, and how many recordings of each are on this machine.

    Returns:
        Columns `name`, `title`, `language`, `licence`, `found`, `clips`.
    """
    rows = []
    for name, source in CORPORA.items():
        try:
            n_clips = len(recordings(find_corpus(name, root=root)))
        except CorpusError:
            n_clips = 0
        rows.append((name, source.title, source.language, source.licence, n_clips))
    table = pd.DataFrame(
        rows, columns=["name", "title", "language", "licence", "clips"]
    )
    table.insert(4, "found", table["clips"] > 0)
    return table


def _tabulate(
    found: Findings, *, name: str, language: str, prefix: str
) -> pd.DataFrame:
    """Make the table of clips out of what a reader found.

    Args:
        found: Rows and problems; clips dropped here are added to its problems.
        name: Of the corpus; also the domain of clips that have none.
        language: Of clips that have none.
        prefix: Put before each speaker, so that speaker 03 of two corpora are two.

    Returns:
        :data:`COLUMNS`, then the other columns, one row a clip.
    """
    rows = pd.DataFrame(found.rows, columns=None if found.rows else list(COLUMNS))
    for column in COLUMNS:
        if column not in rows:
            rows[column] = ""
    rows = rows.fillna("")
    if not len(rows):
        return rows
    relative = [_clip_id(path, root=found.root) for path in rows["path"]]
    rows["clip"] = rows["clip"].where(rows["clip"] != "", relative)
    rows["path"] = [str(path) for path in rows["path"]]
    rows["corpus"] = name
    known = rows["speaker"] != ""
    rows["speaker"] = (prefix + rows["speaker"]).where(known, f"{name}-unknown")
    rows["language"] = rows["language"].where(rows["language"] != "", language)
    rows["domain"] = rows["domain"].where(rows["domain"] != "", name)
    rows = rows[~_duplicates(rows, found=found)].reset_index(drop=True)
    if (rows["split"] == "").all():
        rows["split"] = split_speakers(rows)["split"]
    for column in rows.columns.difference(COLUMNS):
        numbers = pd.to_numeric(rows[column], errors="coerce")
        rows[column] = rows[column] if numbers.isna().any() else numbers
    return rows[[*COLUMNS, *(c for c in rows if c not in COLUMNS)]]


def _clip_id(path: Path, *, root: Path) -> str:
    inside = path.relative_to(root) if path.is_relative_to(root) else path
    return inside.with_suffix("").as_posix()


def _duplicates(rows: pd.DataFrame, *, found: Findings) -> pd.Series:
    drop = rows["clip"].duplicated()
    for path, clip in rows.loc[drop, ["path", "clip"]].itertuples(index=False):
        found.report(path, f"a second file for clip {clip}")
    # Which of two labels is right, nobody knows: then the first file goes as well.
    n_labels = rows.groupby("clip")[["emotion", "speaker"]].transform("nunique")
    torn = ~drop & (n_labels > 1).any(axis=1)
    for path, clip in rows.loc[torn, ["path", "clip"]].itertuples(index=False):
        found.report(path, f"clip {clip} has two labels or two speakers")
    drop |= torn
    for same in identical_clips(rows.loc[~drop, "path"]):
        labels = rows.loc[same, ["emotion", "speaker"]].drop_duplicates()
        first = rows.at[same[0], "clip"]
        # Under two labels nobody knows which is right; under two speakers it could
        # end up on both sides of a split.
        spare = same[1:] if len(labels) == 1 else same
        told = "same bytes as" if len(labels) == 1 else "other label, same bytes:"
        for index in spare:
            drop[index] = True
            found.report(rows.at[index, "path"], f"{told} {first}")
    return drop
