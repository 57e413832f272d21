"""Notebooks are run, timed and cleaned; pages load nothing and lose nothing; slides."""

import base64
import json
import re

import nbformat
import pytest
from browser import AXE, open_browser, skip_or_fail
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from clepdg_lib.course.lesson import LESSONS
from course import (
    NOTEBOOKS,
    WIDGET,
    Run,
    clean,
    cut_into_slides,
    find_notebooks,
    find_title,
    run_course,
    run_notebook,
    write_page,
    write_slides,
    write_student_edition,
)

PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c636060f8ff1f0003030200efa2a75b"
        "0000000049454e44ae426082"
    )
).decode()
TEXT = """# Hear the *shift*

> You will be able to
>
> 1. **hear** a [room](../README.md);
> 2. see it.

Inline $\\frac{a}{b} < c$ and

$$L = -\\sum_i \\log p_i$$

[next](01_b.ipynb#start) [same](#here) [site](https://example.org/x)
[data](../data/note.txt) `$not math$` ![a drawing of a microphone](images/dot.png)

<details><summary>Solution</summary>

```python
x = 41
```

Why.

</details>

After."""


def write(path, *cells):
    notebook = new_notebook()
    for cell in cells:
        make = new_markdown_cell if cell.startswith("#") else new_code_cell
        notebook.cells.append(make(cell))
    nbformat.write(notebook, path)
    return path


def parse(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


# ---------------------------------------------------------------- running
@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Two lessons, the first of which fails in a known section, run once."""
    folder = tmp_path_factory.mktemp("notebooks")
    failing = "def inner():\n    raise ValueError('first\\nthe reason')\ninner()"
    write(
        folder / "00_fail.ipynb",
        "# It | <fails>\n\n> 1. See it stop.",
        "x = 1  # a comment",
        "## Part one\n\n```python\n# not a heading\n```",
        "x += 1",
        "## Part two",
        failing,
        "print('never')",
    )
    write(
        folder / "01_pass.ipynb",
        "# It passes\n\n[Before](00_fail.ipynb)",
        "import os\nprint(os.listdir(), 'offline', os.environ['HF_HUB_OFFLINE'])",
    )
    pages = tmp_path_factory.mktemp("pages")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *a, **_: printed.append(" ".join(a)))
        n_failed = run_course(folder=folder, pages=pages)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert n_failed == 1
    return "\n".join(printed), pages


def test_a_failure_names_its_section_and_stops_no_other_notebook(outcome):
    printed, pages = outcome
    assert re.search("00_fail.*FAILED in section 'Part two': .*the reason", printed)
    assert re.search("01_pass: .*slowest section '", printed)
    page = (pages / "01_pass.html").read_text(encoding="utf-8")
    assert "01_pass.ipynb" in page  # listed by its own cell: it ran in its folder
    assert "offline 1" in page
    assert "ValueError" in (pages / "00_fail.html").read_text(encoding="utf-8")


def test_pages_are_linked_in_order(outcome):
    _, pages = outcome
    first, second = (parse(pages / f"{n}.html") for n in ("00_fail", "01_pass"))
    for bar in first.select("body > nav"):
        assert [a["href"] for a in bar.select("a")] == ["index.html", "01_pass.html"]
        assert bar.select_one("[rel=next]").text == "It passes"
    assert len({bar["aria-label"] for bar in second.select("body > nav")}) == 2
    assert second.select_one("[rel=prev]").text == "It | <fails>"
    assert second.select_one("main a")["href"] == "00_fail.html"


def test_the_index_says_what_ran_and_what_failed(outcome):
    _, pages = outcome
    index = parse(pages / "index.html")
    failed, passed = index.select("main tbody tr")
    assert failed.select_one("a")["href"] == "00_fail.html"
    texts = [cell.text.strip() for cell in failed.select("td")]
    assert texts[:2] == ["It | <fails>", "See it stop."]
    assert texts[3] == "failed: Part two"
    assert passed.select("td")[3].text.strip() == "ran"


def test_timings_are_kept_by_notebook_and_section(outcome):
    _, pages = outcome
    timing = json.loads((pages / "timing.json").read_text(encoding="utf-8"))
    failed, passed = timing["notebooks"]
    assert (failed["ok"], passed["ok"]) == (False, True)
    names = ["start of the kernel", "It | <fails>", "Part one", "Part two"]
    assert list(failed["sections"]) == names
    assert abs(failed["seconds"] - sum(failed["sections"].values())) < 0.05


def test_outputs_are_stored_only_when_asked_and_all_is_well(tmp_path):
    good = write(tmp_path / "00_a.ipynb", "# A", "print('hello')", "1 + 1")
    bad = write(tmp_path / "01_b.ipynb", "# B", "1 / 0")
    before = bad.read_bytes()
    assert run_course(folder=tmp_path, write=True, pages=tmp_path / "pages") == 1
    assert bad.read_bytes() == before
    notebook = nbformat.read(good, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2]
    assert code[0].outputs[0].text == "hello\n"
    assert notebook.metadata.kernelspec.name == "python3"
    assert good.read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.parametrize(
    ("code", "error"), [("while True: pass", "Timeout"), ("os._exit(1)", "Kernel")]
)
def test_a_cell_that_hangs_or_kills_is_named(tmp_path, code, error):
    path = write(tmp_path / "00_a.ipynb", "# A", "import os", "## Here", code)
    run = run_notebook(path, cell_seconds=5)
    assert run.failed_in == "Here"
    assert error in run.error


def test_cleaning_keeps_what_can_be_read_without_a_kernel():
    texts = ("IntSlider(value=0)", "  0%|          | 0/3 [?it/s]")
    data = [{WIDGET: {"model_id": "x"}, "text/plain": text} for text in texts]
    outputs = [new_output("display_data", data=each) for each in data]
    outputs.append(new_output("stream", name="stdout", text="kept\n"))
    cell = new_code_cell("x", outputs=outputs, metadata={"execution": {"a": "b"}})
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    clean(notebook)
    assert "widgets" not in notebook.metadata
    assert "execution" not in cell.metadata
    assert len(cell.outputs) == 2
    assert list(cell.outputs[0].data) == ["text/plain"]
    assert "Interactive" in cell.outputs[0].data["text/plain"]
    assert cell.outputs[1].text == "kept\n"


def test_notebooks_are_found_by_the_beginning_of_their_names():
    names = [path.stem for path in find_notebooks(["03", "01"])]
    assert names == [list(LESSONS)[1], list(LESSONS)[3]]
    with pytest.raises(FileNotFoundError, match="'77'.*00_welcome"):
        find_notebooks(["01", "77"])


# ---------------------------------------------------------------- pages
@pytest.fixture
def page(tmp_path):
    about = {"image/png": {"alt": "A single dark point & nothing else."}}
    image = new_output("display_data", data={"image/png": PIXEL}, metadata=about)
    cell = new_code_cell("show(figure)", outputs=[image], execution_count=1)
    folder = tmp_path / "notebooks"
    (folder / "images").mkdir(parents=True)
    # One byte more than the figure's, which has another alternative text.
    (folder / "images" / "dot.png").write_bytes(base64.b64decode(PIXEL) + b"\0")
    notebook = new_notebook(cells=[new_markdown_cell(TEXT), cell])
    path = tmp_path / "build" / "course" / "00_a.html"
    other = Run(folder / "01_b.ipynb", new_notebook(cells=[new_markdown_cell("# B")]))
    return parse(write_page(notebook, path, source=folder / "00_a.ipynb", after=other))


def test_a_page_loads_nothing(page):
    assert page.select("script[src], link[href], img[src^=http]") == []
    assert "@import" not in "".join(style.text for style in page.select("style"))
    assert page.html["lang"] == "en"
    assert page.title.text == "Hear the shift"


def test_images_keep_their_descriptions_and_are_inside_the_page(page):
    assert [image["alt"] for image in page.select("img")] == [
        "a drawing of a microphone",
        "A single dark point & nothing else.",
    ]
    assert all(
        i["src"].startswith("data:image/png;base64,") for i in page.select("img")
    )


def test_formulas_need_no_script(page):
    displays = [formula["display"] for formula in page.select("math")]
    assert displays == ["inline", "block"]
    assert page.select("mfrac") and "<" in page.select_one("math").text
    assert "$not math$" in page.text
    assert "Inline" in page.text and "$" not in page.text.replace("$not math$", "")


def test_links_lead_where_they_led_from_the_notebook(page):
    links = {link.text: link["href"] for link in page.select("main a")}
    assert links == {
        "room": "../../README.md",
        "next": "01_b.html#start",
        "same": "#here",
        "site": "https://example.org/x",
        "data": "../../data/note.txt",
    }


def test_a_solution_stays_inside_its_details(page):
    (details,) = page.select("details")
    assert "41" in details.text and "Why." in details.text
    assert "After." not in details.text


def test_titles_and_goals():
    goals = "Hear a room; see it."
    cells = [new_markdown_cell(TEXT)]
    assert find_title(new_notebook(cells=cells)) == ("Hear the shift", goals)
    assert find_title(new_notebook(), default="x") == ("x", "")
    for name in LESSONS:
        title, goals = find_title(nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4))
        assert title and goals.count(";") >= 1, name


# ---------------------------------------------------------------- accessibility
@pytest.fixture(scope="module")
def browser():
    if not AXE.is_file():
        skip_or_fail("axe-core is not here: npm install --prefix build/npm axe-core@4")
    with open_browser() as page:
        yield page


def grave_faults(browser, path):
    """Return what axe calls serious or critical on a page, each with where it is."""
    browser.goto(path.as_uri())
    browser.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    run = "() => axe.run(document, {resultTypes: ['violations']})"
    return [
        {f["id"]: sorted({node["html"][:120] for node in f["nodes"]})[:8]}
        for f in browser.evaluate(run)["violations"]
        if f["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_is_accessible(browser, tmp_path, name):
    source = NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(source, as_version=4)
    run = Run(source, notebook)
    page = tmp_path / f"{name}.html"
    write_page(notebook, page, source=source, before=run, after=run)
    faults = grave_faults(browser, page)
    assert faults == [], json.dumps(faults, indent=2)


def test_the_index_is_accessible(browser, outcome):
    assert grave_faults(browser, outcome[1] / "index.html") == []


def test_a_grave_fault_is_noticed(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<html lang=en><title>x</title><main><h1>x</h1><img src='x.png'></main></html>"
    )
    assert [list(fault) for fault in grave_faults(browser, path)] == [["image-alt"]]


# ---------------------------------------------------------------- editions
def test_the_student_edition_is_written_with_its_images(tmp_path):
    folder = write_student_edition(tmp_path)
    written = sorted(folder.glob("*.ipynb"))
    assert [path.name for path in written] == [p.name for p in find_notebooks()]
    for path in written:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert not any("<summary>Solution" in cell.source for cell in notebook.cells)
    images = {path.name for path in (NOTEBOOKS / "images").iterdir()}
    assert {path.name for path in (folder / "images").iterdir()} == images


def kinds(*cells):
    notebook = cut_into_slides(new_notebook(cells=list(cells)))
    return [
        (c.source.split("\n")[0], c.metadata["slideshow"]["slide_type"])
        for c in notebook.cells
    ]


def test_headings_begin_slides_and_code_follows():
    text = "# Title\n\nIntro.\n\n## Part\n\n"
    text += "<details>\n\n## secret\n\n</details>\n\n### Deeper\n\nMore."
    code = [new_code_cell('start_lesson("00")'), new_code_cell("show(figure)")]
    assert kinds(code[0], new_markdown_cell(text), code[1]) == [
        ('start_lesson("00")', "skip"),
        ("# Title", "slide"),
        ("## Part", "slide"),
        ("### Deeper", "subslide"),
        ("show(figure)", "-"),
    ]


def test_exercises_and_references_are_left_out_until_the_next_part():
    cells = [new_markdown_cell("## Exercises\n\nDo it."), new_code_cell("check()")]
    cells += [new_markdown_cell("## Next part"), new_code_cell("y")]
    cells += [new_markdown_cell("## References and licences")]
    assert [kind for _, kind in kinds(*cells)] == ["skip", "skip", "slide", "-", "skip"]


def test_slides_are_one_file_with_their_images(tmp_path):
    path = write_slides("00", folder=tmp_path)
    page = path.read_text(encoding="utf-8")
    assert path.name == "00_welcome.slides.html"
    assert page.count("<section") > 20 and "reveal" in page
    assert "<summary>Solution" not in page
    assert "data:image/png;base64" in page
