"""Run the whole course where there is no network, and see where it writes.

    python tests/soak/no_network.py       # as root, on Linux: a namespace of its own

Only loopback is up, which kernels need. Nothing may be written to the home folder but
caches and settings.
"""

import json
import os
import subprocess
import sys
import tempfile

from record import make_parser, record

from clepdg_lib.files import PROJECT

ALLOWED = {".cache", ".config", ".local", ".ipython", ".jupyter"}


def main() -> None:
    args = make_parser(__doc__).parse_args()
    if not (sys.platform == "linux" and os.geteuid() == 0):
        raise SystemExit("needs root on Linux for a network namespace")
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "PYTHONPATH": str(PROJECT)}
        environment.pop("CLEPDG_CACHE", None)
        run = f"exec {sys.executable} notebooks/build/course.py run"
        command = ["unshare", "-n", "bash", "-c", f"ip link set lo up && {run}"]
        subprocess.run(command, cwd=PROJECT, check=True, env=environment)
        others = sorted(set(os.listdir(home)) - ALLOWED)
        if others:
            raise SystemExit(f"the home folder has {others}")
    timing = json.loads((PROJECT / "build" / "course" / "timing.json").read_text())
    passed = [row for row in timing["notebooks"] if row["ok"]]
    record(
        "no network",
        args,
        work=f"{len(timing['notebooks'])} notebooks without a network but loopback",
        result=f"{len(passed)} ran through; nothing written but build/ and caches",
    )


if __name__ == "__main__":
    main()
