"""A corpus is a table of clips; audio is read one clip at a time.

No speaker is ever in two splits: a :class:`Corpus` refuses such a table.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from pandas.api.types import is_numeric_dtype

from clepdg_lib.audio import AudioError, level, read_audio, trim
from clepdg_lib.corpus_findings import KNOWN_EMOTIONS, CorpusError
from clepdg_lib.corpus_splits import SPLITS, identical_clips

COLUMNS = (
    "path",
    "clip",
    "corpus",
    "emotion",
    "speaker",
    "sex",
    "language",
    "domain",
    "split",
    "text",
)

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
        self._refuse_shared_speakers()
        clips = self.clips.reset_index(drop=True)
        object.__setattr__(self, "clips", clips)

    def _refuse_shared_speakers(self) -> None:
        splits = self.clips.groupby("speaker")["split"].nunique()
        shared = list(splits.index[splits > 1])
        if shared:
            raise CorpusError(
                f"corpus {self.name!r} has {len(shared)} speakers in more than one "
                f"split, among them {shared[:5]}; assign splits with split_speakers"
            )

    def report(self) -> pd.DataFrame:
        """Count the files that were left out, by reason; `problems` lists them all.

        Returns:
            Columns `problem` (numbers as #), `files`, `known` and `first`, the most
            frequent reason first.
        """
        kinds = (
            self.problems["problem"].astype(str).str.replace(r"\d+", "#", regex=True)
        )
        groups = self.problems.assign(problem=kinds).groupby("problem", sort=False)
        table = groups.agg(
            files=("path", "size"), known=("known", "all"), first=("path", "first")
        )
        return table.reset_index().sort_values(
            ["files", "problem"], ascending=[False, True], ignore_index=True
        )

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
            >>> from clepdg_lib.corpora import load_corpus
            >>> load_corpus("emosynth").select(emotions="sad").emotions
            ('sad',)
        """
        # Somebody may have written into the table since: no split leaves it then.
        self._refuse_shared_speakers()
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
        report_problems(self.name, problems[before:], what="could not be read")


def join_corpora(*corpora: Corpus, doubles: str = "raise") -> Corpus:
    """Put corpora into one table; `clips.corpus` tells them apart.

    Args:
        corpora: One or more.
        doubles: What to do about recordings that two of them hold, byte for byte, in
            different splits or under different emotions: `"raise"`, or `"drop"` to
            keep one of each (none, if the emotions differ), say so, and list the
            others in `problems`.

    Raises:
        CorpusError: None given, one given twice, a speaker who is in one split
            here and another there, or such doubles.
    """
    if doubles not in ("raise", "drop"):
        raise CorpusError(f"doubles is {doubles!r}; it must be 'raise' or 'drop'")
    if not corpora:
        raise CorpusError("join_corpora needs at least one corpus; none was given")
    clips = pd.concat([corpus.clips for corpus in corpora], ignore_index=True)
    words = clips.columns[[not is_numeric_dtype(kind) for kind in clips.dtypes]]
    clips = clips.fillna(dict.fromkeys(words, ""))
    twice = clips.duplicated(["corpus", "clip"])
    if twice.any():
        names = sorted(set(clips.loc[twice, "corpus"]))
        raise CorpusError(f"clips of {names} are given more than once; join them once")
    name = "+".join(corpus.name for corpus in corpora)
    Corpus(name, clips)  # refuses shared speakers, also those of doubles
    spare = _doubles(clips)
    if spare and doubles == "raise":
        raise CorpusError(
            f"{name}: {len(spare)} files are also, byte for byte, in another split or "
            f"under another emotion, the first {spare[0]['path']}: "
            f"{spare[0]['problem']}; join with doubles='drop' to leave them out"
        )
    clips = clips.drop(index=[double.pop("row") for double in spare])
    report_problems(name, spare, what="left out")
    problems = [corpus.problems for corpus in corpora]
    return Corpus(
        name,
        clips,
        *(
            "; ".join(getattr(c, what) for c in corpora)
            for what in ("title", "licence", "citation")
        ),
        problems=pd.concat([*problems, pd.DataFrame(spare)], ignore_index=True),
    )


def _doubles(clips: pd.DataFrame) -> list[dict]:
    """List what must go so that no recording has two splits or two emotions."""
    found = []
    for same in identical_clips(clips["path"]):
        first = clips.loc[same[0]]
        agree = clips.loc[same, "emotion"].nunique() == 1
        if agree and clips.loc[same, "split"].nunique() == 1:
            continue
        told = "same bytes as" if agree else "other emotion, same bytes:"
        told = f"{told} {first['path']} ({first['split']})"
        found += [
            {
                "path": clips.at[index, "path"],
                **{"problem": told, "known": False, "row": index},
            }
            for index in (same[1:] if agree else same)
        ]
    return found


def report_problems(name: str, problems: list[dict], *, what: str) -> None:
    """Say in one line how many files were left out, and why the first was."""
    if problems:
        first = problems[0]
        _log.warning(
            "corpus %r: %d files %s, the first %s: %s",
            *(name, len(problems), what, first["path"], first["problem"]),
        )
