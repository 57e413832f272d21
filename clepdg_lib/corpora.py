"""Corpora of emotional speech: read them as their owners lay them out, split, join.

A corpus is a table of clips; no audio is opened to make it, and no speaker is in two
splits. Labels are renamed ("anger" is "angry") and never merged: see `emotion_map`.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import torch

from clepdg_lib.audio import prepare, read_audio
from clepdg_lib.files import data_root, refuse_changed, sha256

log = logging.getLogger("clepdg_lib")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
OTHER_AUDIO = re.compile(r"\.(aac|aiff?|amr|au|caf|m4a|oga|sph|w64|webm|wma)")
COLUMNS = ["path", "clip", "corpus", "emotion", "speaker", "sex", "language", "domain"]
COLUMNS += ["split", "text"]
NO_PROBLEMS = pd.DataFrame(columns=["path", "problem", "known"])
SPLITS = ("train", "validation", "test")
_DATA = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
# Name -> title, language, licence, citation, and how its files carry the labels.
CORPORA: dict[str, dict] = _DATA["corpora"]
SPELLINGS = {name: e for e, names in _DATA["spellings"].items() for name in names}
KNOWN_EMOTIONS = {*SPELLINGS.values(), "calm"}
VALID = {"emotion": KNOWN_EMOTIONS, "split": SPLITS}  # even where none is present
Names = str | Sequence[str] | None


class CorpusError(ValueError):
    """A corpus that cannot be found, read, or split as asked."""


def normalise_emotion(label: object) -> str:
    """Return the name that this project uses: "Pleasant_Surprise" is "surprised"."""
    words = " ".join(re.split(r"[\s_-]+", str(label).lower())).strip()
    return SPELLINGS.get(words, words)


@dataclass(frozen=True, eq=False)
class Corpus:
    """A table of labelled clips, a row each, with `COLUMNS` and perhaps others.

    A `clip` is called by its path below the corpus, without suffix; `path` is absolute,
    `sex` is female, male or "". `problems` are files left out: `path`, `problem`, and
    whether that is `known` of this corpus.
    """

    name: str
    clips: pd.DataFrame
    problems: pd.DataFrame = field(default_factory=NO_PROBLEMS.copy)

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

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        counts = f"{len(self)} clips, {self.clips['speaker'].nunique()} speakers"
        return f"Corpus({self.name!r}: {counts}, {', '.join(self.emotions)})"

    @property
    def emotions(self) -> tuple[str, ...]:
        """Emotions that occur, in alphabetical order."""
        return tuple(sorted(self.clips["emotion"].unique()))

    def report(self) -> pd.Series:
        """Count the files left out by reason, in which numbers are written as #."""
        reasons = self.problems["problem"].replace(r"\d+", "#", regex=True)
        return reasons.value_counts()

    def select(
        self,
        *,
        emotions: Names = None,
        splits: Names = None,
        domains: Names = None,
        speakers: Names = None,
    ) -> Corpus:
        """Keep the clips that meet every condition, of names that occur."""
        clips = replace(self).clips  # checks again: it may have been written into
        wanted = {"emotion": emotions, "split": splits}
        wanted |= {"domain": domains, "speaker": speakers}
        for column, names in wanted.items():
            if names is None:
                continue
            names = [names] if isinstance(names, str) else list(names)
            if column == "emotion":
                names = [normalise_emotion(name) for name in names]
            present = sorted(set(self.clips[column]))
            if unknown := sorted({*names} - {*present, *VALID.get(column, ())}):
                some = ", ".join(map(str, present[:40]))
                raise CorpusError(
                    f"{self.name!r} has no {column} {unknown}, but {some}"
                )
            clips = clips[clips[column].isin(names)]
        return replace(self, clips=clips)

    def read(self, index: int, *, sample_rate: int = 16_000) -> torch.Tensor:
        """Read a clip at a rate: (n,) float32, its quiet ends trimmed, levelled."""
        wave = read_audio(self.clips["path"].iloc[index], sample_rate=sample_rate)
        return prepare(wave, sample_rate=sample_rate)


def load_corpus(
    name_or_path: str | Path, *, emotion_map: Mapping[str, str] | None = None
) -> Corpus:
    """Read a corpus's table: by name, below `$CLEPDG_CORPORA`, or one's own.

    That is a folder of `<emotion>/<speaker>/*.wav` (without speakers, all clips share a
    split), perhaps below `train/` and `test/`, or a csv with the columns `path` and
    `emotion`, and perhaps `speaker`, `sex`, `domain`, `split` and others; a `clips.csv`
    in a folder counts. Other labels than `KNOWN_EMOTIONS` need an `emotion_map`, such
    as `{"exc": "happy"}`. What is left out is listed in `problems`, with a warning.
    """
    name = str(name_or_path).lower()
    if name in CORPORA:
        folder = _read_known(name, _find(name))
    else:
        path = Path(name_or_path).expanduser().absolute()
        name, folder = path.name.removesuffix(".csv"), _read_own(path)
    clips = _tabulate(folder, emotion_map or {}, name)
    problems = pd.DataFrame(folder.problems, columns=NO_PROBLEMS.columns)
    unknown = problems[~problems["known"].astype(bool)]
    first = " ".join(unknown["path"][:1] + ": " + unknown["problem"][:1])
    if not len(clips):
        raise CorpusError(
            f"corpus {name!r}: no usable clip in {folder.root}. {first} A folder holds "
            f"<emotion>/<speaker>/*{AUDIO_SUFFIXES} or a clips.csv, and may need "
            f"emotion_map; {', '.join(CORPORA)} are loaded by name"
        )
    if len(unknown):
        log.warning("corpus %r: %d files left out: %s", name, len(unknown), first)
    return Corpus(name, clips, problems)


def list_corpora() -> pd.DataFrame:
    """List the known corpora, and how many recordings of each are on this machine."""
    rows = []
    for name, layout in CORPORA.items():
        try:
            n_clips = len(_list_files(_find(name)).sounds)
        except CorpusError:
            n_clips = 0
        terms = {k: layout[k] for k in ("title", "language", "licence", "citation")}
        rows.append({"name": name, **terms, "found": n_clips > 0, "clips": n_clips})
    return pd.DataFrame(rows)


def join_corpora(*corpora: Corpus, doubles: str = "raise") -> Corpus:
    """Put corpora into one table; `clips.corpus` tells them apart.

    Recordings that are there twice, byte for byte, in other splits or under other
    emotions raise an error; `doubles="drop"` keeps one, or none if emotions differ.
    """
    clips = pd.concat([corpus.clips for corpus in corpora], ignore_index=True)
    clips = clips.fillna(dict.fromkeys(clips.select_dtypes(exclude="number"), ""))
    twice = clips.loc[clips.duplicated(["corpus", "clip"]), "corpus"]
    if len(twice):
        raise CorpusError(f"{sorted(set(twice))} are given more than once; join once")
    name = "+".join(corpus.name for corpus in corpora)
    Corpus(name, clips)  # refuses shared speakers, also those of doubles
    kinds = clips["emotion"] + "/" + clips["split"]
    unlike = [g for g in _identical_clips(clips["path"]) if kinds[g].nunique() > 1]
    clips, spare = _drop_doubles(clips, unlike, ["emotion"])
    if len(spare) and doubles != "drop":
        raise CorpusError(
            f"{name}: {len(spare)} files are also, byte for byte, in another split or "
            "under another emotion; join with doubles='drop' to leave them out"
        )
    return Corpus(name, clips, pd.concat([*(c.problems for c in corpora), spare]))


def split_speakers(clips: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return a copy with a `split`: about 60 % train, 20 % validation, 20 % test.

    Speakers are drawn, alternately by `sex` if there is one: first for the test split,
    then for validation. One speaker is all training; of two, one is for testing.
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


@dataclass
class _Folder:
    """The clips of a folder, and the files in it that are not read, with reasons."""

    root: Path
    sounds: list[Path] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    problems: list[dict] = field(default_factory=list)

    def report(self, path: Path | str, problem: str, *, known: bool = False) -> None:
        self.problems.append({"path": str(path), "problem": problem, "known": known})

    def name(self, path: Path) -> str:
        inside = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return inside.with_suffix("").as_posix()

    def report_rest(self, problem: str, *, known: bool = False) -> None:
        """Report the sound files that are neither read nor reported yet."""
        done = {str(row["path"]) for row in self.rows}
        self.problems = [row for row in self.problems if row["path"] not in done]
        done |= {row["path"] for row in self.problems}
        for path in self.sounds:
            if str(path) not in done:
                self.report(path, problem, known=known)


def _find(name: str) -> Path:
    """Find a folder, also by a name such as `EMO-DB_v2`: for emodb."""
    base = Path(os.environ.get("CLEPDG_CORPORA") or data_root()).expanduser().absolute()
    for folder in sorted(filter(Path.is_dir, base.glob("*"))):
        if re.sub(r"[\W_]", "", folder.name.lower()).startswith(name):
            return folder
    if (data_root() / name).is_dir():
        return data_root() / name
    owners = "{citation} ({licence})".format(**CORPORA[name])
    remedy = f"Set CLEPDG_CORPORA to the folder that holds it. Its owners: {owners}"
    raise CorpusError(f"corpus {name!r} was not found in {base}. {remedy}.")


def _list_files(root: Path) -> _Folder:
    """List the sound files below a folder, sorted, and report everything else."""
    result = _Folder(Path(os.path.abspath(root)))
    for where, folders, files in os.walk(result.root):
        for path in (Path(where, name) for name in [*folders, *files]):
            suffix, is_file = path.suffix.lower(), path.is_file()
            if path.name.startswith((".", "__")):
                result.report(path, "hidden file or folder", known=True)
            elif is_file and suffix in AUDIO_SUFFIXES:
                result.sounds.append(path)
            elif is_file:
                known = not OTHER_AUDIO.fullmatch(suffix)
                problem = "not a sound file" if known else "convert it to .wav"
                result.report(path, problem, known=known)
            elif path.is_symlink() or not path.is_dir():
                result.report(path, "a link, or no regular file; copy it here")
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
    result.sounds.sort()
    return result


def _read_known(name: str, root: Path) -> _Folder:
    """Read a corpus that is known by name, and check the bundled one."""
    if name == "emosynth":
        refuse_changed(root)
        return _read_own(root)
    folder, layout = _list_files(root), CORPORA[name]
    read = _read_lists if "tables" in layout else _read_names
    read(folder, layout)
    for row in folder.rows:
        row["speaker"] = row["speaker"] and f"{name}-{row['speaker']}"
    return folder


def _read_names(folder: _Folder, layout: Mapping) -> None:
    """Read a corpus whose file names carry the labels.

    A layout has the `pattern` of a name, whose groups are columns, and codes of the
    `emotions`; perhaps a `folder`, `women` or a table of `sexes`, and names `left_out`.
    """
    emotions, sexes = layout["emotions"], {}
    file, *columns = layout.get("sexes", [""])
    if (folder.root / file).is_file():
        people = _read_table(folder.root / file, columns=columns)
        sexes = {row[columns[0]]: row[columns[1]] for row in people}
    where, left_out = layout.get("folder", ".*"), layout.get("left_out", {})
    here = re.compile(f"(^|.*/)({where})/", re.IGNORECASE)
    inside = {path for path in folder.sounds if here.match(folder.name(path))}
    inside, done = inside or set(folder.sounds), set()
    for path in sorted(folder.sounds, key=lambda path: path not in inside):
        reasons = [left_out[name] for name in left_out if re.fullmatch(name, path.stem)]
        match = re.fullmatch(f"(.*/)?(?P<key>{layout['pattern']})", folder.name(path))
        row = match.groupdict() if match else {"emotion": ""}
        key = row.pop("key", "").replace("/", "_")
        if reasons:
            folder.report(path, reasons[0], known=True)
        elif key in done:
            twice = "another clip of this name is read"
            folder.report(path, twice, known=path not in inside)
        elif path not in inside:
            folder.report(path, f"lies outside the folder {where}")
        elif row["emotion"] not in emotions:
            folder.report(path, f"name is not like {layout['example']}")
        else:
            done.add(key)
            sex = sexes.get(row["speaker"], "")
            if "women" in layout:
                sex = "f" if re.fullmatch(layout["women"], row["speaker"]) else "m"
            row |= {"emotion": emotions[row["emotion"]], "sex": sex, "path": path}
            folder.rows.append(row)


def _read_lists(folder: _Folder, layout: Mapping) -> None:
    """Read a corpus whose clips are listed in tables, or in lines of text.

    A layout has the `pattern` of a name, whose groups are its key, `tables` with
    templates of our `columns` (`file` is the key), and perhaps the pattern of a `line`.
    """
    files = {}
    for path in sorted(folder.sounds, key=lambda path: len(path.name)):  # longest last
        if match := re.fullmatch(f"(?:.*/)?{layout['pattern']}", folder.name(path)):
            files[" ".join(match.groups())] = path
    tables = sorted(folder.root.glob(layout["tables"]))
    tables = [path for path in tables if not path.name.startswith(".")]
    if not (files and tables):
        raise CorpusError(
            f"{folder.root} lacks sound files, or labels at {layout['tables']}; "
            "get the full release, and convert video to .wav"
        )
    templates = layout["columns"].items()
    columns = sorted({*re.findall(r"{(\w+)}", str(templates))} - {"part"})
    for path in tables:
        if "line" in layout:
            text = path.read_text("utf-8", errors="replace")
            rows = [match.groupdict() for match in re.finditer(layout["line"], text)]
        else:
            sep = "\t" if path.suffix == ".tsv" else ","
            rows = _read_table(path, columns=columns, sep=sep)
        for row in rows:
            row["part"] = path.name.split("_")[0]
            labels = {ours: template.format_map(row) for ours, template in templates}
            key = Path(labels.pop("file")).stem
            if key in files:
                folder.rows.append(labels | {"path": files[key]})
            else:
                folder.report(path, f"lists {key}, which has no recording here")
    folder.report_rest(layout["rest"], known=layout["rest_known"])


def _read_own(path: Path) -> _Folder:
    """Read a csv, or a folder with a csv, or with a folder for each emotion."""
    table = path if path.suffix.lower() == ".csv" else path / "clips.csv"
    if os.path.isfile(table):  # a list that is not its folder's says nothing of others
        folder = _Folder(table.parent) if table == path else _list_files(path)
        _read_csv(folder, table)
    elif os.path.isdir(path):
        folder = _list_files(path)
        _read_folder(folder)
    else:
        known = f"corpora known by name are {', '.join(CORPORA)}"
        raise CorpusError(f"{path.name!r}: no folder and no csv is at {path}; {known}")
    return folder


def _read_csv(folder: _Folder, table: Path) -> None:
    """Read a table with ``path`` and ``emotion``; other columns are kept."""
    folder.problems = [row | {"known": True} for row in folder.problems]
    rows = _read_table(table, columns=("path", "emotion"))
    for number, row in enumerate(rows, start=2):
        path = Path(os.path.abspath(table.parent / row["path"]))
        if os.path.isfile(path):  # False also for a name that no system allows
            folder.rows.append(row | {"path": path})
        else:
            folder.report(path, f"line {number} of {table.name}: no such file")
    folder.report_rest(f"not listed in {table.name}", known=True)


def _read_folder(folder: _Folder) -> None:
    """Read ``<emotion>/<speaker>/*.wav``, perhaps in a folder for each split."""
    for path in folder.sounds:
        parents = folder.name(path).split("/")[:-1]
        split = _DATA["split_folders"].get(parents[0].lower(), "") if parents else ""
        emotion, speaker, *_ = [*parents[bool(split) :], "", ""]
        if emotion:
            labels = {"emotion": emotion, "speaker": speaker, "split": split}
            folder.rows.append(labels | {"path": path})
        else:
            folder.report(path, "lies outside an emotion's folder")


def _read_table(path: Path, *, columns: Sequence[str], sep: str = ",") -> list[dict]:
    """Read rows of stripped text, or raise a CorpusError that names the file."""
    try:
        table = pd.read_csv(path, sep=sep, dtype=str, keep_default_na=False)
        if missing := {*columns} - {*table.columns}:
            raise ValueError(f"it lacks {sorted(missing)}")
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("lines have more cells than the first")
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"metadata {path} cannot be read ({error}); it must be UTF-8 text with "
            f"the columns {list(columns)}, and texts that hold {sep!r} in quotes"
        ) from error
    return table.fillna("").map(str.strip).to_dict("records")


def _tabulate(folder: _Folder, mapping: Mapping[str, str], name: str) -> pd.DataFrame:
    """Make the table of clips: each recording once, in one split by its speaker."""
    names = {normalise_emotion(key): mapping[key] for key in mapping}
    defaults = dict.fromkeys(COLUMNS, "") | {"corpus": name, "domain": name}
    defaults["language"] = CORPORA.get(name, {}).get("language", "")
    rows = []
    for row in folder.rows:
        label = normalise_emotion(row["emotion"])
        if not label:
            folder.report(row["path"], "no emotion is given")
        elif name in CORPORA or label in (*names, *KNOWN_EMOTIONS):
            nobody = "-".join(filter(None, (name, row.get("split"), "unknown")))
            own = {"clip": folder.name(row["path"]), "speaker": nobody}
            given = {key: str(value) for key, value in row.items() if value}
            emotion = normalise_emotion(names.get(label, label))
            rows.append(defaults | own | given | {"corpus": name, "emotion": emotion})
        else:
            remedy = f"pass emotion_map={{{label!r}: ...}}"
            folder.report(row["path"], f"emotion {label!r} is unknown; {remedy}")
    clips = pd.DataFrame(rows).fillna("")
    if not rows:
        return clips
    clips["language"] = clips["language"].replace({"DK": "Danish", "EN": "English"})
    sexes = {"f": "female", "w": "female", "m": "male"}  # by first letters
    clips["sex"] = clips["sex"].str[:1].str.lower().map(sexes).fillna("")
    groups = [list(same) for same in clips.groupby("clip").groups.values()]
    groups += _identical_clips(clips["path"])
    clips, spare = _drop_doubles(clips, groups, ["emotion", "speaker"])
    folder.problems += spare.to_dict("records")
    if (clips["split"] == "").all():
        clips["split"] = split_speakers(clips)["split"]
    if clips.loc[clips["speaker"].str.endswith("-unknown"), "split"].nunique() > 1:
        log.warning("corpus %r: no speakers are given; splits may share some", name)
    for column in clips.columns.drop(COLUMNS):
        numbers = pd.to_numeric(clips[column], errors="coerce")
        clips[column] = clips[column] if numbers.isna().any() else numbers
    return clips


def _identical_clips(paths: pd.Series) -> list[list[int]]:
    """Group readable, not empty files with the same bytes: lists of index labels."""
    sizes = paths.map(lambda p: os.path.getsize(p) if os.access(p, os.R_OK) else 0)
    candidates = paths[(sizes > 0) & sizes.duplicated(keep=False)]
    groups = candidates.groupby(candidates.map(sha256)).groups.values()
    return [list(same) for same in groups if len(same) > 1]


def _drop_doubles(clips: pd.DataFrame, groups: list, columns: list[str]) -> tuple:
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
