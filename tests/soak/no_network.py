"""Run the whole course where there is no network at all.

    python tests/soak/no_network.py       # as root, on Linux: a namespace of its own

Only loopback is up, which kernels need. Also counts what was written: nothing outside
the project's build folder and the cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from record import PROJECT, record  # noqa: E402


def main() -> None:
    if not (sys.platform == "linux" and os.geteuid() == 0):
        print("no_network: needs root on Linux for a network namespace; left out")
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "PYTHONPATH": str(PROJECT)}
        environment.pop("CLEPDG_CACHE", None)
        command = f"ip link set lo up && exec {sys.executable} -m clepdg_lib course"
        subprocess.run(
            ["unshare", "-n", "bash", "-c", command],
            **{"cwd": PROJECT, "check": True, "env": environment},
        )
        strange = set(os.listdir(home)) - {".cache", ".config", ".local", ".ipython"}
        if strange:
            raise SystemExit(f"written into the home folder: {sorted(strange)}")
    timing = json.loads((PROJECT / "build/course/timing.json").read_text())
    passed = [row["name"] for row in timing["notebooks"] if row["ok"]]
    record(
        "no network",
        did=f"{len(timing['notebooks'])} notebooks with every interface but loopback "
        "taken away",
        found=f"{len(passed)} ran through, nothing written outside build/ and caches",
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    main()
