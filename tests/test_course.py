"""Notebooks are run in order, timed, cleaned and stored; failures are named."""

import json
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from clepdg_lib.course import WIDGET, clean, find_notebooks, run_course, run_notebook
from clepdg_lib.files import PROJECT


def _write(path, *cells):
    notebook = new_notebook()
    for cell in cells:
        make = new_markdown_cell if cell.startswith("#") else new_code_cell
        notebook.cells.append(make(cell))
    nbformat.write(notebook, path.open("w", encoding="utf-8"))
    return path


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Two lessons, the first of which fails in a known section."""
    folder = tmp_path_factory.mktemp("notebooks")
    _write(
        folder / "00_fail.ipynb",
        "# It fails\n\nYou will see it stop.",
        "# a comment, not a title\nprint('before')".replace("# a", "x = 1  # a"),
        "## Part one\n\n```python\n# not a heading\n```",
        "x += 1",
        "## Part two",
        "def inner():\n    raise ValueError('first\\nthe reason')\ninner()",
        "print('never')",
    )
    _write(
        folder / "01_pass.ipynb",
        "# It passes\n\n[Before](00_fail.ipynb)",
        "import os\nprint(os.getcwd() == os.path.realpath('.'), os.listdir())",
        "import clepdg_lib\nprint(os.environ['HF_HUB_OFFLINE'])",
    )
    return folder


@pytest.fixture(scope="module")
def outcome(course, tmp_path_factory):
    """The two lessons, run once; pages beside them."""
    pages = tmp_path_factory.mktemp("pages")
    before = {path.name: path.read_bytes() for path in course.iterdir()}
    names = [str(course / name) for name in ("00_fail.ipynb", "01_pass.ipynb")]
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *a, **_: printed.append(" ".join(a)))
        n_failed = run_course(names, pages=pages)
    assert {path.name: path.read_bytes() for path in course.iterdir()} == before
    return n_failed, "\n".join(printed), pages


def test_a_failure_names_notebook_section_and_last_line(outcome):
    n_failed, printed, _ = outcome
    assert n_failed == 1
    wanted = "FAILED 00_fail.ipynb, section 'Part two': the reason"
    assert wanted in printed.splitlines()


def test_a_failure_does_not_stop_the_other_notebooks(outcome):
    _, printed, pages = outcome
    assert "01_pass: ok" in printed
    page = (pages / "01_pass.html").read_text(encoding="utf-8")
    assert "01_pass.ipynb" in page  # listed by its own cell: it ran in its folder
    assert page.count("<nav") == 2


def test_pages_are_linked_in_order(outcome):
    _, _, pages = outcome
    first = (pages / "00_fail.html").read_text(encoding="utf-8")
    second = (pages / "01_pass.html").read_text(encoding="utf-8")
    assert '<a href="01_pass.html" rel="next">It passes</a>' in first
    assert '<a href="00_fail.html" rel="prev">It fails</a>' in second
    assert 'href="00_fail.html">Before</a>' in second.replace(".ipynb", "")
    assert "ValueError" in first


def test_the_index_says_what_ran_and_what_failed(outcome):
    _, _, pages = outcome
    index = (pages / "index.html").read_text(encoding="utf-8")
    assert '<a href="00_fail.html">It fails</a>' in index
    assert "You will see it stop." in index
    assert "failed: Part two" in index


def test_timings_are_kept_by_notebook_and_section(outcome):
    _, _, pages = outcome
    timing = json.loads((pages / "timing.json").read_text(encoding="utf-8"))
    failed, passed = timing["notebooks"]
    assert (failed["name"], failed["ok"]) == ("00_fail", False)
    assert (passed["name"], passed["ok"]) == ("01_pass", True)
    assert list(failed["sections"])[:2] == ["It fails", "Part one"]
    total = failed["seconds"] + passed["seconds"]
    assert abs(timing["total_seconds"] - total) < 0.05
    table = (pages / "timing.md").read_text(encoding="utf-8").splitlines()
    assert table[0] == "| notebook | section | minutes |"
    assert any(line.startswith("| **00_fail** | all | **0.") for line in table)
    assert any(line.startswith("| | Part one | 0.") for line in table)
    assert table[-1].startswith("| **the course** | all |")


def test_outputs_are_stored_in_place_when_asked(tmp_path):
    path = _write(tmp_path / "00_a.ipynb", "# A", "print('hello')", "1 + 1")
    assert run_course([str(path)], write=True, pages=tmp_path / "pages") == 0
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2]
    assert code[0].outputs[0].text == "hello\n"
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.language_info
    assert path.read_text(encoding="utf-8").endswith("}\n")


def test_outputs_that_name_this_machine_are_not_stored(tmp_path, capsys):
    code = "import clepdg_lib.files as f\nprint(f.PROJECT / 'data')"
    path = _write(tmp_path / "00_a.ipynb", "# A", "## Where", code)
    before = path.read_bytes()
    assert run_course([str(path)], write=True, pages=tmp_path / "pages") == 1
    assert path.read_bytes() == before
    printed = capsys.readouterr().out
    assert f"section 'Where': not written: an output names {PROJECT}" in printed


def test_a_failing_notebook_is_not_stored(tmp_path):
    path = _write(tmp_path / "00_a.ipynb", "# A", "1 / 0")
    before = path.read_bytes()
    assert run_course([str(path)], write=True, pages=tmp_path / "pages") == 1
    assert path.read_bytes() == before


def test_a_cell_that_hangs_is_stopped_and_named(tmp_path):
    path = _write(tmp_path / "00_a.ipynb", "# A", "## Waits", "while True: pass")
    run = run_notebook(path, cell_seconds=2)
    assert run.failure.section == "Waits"
    assert "Timeout" in run.failure.error


def test_a_kernel_that_dies_is_named(tmp_path):
    path = _write(tmp_path / "00_a.ipynb", "# A", "## Dies", "import os; os._exit(1)")
    run = run_notebook(path, cell_seconds=30)
    assert run.failure.section == "Dies"
    assert "Kernel" in run.failure.error


def test_cleaning_leaves_what_can_be_read_without_a_kernel():
    widget = {WIDGET: {"model_id": "x"}, "text/plain": "IntSlider(value=0)"}
    bar = {WIDGET: {"model_id": "y"}, "text/plain": "  0%|          | 0/3 [?it/s]"}
    outputs = [
        new_output("display_data", data=widget),
        new_output("display_data", data=bar),
        new_output("stream", name="stdout", text="kept\n"),
    ]
    cell = new_code_cell("x", outputs=outputs, metadata={"execution": {"a": "b"}})
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    clean(notebook)
    assert "widgets" not in notebook.metadata
    assert "execution" not in cell.metadata
    assert len(cell.outputs) == 2
    assert list(cell.outputs[0].data) == ["text/plain"]
    assert "Interactive" in cell.outputs[0].data["text/plain"]
    assert cell.outputs[1].text == "kept\n"


def test_notebooks_are_found_by_number_name_and_path(tmp_path, course):
    for path in course.glob("*.ipynb"):
        shutil.copy(path, tmp_path)
    for name in ("01", "01_pass", str(tmp_path / "01_pass.ipynb")):
        (found,) = find_notebooks([name], notebooks=tmp_path)
        assert found.name == "01_pass.ipynb"
    with pytest.raises(FileNotFoundError, match="'07'.*00_fail, 01_pass"):
        find_notebooks(["07"], notebooks=tmp_path)


def test_the_whole_course_needs_all_seven_notebooks(tmp_path):
    with pytest.raises(FileNotFoundError, match="00_welcome"):
        find_notebooks(notebooks=tmp_path)
