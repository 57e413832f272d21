"""axe-core, in a real browser, finds nothing serious on the pages of the lessons."""

import json

import nbformat
import pytest
from browser import AXE, open_browser, skip_or_fail

from clepdg_lib.course import NOTEBOOKS
from clepdg_lib.lesson import LESSONS
from clepdg_lib.pages import Entry, write_index, write_page

GRAVE = ("serious", "critical")
RUN = "() => axe.run(document, {resultTypes: ['violations']})"


@pytest.fixture(scope="module")
def page():
    if not AXE.is_file():
        skip_or_fail("axe-core is not here: npm install --prefix build/npm axe-core@4")
    with open_browser() as page:
        yield page


def grave_findings(page, path):
    """What axe calls serious or critical on a page, each with where it is."""
    page.goto(path.as_uri())
    page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    found = page.evaluate(RUN)["violations"]
    return [
        {"rule": f["id"], "impact": f["impact"], "where": _some(f["nodes"])}
        for f in found
        if f["impact"] in GRAVE
    ]


def _some(nodes):
    """What the nodes look like, each kind once."""
    return sorted({node["html"][:120] for node in nodes})[:8]


@pytest.mark.parametrize("name", LESSONS)
def test_the_page_of_a_lesson(page, tmp_path, name):
    source = NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(source, as_version=4)
    entry = Entry("other", "Another lesson", "", 1.0)
    path = write_page(
        notebook, tmp_path / f"{name}.html", source=source, before=entry, after=entry
    )
    found = grave_findings(page, path)
    assert found == [], json.dumps(found, indent=2)


def test_the_page_that_lists_all_lessons(page, tmp_path):
    entries = [Entry(name, name, "You will hear.", 60.0) for name in LESSONS]
    assert grave_findings(page, write_index(entries, tmp_path)) == []


def test_a_grave_fault_is_noticed(page, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<html lang=en><title>x</title><main><h1>x</h1><img src='x.png'></main></html>"
    )
    assert [f["rule"] for f in grave_findings(page, path)] == ["image-alt"]
