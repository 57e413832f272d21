"""Pages stand alone: no network, no lost description, no broken link."""

import base64
import re

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from clepdg_lib.pages import Entry, find_title, write_index, write_page

PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c636060f8ff1f0003030200efa2a75b"
        "0000000049454e44ae426082"
    )
).decode()
TEXT = """# Hear the *shift*

> a box

You will **hear** a [room](../README.md).

Inline $\\frac{a}{b}$ and

$$L = -\\sum_i \\log p_i$$

[next](01_b.ipynb#start) [same](#here) [site](https://example.org/x)
[data](../data/note.txt) `$not math$`
"""


@pytest.fixture
def page(tmp_path):
    about = {"image/png": {"alt": "A single dark point & nothing else."}}
    picture = new_output("display_data", data={"image/png": PIXEL}, metadata=about)
    cell = new_code_cell("show(figure)", outputs=[picture], execution_count=1)
    notebook = new_notebook(cells=[new_markdown_cell(TEXT), cell])
    path = write_page(
        notebook,
        tmp_path / "build" / "course" / "00_a.html",
        source=tmp_path / "notebooks" / "00_a.ipynb",
        after=Entry("01_b", "B <and> more", "", 1.0),
    )
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def test_a_page_loads_nothing(page):
    assert page.select("script[src], link[href], img[src^=http]") == []
    assert "@import" not in "".join(style.text for style in page.select("style"))
    assert page.html["lang"] == "en"
    assert page.title.text == "Hear the shift"


def test_pictures_keep_their_descriptions(page):
    (image,) = page.select("img")
    assert image["alt"] == "A single dark point & nothing else."


def test_formulas_are_drawn_by_the_browser_itself(page):
    assert [formula["display"] for formula in page.select("math")] == [
        "inline",
        "block",
    ]
    assert page.select("mfrac")
    assert "$not math$" in page.text


def test_links_lead_where_they_led_from_the_notebook(page):
    links = {link.text: link["href"] for link in page.select("main a")}
    assert links == {
        "room": "../../README.md",
        "next": "01_b.html#start",
        "same": "#here",
        "site": "https://example.org/x",
        "data": "../../data/note.txt",
    }


def test_navigation_is_above_and_below(page):
    bars = page.select("body > nav")
    assert len({bar["aria-label"] for bar in bars}) == 2
    for bar in bars:
        assert [a["href"] for a in bar.select("a")] == ["index.html", "01_b.html"]
        assert bar.select_one("[rel=next]").text == "B <and> more"


def test_a_formula_that_cannot_be_converted_stays_readable(tmp_path):
    notebook = new_notebook(cells=[new_markdown_cell("# A\n\n$\\frac{a}$")])
    path = write_page(notebook, tmp_path / "a.html", source=tmp_path / "a.ipynb")
    assert re.search("frac|<math", path.read_text(encoding="utf-8"))


def test_title_and_promise():
    cells = [new_markdown_cell(TEXT)]
    promise = "You will hear a room."
    assert find_title(new_notebook(cells=cells)) == ("Hear the shift", promise)
    assert find_title(new_notebook(), default="x") == ("x", "")
    cells = [new_markdown_cell("# Only\n\n## Then\n\nText")]
    assert find_title(new_notebook(cells=cells)) == ("Only", "")


def test_the_index_escapes_and_counts(tmp_path):
    entries = [Entry("00_a", "A & B", "x < y", 90.0), Entry("01_b", "B", "", 30.0)]
    index = write_index(entries, tmp_path).read_text(encoding="utf-8")
    assert "A &amp; B" in index and "x &lt; y" in index
    assert "2.0 minutes in all" in index
    assert "<td>1.5</td>" in index


def test_a_solution_stays_inside_its_details(tmp_path):
    text = (
        "# T\n\n<details><summary>Solution</summary>\n\n```python\nx = 41\n```"
        "\n\nWhy.\n\n</details>\n\nAfter."
    )
    notebook = new_notebook(cells=[new_markdown_cell(text)])
    path = write_page(notebook, tmp_path / "n.html", source=tmp_path / "n.ipynb")
    page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    (details,) = page.select("details")
    assert "41" in details.text and "Why." in details.text
    assert "After." not in details.text
