"""A lesson as slides, for a lecture: `make slides`.

A heading begins a slide, a smaller one a slide below it; what stands between them
follows. Hints, solutions, references and licences are left out. The slides are drawn by
reveal.js, which the browser fetches: showing them is the one thing here that needs a
network.

Lesson: 00_welcome, or any other
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbconvert.exporters import SlidesExporter
from nbformat import NotebookNode

from clepdg_lib.course import NOTEBOOKS, find_notebooks
from clepdg_lib.files import PROJECT, write_atomically

SLIDES = PROJECT / "build" / "slides"
LEFT_OUT = ("exercise", "check yourself", "references", "licences", "limits")


def cut_into_slides(notebook: NotebookNode) -> NotebookNode:
    """Split cells at headings and say of each what kind of slide it begins.

    Works in place. Code cells follow the text above them; a set-up cell is left out.
    """
    cells, skipping = [], False
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            parts, kind = [cell], "skip" if skipping else "-"
            if "start_lesson(" in cell.source:
                kind = "skip"
            cell.metadata["slideshow"] = {"slide_type": kind}
        else:
            text = re.sub(r"<details>.*?</details>", "", cell.source, flags=re.DOTALL)
            parts = []
            for piece in re.split(r"(?=^#{1,3} )", text, flags=re.MULTILINE):
                if not piece.strip():
                    continue
                heading = re.match(r"(#+) +(.*)", piece)
                if heading:
                    skipping = any(w in heading[2].lower() for w in LEFT_OUT)
                kind = "-"
                if heading:
                    kind = "subslide" if len(heading[1]) == 3 else "slide"
                part = nbformat.v4.new_markdown_cell(piece.strip())
                part.metadata["slideshow"] = {
                    "slide_type": "skip" if skipping else kind
                }
                parts.append(part)
        cells += parts
    notebook.cells = cells
    return notebook


def write_slides(
    name: str = "00", *, folder: Path = SLIDES, notebooks: Path = NOTEBOOKS
) -> Path:
    """Write a lesson as one HTML file of slides, with its stored outputs.

    Raises:
        FileNotFoundError: There is no such notebook; the message lists those there.
    """
    (path,) = find_notebooks([name], notebooks=notebooks)
    notebook = cut_into_slides(nbformat.read(path, as_version=4))
    exporter = SlidesExporter(embed_images=True, exclude_input_prompt=True)
    exporter.reveal_scroll = True  # a long output can be scrolled
    resources = {"metadata": {"path": str(path.parent), "name": path.stem}}
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    return write_atomically(folder / f"{path.stem}.slides.html", body)
