"""Install the course under other versions of Python, and run its unit tests there.

    python tests/soak/pythons.py python3.10 python3.12 python3.13

Each gets a clone and an environment of its own, which are removed afterwards. Browser
tests are left to the usual version; what they test runs in the same JupyterLab.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from record import PROJECT, record  # noqa: E402

LEFT_OUT = ("browser", "accessibility")


def passes(python: str, folder: Path) -> tuple[str, str]:
    """Version of an interpreter, and the last line of the tests under it.

    Raises:
        SystemExit: It cannot be installed there, or a test fails.
    """
    clone, environment = folder / "course", folder / "environment"
    shared = PROJECT.parent / "shared"
    if shared.is_dir():
        (folder / "shared").symlink_to(shared)
    run = {"check": True, "stdout": subprocess.PIPE, "text": True}
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], **run)
    subprocess.run([python, "-m", "venv", str(environment)], **run)
    inside = str(environment / "bin" / "python")
    pip = [inside, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--editable", f"{clone}[test]"], **run)
    version = subprocess.run(
        [inside, "-c", "import platform; print(platform.python_version())"], **run
    ).stdout.strip()
    done = subprocess.run(
        [
            *(inside, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"),
            *("--doctest-modules", "clepdg_lib", "tests"),
            *(f"--ignore=tests/test_{name}.py" for name in LEFT_OUT),
        ],
        cwd=clone,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    print(done.stdout[-3000:], flush=True)
    if done.returncode != 0:
        raise SystemExit(f"Python {version}: tests fail")
    return version, done.stdout.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("python", nargs="+")
    args = parser.parse_args()
    began, found = time.monotonic(), []
    for python in args.python:
        with tempfile.TemporaryDirectory() as folder:
            version, line = passes(python, Path(folder))
        n_passed = re.search(r"(\d+) passed", line)[1]
        found.append(f"{version}: {n_passed} passed")
        print(found[-1], flush=True)
    record(
        "Pythons",
        did=f"installed under {len(found)} other versions of Python, unit tests run",
        found="; ".join(found),
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    main()
