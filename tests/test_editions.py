"""Stubs are cut from solutions; students get the first without the second."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from clepdg_lib.editions import (
    NOTEBOOKS,
    STARS,
    find_exercises,
    make_stub,
    student_edition,
    write_student_edition,
)

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
SOLUTION = '''import math


def double(x):
    """A number -> twice the number."""
    return math.fsum([x, x])
'''
STUB = '''def double(x):
    """A number -> twice the number."""
    return ...  # your code


check("00.1", double)'''
TEXT = f"""### Exercise 00.1 ★★ · Twice

Double it.

<details><summary>Hint</summary>

Add.

</details>

<details><summary>Solution</summary>

```python
{SOLUTION}```

Why.

</details>

After."""


def notebook(text=TEXT, stub=STUB):
    return new_notebook(cells=[new_markdown_cell(text), new_code_cell(stub)])


def read(path):
    return nbformat.read(path, as_version=4)


def test_a_stub_keeps_signature_and_docstring_alone():
    assert make_stub(SOLUTION, number="00.1", name="double") == STUB
    bare = "def f(\n    a,\n    b,\n):\n    c = a\n    return c + b\n"
    stub = make_stub(bare, number="00.1", name="f")
    assert stub.startswith("def f(\n    a,\n    b,\n):\n    return ...  # your code\n")
    compile(stub, "stub", "exec")


def test_an_exercise_is_found_with_all_its_parts():
    (found,) = find_exercises(notebook())
    assert (found.number, found.name, found.stars) == ("00.1", "double", "★★")
    assert found.hint == "Add."
    assert found.solution == SOLUTION.strip()
    assert (found.stub, found.cell) == (STUB, 1)


def test_a_missing_or_a_second_solution_is_an_error():
    with pytest.raises(ValueError, match="00.1 has 0 solutions"):
        list(find_exercises(notebook(text="### Exercise 00.1")))
    with pytest.raises(ValueError, match="00.1 has 2 solutions"):
        list(find_exercises(notebook(text=TEXT + "\n\n" + TEXT)))


def test_students_get_hints_and_no_solutions():
    before = notebook(stub=STUB.replace("...  # your code", "2 * x"))
    student = student_edition(before)
    text = student.cells[0].source
    assert "Hint" in text and "After." in text
    assert "Solution" not in text and "fsum" not in text
    assert student.cells[1].source == STUB
    assert "fsum" in before.cells[0].source  # a copy was made


def test_a_cell_that_held_only_a_solution_goes():
    cut = TEXT.index("<details><summary>Solution"), TEXT.index("\n\nAfter.")
    alone = notebook(text=TEXT[: cut[0]])
    alone.cells.append(new_markdown_cell(TEXT[slice(*cut)]))
    assert len(student_edition(alone).cells) == 2


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_stubs_cut_anew_are_the_stubs_of_the_notebook(path):
    whole = read(path)
    student = student_edition(whole)
    code = [c.source for c in whole.cells if c.cell_type == "code"]
    assert [c.source for c in student.cells if c.cell_type == "code"] == code
    text = "\n".join(c.source for c in student.cells if c.cell_type == "markdown")
    assert "<summary>Solution" not in text
    assert text.count("<summary>Answer") == 3  # of the questions to check yourself
    assert text.count("<details>") == text.count("</details>")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_each_lesson_has_two_to_four_whole_exercises(path):
    found = list(find_exercises(read(path)))
    assert 2 <= len(found) <= 4
    for exercise in found:
        assert exercise.stars in STARS, exercise.number
        assert len(exercise.hint) > 20, f"{exercise.number} has no hint"
        assert exercise.number.startswith(path.stem[:2])
    assert [e.number for e in found] == sorted(e.number for e in found)


def test_the_edition_is_written_with_what_it_links_to(tmp_path):
    folder = write_student_edition(tmp_path)
    written = sorted(folder.glob("*.ipynb"))
    assert [p.name for p in written] == [p.name for p in PATHS]
    for path in written:
        nbformat.validate(read(path))
