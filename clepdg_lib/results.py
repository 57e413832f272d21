"""Write measured results into the pages that quote them, so that no figure is typed.

    python -m clepdg_lib readme

A page holds a pair of comments, `<!-- results:NAME -->` and `<!-- /results:NAME -->`;
what stands between them is made from `data/results/NAME.json`: scores by method and
test corpus (`benchmark`), by task (the model cards), campaigns (`make soak`), figures
of `speed`, or, as `map`, the lessons with the seconds that a run took (`timing.json`).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from clepdg_lib.files import PROJECT, MissingFileError, write_atomically
from clepdg_lib.lesson import LESSONS
from clepdg_lib.methods import METHODS
from clepdg_lib.score_tables import (
    CORPORA,
    marked,
    write_number,
    write_recipes,
    write_scores,
    write_table,
)

BLOCK = re.compile(
    r"(?P<head><!-- results:(?P<name>[\w-]+) -->\n)(?P<body>.*?)"
    r"(?P<tail><!-- /results:(?P=name) -->)",
    flags=re.DOTALL,
)


def find_pages(project: Path = PROJECT) -> list[Path]:
    """Pages that may quote results: the README and those below ``data/``."""
    pages = [project / "README.md", *sorted(project.glob("data/**/README.md"))]
    return [page for page in pages if page.is_file()]


def fill_page(text: str, *, project: Path = PROJECT) -> str:
    """Put the results into every block of a page.

    Args:
        text: The page, in Markdown.
        project: Folder whose ``data/results`` and ``notebooks`` are read.

    Returns:
        The page as it should read.

    Raises:
        MissingFileError: A block without its JSON file.
        ValueError: A marker without its partner, or a JSON file of no known kind.
    """
    n_markers = len(re.findall(r"<!-- /?results:", text))
    if n_markers != 2 * len(BLOCK.findall(text)):
        raise ValueError(
            "a results marker lacks its partner; a block is '<!-- results:NAME -->', "
            "what the script writes, and '<!-- /results:NAME -->', each on its line"
        )

    def fill(block: re.Match) -> str:
        body = render(block["name"], project=project)
        return f"{block['head']}{body}{block['tail']}"

    return BLOCK.sub(fill, text)


def render(name: str, *, project: Path = PROJECT) -> str:
    """Write the block of one name: Markdown that ends with a line break."""
    file = project / "data" / "results" / f"{name}.json"
    if name == "map":
        found = json.loads(file.read_text()) if file.is_file() else {"notebooks": []}
        return _map(found, project / "notebooks")
    if not file.is_file():
        raise MissingFileError(
            f"no results for the block {name!r}: {file} is missing; write it with "
            "`python -m clepdg_lib benchmark --json` or the script that the page names"
        )
    found = json.loads(file.read_text(encoding="utf-8"))
    kinds: dict[str, Callable[[dict], str]] = {
        "method": write_scores,
        "recipe": write_recipes,
        "task": _tasks,
        "campaign": _campaigns,
        "figure": _speed,
    }
    for column, write in kinds.items():
        if found.get("rows") and column in found["rows"][0]:
            return write(found)
    raise ValueError(f"{file} holds no rows with a column of {list(kinds)}")


def write_pages(
    *, project: Path = PROJECT, timing: Path | None = None
) -> tuple[list[Path], list[str]]:
    """Write all results into all pages.

    Args:
        project: Where the pages and results are.
        timing: `timing.json` of a run of the whole course, to keep for the map.

    Returns:
        The pages that changed, and what is missing: pages with a problem are left
        as they are.

    Raises:
        ValueError: A timing in which a lesson is missing or failed.
    """
    if timing is not None:
        _keep_timing(timing, project / "data" / "results" / "map.json")
    changed, problems = [], []
    for page in find_pages(project):
        text = page.read_text(encoding="utf-8")
        try:
            filled = fill_page(text, project=project)
        except (MissingFileError, ValueError) as error:
            problems.append(f"{page.relative_to(project)}: {error}")
            continue
        if filled != text:
            write_atomically(page, filled)
            changed.append(page)
    return changed, problems


def draw_scores(*, project: Path = PROJECT) -> Path | None:
    """Draw README's picture, ``data/results/loco.png``, from the benchmark's rows.

    Returns:
        The picture, or None where there is no ``loco.json``.
    """
    from clepdg_lib.plots import score_dots, set_style

    file = project / "data" / "results" / "loco.json"
    if not file.is_file():
        return None
    rows = pd.DataFrame(json.loads(file.read_text(encoding="utf-8"))["rows"])
    rows = rows[marked(rows)]
    scores = rows.pivot_table(index="method", columns="test", values="uar")
    scores = scores.reindex([m for m in METHODS if m in scores.index])
    scores = scores.rename(columns=CORPORA)
    mean = scores.mean(axis=1)
    title = (
        f"On speech never heard: mean UAR {mean['clap-zero-shot']:.2f} by CLAP, "
        f"{mean['clep-dg']:.2f} by CLEP-DG"
    )
    set_style()
    figure = score_dots(scores, title=title, chance=mean["chance"])
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110, metadata={"Software": None})
    return write_atomically(file.with_suffix(".png"), drawn.getvalue())


def _tasks(found: dict) -> str:
    lines = [
        [
            row["task"],
            CORPORA.get(row["test"], row["test"]),
            *(write_number(row[score]) for score in ("uar", "war", "chance")),
            f"{row['n']:,}",
        ]
        for row in found["rows"]
    ]
    return write_table(["what", "on", "UAR", "WAR", "chance", "clips"], lines)


def _campaigns(found: dict) -> str:
    """What `make soak` did last, and what it found."""
    lines = [
        [row["campaign"], row["did"], row["found"], _minutes(row["seconds"])]
        for row in found["rows"]
    ]
    made = found["rows"][-1]["made_with"]
    about = f"Python {made['python']}, torch {made['torch']}"
    heads = ["campaign", "what was done", "what came of it", "minutes"]
    return write_table(heads, lines) + f"\nLast figures of `make soak` ({about}).\n"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f}" if seconds >= 60 else "<1"


def _speed(found: dict) -> str:
    """Figures of `python -m clepdg_lib speed`, with what they should be."""
    lines = [[r["what"], f"{r['value'] + 0:.4g}", r["bar"]] for r in found["rows"]]
    machine = found["machine"]
    about = f"{machine['processor']}, {machine['threads']} threads"
    table = write_table(["what", "measured", "aim"], lines)
    return f"{table}\n{about}, torch {machine['torch']}.\n"


def _map(found: dict, notebooks: Path) -> str:
    """Lessons that are there, with their titles, minutes and measured seconds."""
    import nbformat

    from clepdg_lib.pages import find_title

    took = {row["name"]: row["seconds"] for row in found["notebooks"]}
    lines = []
    for name, minutes in LESSONS.items():
        file = notebooks / f"{name}.ipynb"
        if file.is_file():
            title, promise = find_title(nbformat.read(file, 4), default=name)
            seconds = f"{took[name]:.0f}" if name in took else "–"
            link = f"[`{name}`](notebooks/{name}.ipynb)"
            lines.append([link, title, promise, str(minutes), seconds])
    heads = [
        "notebook",
        "lesson",
        "what you will be able to do",
        "minutes to work through",
    ]
    return write_table([*heads, "seconds to run"], lines)


def _keep_timing(timing: Path, file: Path) -> None:
    if not timing.is_file():
        raise MissingFileError(f"{timing} is missing; `make course` writes it")
    found = json.loads(timing.read_text(encoding="utf-8"))
    passed = {row["name"] for row in found["notebooks"] if row["ok"]}
    if lacking := [name for name in LESSONS if name not in passed]:
        raise ValueError(f"{timing} lacks a successful run of {lacking}; run them all")
    rows = [{k: row[k] for k in ("name", "seconds")} for row in found["notebooks"]]
    write_atomically(file, json.dumps({"notebooks": rows}, indent=1) + "\n")
