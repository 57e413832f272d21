"""The campaigns of tests/soak run, briefly; and many processes share one cache."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from soak.tiny import make_clap, make_corpus

from clepdg_lib.clap import load_clap
from clepdg_lib.corpora import load_corpus
from clepdg_lib.embeddings import embed_corpus
from clepdg_lib.files import write_atomically

SOAK = Path(__file__).parent / "soak"
SCRIPTS = sorted({p.stem for p in SOAK.glob("*.py")} - {"record", "tiny"})
EMBED = """
import sys, numpy
from clepdg_lib import embed_corpus, load_clap, load_corpus
embedded = embed_corpus(load_clap(sys.argv[1]), load_corpus(sys.argv[2]))
numpy.save(sys.argv[3], embedded.embeddings.numpy())
"""


@pytest.fixture
def campaign(monkeypatch):
    """Import a campaign as it is run: beside the modules that it shares."""
    monkeypatch.syspath_prepend(SOAK)
    return importlib.import_module


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_campaign_explains_itself(campaign, monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        campaign(name).main()
    out = capsys.readouterr().out
    assert f"tests/soak/{name}.py" in out and "--json" in out


def test_a_campaign_replaces_its_own_row(campaign, tmp_path):
    shared, file = campaign("record"), tmp_path / "soak.json"
    args = shared.make_parser("").parse_args(["--json", str(file)])
    for campaign_name, result in (("disk", "1"), ("cuts", "2"), ("disk", "3")):
        shared.record(campaign_name, args, work="w", result=result)
    rows = json.loads(file.read_text())["rows"]
    assert {r["campaign"]: r["result"] for r in rows} == {"cuts": "2", "disk": "3"}
    assert "torch" in rows[0]["made_with"] and rows[0]["seconds"] == 0


def test_inputs_that_fuzzing_kept_are_read_or_refused(campaign, tmp_path):
    args = argparse.Namespace(began=time.monotonic(), seconds=3600)
    target = campaign("fuzz_audio").Target(tmp_path, args)
    inputs = sorted((SOAK / "fuzz_corpus").iterdir())
    for file in inputs:
        target(file.read_bytes())
    assert target.n_read + target.n_refused == len(inputs) > 200
    assert target.slowest < 10


def test_the_script_for_accelerators_runs_on_a_processor(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(SOAK.parent / "speed")
    line = ["--device", "cpu", "--clips", "4", "--batch-size", "2", "--towers"]
    importlib.import_module("gpu").main([*line, "clap-mini", "--json", f"{tmp_path}/x"])
    rows = json.loads((tmp_path / "x").read_text())["rows"]
    assert [row["precision"] for row in rows] == ["float32", "bfloat16"]
    assert all(0 < row["fraction_of_rate"] < 2 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("work", ["embed", "finetune", "course"])
def test_killed_work_loses_nothing(work):
    command = [sys.executable, SOAK / "cut_power.py", "--kills", "3", "--only", work]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    assert f"{work}: 3 kills" in run.stdout


@pytest.mark.slow
def test_processes_fill_one_cache_together(tmp_path, private_cache):
    make_corpus(tmp_path / "clips", n_each=5)
    make_clap().save(tmp_path / "model")
    command = [sys.executable, "-c", EMBED, tmp_path / "model", tmp_path / "clips"]
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    workers = [subprocess.Popen([*command, file]) for file in files]
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    clap, corpus = load_clap(tmp_path / "model"), load_corpus(tmp_path / "clips")
    expected = embed_corpus(clap, corpus, cache=False).embeddings.numpy()
    for file in files:
        embeddings = np.load(file, allow_pickle=False)
        np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    kept = [path.name for path in private_cache.rglob("*") if path.is_file()]
    assert len(kept) == len(corpus) and not any(n.startswith(".") for n in kept)


def test_shared_data_that_is_read_only_is_only_read(tmp_path, private_cache):
    shared = tmp_path / "shared"
    make_clap().save(shared / "model")
    make_corpus(shared / "clips")
    before = {path: path.stat().st_mtime_ns for path in shared.rglob("*")}
    for path in (shared, *before):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        clap = load_clap(shared / "model")
        embedded = embed_corpus(clap, load_corpus(shared / "clips"))
        assert len(embedded) == 8
        after = {path: path.stat().st_mtime_ns for path in shared.rglob("*")}
        assert after == before
    finally:
        for path in (shared, *before):
            path.chmod(0o755)


def test_many_writers_of_one_file_leave_one_whole_version(tmp_path):
    versions = [bytes([65 + i]) * 50_000 for i in range(8)]
    file = tmp_path / "result.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda version: write_atomically(file, version), versions * 5))
    assert file.read_bytes() in versions
    assert os.listdir(tmp_path) == ["result.json"]
