"""Measure which branches of the library the unit tests take.

    python tests/soak/coverage_of_tests.py

Notebooks and processes that tests start do not count: what is measured is what the unit
tests reach by themselves. The floor is 95 %.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from record import PROJECT, record  # noqa: E402

FLOOR = 95.0
IN_A_BROWSER = ("browser", "accessibility")  # minutes, all in other processes


def main() -> None:
    began = time.monotonic()
    build = PROJECT / "build"
    build.mkdir(exist_ok=True)
    data = f"--data-file={build / 'coverage'}"
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run(
        [
            *(*coverage, "run", data, "--branch", "--source=clepdg_lib"),
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules"),
            *("-m", "not slow", "clepdg_lib", "tests"),
            *(f"--ignore=tests/test_{name}.py" for name in IN_A_BROWSER),
        ],
        check=True,
        cwd=PROJECT,
    )
    out = build / "coverage.json"
    subprocess.run(
        [*coverage, "json", data, "-q", "-o", str(out)], check=True, cwd=PROJECT
    )
    found = json.loads(out.read_text())
    total = found["totals"]
    for name, file in sorted(found["files"].items()):
        share = file["summary"]["percent_covered"]
        if share < FLOOR:
            lines = ", ".join(map(str, file["missing_lines"]))
            print(f"{name}: {share:.1f} %, lines {lines} {file['missing_branches']}")
    n_taken, n_branches = total["covered_branches"], total["num_branches"]
    record(
        "coverage",
        did=f"{total['num_statements']:,} statements and {n_branches:,} branches of "
        "the library under its unit tests",
        found=f"{total['percent_covered']:.1f} % covered ({n_taken:,} of "
        f"{n_branches:,} branches)",
        seconds=time.monotonic() - began,
    )
    if total["percent_covered"] < FLOOR:
        raise SystemExit(f"below {FLOOR:g} %")


if __name__ == "__main__":
    main()
