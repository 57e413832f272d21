"""Run the course as a student would: every notebook, top to bottom, offline.

    python -m clepdg_lib course                # run all, write build/course/
    python -m clepdg_lib course 03 --write     # run one, keep its outputs in place

A failing cell does not stop the other notebooks; it is named at the end, with the
section that it stands in.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from clepdg_lib.files import PROJECT, write_atomically
from clepdg_lib.lesson import LESSONS

NOTEBOOKS = PROJECT / "notebooks"
PAGES = PROJECT / "build" / "course"
CELL_SECONDS = 400
# Notebooks never fetch anything; these make a library that would try say so at once.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # or the kernel warns on the terminal
}
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_TEXT = "[Interactive: run the notebook to use it. A still version follows.]"


@dataclass
class Failure:
    """Where a notebook stopped, and why."""

    section: str
    error: str


@dataclass
class Run:
    """A notebook that was run: what came out and how long each section took."""

    path: Path
    notebook: NotebookNode
    sections: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    failure: Failure | None = None


def run_course(
    names: Sequence[str] = (),
    *,
    write: bool = False,
    notebooks: Path = NOTEBOOKS,
    pages: Path = PAGES,
    cell_seconds: int = CELL_SECONDS,
) -> int:
    """Run notebooks, write their pages, the index and the timings.

    Args:
        names: Paths, names or numbers ("03"); all that are there if none is given.
        write: Also store the outputs in the notebooks themselves.
        notebooks: Folder of the notebooks.
        pages: Folder that the pages, `index.html`, `timing.json` and `timing.md`
            (minutes per notebook and section) go to.
        cell_seconds: Longest that one cell may take.

    Returns:
        Number of notebooks that failed: 0 if all is well.

    Raises:
        FileNotFoundError: A notebook that is not there; the message lists those
            that are.
    """
    from clepdg_lib.pages import Entry, find_title, write_index, write_page

    runs = []
    for path in find_notebooks(names, notebooks=notebooks):
        print(f"{path.stem} ...", flush=True)
        run = run_notebook(path, cell_seconds=cell_seconds)
        clean(run.notebook)
        if write and not run.failure:
            run.failure = _store(run)
        runs.append(run)
        state = "FAILED" if run.failure else "ok"
        print(f"{path.stem}: {state}, {run.seconds:.0f} s", flush=True)
    entries = [
        Entry(
            run.path.stem,
            *find_title(run.notebook, default=run.path.stem),
            seconds=run.seconds,
            failure=run.failure.section if run.failure else "",
        )
        for run in runs
    ]
    for i, run in enumerate(runs):
        write_page(
            run.notebook,
            pages / f"{run.path.stem}.html",
            source=run.path,
            before=entries[i - 1] if i else None,
            after=entries[i + 1] if i + 1 < len(runs) else None,
        )
    write_index(entries, pages)
    write_atomically(pages / "timing.json", json.dumps(_timing(runs), indent=2) + "\n")
    write_atomically(pages / "timing.md", _minutes(runs))
    _report(runs, pages=pages)
    return sum(run.failure is not None for run in runs)


def find_notebooks(
    names: Sequence[str] = (), *, notebooks: Path = NOTEBOOKS
) -> list[Path]:
    """Paths of the notebooks meant by names, numbers or paths, in that order."""
    found = []
    for name in names or LESSONS:
        if name.endswith(".ipynb"):
            paths = [Path(name)]
        else:
            paths = [notebooks / f"{name}.ipynb", *notebooks.glob(f"{name}_*.ipynb")]
        paths = sorted(path for path in paths if path.is_file())
        if not paths:
            there = sorted(path.stem for path in notebooks.glob("*.ipynb"))
            raise FileNotFoundError(
                f"no notebook {name!r} in {notebooks}; there are "
                f"{', '.join(there) or 'none'}."
            )
        found.append(paths[0].resolve())
    return found


def run_notebook(path: Path, *, cell_seconds: int = CELL_SECONDS) -> Run:
    """Run a notebook in a fresh kernel, up to its end or its first failing cell."""
    notebook = nbformat.read(path, as_version=4)
    run = Run(path, notebook)
    sections = _sections(notebook)
    now = {"section": "start of the kernel", "since": time.perf_counter()}

    def start(cell: NotebookNode, cell_index: int) -> None:
        now.update(section=sections[cell_index], since=time.perf_counter())

    def stop(cell: NotebookNode, cell_index: int, **_: object) -> None:
        taken = time.perf_counter() - now["since"]
        section = sections[cell_index]
        run.sections[section] = run.sections.get(section, 0.0) + taken

    client = NotebookClient(
        notebook,
        timeout=cell_seconds,
        startup_timeout=60,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        coalesce_streams=True,
        store_widget_state=False,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],  # its notices are not for students
        on_cell_execute=start,
        on_cell_executed=stop,
    )
    python_path = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **OFFLINE}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, python_path))
    begun = time.perf_counter()
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        run.failure = Failure(now["section"], f"{error.ename}: {error.evalue}")
    except (RuntimeError, TimeoutError, AssertionError) as error:
        # A cell too slow, or a kernel that died (nbclient asserts that it lives).
        run.failure = Failure(now["section"], f"{type(error).__name__}: {error}")
    run.seconds = time.perf_counter() - begun
    return run


def clean(notebook: NotebookNode) -> NotebookNode:
    """Leave in an executed notebook what a reader without a kernel can use.

    Widgets without their state would show an error on every viewer; a finished
    progress bar says nothing. Works in place.
    """
    notebook.metadata = NotebookNode(
        kernelspec={
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        language_info={
            "name": "python",
            "file_extension": ".py",
            "mimetype": "text/x-python",
            "pygments_lexer": "ipython3",
        },
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            if WIDGET in output.get("data", {}):
                text = output.data.get("text/plain", "")
                if re.search(r"\d+%\||\?it|it/s", text):
                    continue
                output.data = NotebookNode({"text/plain": WIDGET_TEXT})
            kept.append(output)
        cell.outputs = kept
    return notebook


def _store(run: Run) -> Failure | None:
    """Write the executed notebook in its place, unless it tells of this machine."""
    for index, cell in enumerate(run.notebook.cells):
        content = json.dumps(cell.get("outputs", []))
        for folder in {str(PROJECT), str(Path.home())} - {"/"}:
            if f"{folder}/" in content or f'{folder}"' in content:
                section = _sections(run.notebook)[index]
                return Failure(section, f"not written: an output names {folder}")
        if any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            print(f"{run.path.stem}: warnings in {_sections(run.notebook)[index]!r}")
    write_atomically(run.path, nbformat.writes(run.notebook) + "\n")
    return None


def _sections(notebook: NotebookNode) -> list[str]:
    """For every cell, the nearest heading above it."""
    sections, current = [], "before the first heading"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
            headings = re.findall(r"^#{1,6} +(.+?) *#*$", text, flags=re.MULTILINE)
            current = headings[-1] if headings else current
        sections.append(current)
    return sections


def _timing(runs: list[Run]) -> dict:
    rows = [
        {
            "name": run.path.stem,
            "seconds": round(run.seconds, 2),
            "ok": run.failure is None,
            "sections": {name: round(s, 2) for name, s in run.sections.items()},
        }
        for run in runs
    ]
    total = sum(run.seconds for run in runs)
    return {"total_seconds": round(total, 2), "notebooks": rows}


def _minutes(runs: list[Run]) -> str:
    """Minutes of every notebook and section, as a table in Markdown."""
    lines = ["| notebook | section | minutes |", "| --- | --- | --: |"]
    for run in runs:
        lines.append(f"| **{run.path.stem}** | all | **{run.seconds / 60:.2f}** |")
        for section, seconds in run.sections.items():
            clean_name = section.replace("|", r"\|")
            lines.append(f"| | {clean_name} | {seconds / 60:.2f} |")
    total = sum(run.seconds for run in runs)
    lines.append(f"| **the course** | all | **{total / 60:.2f}** |")
    return "\n".join(lines) + "\n"


def _report(runs: list[Run], *, pages: Path) -> None:
    width = max(len(run.path.stem) for run in runs)
    print(f"\n{'notebook':<{width}}  seconds  slowest section")
    for run in runs:
        slowest = max(run.sections, key=run.sections.get, default="")
        took = f" ({run.sections[slowest]:.0f} s)" if slowest else ""
        print(f"{run.path.stem:<{width}}  {run.seconds:7.1f}  {slowest}{took}")
    total = sum(run.seconds for run in runs)
    print(f"{'all':<{width}}  {total:7.1f}\n")
    for run in runs:
        if run.failure:
            error = _last_line(run.failure.error)
            print(f"FAILED {run.path.name}, section {run.failure.section!r}: {error}")
    where = pages / "index.html"
    shown = where.relative_to(PROJECT) if where.is_relative_to(PROJECT) else where
    print(f"Pages: {shown}\nMinutes per section: {shown.with_name('timing.md')}")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else text
