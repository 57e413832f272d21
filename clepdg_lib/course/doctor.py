"""Is this machine ready for the course? One line per check, a remedy per problem."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata

from clepdg_lib import files

INSTALL = "run `make .venv`, or `pip install -e .` in your own environment"
FOLDERS = ("emosynth", "models/clap-mini", "models/clep-mini")


def examine() -> Iterator[str]:
    """Yield a line per check: "OK  ...", or "FIX ..." with the remedy below it."""
    for look in (_packages, _data):
        try:
            for text, remedy in look():
                yield f"FIX {text}\n    -> {remedy}" if remedy else f"OK  {text}"
        except (ImportError, OSError, ValueError) as error:
            yield f"FIX {look.__name__[1:]}: {error}\n    -> {INSTALL}"


def main() -> int:
    """Print all findings; return 1 if any needs fixing."""
    fixes = []
    for line in examine():
        print(line.encode(errors="backslashreplace").decode(), flush=True)  # any name
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
        version = ""
        with suppress(metadata.PackageNotFoundError):
            version = metadata.version(requirement.name)
        if not (version and requirement.specifier.contains(version, prereleases=True)):
            found = f"{requirement.name} {version or 'is not installed'}"
            yield f"{found}, but {requirement} is needed", INSTALL


def _data() -> Iterator[tuple[str, str]]:
    root = files.data_root()
    listed = {path.parent for path in root.rglob(files.CHECKSUMS)}
    for folder in sorted(listed | {root / name for name in FOLDERS}):
        name = f"data/{folder.relative_to(root).as_posix()}"
        try:
            problem = next(iter(files.verify_checksums(folder).values()), "")
        except OSError as error:
            problem = str(error)
        remedy = f"fetch the folder again: git checkout -- {name}"
        yield f"{name}: {problem or 'complete'}", remedy if problem else ""
