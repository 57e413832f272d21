"""Grade hand-ins with nbgrader, offline: the exercises of a lesson are an assignment.

python notebooks/build/grading.py make                      # build/grading/release/
python notebooks/build/grading.py grade FOLDER --csv FILE   # FOLDER/<student>/00.ipynb
"""

import argparse
import os
import re
import sys
import warnings
from pathlib import Path
from textwrap import indent

import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SAWarning
from traitlets.config import PyFileConfigLoader

import course
from clepdg_lib.files import write_atomically

STUB = "    return ...  # your code"
CHECK = re.compile(r'^check\(\s*"(\d\d\.\d)", (\w+)\)', flags=re.M)
SETUP = """# Run this cell first.
import torch
from torch.nn import functional as F
from clepdg_lib.course.exercises import grade

def check(number, answer):
    print(*grade(number, answer))"""
TEST = """# Graded: {points} of {points} points if right. Leave this cell as it is.
### BEGIN HIDDEN TESTS
def hidden_test(answer):
    import contextlib, importlib, io
    import torch
    from torch.nn import functional as F
    from clepdg_lib.course import exercises

{right}

    random = torch.Generator().manual_seed(7)
    unit = lambda *shape: F.normalize(torch.randn(shape, generator=random), dim=-1)
    cases = [(inputs, right(*inputs)) for inputs in [{inputs}]]
    with contextlib.redirect_stderr(io.StringIO()):  # a warning costs no points
        mark, hint = importlib.reload(exercises).grade("{number}", answer)
        assert mark == exercises.RIGHT, hint
        for inputs, expected in cases:
            assert exercises._same(answer(*inputs), expected), "wrong on other inputs"
hidden_test({name})
### END HIDDEN TESTS"""
# Inputs that the library's checks do not use: an answer cannot know their results.
# The checks of other exercises have many inputs, and compute what they expect.
INPUTS = {
    "00.1": "[torch.tensor([3.0, -4.0])]",
    "00.2": "[unit(50), 3 * unit(50), 7.0]",
    "01.1": "[unit(3, 4, 5)]",
    "01.2": "[unit(9, 4), unit(9, 4), 3]",
    "02.1": "[torch.tensor([2, 0, 2, 2, 1])]",
    "03.1": "[unit(2, 3, 5), unit(3, 5), 0.3]",
    "03.2": "[unit(2, 5), 2 * unit(7, 5)]",
    "04.1": "[unit(4, 3), torch.tensor([2, 0, 1, 1]), 0.2]",
    "04.2": "[unit(5, 4), ['hall', 'car', 'car', 'hall', 'car'], unit(4)]",
    "06.1": "[33.3, 5.0]",
    "06.2": "[[*'aabbab'], [*'ababbb'], [*'xxxyyy']]",
}
CONFIG = f"""c = get_config()
c.CourseDirectory.course_id = "clep-dg"
c.ClearSolutions.code_stub = {{"python": "{STUB.strip()}"}}
c.OverwriteCells.add_missing_cells = True
c.Execute.extra_arguments = ["--log-level=ERROR", "--HistoryManager.hist_file=:memory:"]
c.Execute.timeout = 30  # seconds a cell: a loop without end earns nothing
"""


def make_assignments(folder):
    """Write the exercises of each lesson with solutions, and as students get them.

    Returns:
        nbgrader's interface to the folder, and lesson -> release.
    """
    write_atomically(folder / "nbgrader_config.py", CONFIG)
    config = PyFileConfigLoader("nbgrader_config.py", str(folder)).load_config()
    config.CourseDirectory.root = str(folder)
    config.NbGraderAPI.log_level = "ERROR"
    api, releases = NbGraderAPI(CourseDirectory(config=config), config=config), {}
    for path in course.find_notebooks():
        cells, lesson = make_cells(nbformat.read(path, as_version=4)), path.stem[:2]
        if len(cells) > 1:
            source = nbformat.writes(
                new_notebook(cells=cells, metadata=course.METADATA)
            )
            write_atomically(folder / "source" / lesson / f"{lesson}.ipynb", source)
            _succeed(api.generate_assignment(lesson))
            release = folder / "release" / lesson / f"{lesson}.ipynb"
            releases[lesson] = nbformat.read(release, as_version=4)
    return api, releases


def make_cells(notebook):
    """Return a lesson's exercises for nbgrader: text, solution, hidden tests."""
    cells = [_cell(SETUP, "setup", locked=True)]
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    folded = "".join(text for whole in texts for text in course.SOLUTION.findall(whole))
    solutions = re.findall(r"```python\n(.*?)```", folded, flags=re.S)
    for stub in (cell.source for cell in notebook.cells if STUB in cell.source):
        number, name = CHECK.search(stub).groups()
        title = re.compile(rf"^### .*\b{re.escape(number)}\b.*", flags=re.M)
        text = next(
            text[title.search(text).start() :] for text in texts if title.search(text)
        )
        (right,) = (code for code in solutions if f"def {name}(" in code)
        start, end = stub.split(STUB)
        imports, lines = right.split(start)
        lines = indent(imports.strip(), "    ") + "\n" + lines.rstrip()
        source = f"{start}    ### BEGIN SOLUTION\n{lines}\n    ### END SOLUTION{end}"
        points = title.search(text)[0].count("★")
        right = indent(right.strip(), "    ").replace(f"def {name}(", "def right(")
        about = {"number": number, "name": name, "points": points, "right": right}
        test = TEST.format(**about, inputs=INPUTS.get(number, ""))
        cells += [new_markdown_cell(course.SOLUTION.sub("", text))]
        cells += [_cell(source, f"answer-{number}", solution=True)]
        cells += [_cell(test, f"test-{number}", grade=True, locked=True, points=points)]
    return cells


def _cell(source, name, **kind):
    about = {"grade": False, "solution": False, "locked": False, "task": False, **kind}
    about |= {"schema_version": 3, "grade_id": name.replace(".", "-")}
    return new_code_cell(source, metadata={"nbgrader": about})


def _name(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def _succeed(result):
    if not result["success"]:
        log = result.get("log") or result.get("error", "")
        errors = re.findall(r"^ *([\w.]*(?:Error|Exception)\b.*)", log, flags=re.M)
        raise RuntimeError(errors[-1] if errors else log)


def fill(release, hand_in):
    """Return the release with a hand-in's answers; its other cells stay as released.

    A lesson itself is a hand-in too: its answers are the cells that end in check().
    """
    answers, loose = {}, []
    ours = any(map(_name, hand_in.cells))
    for cell in (cell for cell in hand_in.cells if cell.cell_type == "code"):
        name = _name(cell)
        if not name and (check := CHECK.search(cell.source)):
            name = f"answer-{check[1].replace('.', '-')}"
        if name.startswith("answer-"):
            answers[name], loose = [*loose, cell.source], []
        elif ours and not name:  # perhaps a function that the next answer uses
            loose.append(cell.source)
    filled = new_notebook(metadata=release.metadata)
    for cell in release.cells:
        *before, source = answers.get(_name(cell), [cell.source])
        answer = nbformat.from_dict(cell | {"source": source})
        filled.cells += [*map(new_code_cell, before), answer]
    return filled


def grade(hand_ins, folder=course.BUILD / "grading"):
    """Grade FOLDER/<student>/<lesson>.ipynb, with any folders between.

    Returns:
        A row for each exercise (student, lesson, exercise, points, of), and a
        sentence for each hand-in that was not graded; its points are empty.
    """
    api, releases = make_assignments(folder)
    rows, problems = {}, []
    for path in sorted(hand_ins.glob("*/**/*.ipynb")):
        if ".ipynb_checkpoints" in path.parts:
            continue
        student, lesson = path.relative_to(hand_ins).parts[0], path.stem[:2]
        try:
            if lesson not in releases:
                raise ValueError(
                    f"no lesson {lesson!r}; there are {', '.join(releases)}"
                )
            if (student, lesson) in rows:
                raise ValueError(f"{student!r} handed in lesson {lesson} twice")
            tests = [c for c in releases[lesson].cells if _name(c).startswith("test-")]
            outs = {_name(cell): cell.metadata.nbgrader.points for cell in tests}
            rows[student, lesson] = scores = {name: ("", outs[name]) for name in outs}
            filled = fill(releases[lesson], nbformat.read(path, as_version=4))
            known_as = re.sub(r"[^\w.-]", "_", student)  # nbgrader matches patterns
            place = folder / "submitted" / known_as / lesson / f"{lesson}.ipynb"
            write_atomically(place, nbformat.writes(filled))
            _succeed(api.autograde(lesson, known_as))
            with Gradebook(api.coursedir.db_url, "clep-dg") as book:
                done = book.find_submission_notebook(lesson, lesson, known_as).grades
                scores |= {g.name: (g.score, outs[g.name]) for g in done}
        except Exception as error:  # of one hand-in; the others are graded
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            problems.append(f"not graded: {path.relative_to(hand_ins)}: {text[:150]}")
    return [
        (*key, name[5:].replace("-", "."), *points)
        for key, scores in rows.items()
        for name, points in scores.items()
    ], problems


def main(arguments=None):
    """Run one command; return the exit status: 1 if a hand-in was not graded."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("make", "grade"))
    parser.add_argument("folder", nargs="?", help="of hand-ins, a folder each student")
    parser.add_argument("--csv", type=Path, default=course.BUILD / "grades.csv")
    parser.add_argument("--work", type=Path, default=course.BUILD / "grading")
    args = parser.parse_args(arguments)
    os.environ.update(course._environment())  # kernels find the library, and no network
    warnings.filterwarnings("ignore", "Object of type <Submitted", category=SAWarning)
    # nbgrader calls alembic, which stands beside python.
    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    work = args.work.resolve()
    if args.command == "make":
        make_assignments(work)
        print("wrote", os.path.relpath(work / "release"))
        return 0
    if not Path(args.folder or "").is_dir() or not args.folder:
        parser.error(f"no folder of hand-ins: {args.folder}")
    rows, problems = grade(Path(args.folder).resolve(), work)
    table = pd.DataFrame(
        rows, columns=["student", "lesson", "exercise", "points", "of"]
    )
    write_atomically(args.csv, table.to_csv(index=False))
    print(*problems, sep="\n", end="\n" * bool(problems), file=sys.stderr)
    print(f"wrote {os.path.relpath(args.csv)}: {len(rows)} exercises")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
