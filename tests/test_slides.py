"""Slides begin at headings; what a lecture does not need is left out."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from clepdg_lib.course import NOTEBOOKS
from clepdg_lib.slides import cut_into_slides, write_slides

TEXT = (
    "# Title\n\nIntro.\n\n## Part\n\nText.\n\n"
    "<details><summary>Hint</summary>\n\n## secret\n\n</details>\n\n### Deeper\n\nMore."
)


def kinds(notebook):
    return [
        (c.source.split("\n")[0], c.metadata["slideshow"]["slide_type"])
        for c in notebook.cells
    ]


def test_headings_begin_slides_and_code_follows():
    cells = [new_code_cell('lesson = start_lesson("00")'), new_markdown_cell(TEXT)]
    cells += [new_code_cell("show(figure)")]
    assert kinds(cut_into_slides(new_notebook(cells=cells))) == [
        ('lesson = start_lesson("00")', "skip"),
        ("# Title", "slide"),
        ("## Part", "slide"),
        ("### Deeper", "subslide"),
        ("show(figure)", "-"),
    ]


def test_exercises_and_references_are_left_out_until_the_next_part():
    cells = [
        new_markdown_cell("## Exercises\n\nDo it."),
        new_code_cell("check()"),
        new_markdown_cell("## Next part"),
        new_code_cell("y"),
        new_markdown_cell("## References and licences"),
    ]
    found = [kind for _, kind in kinds(cut_into_slides(new_notebook(cells=cells)))]
    assert found == ["skip", "skip", "slide", "-", "skip"]


@pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem
)
def test_every_lesson_has_a_dozen_slides_that_say_no_solution(path):
    notebook = cut_into_slides(nbformat.read(path, as_version=4))
    shown = [
        c for c in notebook.cells if c.metadata["slideshow"]["slide_type"] != "skip"
    ]
    begun = [c for c in shown if "slide" in c.metadata["slideshow"]["slide_type"]]
    assert 8 <= len(begun) <= 40
    assert not any("<summary>Solution" in c.source for c in shown)


def test_slides_are_one_file_with_their_pictures(tmp_path):
    path = write_slides("00", folder=tmp_path)
    html = path.read_text(encoding="utf-8")
    assert path.name == "00_welcome.slides.html"
    assert html.count("<section") > 20 and "reveal" in html
    assert re.search(r"data:image/png;base64", html)
    with pytest.raises(FileNotFoundError, match="'99'"):
        write_slides("99", folder=tmp_path)
