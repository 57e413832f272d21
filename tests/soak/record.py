"""What campaigns share: their figures in `data/results/soak.json`, and forks."""

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from clepdg_lib.files import PROJECT, versions, write_atomically

# Torch does not survive a fork of a process that has computed.
FORKS = multiprocessing.get_context("forkserver")
RESULTS = PROJECT / "data" / "results" / "soak.json"


def make_parser(doc: str) -> argparse.ArgumentParser:
    """Start the command line of a campaign; `--json` says where its figures go."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=RESULTS, help="file of figures")
    parser.set_defaults(began=time.monotonic())
    return parser


def record(campaign: str, args: argparse.Namespace, *, work: str, result: str) -> None:
    """Replace a campaign's row by a new one, with the versions that were tested."""
    file, seconds = args.json, time.monotonic() - args.began
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    rows = [row for row in rows if row["campaign"] != campaign]
    row = {"campaign": campaign, "work": work, "result": result}
    rows.append({**row, "seconds": round(seconds), "made_with": versions()})
    rows.sort(key=lambda row: row["campaign"])
    write_atomically(file, json.dumps({"rows": rows}, indent=1) + "\n")
    print(f"{campaign}: {work}: {result} ({seconds:.0f} s)", flush=True)


def fork(work: Callable[[], object], *, seconds: float | None) -> int | None:
    """Work in a process of its own, forked from one that has only imported.

    Args:
        work: A function of a module, a method or a partial; its output is dropped.
        seconds: After so many, it and whatever it started are killed.

    Returns:
        Its exit status, 1 after an exception; None if it was killed.
    """
    process = FORKS.Process(target=_run, args=(work,))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # it may not lead a group yet
        process.join()
        return None
    return process.exitcode


def _run(work: Callable[[], object]) -> None:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(int(work() or 0))
