"""Is this machine ready for the course? One line per check, a remedy per problem."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from clepdg_lib.files import CHECKSUMS, cache_root, data_root, verify_checksums

INSTALL = "run `make .venv`, or `pip install -e .` in your own environment"
FOLDERS = ("emosynth", "models/clap-mini", "models/clep-mini")
MIN_GB = 2.0  # of memory and of disk


def examine() -> Iterator[str]:
    """Yield a line per check: "OK  ...", or "FIX ..." with the remedy below it."""
    for look in (_packages, _resources, _data, _corpora):
        try:
            for text, remedy in look():
                yield f"FIX {text}\n    -> {remedy}" if remedy else f"OK  {text}"
        except (ImportError, OSError, ValueError) as error:
            yield f"FIX {look.__name__[1:]}: {error}\n    -> {INSTALL}"


def main() -> int:
    """Print all findings; return 1 if any needs fixing."""
    fixes = []
    for line in examine():
        print(line, flush=True)
        fixes += [line] * line.startswith("FIX")
    print(f"{len(fixes)} to fix" if fixes else "Ready: open notebooks/00_welcome.ipynb")
    return int(bool(fixes))


def _packages() -> Iterator[tuple[str, str]]:
    # By their metadata: importing torch takes seconds.
    from packaging.requirements import Requirement

    yield f"Python {sys.version.split()[0]}", ""
    needed = [Requirement(line) for line in metadata.requires("clepdg-lib") or ()]
    needed = [r for r in needed if not r.marker or r.marker.evaluate({"extra": ""})]
    yield f"{len(needed)} packages are required", ""
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
            if not requirement.specifier.contains(version, prereleases=True):
                wrong = f"{requirement.name} {version}, but {requirement} is needed"
                yield wrong, INSTALL
        except metadata.PackageNotFoundError:
            yield f"{requirement.name} is not installed", INSTALL


def _resources() -> Iterator[tuple[str, str]]:
    import psutil

    memory = psutil.virtual_memory().available / 1e9
    remedy = f"close other programs: a notebook needs up to {MIN_GB:g} GB"
    yield f"{memory:.1f} GB memory free", remedy if memory < MIN_GB else ""
    folder = next(f for f in (cache_root(), *cache_root().parents) if f.exists())
    disk = shutil.disk_usage(folder).free / 1e9
    remedy = f"free {MIN_GB:g} GB, or set CLEPDG_CACHE to a folder elsewhere"
    yield f"{disk:.1f} GB disk free for the cache", remedy if disk < MIN_GB else ""


def _data() -> Iterator[tuple[str, str]]:
    root = data_root()
    listed = {path.parent for path in root.rglob(CHECKSUMS)}
    for folder in sorted(listed | {root / name for name in FOLDERS}):
        name = f"data/{folder.relative_to(root).as_posix()}"
        try:
            problem = next(iter(verify_checksums(folder).values()), "")
        except OSError as error:
            problem = str(error)
        remedy = f"fetch the folder again: git checkout -- {name}"
        yield f"{name}: {problem or 'complete'}", remedy if problem else ""


def _corpora() -> Iterator[tuple[str, str]]:
    root = os.environ.get("CLEPDG_CORPORA")
    if not root:
        yield "real corpora: none (optional: set CLEPDG_CORPORA to their folder)", ""
    elif not Path(root).expanduser().is_dir():
        yield f"CLEPDG_CORPORA is {root!r}, which is no folder", "correct or unset it"
    else:
        from clepdg_lib.corpora import list_corpora

        rows = list_corpora().query("found").itertuples()
        clips = [f"{row.name} ({row.clips} clips)" for row in rows]
        yield f"corpora: {', '.join(clips) or 'none recognised'}", ""
