"""The command line hands each command what it needs, and says errors in one line."""

import json
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from clepdg_lib import __main__ as cli
from clepdg_lib import clap, corpora, course, doctor, results, sharing

COMMANDS = ["doctor", "corpora", "embed", "finetune", "speed", "benchmark", "course"]
COMMANDS += ["student", "slides", "widgets", "readme"]


def test_help_lists_the_commands_at_once():
    code = (
        "import sys; from clepdg_lib.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    for name in COMMANDS:
        assert name in result.stdout


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as refusal:
        cli.main(["bench"])
    assert refusal.value.code == 2
    assert "benchmark" in capsys.readouterr().err


def test_doctor_decides_the_exit_status(monkeypatch):
    monkeypatch.setattr(doctor, "main", lambda: 1)
    assert cli.main(["doctor"]) == 1


def test_course_fails_if_any_notebook_fails(monkeypatch):
    calls = []
    monkeypatch.setattr(
        course, "run_course", lambda names, write: calls.append((names, write)) or 3
    )
    assert cli.main(["course", "03", "--write"]) == 1
    assert calls == [(["03"], True)]


def test_benchmark_is_handed_its_options(monkeypatch):
    seen = []
    fake = types.ModuleType("clepdg_lib.benchmark_run")
    fake.main = lambda args: seen.append(args)
    monkeypatch.setitem(sys.modules, "clepdg_lib.benchmark_run", fake)
    line = ["benchmark", "--tier", "emosynth", "--json", "-", "--seeds", "0", "1"]
    assert cli.main(line) == 0
    assert (seen[0].tier, seen[0].json, seen[0].seeds) == ("emosynth", "-", [0, 1])
    assert cli.main(["benchmark"]) == 0
    assert (seen[1].tier, seen[1].json, seen[1].seeds) == ("audio", None, None)
    assert cli.main(["benchmark", "--setting", "shift"]) == 0
    assert (seen[1].setting, seen[2].setting) == (None, "shift")


def test_readme_says_what_it_wrote_and_what_is_missing(monkeypatch, capsys):
    pages = [Path("README.md")], ["data/x/README.md: no results"]
    monkeypatch.setattr(results, "write_pages", lambda timing: pages)
    assert cli.main(["readme"]) == 1
    printed = capsys.readouterr()
    assert "wrote README.md" in printed.out and "no results" in printed.err
    monkeypatch.setattr(results, "write_pages", lambda timing: ([], []))
    assert cli.main(["readme", "--timing", "timing.json"]) == 0


def test_corpora_prints_a_table(monkeypatch, capsys):
    table = pd.DataFrame({"name": ["tess"], "found": [False]})
    monkeypatch.setattr(corpora, "list_corpora", lambda: table)
    assert cli.main(["corpora"]) == 0
    assert "tess" in capsys.readouterr().out


def test_embed_writes_arrays_without_pickles_or_paths(monkeypatch, tmp_path, capsys):
    clips = pd.DataFrame(
        {"path": ["x/a.wav"], "clip": ["a"], "emotion": ["sad"], "speaker": [None]}
    )
    embedded = types.SimpleNamespace(embeddings=torch.ones(1, 4), clips=clips)
    monkeypatch.setattr(corpora, "load_corpus", lambda name: name)
    monkeypatch.setattr(clap, "load_clap", lambda name, device: name)
    monkeypatch.setattr(sharing, "embed_together", lambda *a, **k: embedded)
    out = tmp_path / "new" / "emosynth.npz"
    assert cli.main(["embed", "--out", str(out)]) == 0
    with np.load(out, allow_pickle=False) as saved:
        columns = {"clip", "emotion", "speaker"}
        assert set(saved) == {"embeddings", "made_with", *columns}
        assert "torch" in json.loads(str(saved["made_with"]))
        assert saved["embeddings"].shape == (1, 4)
        assert saved["emotion"].tolist() == ["sad"]
    assert "1 clips, 4 dimensions" in capsys.readouterr().out


def test_an_interruption_is_one_line_and_has_its_own_status(monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(corpora, "list_corpora", stop)
    assert cli.main(["corpora"]) == 130
    assert "goes on from here" in capsys.readouterr().err


def test_an_error_is_one_line_not_a_traceback(capsys):
    assert cli.main(["embed", "--corpus", "no-such-corpus", "--out", "x.npz"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and "no-such-corpus" in printed
    assert "Traceback" not in printed


def test_corpora_reports_on_one_by_file_and_count(tmp_path, write_wave, capsys):
    write_wave(tmp_path / "mine" / "sad" / "a.wav")
    write_wave(tmp_path / "mine" / "loose.wav")
    assert cli.main(["corpora", str(tmp_path / "mine")]) == 0
    printed = capsys.readouterr().out
    assert "left out: " in printed and "loose.wav" in printed
    assert re.search(r"1 +lies outside", printed) and "train" in printed
    assert cli.main(["corpora", str(tmp_path / "mine"), "--strict"]) == 1
    assert "1 files cannot be made out" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_an_error_and_no_traceback(
    tmp_path, monkeypatch, capsys
):
    def refuse(args):
        raise PermissionError(13, "Permission denied", str(tmp_path / "x"))

    monkeypatch.setattr(cli, "_corpora", refuse)
    assert cli.main(["corpora"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
