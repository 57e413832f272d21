"""Serve every lesson with a widget by Voilà, and play with it in a real browser.

    python tests/soak/in_voila.py         # the `soak` extra brings Voilà

Voilà shows a notebook without its code: what a teacher puts on a screen. The widgets
are driven as in JupyterLab, by the functions of `tests/test_browser.py`; pictures go
to `build/voila/`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).parents[1])]
import test_browser  # noqa: E402
from browser import open_browser, serving  # noqa: E402
from record import PROJECT, record  # noqa: E402

from clepdg_lib.course import NOTEBOOKS  # noqa: E402

SECONDS = 600  # until a lesson has run


def main() -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=90_000)
    began = time.monotonic()
    test_browser.SCREENSHOTS = PROJECT / "build" / "voila"
    test_browser.SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with open_browser() as page:
        for name, drive in test_browser.DRIVES.items():
            notebook = NOTEBOOKS / f"{name}.ipynb"
            command = ["voila", "--port={port}", "--no-browser", "--Voila.ip=127.0.0.1"]
            with serving(*command, notebook, ready="favicon.ico") as address:
                # The end of the page comes when all cells have run.
                page.goto(address, timeout=1000 * SECONDS)
                page.get_by_text("What you learned").wait_for(timeout=1000 * SECONDS)
                drive(page, expect)
                errors = page.get_by_text("Error displaying widget").count()
                if errors or page.get_by_text("Traceback (most").count():
                    raise SystemExit(f"{name}: an error is on the page")
                print(f"{name}: its widget answers", flush=True)
    record(
        "Voilà",
        did=f"{len(test_browser.DRIVES)} lessons served by Voilà, widgets driven in a "
        "browser",
        found="all answered",
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    main()
