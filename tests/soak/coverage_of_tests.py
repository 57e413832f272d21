"""Measure which branches of the library the unit tests take; the floor is 95 %.

    python tests/soak/coverage_of_tests.py

Notebooks, browser tests and processes that tests start do not count.
"""

import json
import subprocess
import sys

from record import make_parser, record

from clepdg_lib.files import PROJECT

FLOOR = 95.0


def main() -> None:
    args = make_parser(__doc__).parse_args()
    build = PROJECT / "build"
    build.mkdir(exist_ok=True)
    data, out = f"--data-file={build / 'coverage'}", build / "coverage.json"
    coverage = [sys.executable, "-m", "coverage"]
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules"]
    tests += ["-m", "not slow", "--ignore=tests/test_browser.py", "clepdg_lib", "tests"]
    run = [*coverage, "run", data, "--branch", "--source=clepdg_lib", *tests]
    subprocess.run(run, check=True, cwd=PROJECT)
    report = [*coverage, "json", data, "-q", "-o", str(out)]
    subprocess.run(report, check=True, cwd=PROJECT)
    result = json.loads(out.read_text())
    total = result["totals"]
    for name, file in sorted(result["files"].items()):
        if file["summary"]["percent_covered"] < FLOOR:
            print(name, "not lines", *file["missing_lines"])
    n_taken, n_branches = total["covered_branches"], total["num_branches"]
    record(
        "coverage",
        args,
        work=f"{total['num_statements']:,} statements and {n_branches:,} branches of "
        "the library under its unit tests",
        result=f"{total['percent_covered']:.1f} % covered ({n_taken:,} of "
        f"{n_branches:,} branches)",
    )
    if total["percent_covered"] < FLOOR:
        raise SystemExit(f"below {FLOOR:g} %")


if __name__ == "__main__":
    main()
