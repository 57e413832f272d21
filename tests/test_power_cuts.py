"""The campaign of power cuts still runs: a few kills of each kind of work."""

import subprocess
import sys
from pathlib import Path

import pytest
from soak.cut_power import SHARES

CAMPAIGN = Path(__file__).parent / "soak" / "cut_power.py"


@pytest.mark.slow
@pytest.mark.parametrize("work", SHARES)
def test_killed_work_loses_nothing(work):
    command = [sys.executable, str(CAMPAIGN), "--kills", "3", "--only", work]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{work}: 3 kills" in done.stdout
