"""Hand-ins are graded by one command: the right ones full marks, the others none."""

import csv
import subprocess
import sys

import nbformat
import pytest
from test_notebooks import EXERCISES

from clepdg_lib.files import PROJECT
from course import find_notebooks, student_edition

SCRIPT = PROJECT / "notebooks" / "build" / "grading.py"
# One change each that makes a right answer wrong.
CHANGES = {
    "20 * torch": "10 * torch",
    "(snr_db / 10)": "(-snr_db / 10)",
    "mean(dim=1), dim": "mean(dim=0), dim",
    "topk(k,": "topk(1,",
    "return same /": "return same  # ",
    "before[name].lerp(after[name]": "after[name].lerp(before[name]",
    "/ temperature": "* temperature",
    "return -cosines": "return cosines",
    "cosines - margin": "cosines + margin",
    "audio[rows].mean(dim=0)": "audio.mean(dim=0)",
    "if v != t": "if v < t",
    "[2.5, 97.5]": "[5, 95]",
    "math.ceil(": "math.floor(",
    "return min(": "return max(",
}
TAMPER = """from clepdg_lib.course import exercises
exercises.grade = lambda number, answer: (exercises.RIGHT, "right")
"""


def right(exercise):
    return f'{exercise.solution}\n\n\ncheck("{exercise.number}", {exercise.name})'


def untouched(exercise):
    return exercise.stub


def mistaken(exercise):
    (old,) = [old for old in CHANGES if old in exercise.solution]
    return right(exercise).replace(old, CHANGES[old])


def leaving(exercise):
    return exercise.stub.replace("return ...", "raise SystemExit(0)")


def tampering(exercise):
    return TAMPER + exercise.stub


def hand_in(release, path, answer):
    """Answer all exercises of a release, or of a lesson as students get it."""
    notebook = nbformat.from_dict(release)
    for cell in [cell for cell in notebook.cells if cell.cell_type == "code"]:
        for exercise in EXERCISES.values():
            if f'check("{exercise.number}"' in cell.source:
                cell.source = answer(exercise)
        if answer is tampering and "Graded" in cell.source:
            notebook.cells.remove(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("grading")
    command = [sys.executable, SCRIPT, "make", "--work", work]
    subprocess.run(command, check=True, capture_output=True)
    return work


def grade(work, folder):
    table = folder.with_suffix(".csv")
    command = [sys.executable, SCRIPT, "grade", folder, "--csv", table, "--work", work]
    run = subprocess.run(command, capture_output=True, text=True)
    return run, [*csv.DictReader(table.open())]


def release_of(work, lesson):
    return nbformat.read(work / f"release/{lesson}/{lesson}.ipynb", as_version=4)


def assert_full_marks_or_none(rows, full):
    for row in rows:
        out_of = len(EXERCISES[row["exercise"]].stars)
        points = out_of if row["student"].startswith(full) else 0
        assert (float(row["points"]), int(row["of"])) == (points, out_of), row


def test_releases_hold_stubs_and_neither_solutions_nor_tests(work):
    for lesson in {number[:2] for number in EXERCISES}:
        sources = [cell.source for cell in release_of(work, lesson).cells]
        mine = [e for e in EXERCISES.values() if e.number.startswith(lesson)]
        assert [s for s in sources if "check(" in s][1:] == [e.stub for e in mine]
        assert "Solution" not in "".join(sources)
        assert "hidden" not in "".join(sources).lower()


def test_right_ones_earn_full_marks_and_wrong_or_forged_ones_none(work, tmp_path):
    folder = tmp_path / "hand-ins"
    hand_in(release_of(work, "00"), folder / "right/00.ipynb", right)
    wrong = folder / "mistaken [2]/submitted/06/06.ipynb"
    hand_in(release_of(work, "06"), wrong, mistaken)
    hand_in(release_of(work, "05"), folder / "tampering/05.ipynb", tampering)
    (lesson,) = find_notebooks(["04"])
    lesson = student_edition(nbformat.read(lesson, as_version=4))
    hand_in(lesson, folder / "right-lesson/04_transfer.ipynb", right)
    (folder / "lost").mkdir()
    (folder / "lost/09.ipynb").write_text("{}")
    (folder / "lost/03.ipynb").write_text("<html>")
    run, rows = grade(work, folder)
    assert run.returncode == 1
    unreadable, unknown = run.stderr.splitlines()
    assert "lost/03.ipynb" in unreadable and "JSON" in unreadable
    assert "lost/09.ipynb: " in unknown and "there are 00, 01" in unknown
    lost = [row for row in rows if row["student"] == "lost"]
    assert [row["exercise"] for row in lost if row["points"] == ""] == ["03.1", "03.2"]
    rows = [row for row in rows if row not in lost]
    assert len(rows) == 8
    assert_full_marks_or_none(rows, "right")


@pytest.mark.slow
def test_forty_hand_ins_are_graded_in_one_command(work, tmp_path):
    folder = tmp_path / "hand-ins"
    for kind in (right, untouched, mistaken, leaving):
        for number in range(10):
            lesson = f"0{number % 7}"
            path = folder / f"{kind.__name__}-{number}" / f"{lesson}.ipynb"
            hand_in(release_of(work, lesson), path, kind)
    run, rows = grade(work, folder)
    assert (run.returncode, run.stderr, len(rows)) == (0, "", 80)
    assert_full_marks_or_none(rows, "right")
