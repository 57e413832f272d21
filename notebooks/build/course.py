"""Make the course's pages, student edition and slides from its notebooks.

python notebooks/build/course.py run              # run all, write build/course/
python notebooks/build/course.py run 03 --write   # run one, store its outputs
python notebooks/build/course.py student          # write build/student/
python notebooks/build/course.py slides 04        # write build/slides/
"""

from __future__ import annotations

import argparse
import base64
import copy
import html
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup
from latex2mathml.converter import convert as to_mathml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert.exporters import HTMLExporter, SlidesExporter
from nbformat import NotebookNode

from clepdg_lib.files import PROJECT, write_atomically

NOTEBOOKS = PROJECT / "notebooks"
BUILD = PROJECT / "build"
STYLE = Path(__file__).with_name("style.css")
CELL_SECONDS = 400
AT_ONCE = 2  # notebooks; each gets its share of the cores
THREADS = str(max(1, (os.cpu_count() or 1) // AT_ONCE))
# Notebooks never fetch anything; a library that tries fails at once.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # or the kernel warns on the terminal
}
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_TEXT = "[Interactive: run the notebook to use it. A still version follows.]"
INDEX = """# CLEP-DG: the course

An independent implementation written from the abstract of the paper; the settings
are ours. All pages were made by running the notebooks, {minutes:.1f} minutes in all.

| lesson | what you will be able to do | minutes it ran | state |
| --- | --- | --: | --- |
"""
SOLUTION = re.compile(
    r"\n*<details><summary>Solution[^<]*</summary>.*?</details>", flags=re.S
)
NO_SLIDE = ("exercise", "check yourself", "references", "licences", "limits")


@dataclass
class Run:
    """An executed notebook: seconds by section, and where and why it failed."""

    path: Path
    notebook: NotebookNode
    sections: dict[str, float] = field(default_factory=dict)
    failed_in: str = ""
    error: str = ""

    @property
    def seconds(self) -> float:
        return sum(self.sections.values())


def find_notebooks(
    numbers: Sequence[str] = (), *, folder: Path = NOTEBOOKS
) -> list[Path]:
    """Return the notebooks whose names begin with one of the numbers; default all.

    Raises:
        FileNotFoundError: No notebook begins so.
    """
    paths = sorted(folder.glob("*.ipynb"))
    for number in numbers or [""]:
        if not any(path.stem.startswith(number) for path in paths):
            names = ", ".join(path.stem for path in paths) or "none"
            raise FileNotFoundError(f"no notebook {number!r}; there are {names}.")
    return [p for p in paths if not numbers or p.stem.startswith(tuple(numbers))]


def run_course(
    numbers: Sequence[str] = (),
    *,
    write: bool = False,
    folder: Path = NOTEBOOKS,
    pages: Path = BUILD / "course",
    cell_seconds: int = CELL_SECONDS,
) -> int:
    """Run notebooks; write their pages, an index and `timing.json`.

    A failing cell does not stop the other notebooks.

    Args:
        numbers: Such as "03"; default all notebooks.
        write: Also store the outputs in the notebooks themselves.
        folder: Of the notebooks.
        pages: Folder to write.
        cell_seconds: Longest that one cell may take.

    Returns:
        Number of notebooks that failed.
    """
    runs, paths = [], find_notebooks(numbers, folder=folder)
    pool = ThreadPoolExecutor(AT_ONCE)
    for run in pool.map(partial(run_notebook, cell_seconds=cell_seconds), paths):
        runs.append(run)
        if write and not run.failed_in:
            write_atomically(run.path, nbformat.writes(run.notebook) + "\n")
        slowest = max(run.sections, key=run.sections.get)
        state = f"slowest section {slowest!r}, {run.sections[slowest]:.0f} s"
        if run.failed_in:
            state = f"FAILED in section {run.failed_in!r}: {run.error}"
        print(f"{run.path.stem}: {run.seconds:.0f} s, {state}", flush=True)
    for run, before, after in zip(runs, [None, *runs], [*runs[1:], None], strict=False):
        page = pages / f"{run.path.stem}.html"
        write_page(run.notebook, page, source=run.path, before=before, after=after)
    write_page(_index(runs), pages / "index.html", source=folder / "index.ipynb")
    rows = [
        {
            "name": run.path.stem,
            "seconds": round(run.seconds, 2),
            "ok": not run.failed_in,
            "sections": {name: round(s, 2) for name, s in run.sections.items()},
        }
        for run in runs
    ]
    timing = json.dumps({"notebooks": rows}, indent=2) + "\n"
    write_atomically(pages / "timing.json", timing)
    print(f"Pages: {os.path.relpath(pages / 'index.html')}")
    return sum(bool(run.failed_in) for run in runs)


def run_notebook(path: Path, *, cell_seconds: int = CELL_SECONDS) -> Run:
    """Run a notebook in a fresh kernel, to its end or its first failing cell."""
    run = Run(path, nbformat.read(path, as_version=4))
    headings = _sections(run.notebook)
    section, since = "start of the kernel", time.perf_counter()

    def stop(**_: object) -> None:
        nonlocal since
        seconds = time.perf_counter() - since
        run.sections[section] = run.sections.get(section, 0.0) + seconds
        since = time.perf_counter()

    def start(cell: NotebookNode, cell_index: int) -> None:
        nonlocal section
        stop()
        section = headings[cell_index]

    client = NotebookClient(
        run.notebook,
        timeout=cell_seconds,
        startup_timeout=60,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        coalesce_streams=True,
        store_widget_state=False,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        on_cell_execute=start,
        on_cell_executed=stop,
    )
    python_path = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"OMP_NUM_THREADS": THREADS, **os.environ, **OFFLINE}
    environment["PYTHONPATH"] = os.pathsep.join(python_path)
    try:
        client.execute(env=environment)
    except (CellExecutionError, RuntimeError, TimeoutError, AssertionError) as error:
        # A cell that raised or was too slow, or a kernel that died.
        name = getattr(error, "ename", type(error).__name__)
        lines = getattr(error, "evalue", str(error)).strip().splitlines() or [""]
        run.failed_in, run.error = section, f"{name}: {lines[-1]}"
    stop()
    clean(run.notebook)
    return run


def clean(notebook: NotebookNode) -> NotebookNode:
    """Keep the outputs that can be read without a kernel; works in place.

    Widgets without their state show an error in every viewer, and a finished
    progress bar carries no information.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in (c for c in notebook.cells if c.cell_type == "code"):
        cell.metadata.pop("execution", None)
        outputs, cell.outputs = cell.outputs, []
        for output in outputs:
            if WIDGET in output.get("data", {}):
                text = output.data.get("text/plain", "")
                if re.search(r"\d+%\||\?it|it/s", text):
                    continue
                output.data = NotebookNode({"text/plain": WIDGET_TEXT})
            cell.outputs.append(output)
    return notebook


def _sections(notebook: NotebookNode) -> list[str]:
    """Return the nearest heading above each cell."""
    sections, current = [], "before the first heading"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.S)
            headings = re.findall(r"^#{1,6} +(.+?) *#*$", text, flags=re.M)
            current = headings[-1] if headings else current
        sections.append(current)
    return sections


def find_title(notebook: NotebookNode, *, default: str = "") -> tuple[str, str]:
    """Return the first H1, and the numbered goals of the box under it.

    Example:
        >>> from nbformat.v4 import new_markdown_cell, new_notebook
        >>> cell = new_markdown_cell("# Hear it\\n\\n> 1. **listen**;\\n> 2. **see**.")
        >>> find_title(new_notebook(cells=[cell]))
        ('Hear it', 'Listen; see.')
    """
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)  # links
    text = re.sub(r"[*`]|(?<!\w)_|_(?!\w)", "", text)  # marks
    heading = re.search(r"^# +(.+)$", text, flags=re.M)
    goals = re.findall(r"^> *\d+\. +(.+?)[ ;.]*$", text, flags=re.M)
    promise = "; ".join(goals) + "." if goals else ""
    return heading[1] if heading else default, promise[:1].upper() + promise[1:]


def write_page(
    notebook: NotebookNode,
    path: Path,
    *,
    source: Path,
    before: Run | None = None,
    after: Run | None = None,
) -> Path:
    """Write an executed notebook as one HTML file that loads nothing.

    Args:
        notebook: Executed.
        path: Of the page.
        source: Of the notebook; its relative links and images start there.
        before, after: The neighbours that the page links to.
    """
    # nbconvert embeds images with a parser that closes a <details> at a blank line.
    exporter = HTMLExporter(embed_images=False, exclude_anchor_links=True)
    page = BeautifulSoup(exporter.from_notebook_node(notebook)[0], "html.parser")
    for script in page.select("head script, head link"):
        script.decompose()  # RequireJS, MathJax, Mermaid: from a network, not needed
    page.title.string = find_title(notebook, default=source.stem)[0]
    style = page.new_tag("style")
    style.string = STYLE.read_text(encoding="utf-8")
    page.head.append(style)
    alts = {}  # base64 image -> alternative text, which nbconvert drops
    for output in (o for cell in notebook.cells for o in cell.get("outputs", [])):
        for kind, about in output.get("metadata", {}).items():
            if "alt" in about:
                alts["".join(output.data[kind].split())] = about["alt"]
    for image in page.select("img[src]"):
        content = "".join(image["src"].partition("base64,")[2].split())
        image["alt"] = alts.get(content) or image.get("alt", "")
        file = source.parent / unquote(image["src"])
        if not content and file.is_file():
            kind = file.suffix.removeprefix(".").replace("svg", "svg+xml")
            content = base64.b64encode(file.read_bytes()).decode()
            image["src"] = f"data:image/{kind};base64,{content}"
    for text in page.select_one("main").find_all(string=re.compile(r"\$.+\$", re.S)):
        if not text.find_parents(["pre", "code", "script", "style"]):
            text.replace_with(BeautifulSoup(_typeset(text), "html.parser"))
    for link in page.select("a[href]"):
        link["href"] = _relink(link["href"], source=source, page=path)
    links = [_navigation_link("prev", before), _navigation_link("next", after)]
    bar = '<a href="index.html">All lessons</a>'.join(links)
    for position, name in ((0, "Course"), (len(page.body), "Course, at the end")):
        navigation = f'<nav aria-label="{name}">{bar}</nav>'
        page.body.insert(position, BeautifulSoup(navigation, "html.parser"))
    return write_atomically(path, str(page))


def _typeset(text: str) -> str:
    """Return HTML of a text, its formulas as MathML."""
    parts = re.split(r"\$\$(.+?)\$\$|\$([^$]+)\$", text, flags=re.S)
    page = html.escape(parts[0])
    for block, inline, after in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        latex = (block or inline).strip()
        try:
            page += to_mathml(latex, display="block" if block else "inline")
        except Exception:  # of many kinds; the source is still readable
            page += f"<code>{html.escape(latex)}</code>"
        page += html.escape(after)
    return page


def _index(runs: Sequence[Run]) -> NotebookNode:
    """Return a page that lists all lessons with their measured minutes."""
    text = INDEX.format(minutes=sum(run.seconds for run in runs) / 60)
    for run in runs:
        title, promise = find_title(run.notebook, default=run.path.stem)
        state = f"failed: {run.failed_in}" if run.failed_in else "ran"
        cells = [title, promise, f"{run.seconds / 60:.1f}", state]
        cells = [html.escape(cell).replace("|", "&#124;") for cell in cells]
        cells[0] = f"[{cells[0]}]({run.path.stem}.ipynb)"
        text += f"| {' | '.join(cells)} |\n"
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])


def _relink(href: str, *, source: Path, page: Path) -> str:
    """Point a notebook's relative link to the same target from its page."""
    parts = urlsplit(href)
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return href
    target = (source.parent / unquote(parts.path)).resolve()
    anchor = f"#{parts.fragment}" if parts.fragment else ""
    if target.suffix == ".ipynb" and target.parent == source.parent.resolve():
        return f"{target.stem}.html{anchor}"
    relative = os.path.relpath(target, page.parent.resolve())
    return Path(relative).as_posix() + anchor


def _navigation_link(rel: str, run: Run | None) -> str:
    if run is None:
        return "<span></span>"
    title = html.escape(find_title(run.notebook, default=run.path.stem)[0])
    return f'<a href="{run.path.stem}.html" rel="{rel}">{title}</a>'


def student_edition(notebook: NotebookNode) -> NotebookNode:
    """Return a copy without the folded solutions; stubs, checks and hints stay."""
    student = copy.deepcopy(notebook)
    for cell in student.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub("", cell.source).strip()
    student.cells = [cell for cell in student.cells if cell.source]
    return student


def write_student_edition(folder: Path = BUILD / "student") -> Path:
    """Write all notebooks without solutions, and their images, into a folder."""
    target = folder / "notebooks"
    for path in find_notebooks():
        notebook = student_edition(nbformat.read(path, as_version=4))
        write_atomically(target / path.name, nbformat.writes(notebook) + "\n")
    shutil.copytree(NOTEBOOKS / "images", target / "images", dirs_exist_ok=True)
    return target


def cut_into_slides(notebook: NotebookNode) -> NotebookNode:
    """Return a copy whose headings begin slides; exercises and hints are left out."""
    cells, skipping = [], False
    for cell in copy.deepcopy(notebook.cells):
        if cell.cell_type != "markdown":
            skip = skipping or "start_lesson(" in cell.source
            cell.metadata["slideshow"] = {"slide_type": "skip" if skip else "-"}
            cells.append(cell)
            continue
        text = re.sub(r"<details>.*?</details>", "", cell.source, flags=re.S)
        for piece in re.split(r"(?=^#{1,3} )", text, flags=re.M):
            kind = "-"
            if heading := re.match(r"(#+) +(.*)", piece):
                skipping = any(word in heading[2].lower() for word in NO_SLIDE)
                kind = "subslide" if len(heading[1]) == 3 else "slide"
            part = nbformat.v4.new_markdown_cell(piece.strip())
            part.metadata["slideshow"] = {"slide_type": "skip" if skipping else kind}
            cells += [part] if part.source else []
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def write_slides(number: str = "00", *, folder: Path = BUILD / "slides") -> Path:
    """Write a lesson with its stored outputs as one file of reveal.js slides.

    Showing them needs a network: the browser fetches reveal.js.
    """
    path = find_notebooks([number])[0]
    notebook = cut_into_slides(nbformat.read(path, as_version=4))
    exporter = SlidesExporter(embed_images=True, exclude_input_prompt=True)
    exporter.reveal_scroll = True  # a long output can be scrolled
    resources = {"metadata": {"path": str(path.parent), "name": path.stem}}
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    return write_atomically(folder / f"{path.stem}.slides.html", body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("run", "student", "slides"))
    parser.add_argument("numbers", nargs="*", help="of notebooks, such as 03")
    parser.add_argument("--write", action="store_true", help="store the outputs")
    args = parser.parse_args(arguments)
    if args.command == "run":
        return 1 if run_course(args.numbers, write=args.write) else 0
    if args.command == "student":
        paths = [write_student_edition()]
    else:
        paths = [write_slides(number) for number in args.numbers or ["00"]]
    print("wrote", *map(os.path.relpath, paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
