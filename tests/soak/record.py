"""Keep a campaign's last figures in `data/results/soak.json`, for README to show."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from clepdg_lib.files import write_atomically  # noqa: E402
from clepdg_lib.versions import versions  # noqa: E402

RESULTS = PROJECT / "data" / "results" / "soak.json"
ORDER = (
    "first plot",
    "fuzzing",
    "power cuts",
    "disk",
    "no network",
    "Voilà",
    "Pythons",
    "coverage",
    "mutation",
)


def record(
    campaign: str, *, did: str, found: str, seconds: float, file: Path = RESULTS
) -> None:
    """Replace a campaign's row by a new one, with what it was made with."""
    rows = []
    if file.is_file():
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    rows = [row for row in rows if row["campaign"] != campaign]
    about = {"campaign": campaign, "did": did, "found": found}
    rows.append({**about, "seconds": round(seconds), "made_with": versions()})
    rows.sort(key=lambda row: (ORDER.index(row["campaign"]), row["campaign"]))
    write_atomically(file, json.dumps({"rows": rows}, indent=1) + "\n")
    print(f"{campaign}: {did}: {found} ({seconds:.0f} s)", flush=True)
