"""Notebooks are run, timed and cleaned; the book loads nothing and loses nothing."""

import json
import re

import nbformat
import pytest
from browser import AXE, open_browser, skip_or_fail
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import course
from clepdg_lib.course.lesson import LESSONS
from clepdg_lib.files import PROJECT
from course import NOTEBOOKS, find_notebooks, run_course, write_book

REPOSITORY = "https://github.com/someone/course"
PNG = PROJECT / "data" / "results" / "loco.png"
# Two figures in one cell, each with its own alternative text.
FIGURES = f"""from IPython.display import display
for end, alt in ((b"", "Dark points & nothing else."), (b"0", "Other points.")):
    data = {{"image/png": open({str(PNG)!r}, "rb").read() + end}}
    display(data, metadata={{"image/png": {{"alt": alt}}}}, raw=True)"""
TEXT = """# Hear the *shift*

> 1. **hear** a [room](00_fail.ipynb);
> 2. see it.
>
> About 45 minutes.

Inline $\\frac{a}{b} < c$ and

$$L = -\\sum_i \\log p_i$$

[before](01_pass.ipynb#a-part) [site](https://example.org/x)
`$not math$` ![a drawing of a microphone](images/dot.png)

<details><summary>Solution</summary>

```python
x = 41
```

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
    """Three lessons, the first of which fails in a known section, run once."""
    folder = tmp_path_factory.mktemp("project") / "notebooks"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "dot.png").write_bytes(PNG.read_bytes() + b"00")
    failing = ["# It | <fails>\n\n> 1. See it stop.", "x = 1  # a comment"]
    failing += ["## Part one\n\n```python\n# not a heading\n```", "x += 1"]
    stop = "def f():\n    raise ValueError('first\\nthe reason')\nf()"
    write(folder / "00_fail.ipynb", *failing, "## Part two", stop, "print('never')")
    listing = "import os\nprint(os.listdir(), 'offline', os.environ['HF_HUB_OFFLINE'])"
    write(folder / "01_pass.ipynb", "# It passes", listing, "## A part")
    write(folder / "02_page.ipynb", TEXT, FIGURES)
    executed, book = (folder.parent / "build" / name for name in ("executed", "book"))
    before = {path.name: path.read_bytes() for path in folder.glob("*.ipynb")}
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CLEPDG_REPOSITORY", raising=False)
        patch.setattr("builtins.print", lambda *a, **_: printed.append(" ".join(a)))
        n_failed = run_course(folder=folder, executed=executed)
        write_book(folder, executed=executed, book=book)
    assert {path.name: path.read_bytes() for path in folder.glob("*.ipynb")} == before
    assert n_failed == 1
    return "\n".join(printed), book


def test_a_failure_names_its_section_and_stops_no_other_notebook(outcome):
    printed, book = outcome
    assert re.search("00_fail.*FAILED in section 'Part two': .*the reason", printed)
    assert re.search("01_pass: .*slowest section '", printed)
    page = parse(book / "notebooks" / "01_pass.html").text
    assert "offline 1" in page and "01_pass.ipynb" in page  # it ran in its folder
    assert "ValueError" in parse(book / "notebooks" / "00_fail.html").text


def test_lessons_are_listed_linked_in_order_and_timed(outcome):
    index = parse(outcome[1] / "index.html")
    failed, _, page = index.select("main tbody tr")
    assert failed.select_one("a")["href"] == "notebooks/00_fail.html"
    texts = [cell.text.strip() for cell in failed.select("td")]
    assert texts == ["It | <fails>", "See it stop.", "", "slides"]
    assert page.select("td")[2].text.strip() == "45"
    page = parse(outcome[1] / "notebooks" / "01_pass.html")
    assert page.select_one("a.left-prev")["href"] == "00_fail.html"
    assert page.select_one("a.right-next")["href"] == "02_page.html"
    timing = json.loads((outcome[1] / "timing.json").read_text(encoding="utf-8"))
    failed, passed, _ = timing["notebooks"]
    assert (failed["ok"], passed["ok"]) == (False, True)
    names = ["start of the kernel", "It | <fails>", "Part one", "Part two"]
    assert list(failed["sections"]) == names
    assert abs(failed["seconds"] - sum(failed["sections"].values())) < 0.05


def test_outputs_are_stored_only_when_asked_and_all_is_well(tmp_path):
    good = write(tmp_path / "00_a.ipynb", "# A", "print('hello')", "1 + 1")
    bad = write(tmp_path / "01_b.ipynb", "# B", "1 / 0")
    before = bad.read_bytes()
    assert run_course(folder=tmp_path, write=True, executed=tmp_path / "x") == 1
    assert bad.read_bytes() == before
    notebook = nbformat.read(good, as_version=4)
    nbformat.validate(notebook)
    first, second = (c for c in notebook.cells if c.cell_type == "code")
    assert (first.execution_count, second.execution_count) == (1, 2)
    assert first.outputs[0].text == "hello\n"
    assert notebook.metadata.kernelspec.name == "python3"
    assert good.read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.parametrize(
    ("code", "error"), [("while True: pass", "Timeout"), ("os._exit(1)", "Kernel")]
)
def test_a_cell_that_hangs_or_kills_is_named(tmp_path, code, error):
    path = write(tmp_path / "00_a.ipynb", "# A", "import os", "## Here", code)
    run = course.run_notebook(path, cell_seconds=5)
    assert run.failed_in == "Here"
    assert error in run.error


def test_cleaning_keeps_what_can_be_read_without_a_kernel():
    texts = ("IntSlider(value=0)", "  0%|          | 0/3 [?it/s]")
    data = [{course.WIDGET: {"model_id": "x"}, "text/plain": text} for text in texts]
    outputs = [new_output("display_data", data=each) for each in data]
    outputs.append(new_output("stream", name="stdout", text="kept\n"))
    cell = new_code_cell("x", outputs=outputs, metadata={"execution": {"a": "b"}})
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    course.clean(notebook)
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


# ---------------------------------------------------------------- one page
def test_a_page_keeps_alternative_texts_formulas_links_and_folded_solutions(outcome):
    article = parse(outcome[1] / "notebooks" / "02_page.html").article
    alts = ["a drawing of a microphone", "Dark points & nothing else.", "Other points."]
    assert [image["alt"] for image in article.select("img")] == alts
    inline, block = (formula.text for formula in article.select(".math"))
    assert inline == r"\(\frac{a}{b} < c\)" and r"\sum_i \log p_i" in block
    assert "$not math$" in article.text
    links = {link.text: link["href"] for link in article.select("section p a, li a")}
    assert links["room"] == "00_fail.html"
    assert links["before"] == "01_pass.html#a-part"
    (details,) = article.select("details")
    assert "41" in details.text and "After." not in details.text


def test_titles_and_goals():
    found = course.find_title(new_notebook(cells=[new_markdown_cell(TEXT)]))
    assert found == ("Hear the shift", "Hear a room; see it.")
    assert course.find_title(new_notebook(), default="x") == ("x", "")
    for name in LESSONS:
        title, goals = course.find_title(nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4))
        assert title and goals.count(";") >= 1, name


# ---------------------------------------------------------------- the whole book
# What loads something from elsewhere, in a page or in a style sheet.
LOADS = r"<(?!a\b)[^<>]*\s(src|href)=\"(https?:)?//|@import[^;]*//|url\(.?(https?:)?//"


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The book as it is published, from the stored outputs; warnings lie beside it."""
    folder = tmp_path_factory.mktemp("book")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPHINXOPTS", f"-w {folder / 'warnings.txt'}")
        patch.setenv("CLEPDG_REPOSITORY", REPOSITORY)
        write_book(book=folder / "course")
    return folder / "course"


def test_the_book_is_whole_and_built_without_a_warning(book):
    assert (book.parent / "warnings.txt").read_text(encoding="utf-8") == ""
    pages = [p.relative_to(NOTEBOOKS) for p in NOTEBOOKS.glob("pages/*.md")]
    pages += [path.relative_to(NOTEBOOKS) for path in find_notebooks()]
    index = (book / "index.html").read_text(encoding="utf-8")
    assert all(p.with_suffix(".html").as_posix() in index for p in pages)
    reference = (book / "reference" / "clepdg_lib.clep.html").read_text("utf-8")
    assert 'id="clepdg_lib.clep.finetune_clep"' in reference


def test_all_links_and_anchors_of_the_book_lead_somewhere(book):
    pages = {p.resolve(): p.read_text(encoding="utf-8") for p in book.rglob("*.html")}
    anchors = {p: set(re.findall(r'\bid="([^"]+)"', t)) for p, t in pages.items()}
    wrong = []
    for page, text in pages.items():
        for link in set(re.findall(r'<a\b[^>]*?\shref="([^"]+)"', text)):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            lost = not target.exists() or anchor and anchor not in anchors[target]
            if lost and not re.match(r"[a-z]+:", link):
                wrong.append((page.name, link))
    assert wrong == []


def test_the_book_loads_nothing_from_elsewhere(book):
    files = [p for p in book.rglob("*") if p.suffix in (".html", ".css")]
    texts = {p.name: p.read_text(encoding="utf-8") for p in files}
    assert {n: m[0][:200] for n, t in texts.items() if (m := re.search(LOADS, t))} == {}
    images = {n: re.findall(r"<img\b[^>]*>", t) for n, t in texts.items()}
    assert [(n, i[:99]) for n in images for i in images[n] if ' alt="' not in i] == []


def test_buttons_open_the_repository_only_where_it_is_set(book, outcome):
    text = (book / "notebooks" / "00_welcome.html").read_text(encoding="utf-8")
    assert "org/v2/gh/someone/course/main?urlpath=lab/tree/notebooks/00_wel" in text
    assert "github/someone/course/blob/gh-pages/colab/notebooks/00_welcome" in text
    notebook = nbformat.read(book / "colab" / "notebooks" / "00_welcome.ipynb", 4)
    assert f"git clone --quiet --depth 1 {REPOSITORY} " in notebook.cells[0].source
    assert f"]({REPOSITORY}/raw/main/notebooks/images/" in str(notebook.cells)
    text = (outcome[1] / "notebooks" / "01_pass.html").read_text(encoding="utf-8")
    assert not re.search("mybinder|colab|github", text)


# ---------------------------------------------------------------- in a browser
@pytest.fixture(scope="module")
def browser():
    """A page that notes every request that leaves this machine."""
    with open_browser() as page:
        page.asked_for = []
        page.on("request", lambda r: page.asked_for.append(r.url))
        yield page
        others = [u for u in page.asked_for if not u.startswith(("file:", "data:"))]
        assert others == []


def test_the_search_finds_a_soft_prompt_on_disk(browser, book):
    browser.goto(f"{(book / 'search.html').as_uri()}?q=soft+prompt")
    browser.locator("#search-results a", has_text="Tune acoustic").first.wait_for()


def test_sound_plays_solutions_unfold_and_equations_are_set(browser, book):
    browser.goto((book / "notebooks" / "00_welcome.html").as_uri())
    play = "async a => { a.muted = true; await a.play(); return a.duration }"
    assert browser.locator("audio").first.evaluate(play) > 0.5
    solution = browser.locator("details:has(pre)").first
    assert not solution.locator("pre").first.is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").first.is_visible()
    for name in list(LESSONS)[1:6]:
        browser.goto((book / "notebooks" / f"{name}.html").as_uri())
        browser.locator("mjx-container[display=true]").first.wait_for()
        assert browser.locator("mjx-merror").count() == 0, name


PAGES = [f"notebooks/{name}" for name in [*LESSONS][::2]]
PAGES += ["index", "search", "notebooks/pages/results", "reference/clepdg_lib.clep"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible(browser, book, name):
    if not AXE.is_file():
        skip_or_fail("axe-core is not here: npm install --prefix build/npm axe-core@4")
    scheme = ("dark", "light")[PAGES.index(name) % 2]
    browser.emulate_media(color_scheme=scheme)
    browser.goto((book / f"{name}.html").as_uri())
    browser.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    run = "() => axe.run(document, {resultTypes: ['violations']})"
    faults = [
        {f["id"]: sorted({node["html"][:120] for node in f["nodes"]})[:8]}
        for f in browser.evaluate(run)["violations"]
        if f["impact"] in ("serious", "critical")
    ]
    assert faults == [], json.dumps(faults, indent=2)


# ---------------------------------------------------------------- editions
def test_the_student_edition_is_written_with_its_images(tmp_path):
    folder = course.write_student_edition(tmp_path)
    written = sorted(folder.glob("*.ipynb"))
    assert [path.name for path in written] == [p.name for p in find_notebooks()]
    for path in written:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert not any("<summary>Solution" in cell.source for cell in notebook.cells)
    images = {path.name for path in (NOTEBOOKS / "images").iterdir()}
    assert {path.name for path in (folder / "images").iterdir()} == images


def test_headings_begin_slides_and_exercises_and_references_are_left_out():
    text = "# Title\n\nIntro.\n\n## Part\n\n"
    text += "<details>\n\n## secret\n\n</details>\n\n### Deeper\n\nMore."
    cells = [new_code_cell('start_lesson("00")'), new_markdown_cell(text)]
    cells += [new_code_cell("show(figure)"), new_markdown_cell("## Exercises\n\nDo.")]
    cells += [new_code_cell("check()"), new_markdown_cell("## Next part")]
    cells += [new_code_cell("y"), new_markdown_cell("## References and licences")]
    slides = course.cut_into_slides(new_notebook(cells=cells)).cells
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in slides]
    assert slides[3].source.startswith("### Deeper")
    assert " ".join(kinds) == "skip slide slide subslide - skip skip slide - skip"


def test_slides_show_code_sound_and_equations_without_a_network(browser, book):
    path = book / "notebooks" / "01_probe_clap.slides.html"
    page = path.read_text(encoding="utf-8")
    assert page.count("<section") > 10 and "<summary>Solution" not in page
    browser.goto(path.as_uri())
    browser.locator(".reveal.ready").wait_for()
    browser.locator("mjx-container").first.wait_for(state="attached")
    assert browser.locator("audio, img[src^='data:image/png']").count() > 2
