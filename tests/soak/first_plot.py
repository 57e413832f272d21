"""Walk a new user's way, from nothing to the first figure, and time it.

    python tests/soak/first_plot.py

Clones the project into an empty folder, installs it there as README says, runs lesson
00 cell by cell and stops at the first figure. Installing depends on the network more
than on anything else, so its seconds are given apart.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from record import PROJECT, record  # noqa: E402

# Run by the new environment's Python: prints the number of the cell that drew first.
FIRST_FIGURE = """
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read("notebooks/00_welcome.ipynb", 4)
client = NotebookClient(notebook, resources={"metadata": {"path": "notebooks"}})
with client.setup_kernel():
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        done = client.execute_cell(cell, number)
        if any("image/png" in output.get("data", {}) for output in done.outputs):
            print(number)
            break
    else:
        raise SystemExit("lesson 00 drew nothing")
"""


def timed(*command: str, cwd: Path) -> tuple[float, str]:
    """Seconds that a command took, and what it printed."""
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True
    )
    return time.monotonic() - began, done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--from", dest="source", default=str(PROJECT))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        here = Path(empty) / "course"
        clone, _ = timed("git", "clone", "--quiet", args.source, str(here), cwd=PROJECT)
        install, _ = timed("make", ".venv", cwd=here)
        doctor, told = timed(".venv/bin/python", "-m", "clepdg_lib", "doctor", cwd=here)
        if "FIX" in told:
            raise SystemExit(f"the doctor is not content:\n{told}")
        draw, cell = timed(".venv/bin/python", "-c", FIRST_FIGURE, cwd=here)
    record(
        "first plot",
        did="a clone in an empty folder, `make .venv`, the doctor, lesson 00 up to its "
        f"first figure (cell {cell})",
        found=f"{clone:.0f} s to clone, {install:.0f} s to install, {doctor:.0f} s for "
        f"the doctor, who found nothing to mend, {draw:.0f} s to the figure",
        seconds=clone + install + doctor + draw,
    )


if __name__ == "__main__":
    main()
