"""Stored notebooks can be read without running them; their exercises can be solved."""

import ast
import json
import re
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clepdg_lib import uar
from clepdg_lib.course.exercises import CHECKS, RIGHT, WRONG, grade
from clepdg_lib.course.lesson import LESSONS
from clepdg_lib.files import PROJECT
from course import NOTEBOOKS, SOLUTION, WIDGET, student_edition

NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
MAX_BYTES, MAX_CELLS, MIN_ALT = 1_000_000, 35, 20
MAX_CODE_LINES, MAX_SETUP_LINES = 15, 25
MEDIAN_WORDS, MAX_WORDS = 60, 120  # of a Markdown cell
# Vague or figurative words that the course does not use.
BANNED = re.compile(
    r"\b(ears?|pupils?|school feelings|thin air|prejudice|modesty|wallpaper|some ten"
    r"|mend(s|ed)?|verdicts?|recipes?)\b",
    flags=re.I,
)
# What the box under the title tells, before the first code cell.
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


def read(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(notebook):
    texts = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    return "\n\n".join(texts)


# ---------------------------------------------------------------- hygiene
def problems(notebook, *, folder):
    """Return everything that is wrong with a notebook, in words."""
    found = [*_whole(notebook), *_headings(notebook)]
    for number, cell in enumerate(notebook.cells, start=1):
        found += [f"cell {number}: {text}" for text in _cell(cell, folder=folder)]
    return found


def _whole(notebook):
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "no python3 kernelspec: JupyterLab would ask for a kernel"
    if "widgets" in notebook.metadata:
        yield "widget state is stored: viewers fail on it"
    counts = [cell.execution_count for cell in code_of(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}, not 1..{len(counts)}"
    if len(notebook.cells) > MAX_CELLS:
        yield f"{len(notebook.cells)} cells, {MAX_CELLS} at most"
    size = len(nbformat.writes(notebook).encode("utf-8"))
    if size > MAX_BYTES:
        yield f"{size} bytes, {MAX_BYTES} at most"


def _headings(notebook):
    if not notebook.cells[0].source.startswith("# "):
        yield "the first cell does not start with an H1"
    text = re.sub(r"```.*?```", "", text_of(notebook), flags=re.S)
    levels = [len(h) for h in re.findall(r"^(#{1,6}) ", text, flags=re.M)]
    if levels.count(1) != 1:
        yield f"{levels.count(1)} headings of level 1, not one"
    if any(b > a + 1 for a, b in zip(levels, levels[1:], strict=False)):
        yield f"headings skip a level: {levels}"
    box = ""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            break
        box += cell.source + "\n"
    for what, pattern in BOX.items():
        if not re.search(pattern, box, flags=re.I):
            yield f"the box before the first code cell does not tell: {what}"


def _cell(cell, *, folder):
    if cell.cell_type == "markdown":
        yield from _links(cell.source, folder=folder)
        return
    n_lines = len(cell.source.splitlines())
    is_setup = re.search(r"\b(start_lesson|set_style)\(", cell.source)
    n_max = MAX_SETUP_LINES if is_setup else MAX_CODE_LINES
    if n_lines > n_max:
        yield f"{n_lines} lines of code, {n_max} at most"
    if re.search(r"^\s*[!%]\s*(pip|conda)\b", cell.source, flags=re.M):
        yield "installs something"
    if re.search(r"warnings\.(filter|simplefilter)", cell.source):
        yield "silences warnings"
    if path := machine_path(cell.source):
        yield f"names a machine's path: {path}"
    for output in cell.get("outputs", []):
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
            if len(alt) < MIN_ALT:
                yield f"{kind} without alternative text: use show(figure, alt=)"
        if "widget" in kind:
            yield "holds a widget without its state: write it with `course.py run`"
    yield from _images("".join(data.get("text/html", "")), n_letters=1)
    texts = {kind: value for kind, value in data.items() if kind.startswith("text/")}
    text = "".join(output.get("text", "")) + json.dumps(texts)
    if path := machine_path(re.sub(r"data:[\w/+-]+;base64,[\w/+=\\]+", "", text)):
        yield f"an output names a machine's path: {path}"


def _images(html, *, n_letters):
    for image in re.findall(r"<img\b[^>]*>", html):
        if not re.search(rf'\balt="[^"]{{{n_letters},}}"', image):
            yield "an image in HTML has no alternative text"


def machine_path(text):
    match = re.search(
        r"(?<![\w./~-])(?:/(?:home|root|Users|work|tmp|opt|usr|var)/|[A-Z]:\\)\S*", text
    )
    return match[0] if match else ""


def _links(source, *, folder):
    source = re.sub(r"```.*?```|`[^`]*`", "", source, flags=re.S)
    for image, text, target in re.findall(r"(!?)\[([^\]]*)\]\(([^)\s]+)", source):
        if image and len(text) < MIN_ALT:
            yield f"image {target} without alternative text"
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path) and not (folder / path).exists():
            yield f"link to {target} leads nowhere"
    yield from _images(source, n_letters=MIN_ALT)


def lesson_problems(notebook):
    """Return what a lesson, more than any notebook, lacks."""
    code, text = code_of(notebook), text_of(notebook)
    printed = "".join(o.get("text", "") for o in code[0].outputs) if code else ""
    found = [
        f"the first cell does not print the version of {package}"
        for package in ("torch", "transformers")
        if not re.search(rf"\b{package} \d+\.\d+", printed)
    ]
    end = text[text.rfind("## What you learned") :]
    found += [f"no part {part!r} at the end" for part in ENDING if part not in end]
    quiz = text.partition("## Check yourself")[2].partition("## What you learned")[0]
    questions = re.split(r"^\*\*\d\. ", quiz, flags=re.M)[1:]
    if len(questions) != 3:
        found.append(f"{len(questions)} questions to check oneself, not three")
    for number, question in enumerate(questions, start=1):
        asked, _, answer = question.partition("<details>")
        for option in "abc":
            if not re.search(rf"(?<!\w){option}\)", asked):
                found.append(f"question {number} has no option {option})")
            if not re.search(rf"(?<!\w)[(*]*{option}(?:\*|\)|\.)", answer):
                found.append(f"question {number} gives no reason for {option})")
    sources = [cell.source for cell in code]
    for index, source in enumerate(sources):
        for widget, twin in TWINS.items():
            near = "\n".join(sources[index + 1 : index + 4])
            if re.search(rf"\b{widget}\(", source) and f"{twin}(" not in near:
                found.append(f"no still version below {widget}")
    return found


def test_lessons_are_there_with_each_widget_and_only_appendices_beside_them():
    assert set(LESSONS) <= set(NAMES)
    assert all(n in LESSONS or n.startswith("appendix_") for n in NAMES)
    code = "".join(c.source for name in LESSONS for c in code_of(read(name)))
    assert [widget for widget in TWINS if f"{widget}(" not in code] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_clean(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert problems(notebook, folder=NOTEBOOKS) == []
    for cell in code_of(notebook):
        ast.parse(re.sub(r"^%.*$", "", cell.source, flags=re.M))


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_is_complete(name):
    notebook = read(name)
    assert lesson_problems(notebook) == []
    code = "\n".join(cell.source for cell in code_of(notebook))
    assert re.findall(r"start_lesson\(\s*[\"'](\d\d)", code) == [name[:2]]
    assert "start_lesson" in code_of(notebook)[0].source
    # It has two to four exercises of its own.
    numbers = sorted(number for number in EXERCISES if number[:2] == name[:2])
    assert 2 <= len(numbers) <= 4
    assert re.findall(r"\bcheck\(\s*[\"']([\d.]+)", code) == numbers
    names, whole = list(LESSONS), text_of(notebook)
    place = names.index(name)
    for neighbour in names[max(place - 1, 0) : place] + names[place + 1 : place + 2]:
        assert f"({neighbour}.ipynb" in whole
    # It is read in small steps, with equations and drawings.
    texts = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    n_words = [len(text.split()) for text in texts]
    assert np.median(n_words) <= MEDIAN_WORDS and max(n_words) <= MAX_WORDS
    if name[:2] in ("01", "02", "03", "04", "05"):
        assert re.search(r"\$\$.+?\$\$", whole, flags=re.S)
    drawings = set(re.findall(r"\bimages/([\w-]+\.svg)", whole))
    assert {f"pipeline-{name[:2]}.svg"} < drawings


PROSE = [PROJECT / "README.md", *sorted((PROJECT / "clepdg_lib").rglob("*.py"))]
PROSE += [*sorted(NOTEBOOKS.glob("**/*.md")), *sorted(NOTEBOOKS.glob("*.ipynb"))]


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.relative_to(PROJECT).as_posix())
def test_the_language_is_plain(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join(cell.source for cell in read(path.stem).cells)
    assert [match[0] for match in BANNED.finditer(text)] == []


# ---------------------------------------------------------------- hygiene can fail
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
BAD = [
    (_notebook(outputs=[ERROR]), "ended in ValueError"),
    (_notebook(outputs=[_stream("stderr", "careful")]), "stderr"),
    (_notebook(outputs=[_stream("stdout", "in /home/me/x")]), "machine's path"),
    (_notebook("open('/Users/me/x.wav')"), "machine's path"),
    (_notebook(outputs=[_out("image/png", "aaaa")]), "alternative text"),
    (_notebook(outputs=[_out("text/html", "<img src='x'>")]), "in HTML"),
    (_notebook(outputs=[_out(WIDGET, {})]), "widget without its state"),
    (_notebook(outputs=[_out("text/plain", "x" * 1_000_001)]), "bytes"),
    (_notebook("\n".join(["x = 1"] * 16)), "16 lines"),
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
    (found,) = problems(notebook, folder=Path(__file__).parent)
    assert words in found


def test_a_clean_notebook_has_no_problem():
    image = _out("image/png", "aaaa", alt="A line that rises from one to two.")
    notebook = _notebook(outputs=[image, _stream("stdout", "1/2 and/or ok")])
    assert problems(notebook, folder=Path(__file__).parent) == []
    notebook.cells[-1].execution_count = 2
    notebook.cells[0].source = "# A title"
    assert len(problems(notebook, folder=Path(__file__).parent)) == 1 + len(BOX)


# ---------------------------------------------------------------- exercises
class Exercise(NamedTuple):
    number: str
    name: str
    stars: str
    hint: str
    solution: str
    stub: str


def find_exercises(notebook):
    """Find each cell that ends in check("03.1", name), its text and its solution."""
    text = text_of(notebook)
    folded = "\n".join(SOLUTION.findall(text))
    codes = re.findall(r"```python\n(.*?)```", folded, flags=re.S)
    check = re.compile(r"^check\(\s*\"(\d\d\.\d)\", (\w+)\)$", flags=re.M)
    for cell in code_of(notebook):
        for number, name in check.findall(cell.source):
            mine = [c for c in codes if re.search(rf"^def {name}\(", c, flags=re.M)]
            assert len(mine) == 1, f"exercise {number} has {len(mine)} solutions"
            heading = re.search(rf"^###.*\b{re.escape(number)}\b(.*)$", text, re.M)
            assert heading, f"exercise {number} has no heading"
            hint = r"<details><summary>Hint</summary>(.*?)</details>"
            hint = re.search(hint, text[heading.end() :], flags=re.S)
            stars = re.sub("[^★]", "", heading[1])
            solution = mine[0].strip()
            yield Exercise(number, name, stars, hint[1].strip(), solution, cell.source)


def make_stub(exercise):
    """Cut the stub that belongs to a solution: signature, docstring, `...`, check."""
    functions = {getattr(n, "name", ""): n for n in ast.parse(exercise.solution).body}
    function = functions[exercise.name]
    first = function.body[0]
    end = first.end_lineno if ast.get_docstring(function) else first.lineno - 1
    kept = exercise.solution.splitlines()[function.lineno - 1 : end]
    check = f'check("{exercise.number}", {exercise.name})'
    return "\n".join([*kept, "    return ...  # your code", "", "", check])


EXERCISES = {e.number: e for name in NAMES for e in find_exercises(read(name))}


def solve(number):
    """Return the function of the worked solution, run as a student would run it."""
    names = {"torch": torch, "F": F}
    exercise = EXERCISES[number]
    exec(compile(exercise.solution, exercise.number, "exec"), names)
    return names[exercise.name]


@pytest.mark.parametrize("number", sorted({*CHECKS, *EXERCISES}))
def test_an_exercise_is_complete_and_its_solution_right(number):
    exercise = EXERCISES[number]
    assert grade(number, solve(number)) == (RIGHT, "right")
    assert exercise.stars in ("★", "★★", "★★★")
    assert len(exercise.hint) > 20
    assert exercise.stub == make_stub(exercise)  # stub and solution cannot drift apart
    assert [mistaken for mistaken, _, _ in MISTAKES].count(number) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_students_get_hints_and_no_solutions(name):
    whole = read(name)
    student = student_edition(whole)
    assert [c.source for c in code_of(student)] == [c.source for c in code_of(whole)]
    text = text_of(student)
    assert "<summary>Solution" not in text
    assert text.count("<summary>Hint") == text_of(whole).count("<summary>Hint")
    assert text.count("<summary>Answer") == text_of(whole).count("<summary>Answer")
    assert text.count("<details>") == text.count("</details>")
    assert all(cell.source for cell in student.cells)


# ------------------------------------------------------- usual mistakes get a hint
def recall_at(audio, text, k):
    nearest = (audio @ text.T).topk(k, dim=1).indices
    return (nearest == torch.arange(len(audio))[:, None]).any(dim=1).float().mean()


def mix_weights(before, after, share):
    return {name: before[name].lerp(after[name], share) for name in before}


def add_in_place(before, after, share):
    mixed = mix_weights(before, after, share)
    return {name: before[name].copy_(mixed[name]) for name in mixed}


def cover(tau, targets):
    cosines = F.cosine_similarity(targets[:, None], tau[None], dim=-1)
    return -cosines.amax(dim=1).mean()


def close_gap(audio, mean_audio, mean_text):
    return F.normalize(audio - mean_audio + mean_text, dim=-1)


def in_order_of_place(audio, places, mean_text):
    masks = [torch.tensor([p == name for p in places]) for name in sorted(set(places))]
    return torch.cat([close_gap(audio[m], audio[m].mean(0), mean_text) for m in masks])


def consistency(placed, plain, temperature):
    logits = (placed @ plain.T / temperature).flatten(0, -2)
    return F.cross_entropy(logits, torch.arange(3).repeat(len(logits) // 3))


def paired(one, other, draws, *, tails=(2.5, 97.5)):
    return np.percentile((one - other)[draws].mean(axis=1), tails)


def separate(one, other, draws):
    (a, b), (c, d) = paired(one, 0 * one, draws), paired(other, 0 * other, draws)
    return a - d, b - c


def nested_folds(domains, *, whole=False):
    pairs = [(v, t) for t in domains for v in domains if v != t]
    return [([d for d in domains if whole or d not in p], *p) for p in pairs]


# Exercise, a usual mistake, and a word that the hint about it must hold.
MISTAKES = [
    ("00.1", lambda w: 10 * torch.log10(w.square().mean().sqrt()), "amplitude"),
    ("00.1", lambda w: 20 * torch.log10(w.abs().mean()), "square"),
    ("00.2", lambda v, n, snr: v + n, "scale it first"),
    ("00.2", lambda v, n, snr: v * 10 ** (snr / 20) + n, "noise alone"),
    ("00.2", lambda v, n, snr: v + n * 10 ** (-snr / 20), "measure both"),
    ("00.2", lambda v, n, db: v + n * v.norm() / n.norm() * 10 ** (-db / 10), "root"),
    ("01.1", lambda prompts: prompts.mean(dim=1), "normalise"),
    ("01.1", lambda prompts: F.normalize(prompts.mean(dim=0), dim=-1), "templates"),
    ("01.1", lambda prompts: F.normalize(prompts[:, 0], dim=-1), "mean over"),
    ("01.2", lambda audio, text, k: recall_at(text, audio, k), "clips for a sentence"),
    ("01.2", lambda audio, text, k: recall_at(audio, text, 1), "use k"),
    ("01.2", lambda audio, text, k: recall_at(-audio, text, k), "farthest"),
    ("01.2", lambda audio, text, k: 5 * recall_at(audio, text, k), "share"),
    ("02.1", lambda labels: torch.eye(len(labels)), "same emotion"),
    ("02.1", lambda y: (y[:, None] == y[None]).float(), "sums to 1"),
    ("02.2", lambda b, a, s: mix_weights(a, b, s), "share of 0"),
    ("02.2", lambda b, a, s: list(b.values()), "dictionary"),
    ("02.2", lambda b, a, s: {n: b[n] + s * a[n] for n in b}, "a quarter"),
    ("02.2", add_in_place, "new tensors"),
    ("03.1", lambda p, e, t: consistency(p, e, 1 / t), "divide"),
    ("03.1", lambda p, e, t: consistency(p, e, 1.0), "not use"),
    ("03.1", lambda p, e, t: consistency(p.transpose(0, 1), e, t), "in row e of every"),
    ("03.1", lambda p, e, t: (p @ e.T / t).softmax(dim=-1), "average over all"),
    ("03.2", lambda tau, targets: cover(targets, tau), "not each context"),
    ("03.2", lambda tau, targets: -cover(tau, targets), "sign"),
    ("03.2", lambda tau, targets: -(targets @ tau.T).amax(dim=1).mean(), "length"),
    ("04.1", lambda cosines, labels, margin: cosines - margin, "only the right"),
    ("04.1", lambda c, y, m: c + m * F.one_hot(y, 3), "must fall"),
    ("04.1", lambda c, y, m: c - m * (1 - F.one_hot(y, 3)), "swap"),
    ("04.1", lambda c, y, m: (c.acos() + m * F.one_hot(y, 3)).cos(), "ArcFace"),
    ("04.2", lambda a, p, t: close_gap(a, a.mean(dim=0), t), "each place has its own"),
    ("04.2", in_order_of_place, "changed places"),
    ("04.2", lambda a, p, t: 2 * a, "mean of the place"),
    ("05.1", lambda domains: nested_folds(domains, whole=True), "not trained on"),
    ("05.1", lambda domains: nested_folds(domains)[:3], "not 3 different"),
    ("05.1", lambda domains: nested_folds(domains) * 2, "6 triples"),
    ("05.1", lambda domains: [([], d, d) for d in domains] * 2, "rule 3"),
    ("05.2", lambda a, b, d: paired(b, a, d), "other way round"),
    ("05.2", lambda a, b, d: paired(a, b, d, tails=(5, 95)), "too narrow"),
    ("05.2", lambda a, b, d: separate(a, b, d), "too wide"),
    ("05.2", lambda a, b, d: [(a - b).mean()], "low and a high end"),
    ("06.1", lambda seconds, window: seconds / window, "round up"),
    ("06.1", lambda seconds, window: int(seconds // window), "round up"),
    ("06.2", lambda truth, guess, groups: uar(truth, guess), "all clips at once"),
    ("06.2", lambda t, g, groups: (uar(t[:4], g[:4]) + uar(t[4:], g[4:])) / 2, "hides"),
]


@pytest.mark.parametrize(("number", "answer", "hint"), MISTAKES)
def test_a_usual_mistake_gets_a_hint_about_its_cause(number, answer, hint):
    mark, message = grade(number, answer)
    assert mark == WRONG
    assert hint in message
