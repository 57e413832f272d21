"""Write down what the course stands on: exact versions, and whose licence.

    python tests/soak/supply_chain.py

Reads the installed packages, from `clepdg-lib[test]` down, and writes
`.ci/constraints.txt` (versions that the tests passed with; no index is named in it) and
`.ci/licences.md`.
"""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from packaging.requirements import Requirement  # noqa: E402
from packaging.utils import canonicalize_name  # noqa: E402
from record import PROJECT  # noqa: E402

from clepdg_lib.files import write_atomically  # noqa: E402

ROOT = ("clepdg-lib", ("test",))
# What a package says in prose, and the name of that licence.
SPDX = {
    "BSD": "BSD",
    "MIT": "MIT",
    "Apache": "Apache-2.0",
    "MPL": "MPL-2.0",
    "LGPL": "LGPL",
    "PSF": "PSF-2.0",
    "Python Software Foundation": "PSF-2.0",
    "ISC": "ISC",
    "NVIDIA Proprietary": "NVIDIA (proprietary)",
}


def closure() -> dict[str, str]:
    """Names and versions of all that is needed, without the course itself."""
    found, todo = {}, [ROOT]
    seen = set()
    while todo:
        name, extras = todo.pop()
        key = canonicalize_name(name)
        if (key, extras) in seen:
            continue
        seen.add((key, extras))
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another system, or an extra that is not here
        if key != ROOT[0]:
            found[key] = package.version.split("+")[0]
        for line in package.requires or []:
            needed = Requirement(line)
            wanted = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if needed.marker is None or any(map(needed.marker.evaluate, wanted)):
                todo.append((needed.name, tuple(sorted(needed.extras))))
    return dict(sorted(found.items()))


def licence(name: str) -> str:
    """The licence that a package declares, as briefly as it can be said."""
    about = metadata.metadata(name)
    if stated := about.get("License-Expression"):
        return stated
    for line in about.get_all("Classifier") or []:
        if line.startswith("License :: "):
            told = line.split(" :: ")[-1]
            if told != "OSI Approved":
                return next((v for k, v in SPDX.items() if k in told), told)
    told = (about.get("License") or "").strip().splitlines()
    if told and len(told[0]) < 60:
        return next((v for k, v in SPDX.items() if k in told[0]), told[0])
    for file in metadata.files(name) or []:
        if re.search(r"licen[cs]e|copying", file.name, flags=re.I):
            text = file.locate().read_text(encoding="utf-8", errors="replace")
            return next((v for k, v in SPDX.items() if k in text[:2000]), "see package")
    return "not declared"


def main() -> None:
    packages = closure()
    version = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    head = (
        f"# Exact versions that the tests passed with: Python {version}.\n"
        "# make .venv PIP_CONSTRAINT=.ci/constraints.txt installs them.\n"
        "# Written by tests/soak/supply_chain.py.\n"
    )
    lines = "".join(f"{name}=={version}\n" for name, version in packages.items())
    write_atomically(PROJECT / ".ci" / "constraints.txt", head + lines)
    rows = "".join(
        f"| {name} | {version} | {licence(name).replace('|', '/')} |\n"
        for name, version in packages.items()
    )
    about = (
        "# Licences of what the course depends on\n\n"
        "As each package declares it; written by `tests/soak/supply_chain.py`. Nothing "
        "of these is copied into the course.\n\n"
        "| package | version | licence |\n| --- | --- | --- |\n"
    )
    write_atomically(PROJECT / ".ci" / "licences.md", about + rows)
    print(f"{len(packages)} packages")


if __name__ == "__main__":
    main()
