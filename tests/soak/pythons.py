"""Install the course under other versions of Python, and run its unit tests there.

    python tests/soak/pythons.py python3.10 python3.12 python3.13

Each gets a clone and an environment of its own, which are removed afterwards. Browser
tests are left to the usual version: what they test runs in the same JupyterLab.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from record import make_parser, record

from clepdg_lib.files import PROJECT


def run_tests(python: str, folder: Path) -> str:
    """Return the version of an interpreter, and how many tests pass under it."""
    clone, environment = folder / "course", folder / "environment"
    subprocess.run(["git", "clone", "--quiet", PROJECT, clone], check=True)
    subprocess.run([python, "-m", "venv", environment], check=True)
    inside = str(environment / "bin" / "python")
    pip = [inside, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--editable", f"{clone}[test,book]"], check=True)
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", "--doctest-modules"]
    done = subprocess.run(
        [inside, "-m", "pytest", *options, "--ignore=tests/test_browser.py"]
        + ["clepdg_lib", "tests"],
        cwd=clone,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout[-3000:]}\n{python}: tests fail")
    code = "import platform; print(platform.python_version())"
    version = subprocess.run([inside, "-c", code], stdout=subprocess.PIPE, text=True)
    n_passed = re.search(r"(\d+) passed", done.stdout)[1]
    return f"{version.stdout.strip()}: {n_passed} passed"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("python", nargs="+")
    args = parser.parse_args()
    results = []
    for python in args.python:
        with tempfile.TemporaryDirectory() as folder:
            results.append(run_tests(python, Path(folder)))
        print(results[-1], flush=True)
    record(
        "Pythons",
        args,
        work=f"installed under {len(results)} versions of Python, unit tests run",
        result="; ".join(results),
    )


if __name__ == "__main__":
    main()
