"""A corpus is a table of clips; audio is read one clip at a time.

    corpus = load_corpus("ravdess")          # under $CLEPDG_CORPORA
    corpus = load_corpus("my_recordings/")   # my_recordings/<emotion>/*.wav

No speaker is ever in two splits: a :class:`Corpus` refuses such a table.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import torch

from clepdg_lib.audio import AudioError, level, read_audio, trim
from clepdg_lib.corpus_readers import AUDIO_SUFFIXES, CorpusError, Findings
from clepdg_lib.corpus_readers import recordings as _recordings
from clepdg_lib.corpus_sources import CORPORA, find_corpus
from clepdg_lib.corpus_splits import SPLITS, identical_clips, split_speakers
from clepdg_lib.corpus_tables import KNOWN_EMOTIONS, read_csv, read_folder

EMOTIONS = ("angry", "happy", "neutral", "sad")
COLUMNS = ("path", "clip", "corpus", "emotion", "speaker", "sex", "language")
COLUMNS += ("domain", "split", "text")
# Four of EmoGator's thirty categories that one may call happy: an experimenter's
# decision, so it is made only where it is asked for.
HAPPY_BURSTS = dict.fromkeys(("amusement", "ecstasy", "elation", "triumph"), "happy")

_log = logging.getLogger("clepdg_lib")


def _no_problems() -> pd.DataFrame:
    return pd.DataFrame(columns=["path", "problem", "known"])


@dataclass(frozen=True, eq=False)
class Corpus:
    """A table of labelled clips, with the owners' terms.

    Attributes:
        clips: One row a clip: absolute `path`, `clip` (id: path below the corpus,
            no suffix), `corpus`, `emotion`, `speaker`, `sex` (female, male or ""),
            `language`, `domain`, `split`, `text`, and whatever else was given.
        problems: Files left out: `path`, `problem`, `known` (documented by owners).

    Raises:
        CorpusError: A column is missing, or a speaker is in two splits.
    """

    name: str
    clips: pd.DataFrame
    title: str = ""
    licence: str = ""
    citation: str = ""
    problems: pd.DataFrame = field(default_factory=_no_problems)

    def __post_init__(self) -> None:
        missing = [column for column in COLUMNS if column not in self.clips]
        if missing:
            raise CorpusError(f"corpus {self.name!r} lacks the columns {missing}")
        wrong = sorted(set(self.clips["split"]) - set(SPLITS))
        if wrong:
            raise CorpusError(
                f"corpus {self.name!r} has the splits {wrong}; valid are {SPLITS}"
            )
        splits = self.clips.groupby("speaker")["split"].nunique()
        shared = list(splits.index[splits > 1])
        if shared:
            raise CorpusError(
                f"corpus {self.name!r} has {len(shared)} speakers in more than one "
                f"split, among them {shared[:5]}; assign splits with split_speakers"
            )
        clips = self.clips.reset_index(drop=True)
        object.__setattr__(self, "clips", clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        n_speakers = self.clips["speaker"].nunique()
        return (
            f"Corpus({self.name!r}: {len(self)} clips, {n_speakers} speakers, "
            f"{', '.join(self.emotions)})"
        )

    @property
    def emotions(self) -> tuple[str, ...]:
        """Emotions that occur, in alphabetical order."""
        return tuple(sorted(self.clips["emotion"].unique()))

    def select(
        self,
        *,
        emotions: str | Sequence[str] | None = None,
        splits: str | Sequence[str] | None = None,
        domains: str | Sequence[str] | None = None,
        speakers: str | Sequence[str] | None = None,
        corpora: str | Sequence[str] | None = None,
        exclude_domains: str | Sequence[str] | None = None,
    ) -> Corpus:
        """Keep the clips that meet every condition; possibly none.

        Raises:
            CorpusError: A name that this corpus does not have. An emotion that other
                corpora have, and a split, may be absent here.

        Example:
            >>> load_corpus("emosynth").select(emotions="sad").emotions
            ('sad',)
        """
        keep = pd.Series(True, index=self.clips.index)
        for column, asked, valid in (
            ("emotion", emotions, KNOWN_EMOTIONS),
            ("split", splits, SPLITS),
            ("domain", domains, ()),
            ("speaker", speakers, ()),
            ("corpus", corpora, ()),
        ):
            if asked is not None:
                keep &= self.clips[column].isin(self._names(column, asked, valid))
        if exclude_domains is not None:
            keep &= ~self.clips["domain"].isin(
                self._names("domain", exclude_domains, ())
            )
        return replace(self, clips=self.clips[keep])

    def _names(self, column: str, asked, valid: Sequence[str]) -> list[str]:
        asked = [asked] if isinstance(asked, str) else list(asked)
        present = sorted(set(self.clips[column]))
        unknown = [name for name in asked if name not in {*present, *valid}]
        if unknown:
            listed = ", ".join([*present[:40], *(["..."] if len(present) > 40 else [])])
            raise CorpusError(
                f"corpus {self.name!r} has no {column} {unknown}; it has: {listed}"
            )
        return asked

    def read(self, index: int) -> torch.Tensor:
        """Read clip number `index`: (n,) at 16 kHz, quiet ends cut, levelled.

        Raises:
            AudioError: The file is missing or is no sound.
        """
        return level(trim(read_audio(self.clips["path"].iloc[index])))

    def iter_waves(
        self, *, problems: list[dict] | None = None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Read the clips one after the other; skip bad files, and count them.

        Args:
            problems: Receives `{"path", "problem"}` for each file left out.

        Yields:
            Row number and wave (n,), as :meth:`read` gives it.
        """
        problems = [] if problems is None else problems
        before = len(problems)
        for index, path in enumerate(self.clips["path"]):
            try:
                wave = self.read(index)
            except AudioError as error:
                problems.append({"path": path, "problem": str(error)})
                continue
            yield index, wave
        _report(self.name, problems[before:], what="could not be read")


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

    Example:
        >>> load_corpus("emosynth").emotions
        ('angry', 'happy', 'neutral', 'sad')
    """
    name = str(name_or_path).lower()
    if name in CORPORA:
        source = CORPORA[name]
        folder = find_corpus(name, root=root)
        found, own = source.read(folder), False
        terms = (source.title, source.licence, source.citation, source.language)
    else:
        folder, name, found = _read_own(Path(name_or_path), root=root)
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
    _report(name, unknown.to_dict("records"), what="left out")
    if emotion_map:
        clips["emotion"] = clips["emotion"].replace(dict(emotion_map))
    corpus = Corpus(name, clips, *terms[:3], problems=problems)
    return corpus if emotions is None else corpus.select(emotions=emotions)


def _read_own(path: Path, *, root: str | Path | None) -> tuple[Path, str, Findings]:
    path = (Path(root or "") / path).expanduser().absolute()
    table = path / "clips.csv" if (path / "clips.csv").is_file() else path
    if table.suffix.lower() == ".csv" and table.is_file():
        named = path if table != path or path.stem != "clips" else path.parent
        return table.parent, named.stem, read_csv(table)
    if path.is_dir():
        return path, path.name, read_folder(path)
    raise CorpusError(
        f"unknown corpus {str(path.name)!r}: neither a folder nor a csv at {path}, nor "
        f"one of {', '.join(CORPORA)}"
    )


def _tabulate(
    found: Findings, *, name: str, language: str, prefix: str
) -> pd.DataFrame:
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
    rows["speaker"] = prefix + rows["speaker"].where(rows["speaker"] != "", "unknown")
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


def _report(name: str, problems: list[dict], *, what: str) -> None:
    if problems:
        first = problems[0]
        _log.warning(
            "corpus %r: %d files %s, the first %s: %s",
            *(name, len(problems), what, first["path"], first["problem"]),
        )


def join_corpora(*corpora: Corpus) -> Corpus:
    """Put corpora into one table; `clips.corpus` tells them apart.

    Raises:
        CorpusError: None given, one given twice, or a speaker who is in one split
            here and another there.
    """
    if not corpora:
        raise CorpusError("join_corpora needs at least one corpus; none was given")
    clips = pd.concat([corpus.clips for corpus in corpora], ignore_index=True)
    clips = clips.fillna({c: "" for c in clips if clips[c].dtype == object})
    twice = clips.duplicated(["corpus", "clip"])
    if twice.any():
        names = sorted(set(clips.loc[twice, "corpus"]))
        raise CorpusError(f"clips of {names} are given more than once; join them once")
    return Corpus(
        "+".join(corpus.name for corpus in corpora),
        clips,
        *(
            "; ".join(getattr(c, what) for c in corpora)
            for what in ("title", "licence", "citation")
        ),
        problems=pd.concat([c.problems for c in corpora], ignore_index=True),
    )


def list_corpora(*, root: str | Path | None = None) -> pd.DataFrame:
    """List the known corpora, and how many recordings of each are on this machine.

    Returns:
        Columns `name`, `title`, `language`, `licence`, `found`, `clips`.
    """
    rows = []
    for name, source in CORPORA.items():
        try:
            n_clips = len(_recordings(find_corpus(name, root=root)))
        except CorpusError:
            n_clips = 0
        rows.append((name, source.title, source.language, source.licence, n_clips))
    table = pd.DataFrame(
        rows, columns=["name", "title", "language", "licence", "clips"]
    )
    table.insert(4, "found", table["clips"] > 0)
    return table
