"""Corpora of emotional speech: read them as their owners lay them out, split, join.

A corpus is a table of clips; no audio is opened to make it, and no speaker is in two
splits. Labels are renamed ("anger" is "angry") and never merged: see `emotion_map`.
"""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clepdg_lib.audio import prepare, read_audio
from clepdg_lib.captions import SPELLINGS, WORDS, normalise_emotion
from clepdg_lib.files import as_path, data_root, refuse_changed, sha256

log = logging.getLogger("clepdg_lib")
# What soundfile reads, what it does not, and signals of the larynx beside the speech.
AUDIO = re.compile(
    r"\.(wave?|flac|og[ag]|opus|mp3|aif[cf]?|au|snd|caf|w64|rf64|sph|nist)"
)
OTHER_AUDIO = re.compile(r"\.(3gp|aac|amr|m4[ab]|mka|mp2|pcm|ra|raw|wma)")
VIDEO = re.compile(r"\.(avi|m4v|mkv|mov|mp4|mpe?g|webm)")
NO_SPEECH = re.compile(r"(.*/)?(laryngo\w*|\w*egg)/.*", re.IGNORECASE)
HIDDEN = re.compile(r"\..*|__MACOSX|__pycache__")
COLUMNS = ["path", "clip", "corpus", "emotion", "speaker", "sex", "language", "domain"]
COLUMNS += ["split", "text"]
NO_PROBLEMS = pd.DataFrame(columns=["path", "problem", "known"])
SPLITS = ("train", "validation", "test")
_DATA = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
SPLIT_FOLDERS: dict[str, str] = _DATA["split_folders"]
# Name -> title, language, licence, citation, and how its files carry the labels.
CORPORA: dict[str, dict] = _DATA["corpora"]
KNOWN_EMOTIONS = {*SPELLINGS.values(), *WORDS}
VALID = {"emotion": KNOWN_EMOTIONS, "split": SPLITS}  # even where none is present
Names = str | Sequence[str] | None


class CorpusError(ValueError):
    """A corpus that cannot be found, read, or split as asked."""


def choose_rows(clips: pd.DataFrame, **columns: Names) -> np.ndarray:
    """Mask of the rows that have one of the given values in each column: (n,)."""
    keep = np.ones(len(clips), dtype=bool)
    for column, names in columns.items():
        if names is None:
            continue
        if column not in clips:
            raise CorpusError(f"no columns [{column!r}]; the table has {[*clips]}")
        names = [names] if isinstance(names, str) else list(names)
        if column == "emotion":
            names = [normalise_emotion(name) for name in names]
        present = sorted(set(clips[column]))
        if unknown := sorted({*names} - {*present, *VALID.get(column, ())}):
            raise CorpusError(f"there is no {column} {unknown}, but {present[:40]}")
        keep &= clips[column].isin(names).to_numpy()
    return keep


@dataclass(frozen=True, eq=False)
class Corpus:
    """A table of labelled clips, a row each, with `COLUMNS` and perhaps others.

    A `clip` is called by its path below the corpus, without suffix; `path` is absolute.
    `problems` are files left out: `path`, `problem`, whether that is `known` of it.
    """

    name: str
    clips: pd.DataFrame
    problems: pd.DataFrame = field(default_factory=NO_PROBLEMS.copy)

    def __post_init__(self) -> None:
        if missing := [column for column in COLUMNS if column not in self.clips]:
            raise CorpusError(f"corpus {self.name!r} lacks the columns {missing}")
        if wrong := sorted(set(self.clips["split"]) - set(SPLITS)):
            raise CorpusError(f"splits of {self.name!r} are {wrong}, not in {SPLITS}")
        if (lacking := self.clips[["emotion", "speaker"]].isna().any(axis=1)).any():
            path = self.clips["path"][lacking].iloc[0]
            raise CorpusError(f"{self.name!r}: {path} lacks its emotion or speaker")
        splits = self.clips.groupby("speaker")["split"].nunique()
        if shared := list(splits.index[splits > 1]):
            some = f"{self.name!r} has speakers {shared[:5]} in more than one split"
            raise CorpusError(f"{some}; assign splits with split_speakers")
        clips = self.clips.assign(emotion=self.clips["emotion"].map(normalise_emotion))
        object.__setattr__(self, "clips", clips.reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        counts = f"{len(self)} clips, {self.clips['speaker'].nunique()} speakers"
        return f"Corpus({self.name!r}: {counts}, {', '.join(self.emotions)})"

    @property
    def emotions(self) -> tuple[str, ...]:
        """Emotions that occur, in alphabetical order."""
        return tuple(sorted(self.clips["emotion"].unique()))

    def select(
        self,
        *,
        emotions: Names = None,
        splits: Names = None,
        domains: Names = None,
        speakers: Names = None,
    ) -> "Corpus":
        """Keep the clips that meet every condition, of names that occur."""
        clips = replace(self).clips  # checks again: it may have been written into
        wanted = {"emotion": emotions, "split": splits}
        wanted |= {"domain": domains, "speaker": speakers}
        return replace(self, clips=clips[choose_rows(clips, **wanted)])

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
    `emotion`, and perhaps `speaker`, `sex`, `domain`, `split` and others, or a folder
    with such a `clips.csv`. An `emotion_map` such as `{"exc": "happy"}` renames labels;
    unknown ones need it. What is left out is in `problems`, with a warning.
    """
    name = str(name_or_path).lower()
    if name in CORPORA:
        folder = _read_known(name, _find(name))
    else:
        path = as_path(name_or_path).absolute()
        name, folder = path.name.removesuffix(".csv"), _read_own(path)
    clips = _tabulate(folder, emotion_map or {}, name)
    problems = pd.DataFrame(folder.problems, columns=NO_PROBLEMS.columns)
    unknown = problems[~problems["known"].astype(bool)]
    first = unknown if len(unknown) else problems
    first = " ".join(first["path"][:1] + ": " + first["problem"][:1])
    if not len(clips):
        known = f"{', '.join(CORPORA)} are loaded by name, from below $CLEPDG_CORPORA"
        ways = f"A folder holds <emotion>/<speaker>/*.wav or a clips.csv; {known}"
        raise CorpusError(f"{name!r}: no usable clip in {folder.root}. {first} {ways}")
    if len(unknown):
        log.warning("corpus %r: %d files left out: %s", name, len(unknown), first)
    return Corpus(name, clips, problems)


def list_corpora() -> pd.DataFrame:
    """List the known corpora, and how many recordings of each are on this machine."""
    clips = pd.Series(0, [*CORPORA])
    for name in CORPORA:
        with suppress(CorpusError):
            clips[name] = len(_list_files(_find(name)).sounds)
    terms = pd.DataFrame(CORPORA, ["title", "language", "licence", "citation"]).T
    return terms.assign(found=clips > 0, clips=clips).rename_axis("name").reset_index()


def split_speakers(clips: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return a copy with a `split`: about 60 % train, 20 % validation, 20 % test.

    Speakers are drawn, alternately by `sex` if there is one. One is all training.
    """
    people = clips.assign(sex=clips.get("sex", "")).groupby("speaker")
    people = people.agg(sex=("sex", "first"), share=("sex", "size"))
    people["share"] /= len(clips)
    people = people.sample(frac=1, random_state=seed)
    sexes = people.groupby("sex")
    people["rank"] = (sexes.cumcount() + 0.5) / sexes["share"].transform("size")
    people["last"] = people["share"] > 0.4  # who has most of the clips is for training
    share = people.sort_values(["last", "rank", "sex"])["share"]
    middle = share.cumsum() - share / 2
    split = pd.cut(middle, [0, 0.2, 0.4, 1], labels=SPLITS[::-1]).astype(str)
    if len(split) > 1:
        split.iloc[0] = "test"
    if len(split) > 2 and "validation" not in {*split}:  # at least one speaker each
        split.iloc[1] = "validation"
    return clips.assign(split=clips["speaker"].map(split))


@dataclass
class _Folder:
    """The clips of a folder, and the files in it that are not read, with reasons."""

    root: Path
    sounds: list[Path] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    problems: list[dict] = field(default_factory=list)

    def report(self, path: Path | str, problem: str, *, known: bool = False) -> None:
        path = os.fsencode(path).decode(errors="backslashreplace")
        self.problems.append({"path": path, "problem": problem, "known": known})

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
    base = as_path(os.environ.get("CLEPDG_CORPORA") or data_root()).absolute()
    try:
        folders, cause = sorted(os.listdir(base)), ""
    except OSError as error:
        folders, cause = [], f" ({error.strerror})"
    pattern = re.compile(r"[\W_]*".join(["", *name]), re.IGNORECASE)
    found = [base / folder for folder in folders if pattern.match(folder)]
    for folder in (*found, data_root() / name):
        if os.path.isdir(folder):
            return folder
    owners = "{citation} ({licence})".format(**CORPORA[name])
    remedy = f"Set CLEPDG_CORPORA to the folder that holds it. Its owners: {owners}"
    raise CorpusError(f"corpus {name!r} was not found in {base}{cause}. {remedy}.")


def _list_files(root: Path, *, by_owners: bool = False) -> _Folder:
    """List the sound files below a folder, sorted, and report everything else."""
    result = _Folder(Path(os.path.abspath(root)))

    def refuse(error: OSError) -> None:
        result.report(error.filename, f"cannot be opened ({error.strerror}); unlock it")

    for where, folders, files in os.walk(result.root, onerror=refuse):
        for path in (Path(where, name) for name in [*folders, *files]):
            suffix, is_file = path.suffix.lower(), os.path.isfile(path)
            is_video = VIDEO.fullmatch(suffix) is not None
            if str(path).encode(errors="ignore").decode() != str(path):
                result.report(path, "its name is no UTF-8 text; rename it")
            elif HIDDEN.fullmatch(path.name):
                known = path.name.startswith("._") or not AUDIO.fullmatch(suffix)
                result.report(path, "hidden file or folder", known=known)
            elif is_file and by_owners and NO_SPEECH.match(result.name(path)):
                result.report(path, "a signal of the larynx, no speech", known=True)
            elif is_file and AUDIO.fullmatch(suffix):
                result.sounds.append(path)
            elif is_file and (is_video or OTHER_AUDIO.fullmatch(suffix)):
                result.report(path, "convert it to .wav", known=by_owners and is_video)
            elif is_file:  # what has no suffix may be a sound, a README is none
                known = by_owners or suffix != "" or path.parent == result.root
                result.report(path, "not a sound file", known=known)
            elif os.path.islink(path) or not os.path.isdir(path):
                result.report(path, "a link, or no regular file; copy it here")
        folders[:] = [name for name in folders if not HIDDEN.fullmatch(name)]
    result.sounds.sort()
    return result


def _read_known(name: str, root: Path) -> _Folder:
    """Read a corpus that is known by name, and check the bundled one."""
    if name == "emosynth":
        refuse_changed(root)
        return _read_own(root)
    folder, layout = _list_files(root, by_owners=True), CORPORA[name]
    read = _read_lists if "tables" in layout else _read_names
    read(folder, layout)
    for row in folder.rows:
        row["speaker"] = row["speaker"] and f"{name}-{row['speaker']}"
    return folder


def _read_names(folder: _Folder, layout: Mapping) -> None:
    """Read a corpus whose names match a `pattern`, with columns for its groups."""
    sexes, (file, *columns) = {}, layout.get("sexes", [""])
    if (folder.root / file).is_file():
        people = _read_table(folder.root / file, columns=columns)
        sexes = {row[columns[0]]: row[columns[1]] for row in people}
    where, left_out = layout.get("folder", ""), layout.get("left_out", {})
    done: dict[str, Path] = {}
    for path, is_inside in _rank(folder, where):
        reasons = [left_out[name] for name in left_out if re.fullmatch(name, path.stem)]
        match = re.fullmatch(f"(.*/)?(?P<key>{layout['pattern']})", folder.name(path))
        row = match.groupdict() if match else {"emotion": ""}
        key = row.pop("key", "").replace("/", "_")
        if reasons:
            folder.report(path, reasons[0], known=True)
        elif key in done:
            twice = f"a clip of this name is read: {done[key]}"
            folder.report(path, twice, known=not is_inside)
        elif not is_inside:
            folder.report(path, f"lies outside the folder {where}")
        elif row["emotion"] not in layout["emotions"]:
            folder.report(path, f"name is not like {layout['example']}")
        else:
            done[key] = path
            row["sex"] = sexes.get(row["speaker"], "")
            if "women" in layout:
                is_woman = re.fullmatch(layout["women"], row["speaker"])
                row["sex"] = "female" if is_woman else "male"
            row["emotion"] = layout["emotions"][row["emotion"]]
            folder.rows.append(row | {"path": path})
    folder.rows.sort(key=lambda row: row["path"])


def _rank(folder: _Folder, where: str) -> list[tuple[Path, bool]]:
    """Sounds, those in a folder and shallow ones first, and whether they lie in it."""
    here = re.compile(f"(.*/)?({where})/", re.IGNORECASE)
    inside = {path for path in folder.sounds if here.match(folder.name(path))}
    inside = inside if where and inside else {*folder.sounds}
    order = sorted(folder.sounds, key=lambda p: (p not in inside, len(p.parts), p))
    return [(path, path in inside) for path in order]


def _read_lists(folder: _Folder, layout: Mapping) -> None:
    """Read a corpus whose `tables` list its clips; their `columns` give ours."""
    files: dict[str, Path] = {}
    for path, is_inside in _rank(folder, layout.get("folder", "")):
        if match := re.fullmatch(f"(?:.*/)?{layout['pattern']}", folder.name(path)):
            first = files.setdefault(" ".join(match.groups()), path)
            if path != first and path.name == first.name:
                twice = f"a clip of this name is read: {first}"
                folder.report(path, twice, known=not is_inside)
            elif len(path.name) > len(first.name):  # MELD's later version
                files[" ".join(match.groups())] = path
    tables = sorted(folder.root.glob(layout["tables"]))
    tables = [path for path in tables if not HIDDEN.fullmatch(path.name)]
    if not (files and tables):
        lacks = f"lacks sound files, or labels at {layout['tables']}"
        remedy = "get the full release, and convert video to .wav"
        raise CorpusError(f"{folder.root} {lacks}; {remedy}")
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
    if not os.path.isfile(table):
        if os.path.isdir(path):
            return _read_folder(_list_files(path))
        known = f"corpora known by name are {', '.join(CORPORA)}"
        raise CorpusError(f"{path.name!r}: no folder and no csv is at {path}; {known}")
    # A list that is not its folder's says nothing of others.
    folder = _Folder(table.parent) if table == path else _list_files(path)
    folder.problems = [row | {"known": True} for row in folder.problems]
    for number, row in enumerate(_read_table(table, columns=("path", "emotion")), 2):
        path = Path(os.path.abspath(table.parent / as_path(row["path"])))
        if os.path.isfile(path):  # False also for a name that no system allows
            folder.rows.append(row | {"path": path})
        else:
            folder.report(path, f"line {number} of {table.name}: no such file")
    folder.report_rest(f"not listed in {table.name}", known=True)
    return folder


def _read_folder(folder: _Folder) -> _Folder:
    """Read ``<emotion>/<speaker>/*.wav``, perhaps in a folder for each split."""
    parts = {path: folder.name(path).split("/")[:-1] for path in folder.sounds}
    second = {names[1].lower() for names in parts.values() if len(names) > 1}
    below = {"train", "test"} & second and second <= {*SPLIT_FOLDERS}  # <emotion>/train
    level = slice(1, 2) if below else slice(0, 1)
    for path, names in parts.items():
        if split := SPLIT_FOLDERS.get("".join(names[level]).lower(), ""):
            del names[level]
        emotion, speaker, *_ = [*names, "", ""]
        labels = {"emotion": emotion, "speaker": speaker, "split": split, "path": path}
        if emotion:
            folder.rows.append(labels)
        else:
            folder.report(path, "lies outside an emotion's folder")
    for name, layout in CORPORA.items():
        pattern = re.compile(f"(.*/)?({layout.get('pattern', '(?!)')})")
        hits = [path for path in parts if pattern.fullmatch(folder.name(path))]
        if len(hits) > len(parts) / 2:
            how = f"move it below $CLEPDG_CORPORA, and use load_corpus({name!r})"
            log.warning("%s has the file names of %s; %s", folder.root, name, how)
    return folder


def _read_table(path: Path, *, columns: Sequence[str], sep: str = ",") -> list[dict]:
    """Read rows of stripped text, or raise a CorpusError that names the file."""
    try:
        table = pd.read_csv(path, sep=sep, dtype=str, keep_default_na=False)
        if missing := {*columns} - {*table.columns}:
            raise ValueError(f"it lacks {sorted(missing)}")
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("lines have more cells than the first")
    except (OSError, ValueError) as error:
        wanted = f"UTF-8 text with the columns {list(columns)}, {sep!r} only in quotes"
        raise CorpusError(f"{path} cannot be read ({error}); give {wanted}") from error
    return table.fillna("").map(str.strip).to_dict("records")


def _tabulate(folder: _Folder, mapping: Mapping[str, str], name: str) -> pd.DataFrame:
    """Make the table of clips: each recording once, in one split by its speaker."""
    if wrong := {k: v for k, v in mapping.items() if not (v and isinstance(v, str))}:
        raise CorpusError(f"emotion_map has {wrong}; give an emotion for each label")
    # A label as it is written goes before others that mean the same.
    keys = {normalise_emotion(key): key for key in mapping}
    keys |= {normalise_emotion(key, spelled=True): key for key in mapping}
    defaults = dict.fromkeys(COLUMNS, "") | {"corpus": name, "domain": name}
    defaults["language"] = CORPORA.get(name, {}).get("language", "")
    rows, unused = [], set(mapping)
    for row in folder.rows:
        label = normalise_emotion(row["emotion"])
        key = keys.get(normalise_emotion(row["emotion"], spelled=True), keys.get(label))
        unused.discard(key)
        if not label:
            folder.report(row["path"], "no emotion is given")
        elif key is not None or name in CORPORA or label in KNOWN_EMOTIONS:
            nobody = "-".join(filter(None, (name, row.get("split"), "unknown")))
            own = {"clip": folder.name(row["path"]), "speaker": nobody}
            given = {column: str(value) for column, value in row.items() if value}
            emotion = normalise_emotion(mapping.get(key, label))
            rows.append(defaults | own | given | {"corpus": name, "emotion": emotion})
        else:
            remedy = f"pass emotion_map={{{label!r}: ...}}"
            folder.report(row["path"], f"emotion {label!r} is unknown; {remedy}")
    if unused:
        labels = sorted({str(row["emotion"]) for row in folder.rows})
        known = f"{sorted(unused)} of emotion_map; the labels are {labels}"
        log.warning("corpus %r: no clip is labelled %s", name, known)
    clips = pd.DataFrame(rows).fillna("")
    if not rows:
        return clips
    clips["language"] = clips["language"].replace({"DK": "Danish", "EN": "English"})
    sexes = {"f": "female", "w": "female", "m": "male"}  # by first letters
    clips["sex"] = clips["sex"].str[:1].str.lower().map(sexes).fillna("")
    clips = _drop_doubles(clips, folder)
    no_split = clips["split"] == ""
    if no_split.all():
        clips["split"] = split_speakers(clips)["split"]
    elif no_split.any():
        path = clips["path"][no_split].iloc[0]
        raise CorpusError(f"{path} has no split; give every clip one, or none")
    if clips.loc[clips["speaker"].str.endswith("-unknown"), "split"].nunique() > 1:
        log.warning("corpus %r: no speakers are given; splits may share some", name)
    for column in clips.columns.drop(COLUMNS):
        numbers = pd.to_numeric(clips[column], errors="coerce")
        clips[column] = clips[column] if numbers.isna().any() else numbers
    return clips


def _drop_doubles(clips: pd.DataFrame, folder: _Folder) -> pd.DataFrame:
    """Keep one row of each name and content, none if labels differ; report others."""
    paths, spare = clips["path"], {}
    sizes = paths.map(lambda p: os.path.getsize(p) if os.access(p, os.R_OK) else 0)
    alike = paths[(sizes > 0) & sizes.duplicated(keep=False)]
    keys = pd.concat([clips["clip"], alike.map(sha256)])
    keys = keys[keys.duplicated(keep=False)]
    for rows in keys.groupby(keys).groups.values():
        text = f"same recording as {paths[rows[0]]}"
        if len(clips.loc[rows, ["emotion", "speaker"]].drop_duplicates()) > 1:
            text = f"copies of {paths[rows[0]]} differ in emotion or speaker"
            spare[rows[0]] = text
        spare |= dict.fromkeys(rows[1:], text)
    for row, text in spare.items():
        folder.report(paths[row], text)
    return clips.drop(index=[*spare])
