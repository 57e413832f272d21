"""Forty students on one read-only copy of the course, eight at a time.

python tests/soak/classroom.py          # as root, on Linux: it mounts the copy
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from record import make_parser, record

from clepdg_lib.files import PROJECT

LESSON = """from clepdg_lib import *
clap = load_clap("clep-mini")
corpus = load_corpus("emosynth").select(splits="test", domains="studio")
embedded = embed_corpus(clap, corpus)
print(*fit_text_classifier(clap, corpus.emotions).predict(embedded.embeddings))"""
STUDENTS, AT_ONCE = 40, 8


def attend(copy: Path, home: Path) -> str:
    """Run the lesson as one student, and return what it prints."""
    home.mkdir()
    cells = [nbformat.v4.new_code_cell(LESSON)]
    notebook, patience = nbformat.v4.new_notebook(cells=cells), {"timeout": 900}
    place = {"resources": {"metadata": {"path": str(copy / "notebooks")}}}
    client = NotebookClient(notebook, startup_timeout=300, **patience, **place)
    own = {"HOME": str(home), "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CLEPDG")}
    client.execute(env={**kept, **own, "PYTHONDONTWRITEBYTECODE": ""})
    return "".join(output.get("text", "") for output in client.nb.cells[0].outputs)


def main() -> None:
    args = make_parser(__doc__).parse_args()
    if not (sys.platform == "linux" and os.geteuid() == 0):
        raise SystemExit("needs root on Linux to mount a read-only copy")
    with tempfile.TemporaryDirectory() as folder:
        base, copy = Path(folder), Path(folder) / "copy"
        subprocess.run(["git", "clone", "-q", PROJECT, base / "own"], check=True)
        copy.mkdir()
        subprocess.run(["mount", "--bind", base / "own", copy], check=True)
        try:
            remount = ["mount", "-o", "remount,ro,bind", copy]
            subprocess.run(remount, check=True)
            homes = [base / f"student-{i}" for i in range(STUDENTS)]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                answers = list(pool.map(attend, [copy] * len(homes), homes))
        finally:
            subprocess.run(["umount", copy], check=True)
        status = ["git", "status", "--short", "--ignored"]
        left = subprocess.check_output(status, cwd=base / "own", text=True)
    running = subprocess.run(["pgrep", "-f", folder], stdout=subprocess.PIPE, text=True)
    if left or running.stdout or len(set(answers)) != 1 or len(answers[0].split()) < 9:
        raise SystemExit(f"left: {left} {running.stdout}; answers: {set(answers)}")
    record(
        "classroom",
        args,
        work=f"{STUDENTS} kernels on one read-only copy, {AT_ONCE} at once",
        result=f"{len(answers)} equal predictions of {len(answers[0].split())} clips; "
        "nothing left in the copy, no process left",
    )


if __name__ == "__main__":
    main()
