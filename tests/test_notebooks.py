"""The committed notebooks can be read by anyone, without running them."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

from clepdg_lib.exercises import CHECKS
from clepdg_lib.lesson import LESSONS

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = PROJECT / "notebooks"
FOUND = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
MAX_BYTES = 1_000_000
MAX_CELLS = 50
MAX_CODE_LINES = 25
# What the box under the title tells, before the first code cell. A reader decides
# with it whether to start.
BOX = {
    "what you will be able to do": r"able to",
    "minutes": r"\d+\s*minutes",
    "CPU": r"\bCPU\b",
    "offline": r"\boffline\b|\bno network\b",
    "before": r"\bbefore\b|\bprevious\b",
    "next": r"\bnext\b",
}

# Each widget, and what shows a still version of it to readers without a kernel.
TWINS = {
    "explore_prompts": "render_prompt_results",
    "mix_environments": "render_environment",
    "view_contexts": "render_context",
    "explore_embeddings": "render_embedding_map",
    "try_your_voice": "render_voice",
}
ENDING = ("What you learned", "Limits", "References", "Licences")


def problems(notebook: nbformat.NotebookNode, *, folder: Path) -> list[str]:
    """Everything that is wrong with a notebook, in words."""
    found = [*_metadata(notebook), *_execution(notebook), *_headings(notebook)]
    for number, cell in enumerate(notebook.cells, start=1):
        found += [f"cell {number}: {text}" for text in _cell(cell, folder=folder)]
    if len(notebook.cells) > MAX_CELLS:
        found.append(f"{len(notebook.cells)} cells, {MAX_CELLS} at most")
    size = len(nbformat.writes(notebook).encode("utf-8"))
    if size > MAX_BYTES:
        found.append(f"{size} bytes, {MAX_BYTES} at most")
    return found


def _metadata(notebook):
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "no python3 kernelspec: JupyterLab would ask for a kernel"
    if "widgets" in notebook.metadata:
        yield "widget state is stored: viewers fail on it"


def _execution(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"execution counts are {counts}, not 1..{len(code)}"


def _headings(notebook):
    first = notebook.cells[0] if notebook.cells else {"cell_type": "", "source": ""}
    if first["cell_type"] != "markdown" or not first["source"].startswith("# "):
        yield "the first cell does not start with an H1"
    levels, box = [], ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
            levels += map(len, re.findall(r"^(#{1,6}) ", text, flags=re.MULTILINE))
    if levels.count(1) != 1:
        yield f"{levels.count(1)} headings of level 1, not one"
    if any(b > a + 1 for a, b in zip(levels, levels[1:], strict=False)):
        yield f"headings skip a level: {levels}"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            break
        box += cell.source + "\n"
    for what, pattern in BOX.items():
        if not re.search(pattern, box, flags=re.IGNORECASE):
            yield f"the box before the first code cell does not tell: {what}"


def _cell(cell, *, folder):
    if cell.cell_type == "markdown":
        yield from _links(cell.source, folder=folder)
    if cell.cell_type != "code":
        return
    n_lines = len(cell.source.splitlines())
    if n_lines > MAX_CODE_LINES:
        yield f"{n_lines} lines of code, {MAX_CODE_LINES} at most"
    if re.search(r"^\s*[!%]\s*(pip|conda)\b", cell.source, flags=re.MULTILINE):
        yield "installs something"
    if re.search(r"warnings\.(filter|simplefilter)", cell.source):
        yield "silences warnings"
    if _machine_path(cell.source):
        yield f"names a machine's path: {_machine_path(cell.source)}"
    for output in cell.outputs:
        yield from _output(output)


def _output(output):
    if output.output_type == "error":
        yield f"ended in {output.ename}"
    if output.get("name") == "stderr":
        yield f"wrote to stderr: {output.text[:80]!r}"
    data = output.get("data", {})
    for kind in data:
        if kind.startswith("image/"):
            alt = output.metadata.get(kind, {}).get("alt", "")
            if len(alt) < 20:
                yield f"{kind} without alternative text: use lesson.show(figure, alt=)"
        if "widget" in kind:
            yield "holds a widget without its state: write it with `course --write`"
    for image in re.findall(r"<img\b[^>]*>", "".join(data.get("text/html", ""))):
        if not re.search(r'\balt="[^"]+"', image):
            yield "an image in HTML has no alternative text"
    text = "".join(output.get("text", "")) + json.dumps(
        {kind: value for kind, value in data.items() if kind.startswith("text/")}
    )
    text = re.sub(r"data:[\w/+-]+;base64,[\w/+=\\]+", "", text)
    if _machine_path(text):
        yield f"an output names a machine's path: {_machine_path(text)}"


def _machine_path(text: str) -> str:
    match = re.search(
        r"(?<![\w./~-])(?:/(?:home|root|Users|work|tmp|opt|usr|var)/|[A-Z]:\\)\S*", text
    )
    return match[0] if match else ""


def _links(source, *, folder):
    source = re.sub(r"```.*?```|`[^`]*`", "", source, flags=re.DOTALL)
    for image, text, target in re.findall(r"(!?)\[([^\]]*)\]\(([^)\s]+)", source):
        if image and len(text) < 20:
            yield f"image {target} without alternative text"
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path) and not (folder / path).exists():
            yield f"link to {target} leads nowhere"
    for image in re.findall(r"<img\b[^>]*>", source):
        if not re.search(r'\balt="[^"]{20,}"', image):
            yield "an image in HTML has no alternative text"


def test_all_seven_lessons_are_there_and_no_other():
    assert sorted(LESSONS) == FOUND


@pytest.mark.parametrize("name", FOUND)
def test_a_notebook_is_clean(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert problems(notebook, folder=FOLDER) == []


@pytest.mark.parametrize("name", FOUND)
def test_a_notebook_starts_its_own_lesson(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    started = re.findall(r"start_lesson\(\s*[\"'](\d\d)", "\n".join(code))
    assert started == [name[:2]]
    assert "start_lesson" in code[0]


@pytest.mark.parametrize("name", FOUND)
def test_a_notebook_checks_exercises_of_its_own(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    asked = re.findall(r"\bcheck\(\s*[\"']([\d.]+)", code)
    assert set(asked) <= set(CHECKS)
    assert {number[:2] for number in asked} <= {name[:2]}


def lesson_problems(notebook: nbformat.NotebookNode) -> list[str]:
    """What a lesson, more than any notebook, must have and has not."""
    code = [c for c in notebook.cells if c.cell_type == "code"]
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    printed = "".join(o.get("text", "") for o in code[0].outputs) if code else ""
    found = [
        f"the first cell does not print the version of {package}"
        for package in ("torch", "transformers")
        if not re.search(rf"\b{package} \d+\.\d+", printed)
    ]
    end = text[text.rfind("## What you learned") :]
    found += [f"no part {part!r} at the end" for part in ENDING if part not in end]
    quiz = text.partition("## Check yourself")[2].partition("## What you learned")[0]
    questions = re.split(r"^\*\*\d\. ", quiz, flags=re.MULTILINE)[1:]
    if len(questions) != 3:
        found.append(f"{len(questions)} questions to check oneself, not three")
    for number, question in enumerate(questions, start=1):
        asked, _, answer = question.partition("<details>")
        for option in "abc":
            if not re.search(rf"(?<!\w){option}\)", asked):
                found.append(f"question {number} has no option {option})")
            if not re.search(rf"(?<!\w)[(*]*{option}(?:\*|\)|\.)", answer):
                found.append(f"question {number} gives no reason for {option})")
    calls = [
        {n for n in (*TWINS, *TWINS.values()) if re.search(rf"\b{n}\(", c.source)}
        for c in code
    ]
    for index, used in enumerate(calls):
        for widget in used & set(TWINS):
            if not any(
                TWINS[widget] in later for later in calls[index + 1 : index + 4]
            ):
                found.append(f"no still version below {widget}")
    return found


@pytest.mark.parametrize("name", FOUND)
def test_a_lesson_is_whole(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert lesson_problems(notebook) == []


def test_each_widget_is_in_a_lesson():
    text = "".join((FOLDER / f"{n}.ipynb").read_text(encoding="utf-8") for n in FOUND)
    assert [w for w in TWINS if f"{w}(" not in text] == []


@pytest.mark.parametrize("name", FOUND)
def test_a_notebook_links_to_its_neighbours(name):
    names = list(LESSONS)
    place = names.index(name)
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    for neighbour in names[max(place - 1, 0) : place] + names[place + 1 : place + 2]:
        assert f"({neighbour}.ipynb" in text, f"no link to {neighbour}"


@pytest.mark.parametrize("name", FOUND)
def test_every_code_cell_is_python(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            ast.parse(re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE))


# ------------------------------------------------ the checks can fail
HEADER = (
    "# A title\n\nYou will be able to hear. 20 minutes, CPU, offline.\n\n"
    "Before: none. Next: none."
)


def _notebook(source="x = 1", *, outputs=(), text="## Part", **metadata):
    cell = nbformat.v4.new_code_cell(source, outputs=list(outputs), execution_count=1)
    cells = [nbformat.v4.new_markdown_cell(HEADER), nbformat.v4.new_markdown_cell(text)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "P"}, **metadata}
    return nbformat.v4.new_notebook(cells=[*cells, cell], metadata=metadata)


def _out(kind, value, **about):
    data = {kind: value}
    return nbformat.v4.new_output("display_data", data=data, metadata={kind: about})


def _stream(name, text):
    return nbformat.v4.new_output("stream", name=name, text=text)


ERROR = nbformat.v4.new_output("error", ename="ValueError", evalue="x", traceback=[])
WIDGET = "application/vnd.jupyter.widget-view+json"
BAD = [
    (_notebook(outputs=[ERROR]), "ended in ValueError"),
    (_notebook(outputs=[_stream("stderr", "careful")]), "stderr"),
    (_notebook(outputs=[_stream("stdout", "in /home/me/x")]), "machine's path"),
    (_notebook("open('/Users/me/x.wav')"), "machine's path"),
    (_notebook(outputs=[_out("image/png", "aaaa")]), "alternative text"),
    (_notebook(outputs=[_out("text/html", "<img src='x'>")]), "in HTML"),
    (_notebook(outputs=[_out(WIDGET, {})]), "widget without its state"),
    (_notebook(outputs=[_out("text/plain", "x" * 1_000_001)]), "bytes"),
    (_notebook("\n".join(["x = 1"] * 26)), "26 lines"),
    (_notebook("!pip install x"), "installs"),
    (_notebook("import warnings\nwarnings.filterwarnings('ignore')"), "silences"),
    (_notebook(widgets={}), "widget state"),
    (_notebook(kernelspec={"name": "ir", "display_name": "R"}), "kernelspec"),
    (_notebook(text="# Again"), "level 1"),
    (_notebook(text="#### Deep"), "skip a level"),
    (_notebook(text="[x](nowhere.md)"), "leads nowhere"),
    (_notebook(text="![x](test_notebooks.py)"), "without alternative text"),
]


@pytest.mark.parametrize(("notebook", "words"), BAD)
def test_each_fault_is_noticed(notebook, words):
    found = problems(notebook, folder=Path(__file__).parent)
    assert len(found) == 1
    assert words in found[0]


def _lesson(*, quiz=3, twin=True, versions="torch 2.11.0, transformers 5.2.0"):
    question = "**{}. Why?**\n\na) x b) y c) z\n\n<details>**b.** so. *a* no. c) no."
    text = "## Check yourself\n\n"
    text += "\n\n".join(question.format(i + 1) for i in range(quiz))
    text += "\n\n## What you learned\n\n**Limits.** **References** **Licences.**"
    first = nbformat.v4.new_code_cell("x", outputs=[_stream("stdout", versions)])
    cells = [first, nbformat.v4.new_code_cell("view_contexts(clep, tuned)")]
    if twin:
        cells.append(nbformat.v4.new_code_cell("render_context(read, 1)"))
    return nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_markdown_cell(text)])


def test_what_a_lesson_lacks_is_noticed():
    assert lesson_problems(_lesson()) == []
    assert lesson_problems(_lesson(quiz=2)) == [
        "2 questions to check oneself, not three"
    ]
    assert lesson_problems(_lesson(twin=False)) == [
        "no still version below view_contexts"
    ]
    (found,) = lesson_problems(_lesson(versions="torch 2.11.0"))
    assert "transformers" in found
    bare = _lesson()
    bare.cells[-1].source = bare.cells[-1].source.replace(" *a* no.", "")
    found = lesson_problems(bare)
    assert found == [f"question {i} gives no reason for a)" for i in (1, 2, 3)]


def test_a_clean_notebook_has_no_problem():
    alt = "A line that rises from one to two."
    outputs = [_out("image/png", "aaaa", alt=alt), _stream("stdout", "1/2 and/or ok")]
    notebook = _notebook(outputs=outputs, text="[here](test_notebooks.py#x)")
    assert problems(notebook, folder=Path(__file__).parent) == []


def test_wrong_counts_and_a_missing_box_are_noticed():
    notebook = _notebook()
    notebook.cells[-1].execution_count = 2
    notebook.cells[0].source = "# A title"
    found = problems(notebook, folder=Path(__file__).parent)
    assert len(found) == 1 + len(BOX)
