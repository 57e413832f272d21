"""Is this machine ready for the course? One line per question, a remedy per no.

Run it with ``python -m clepdg_lib doctor``.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from clepdg_lib.files import (
    PROJECT,
    MissingFileError,
    cache_root,
    data_root,
    verify_checksums,
)

DISTRIBUTION = "clepdg-lib"
MIN_PYTHON = (3, 10)
INSTALL = "run `make .venv`, or `pip install -e .` in your own environment"
BUNDLED_FOLDERS = ("emosynth", "models/clap-mini", "models/clep-mini")
MIN_MEMORY_GB = 2.0
MIN_DISK_GB = 1.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True)
class Finding:
    """What one question found; a remedy is there exactly if something needs it."""

    text: str
    remedy: str = ""

    def __str__(self) -> str:
        if self.remedy:
            return f"FIX {self.text}\n    -> {self.remedy}"
        return f"OK  {self.text}"


def examine() -> Iterator[Finding]:
    """Answer all questions, one after the other."""
    for question in QUESTIONS:
        try:
            yield from question()
        except ImportError as error:
            # A question that cannot be asked must not silence the others.
            yield Finding(f"{question.__name__[1:]}: {error}", INSTALL)


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < MIN_PYTHON:
        yield Finding(f"Python {version}", "the course needs 3.10 or later")
    else:
        yield Finding(f"Python {version}")


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        needed = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding(f"{DISTRIBUTION} is not installed in this Python", INSTALL)
        return
    requirements = [Requirement(line) for line in needed]
    requirements = [r for r in requirements if not r.marker or r.marker.evaluate()]
    problems = []
    for requirement in requirements:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{requirement.name} is not installed")
            continue
        wanted = requirement.specifier
        if not wanted.contains(version, prereleases=True):
            problems.append(f"{requirement.name} {version}, but {wanted} is needed")
    for problem in problems:
        yield Finding(problem, INSTALL)
    if not problems:
        yield Finding(f"{len(requirements)} packages, versions as required")


def _torch() -> Iterator[Finding]:
    try:
        import torch
        import torchaudio
    except (ImportError, OSError) as error:  # a mismatched pair raises OSError
        pair = "torch and torchaudio cannot be imported together"
        yield Finding(
            f"{pair}: {error}",
            'pip install "torch>=2.11,<2.12" "torchaudio>=2.11,<2.12"',
        )
        return
    yield Finding(f"torch {torch.__version__} with torchaudio {torchaudio.__version__}")
    if torch.cuda.is_available():
        yield Finding(f"device cuda ({torch.cuda.get_device_name()})")
    else:
        yield Finding(f"device cpu ({os.cpu_count()} cores), which is all it needs")


def _memory() -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available / 1e9
    remedy = f"close other programs: a notebook needs up to {MIN_MEMORY_GB:g} GB"
    yield Finding(f"{free:.1f} GB memory free", remedy if free < MIN_MEMORY_GB else "")


def _disk() -> Iterator[Finding]:
    folder = cache_root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    remedy = f"free {MIN_DISK_GB:g} GB, or set CLEPDG_CACHE to a folder elsewhere"
    yield Finding(
        f"{free:.1f} GB disk free for embeddings", remedy if free < MIN_DISK_GB else ""
    )


def _data() -> Iterator[Finding]:
    root = data_root()
    listed = {p.parent for p in root.rglob("SHA256SUMS")}
    for folder in sorted(listed | {root / name for name in BUNDLED_FOLDERS}):
        name = f"data/{folder.relative_to(root).as_posix()}"
        try:
            problems = verify_checksums(folder)
        except MissingFileError as error:
            problems = [str(error)]
        if problems:
            yield Finding(
                f"{name}: {problems[0]}"
                + (f" ({len(problems)} problems)" if len(problems) > 1 else ""),
                f"fetch the folder again: git checkout -- {name}",
            )
        else:
            yield Finding(f"{name} is whole")


def _corpora() -> Iterator[Finding]:
    root = os.environ.get("CLEPDG_CORPORA")
    if root and not Path(root).expanduser().is_dir():
        yield Finding(
            f"CLEPDG_CORPORA is {root!r}, which is no folder",
            "set it to the folder that holds your corpora, or unset it",
        )
        return
    from clepdg_lib.corpora import list_corpora

    table = list_corpora()
    found = table[table["found"]]
    names = ", ".join(f"{r.name} ({r.clips} clips)" for r in found.itertuples(False))
    yield Finding(f"corpora: {names or 'none'}")
    if not root:
        yield Finding("real corpora: none asked for (optional: set CLEPDG_CORPORA)")


def find_browser() -> str:
    """Path of a Chromium for the browser tests, or ""."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), "")


def _browser() -> Iterator[Finding]:
    if path := find_browser():
        yield Finding(f"browser {Path(path).name} is here; `make test` drives it")
    else:
        yield Finding(
            "browser: any that you like, here or elsewhere. (To test the widgets in a "
            "real one, `make test` wants chromium: apt-get install chromium.)"
        )


def _network() -> Iterator[Finding]:
    yield Finding("network: not needed")


QUESTIONS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _torch,
    _memory,
    _disk,
    _data,
    _corpora,
    _browser,
    _network,
)


def main() -> int:
    """Print all findings; 1 if any needs fixing."""
    print(f"Looking at {PROJECT.name} on this machine:")
    n_fixes = 0
    for finding in examine():
        print(finding, flush=True)
        n_fixes += bool(finding.remedy)
    print(f"{n_fixes} to fix" if n_fixes else "Ready: open notebooks/00_welcome.ipynb")
    return 1 if n_fixes else 0
