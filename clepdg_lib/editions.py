"""Exercises and their solutions from one source, and what is handed to students.

The source is the notebook: a solution stands folded in a ``<details>``, once. The stub
that a student fills in is cut from it (the signature and the docstring stay), and the
student edition is the notebook without solutions. So the two cannot drift apart: a test
cuts every stub anew and fails on a difference.

    python -m clepdg_lib student        # write build/student/

Lesson: every notebook
"""

from __future__ import annotations

import ast
import copy
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from clepdg_lib.files import PROJECT, write_atomically

NOTEBOOKS = PROJECT / "notebooks"
STUDENT = PROJECT / "build" / "student"
STARS = ("★", "★★", "★★★")
_CHECK = re.compile(r"^check\(\s*\"(\d\d\.\d)\", (\w+)\)$", flags=re.MULTILINE)
_SOLUTION = re.compile(
    r"\n*<details><summary>Solution[^<]*</summary>.*?</details>", flags=re.DOTALL
)


@dataclass(frozen=True)
class Exercise:
    """An exercise as it stands in a notebook.

    Attributes:
        number: Such as "03.1".
        name: Of the function that is asked for.
        stars: "★" to "★★★", "" if its heading has none.
        hint: Text of the folded hint, "" if there is none.
        solution: Code of the worked solution.
        stub: Code of the cell that the student fills in.
        cell: Index of that cell.
    """

    number: str
    name: str
    stars: str
    hint: str
    solution: str
    stub: str
    cell: int


def find_exercises(notebook: NotebookNode) -> Iterator[Exercise]:
    """Find the exercises of a notebook, in order.

    Raises:
        ValueError: A check whose solution is missing, or stands there twice.
    """
    texts = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    folded = [match for text in texts for match in _SOLUTION.findall(text)]
    codes = [
        code
        for text in folded
        for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    ]
    for index, cell in enumerate(notebook.cells):
        for number, name in _CHECK.findall(
            cell.source if cell.cell_type == "code" else ""
        ):
            mine = [c for c in codes if re.search(rf"^def {name}\(", c, flags=re.M)]
            if len(mine) != 1:
                raise ValueError(
                    f"exercise {number} has {len(mine)} solutions that define {name}; "
                    "write exactly one, in a <details> with the summary 'Solution'"
                )
            above = "\n".join(
                c.source for c in notebook.cells[:index] if c.cell_type == "markdown"
            )
            heading = re.search(
                rf"^###.*\b{re.escape(number)}\b(.*)$", above, flags=re.M
            )
            text = above[heading.end() :] if heading else ""
            hint = re.search(
                r"<details><summary>Hint</summary>(.*?)</details>", text, flags=re.S
            )
            yield Exercise(
                number=number,
                name=name,
                stars=re.sub("[^★]", "", heading[1]) if heading else "",
                hint=hint[1].strip() if hint else "",
                solution=mine[0].strip(),
                stub=cell.source,
                cell=index,
            )


def make_stub(solution: str, *, number: str, name: str) -> str:
    """Cut a stub from a solution: signature, docstring, ``...``, and the check.

    Example:
        >>> print(make_stub('def f(x):\\n    return x + 1', number="00.1", name="f"))
        def f(x):
            return ...  # your code
        <BLANKLINE>
        <BLANKLINE>
        check("00.1", f)
    """
    lines = solution.splitlines()
    (function,) = (
        node
        for node in ast.parse(solution).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    first = function.body[0]
    if ast.get_docstring(function) is None:
        kept = lines[function.lineno - 1 : first.lineno - 1]
    else:
        kept = lines[function.lineno - 1 : first.end_lineno]
    return "\n".join(
        [*kept, "    return ...  # your code", "", "", f'check("{number}", {name})']
    )


def student_edition(notebook: NotebookNode) -> NotebookNode:
    """Return a copy without solutions, its stubs cut anew, exercises not yet run."""
    student = copy.deepcopy(notebook)
    for exercise in find_exercises(notebook):
        cell = student.cells[exercise.cell]
        cell.source = make_stub(
            exercise.solution, number=exercise.number, name=exercise.name
        )
    for cell in student.cells:
        if cell.cell_type == "markdown":
            cell.source = _SOLUTION.sub("", cell.source).strip()
    student.cells = [cell for cell in student.cells if cell.source]
    return student


def write_student_edition(
    folder: Path = STUDENT, *, notebooks: Path = NOTEBOOKS
) -> Path:
    """Write all notebooks without their solutions into a folder, and what they need.

    Links of the notebooks to `../data` and `../README.md` lead to where they did: the
    folder's notebooks lie in its own `notebooks/`, and pictures are copied along.
    """
    target = folder / "notebooks"
    for path in sorted(notebooks.glob("*.ipynb")):
        notebook = student_edition(nbformat.read(path, as_version=4))
        write_atomically(target / path.name, nbformat.writes(notebook) + "\n")
    images = notebooks / "images"
    if images.is_dir():
        shutil.copytree(images, target / "images", dirs_exist_ok=True)
    return target
