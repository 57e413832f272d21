"""Read the folders of corpora as their owners lay them out; no audio is opened.

Labels are renamed ("anger" is "angry") and never merged: see `emotion_map`.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
_OTHER_AUDIO = re.compile(r"\.(aac|aiff?|amr|au|caf|m4a|oga|sph|w64|webm|wma)")


def parse_codes(text: str) -> dict[str, str]:
    """Parse "code=name other=name" into a dictionary."""
    return dict(pair.split("=") for pair in text.split())


_DATA = json.loads(Path(__file__).with_name("corpora.json").read_text("utf-8"))
# Name -> title, language, licence, citation, and how its files carry the labels.
CORPORA: dict[str, dict] = _DATA["corpora"]
SPLIT_FOLDERS = parse_codes(_DATA["split_folders"])
SPELLINGS = {name: e for e, names in _DATA["spellings"].items() for name in names}
KNOWN_EMOTIONS = tuple(sorted({*SPELLINGS.values(), "calm"}))


class CorpusError(ValueError):
    """A corpus that cannot be found, read, or split as asked."""


def normalise_emotion(label: object) -> str:
    """Return the name that this project uses for an emotion.

    Example:
        >>> normalise_emotion("Pleasant_Surprise"), normalise_emotion(" Awe ")
        ('surprised', 'awe')
    """
    words = " ".join(re.split(r"[\s_-]+", str(label).lower())).strip()
    return SPELLINGS.get(words, words)


@dataclass
class ReadResult:
    """The clips of a folder, and the files in it that are not read, with reasons."""

    root: Path
    sounds: list[Path] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    problems: list[dict] = field(default_factory=list)

    def report(self, path: Path | str, problem: str, *, known: bool = False) -> None:
        self.problems.append({"path": str(path), "problem": problem, "known": known})

    def name(self, path: Path) -> str:
        """Return a path below the root, without its suffix."""
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


def list_files(root: Path) -> ReadResult:
    """List the sound files below a folder, sorted, and report everything else."""
    result = ReadResult(Path(os.path.abspath(root)))
    for where, folders, files in os.walk(result.root):
        for path in (Path(where, name) for name in [*folders, *files]):
            suffix, is_file = path.suffix.lower(), path.is_file()
            if path.name.startswith((".", "__")):
                result.report(path, "hidden file or folder", known=True)
            elif is_file and suffix in AUDIO_SUFFIXES:
                result.sounds.append(path)
            elif is_file:
                known = not _OTHER_AUDIO.fullmatch(suffix)
                problem = "not a sound file" if known else "convert it to .wav"
                result.report(path, problem, known=known)
            elif path.is_symlink() or not path.is_dir():
                result.report(path, "a link, or no regular file; copy it here")
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
    result.sounds.sort()
    return result


def read_table(path: Path, *, columns: Iterable[str], sep: str = ",") -> list[dict]:
    """Read rows of stripped text, or raise a CorpusError that names the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=sep, strict=True)
            rows = list(reader)
        if missing := {*columns} - {*(reader.fieldnames or ())}:
            raise ValueError(f"it lacks {sorted(missing)}")
        if any(None in row for row in rows):
            raise ValueError("a line has more cells than the first")
    except (OSError, ValueError, csv.Error) as error:
        raise CorpusError(
            f"metadata {path} cannot be read ({error}); it must be UTF-8 text with "
            f"the columns {list(columns)}, and texts that hold {sep!r} in quotes"
        ) from error
    return [{key: (row[key] or "").strip() for key in row} for row in rows]


def read_names(result: ReadResult, layout: Mapping) -> None:
    """Read a corpus whose file names carry the labels.

    A layout has the `pattern` of a name, whose groups are columns, and codes of the
    `emotions`; perhaps a `folder`, `women` or a table of `sexes`, and names `left_out`.
    """
    emotions, sexes = parse_codes(layout["emotions"]), {}
    file, *columns = layout.get("sexes", [""])
    if (result.root / file).is_file():
        people = read_table(result.root / file, columns=columns)
        sexes = {row[columns[0]]: row[columns[1]] for row in people}
    folder, left_out = layout.get("folder", ".*"), layout.get("left_out", {})
    here = re.compile(f"(^|.*/)({folder})/", re.IGNORECASE)
    inside = {path for path in result.sounds if here.match(result.name(path))}
    inside, done = inside or set(result.sounds), set()
    for path in sorted(result.sounds, key=lambda path: path not in inside):
        reasons = [left_out[name] for name in left_out if re.fullmatch(name, path.stem)]
        match = re.fullmatch(f"(.*/)?(?P<key>{layout['pattern']})", result.name(path))
        row = match.groupdict() if match else {"emotion": ""}
        key = row.pop("key", "").replace("/", "_")
        if reasons:
            result.report(path, reasons[0], known=True)
        elif key in done:
            twice = "another clip of this name is read"
            result.report(path, twice, known=path not in inside)
        elif path not in inside:
            result.report(path, f"lies outside the folder {folder}")
        elif row["emotion"] not in emotions:
            result.report(path, f"name is not like {layout['example']}")
        else:
            done.add(key)
            sex = sexes.get(row["speaker"], "")
            if "women" in layout:
                sex = "f" if re.fullmatch(layout["women"], row["speaker"]) else "m"
            row |= {"emotion": emotions[row["emotion"]], "sex": sex, "path": path}
            result.rows.append(row)


def read_lists(result: ReadResult, layout: Mapping) -> None:
    """Read a corpus whose clips are listed in tables, or in lines of text.

    A layout has the `pattern` of a name, whose groups are its key, `tables` with
    templates of our `columns` (`file` is the key), and perhaps the pattern of a `line`.
    """
    files = {}
    for path in sorted(result.sounds, key=lambda path: len(path.name)):  # longest last
        if match := re.fullmatch(f"(?:.*/)?{layout['pattern']}", result.name(path)):
            files[" ".join(match.groups())] = path
    tables = sorted(result.root.glob(layout["tables"]))
    tables = [path for path in tables if not path.name.startswith(".")]
    if not (files and tables):
        raise CorpusError(
            f"{result.root} lacks sound files, or labels at {layout['tables']}; "
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
            rows = read_table(path, columns=columns, sep=sep)
        for row in rows:
            row["part"] = path.name.split("_")[0]
            labels = {ours: template.format_map(row) for ours, template in templates}
            key = Path(labels.pop("file")).stem
            if key in files:
                result.rows.append(labels | {"path": files[key]})
            else:
                result.report(path, f"lists {key}, which has no recording here")
    result.report_rest(layout["rest"], known=layout["rest_known"])


def read_csv(result: ReadResult, table: Path) -> None:
    """Read a table with ``path`` and ``emotion``; other columns are kept."""
    result.problems = [row | {"known": True} for row in result.problems]
    rows = read_table(table, columns=("path", "emotion"))
    for number, row in enumerate(rows, start=2):
        path = Path(os.path.abspath(table.parent / row["path"]))
        if os.path.isfile(path):  # False also for a name that no system allows
            result.rows.append(row | {"path": path})
        else:
            result.report(path, f"line {number} of {table.name}: no such file")
    result.report_rest(f"not listed in {table.name}", known=True)


def read_folder(result: ReadResult) -> None:
    """Read ``<emotion>/*.wav`` or ``<emotion>/<speaker>/*.wav``.

    Folders on top called ``train``, ``validation`` or ``test`` are splits.
    """
    for path in result.sounds:
        folders = result.name(path).split("/")[:-1]
        split = SPLIT_FOLDERS.get(folders[0].lower(), "") if folders else ""
        emotion, speaker, *_ = [*folders[bool(split) :], "", ""]
        if emotion:
            labels = {"emotion": emotion, "speaker": speaker, "split": split}
            result.rows.append(labels | {"path": path})
        else:
            result.report(path, "lies outside an emotion's folder")
