"""Run the notebooks; make the book, the student edition and slides from them.

python notebooks/build/course.py run              # run all, then write the book
python notebooks/build/course.py run 03 --write   # run one, store its outputs
python notebooks/build/course.py book             # from stored outputs: build/course/
python notebooks/build/course.py student          # write build/student/
python notebooks/build/course.py slides 04        # write build/slides/
"""

from __future__ import annotations

import argparse
import copy
import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert.exporters import SlidesExporter
from nbformat import NotebookNode

from clepdg_lib.files import PROJECT, write_atomically

NOTEBOOKS = PROJECT / "notebooks"
BUILD = PROJECT / "build"
HERE = Path(__file__).parent
CELL_SECONDS = 400
AT_ONCE = 3  # notebooks: they often wait; each gets its share of the cores
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
INSTALL = """# In Colab: install the course. Elsewhere this cell does nothing.
import sys

if "google.colab" in sys.modules:
    !git clone --quiet --depth 1 {repository} course && pip install --quiet ./course
    %env CLEPDG_DATA=/content/course/data"""
SOLUTION = re.compile(
    r"\n*<details><summary>Solution[^<]*</summary>.*?</details>", flags=re.S
)
# What pages and slides load: folder -> package, place in it, files.
FONTS = ("output/chtml/fonts/woff-v2/*", "theme/fonts/source-sans-pro/*")
REVEAL = ("reveal.js", "reveal.css", "theme/white.css", FONTS[1])
SCRIPTS = {
    "mathjax": ("sphinx-mathjax-offline", "static/mathjax", ("tex-chtml.js", FONTS[0])),
    "reveal/dist": ("sphinx_revealjs", "_static/revealjs/dist", REVEAL),
}
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
    executed: Path = BUILD / "executed",
    cell_seconds: int = CELL_SECONDS,
) -> int:
    """Run notebooks; keep what they became, and `timing.json`, in a folder.

    A failing cell does not stop the other notebooks.

    Args:
        numbers: Such as "03"; default all notebooks.
        write: Also store the outputs in the notebooks themselves.
        folder: Of the notebooks.
        executed: Folder to write.
        cell_seconds: Longest that one cell may take.

    Returns:
        Number of notebooks that failed.
    """
    rows, paths = [], find_notebooks(numbers, folder=folder)
    pool = ThreadPoolExecutor(AT_ONCE)
    run_one = partial(run_notebook, cell_seconds=cell_seconds)
    for run in pool.map(run_one, paths[::-1]):  # the short ones last
        text = nbformat.writes(run.notebook) + "\n"
        write_atomically(executed / run.path.name, text)
        if write and not run.failed_in:
            write_atomically(run.path, text)
        slowest = max(run.sections, key=run.sections.get)
        state = f"slowest section {slowest!r}, {run.sections[slowest]:.0f} s"
        if run.failed_in:
            state = f"FAILED in section {run.failed_in!r}: {run.error}"
        print(f"{run.path.stem}: {run.seconds:.0f} s, {state}", flush=True)
        sections = {name: round(s, 2) for name, s in run.sections.items()}
        row = {"name": run.path.stem, "seconds": round(run.seconds, 2)}
        rows.append(row | {"ok": not run.failed_in, "sections": sections})
    timing = json.dumps({"notebooks": rows[::-1]}, indent=2) + "\n"
    write_atomically(executed / "timing.json", timing)
    return sum(not row["ok"] for row in rows)


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
    try:
        client.execute(env=_environment())
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


def write_book(
    folder: Path = NOTEBOOKS,
    *,
    executed: Path | None = None,
    book: Path = BUILD / "course",
) -> Path:
    """Write the book, slides and the student edition: whole or not at all.

    Args:
        folder: Of the notebooks and pages.
        executed: What `run_course` wrote, to take instead of stored outputs.
        book: Folder to write; what was in it goes.
    """
    work = book.with_name(f"{book.name}-unfinished")
    shutil.rmtree(work, ignore_errors=True)
    source, pages = work / "source", work / "pages"
    lay_out(folder, source, executed=executed)
    command = [sys.executable, "-m", "sphinx", "-q", "-c", HERE, "-d", work / "trees"]
    command += [*os.environ.get("SPHINXOPTS", "").split(), source, pages]
    with subprocess.Popen(command, env=_environment()) as sphinx:
        for path in find_notebooks(folder=folder):  # meanwhile
            write_slides(source / path.relative_to(folder.parent), folder=pages)
    if sphinx.returncode:
        raise RuntimeError("The book was not written; see above.")
    write_student_edition(work / "student", notebooks=folder)
    shutil.make_archive(pages / "student", "zip", work / "student")
    if repository := os.environ.get("CLEPDG_REPOSITORY"):
        write_student_edition(pages / "colab", notebooks=folder, colab=repository)
    if executed:
        shutil.copy2(executed / "timing.json", pages)
    shutil.rmtree(book, ignore_errors=True)
    pages.rename(book)
    shutil.rmtree(work)
    return book / "index.html"


def _environment() -> dict[str, str]:
    """Return the environment of kernels and Sphinx, which find the library."""
    python_path = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"OMP_NUM_THREADS": THREADS, **os.environ, **OFFLINE}
    return environment | {"PYTHONPATH": os.pathsep.join(python_path)}


def lay_out(folder: Path, source: Path, *, executed: Path | None = None) -> None:
    """Copy what Sphinx reads into `source`; each file keeps its place, so its links."""
    project = folder.parent
    ignored = shutil.ignore_patterns("build", ".*")
    shutil.copytree(folder, source / "notebooks", ignore=ignored)
    for path in find_notebooks(folder=folder) if executed else ():
        shutil.copy2(executed / path.name, source / "notebooks")
    for kind in ("LICENSE", "data/**/README.md", "data/results/*.png"):
        for path in project.glob(kind):
            target = source / path.relative_to(project)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    index = (HERE / "index.md").read_text(encoding="utf-8")
    index = index.replace("{lessons}", _list_lessons(source))
    write_atomically(source / "index.md", index)
    pages: dict[str, str] = {}  # of the reference: one for each room of the library
    for path in sorted((project / "clepdg_lib").rglob("*.py")):
        parts = path.relative_to(project).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        room, title = ".".join(name.split(".")[:2]), name.replace("_", r"\_")
        pages[room] = pages.get(room, "") + (
            f"#{'#' * (room in pages)} {title}\n\n```{{eval-rst}}\n"
            f".. automodule:: {name}\n   :members:\n```\n\n"
        )
    for room, text in pages.items():
        write_atomically(source / "reference" / f"{room}.md", text)


def _list_lessons(source: Path) -> str:
    """Return a table of the notebooks, with what they promise."""
    text = "| lesson | what you will be able to do | minutes | |\n"
    text += "| --- | --- | --: | --- |\n"
    for path in find_notebooks(folder=source / "notebooks"):
        notebook = nbformat.read(path, as_version=4)
        title, promise = find_title(notebook, default=path.stem)
        minutes = re.search(r"\d+(?= minutes)", notebook.cells[0].source)
        cells = [title, promise, minutes[0] if minutes else ""]
        cells = [html.escape(cell).replace("|", "&#124;") for cell in cells]
        cells[0] = f"[{cells[0]}](notebooks/{path.name})"
        cells += [f'<a href="notebooks/{path.stem}.slides.html">slides</a>']
        text += f"| {' | '.join(cells)} |\n"
    return text


def student_edition(notebook: NotebookNode) -> NotebookNode:
    """Return a copy without the folded solutions; stubs, checks and hints stay."""
    student = copy.deepcopy(notebook)
    for cell in student.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub("", cell.source).strip()
    student.cells = [cell for cell in student.cells if cell.source]
    return student


def write_student_edition(
    folder: Path = BUILD / "student", *, notebooks: Path = NOTEBOOKS, colab: str = ""
) -> Path:
    """Write all notebooks without solutions, and their images, into a folder.

    Args:
        folder: To write.
        notebooks: Folder to read.
        colab: Address of the repository. Colab has nothing but the notebook that it
            opens: its first cell installs the course, and images come from there.
    """
    target = folder / "notebooks"
    for path in find_notebooks(folder=notebooks):
        notebook = student_edition(nbformat.read(path, as_version=4))
        if colab:
            for cell in notebook.cells:
                raw = f"]({colab}/raw/main/notebooks/images/"
                cell.source = cell.source.replace("](images/", raw)
            install = INSTALL.format(repository=colab)
            notebook.cells.insert(0, nbformat.v4.new_code_cell(install, id="install"))
        write_atomically(target / path.name, nbformat.writes(notebook) + "\n")
    if (notebooks / "images").is_dir() and not colab:
        shutil.copytree(notebooks / "images", target / "images", dirs_exist_ok=True)
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


def write_slides(path: Path, *, folder: Path = BUILD / "slides") -> Path:
    """Write a lesson with its stored outputs as reveal.js slides.

    reveal.js and MathJax are copied beside them: showing slides needs no network.
    """
    notebook = cut_into_slides(nbformat.read(path, as_version=4))
    template = {"template_file": "slides.html.j2", "extra_template_paths": [str(HERE)]}
    exporter = SlidesExporter(embed_images=True, exclude_input_prompt=True, **template)
    exporter.reveal_url_prefix, exporter.reveal_theme = "../_static/reveal", "white"
    resources = {"metadata": {"path": str(path.parent), "name": path.stem}}
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    body = re.sub(r'(href="(?![a-z]+:)[^"]+)\.(md|ipynb)\b', r"\1.html", body)
    copy_scripts(folder / "_static")
    return write_atomically(folder / "notebooks" / f"{path.stem}.slides.html", body)


def copy_scripts(folder: Path) -> None:
    """Copy reveal.js and MathJax out of the packages that bring them."""
    for name, (package, place, files) in SCRIPTS.items():
        root = Path(find_spec(package).submodule_search_locations[0]) / place
        for file in (file for pattern in files for file in root.glob(pattern)):
            target = folder / name / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = ("run", "book", "student", "slides")
    parser.add_argument("command", choices=commands)
    parser.add_argument("numbers", nargs="*", help="of notebooks, such as 03")
    parser.add_argument("--write", action="store_true", help="store the outputs")
    args = parser.parse_args(arguments)
    if args.command == "run":
        failed = run_course(args.numbers, write=args.write)
        if not args.numbers:
            print("wrote", os.path.relpath(write_book(executed=BUILD / "executed")))
        return 1 if failed else 0
    if args.command == "book":
        paths = [write_book()]
    elif args.command == "student":
        paths = [write_student_edition()]
    else:
        paths = [write_slides(path) for path in find_notebooks(args.numbers or ["00"])]
    print("wrote", *map(os.path.relpath, paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
