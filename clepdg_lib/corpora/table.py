"""A corpus is a table of clips; no speaker is in two splits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from pandas.api.types import is_numeric_dtype

from clepdg_lib.audio import prepare, read_audio
from clepdg_lib.corpora.readers import KNOWN_EMOTIONS, CorpusError, normalise_emotion
from clepdg_lib.files import sha256

_TEXT = "path clip corpus emotion speaker sex language domain split text"
COLUMNS = tuple(_TEXT.split())
PROBLEMS = ("path", "problem", "known")
SPLITS = ("train", "validation", "test")
_VALID = {"emotion": KNOWN_EMOTIONS, "split": SPLITS}  # even where none is present
Names = str | Sequence[str] | None


@dataclass(frozen=True, eq=False)
class Corpus:
    """A table of labelled clips, with the owners' terms.

    Attributes:
        clips: One row a clip: absolute `path`, `clip` (path below the corpus without
            its suffix), `corpus`, `emotion`, `speaker`, `sex` (female, male or ""),
            `language`, `domain`, `split`, `text`, and any other columns.
        problems: Files left out: `path`, `problem`, `known` (expected in this corpus).
    """

    name: str
    clips: pd.DataFrame
    title: str = ""
    licence: str = ""
    citation: str = ""
    problems: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        if missing := [column for column in COLUMNS if column not in self.clips]:
            raise CorpusError(f"corpus {self.name!r} lacks the columns {missing}")
        if wrong := sorted(set(self.clips["split"]) - set(SPLITS)):
            raise CorpusError(f"splits of {self.name!r} are {wrong}, not in {SPLITS}")
        splits = self.clips.groupby("speaker")["split"].nunique()
        if shared := list(splits.index[splits > 1]):
            raise CorpusError(
                f"corpus {self.name!r} has {len(shared)} speakers in more than one "
                f"split, among them {shared[:5]}; assign splits with split_speakers"
            )
        clips = self.clips.reset_index(drop=True)
        clips["emotion"] = clips["emotion"].map(normalise_emotion)
        object.__setattr__(self, "clips", clips)
        if self.problems is None:
            object.__setattr__(self, "problems", pd.DataFrame(columns=PROBLEMS))

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        counts = f"{len(self)} clips, {self.clips['speaker'].nunique()} speakers"
        return f"Corpus({self.name!r}: {counts}, {', '.join(self.emotions)})"

    @property
    def emotions(self) -> tuple[str, ...]:
        """Emotions that occur, in alphabetical order."""
        return tuple(sorted(self.clips["emotion"].unique()))

    def report(self) -> pd.DataFrame:
        """Count the files left out by reason, in which numbers are written as #."""
        reasons = self.problems["problem"].replace(r"\d+", "#", regex=True)
        table = self.problems.groupby(reasons).agg(
            files=("path", "size"), known=("known", "all"), first=("path", "first")
        )
        return table.sort_values("files", ascending=False, kind="stable").reset_index()

    def select(
        self,
        *,
        emotions: Names = None,
        splits: Names = None,
        domains: Names = None,
        speakers: Names = None,
        corpora: Names = None,
        exclude_domains: Names = None,
    ) -> Corpus:
        """Keep the clips that meet every condition, of names that occur.

        Example:
            >>> from clepdg_lib.corpora import load_corpus
            >>> load_corpus("emosynth").select(emotions="Anger").emotions
            ('angry',)
        """
        replace(self)  # checks the table again: it may have been written into
        wanted = {"emotion": emotions, "split": splits, "domain": domains}
        wanted |= {"speaker": speakers, "corpus": corpora}
        excluded = () if exclude_domains is None else exclude_domains
        keep = ~self._matches("domain", excluded)
        for column, names in wanted.items():
            if names is not None:
                keep &= self._matches(column, names)
        return replace(self, clips=self.clips[keep])

    def _matches(self, column: str, names: str | Sequence[str]) -> pd.Series:
        names = [names] if isinstance(names, str) else list(names)
        if column == "emotion":
            names = [normalise_emotion(name) for name in names]
        present = sorted(set(self.clips[column]))
        if unknown := sorted({*names} - {*present, *_VALID.get(column, ())}):
            raise CorpusError(
                f"corpus {self.name!r} has no {column} {unknown}; it has: "
                f"{', '.join(map(str, present[:40]))}"
            )
        return self.clips[column].isin(names)

    def read(self, index: int, *, sample_rate: int = 16_000) -> torch.Tensor:
        """Read a clip at a rate: (n,) float32, its quiet ends trimmed, levelled."""
        wave = read_audio(self.clips["path"].iloc[index], sample_rate=sample_rate)
        return prepare(wave, sample_rate=sample_rate)


def join_corpora(*corpora: Corpus, doubles: str = "raise") -> Corpus:
    """Put corpora into one table; `clips.corpus` tells them apart.

    Doubles are recordings that are there twice, byte for byte, in different splits or
    under different emotions. `doubles="drop"` keeps one of each (none, if the emotions
    differ) and lists the others in `problems`.
    """
    if doubles not in ("raise", "drop"):
        raise CorpusError(f"doubles is {doubles!r}; it must be 'raise' or 'drop'")
    if not corpora:
        raise CorpusError("join_corpora needs at least one corpus")
    clips = pd.concat([corpus.clips for corpus in corpora], ignore_index=True)
    words = [column for column in clips if not is_numeric_dtype(clips[column])]
    clips = clips.fillna(dict.fromkeys(words, ""))
    twice = clips.loc[clips.duplicated(["corpus", "clip"]), "corpus"]
    if len(twice):
        raise CorpusError(f"{sorted(set(twice))} are given more than once; join once")
    terms = ("title", "licence", "citation")
    texts = {term: "; ".join(getattr(c, term) for c in corpora) for term in terms}
    name = "+".join(corpus.name for corpus in corpora)
    Corpus(name, clips)  # refuses shared speakers, also those of doubles
    kinds = clips["emotion"] + "/" + clips["split"]
    unlike = [g for g in identical_clips(clips["path"]) if kinds[g].nunique() > 1]
    clips, spare = drop_doubles(clips, unlike, columns=["emotion"])
    if len(spare) and doubles == "raise":
        raise CorpusError(
            f"{name}: {len(spare)} files are also, byte for byte, in another split or "
            "under another emotion; join with doubles='drop' to leave them out"
        )
    problems = pd.concat([*(corpus.problems for corpus in corpora), spare])
    return Corpus(name, clips, problems=problems, **texts)


def drop_doubles(
    clips: pd.DataFrame, groups: list[list[int]], *, columns: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep one row of each group, none if they differ in `columns`; list the others."""
    spare = {}
    for same in groups:
        agree = len(clips.loc[same, columns].drop_duplicates()) == 1
        first = clips.at[same[0], "path"]
        differ = f"copies of {first} differ in {' or '.join(columns)}"
        text = f"same recording as {first}" if agree else differ
        spare |= dict.fromkeys(same[1:] if agree else same, text)
    dropped = clips.loc[list(spare), ["path"]].assign(problem=spare, known=False)
    return clips.drop(index=list(spare)), dropped


def identical_clips(paths: pd.Series) -> list[list[int]]:
    """Group readable, not empty files with the same bytes: lists of index labels."""
    sizes = paths.map(lambda p: os.path.getsize(p) if os.access(p, os.R_OK) else 0)
    candidates = paths[(sizes > 0) & sizes.duplicated(keep=False)]
    groups = candidates.groupby(candidates.map(sha256)).groups.values()
    return [list(same) for same in groups if len(same) > 1]


def split_speakers(clips: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return a copy with a `split`: about 60 % train, 20 % validation, 20 % test.

    Speakers are drawn, alternately by `sex` if there is one: first for the test split,
    then for validation. One speaker is all training; of two, one is for testing.

    Example:
        >>> table = pd.DataFrame({"speaker": ["anna", "anna", "bert"]})
        >>> sorted(set(split_speakers(table)["split"]))
        ['test', 'train']
    """
    people = clips.assign(sex=clips.get("sex", "")).groupby("speaker")
    people = people.agg(sex=("sex", "first"), share=("sex", "size"))
    people["share"] /= max(len(clips), 1)
    people = people.sample(frac=1, random_state=seed)
    sexes = people.groupby("sex")
    people["rank"] = (sexes.cumcount() + 0.5) / sexes["share"].transform("size")
    people["last"] = people["share"] > 0.4  # who has most of the clips is for training
    order = people.sort_values(["last", "rank", "sex"])["share"]
    few = {1: ["train"], 2: ["test", "train"]}
    names = few.get(len(order), ["test", "validation", "train"])
    split, done, bound = {}, 0.0, 0.2
    for i, (speaker, share) in enumerate(order.items()):
        full = done + share / 2 > bound or len(order) - i < len(names)
        if full and len(names) > 1 and names[0] in split.values():
            names = names[1:]
            bound += 0.2
        split[speaker] = names[0]
        done += share
    return clips.assign(split=clips["speaker"].map(split))
