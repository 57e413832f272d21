"""The command line: it checks first, works, and says errors in one line."""

import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from soak.tiny import make_clap, make_corpus

import clepdg_lib
from clepdg_lib.__main__ import SETTINGS, main
from clepdg_lib.clap import load_clap
from clepdg_lib.files import PROJECT

COMMANDS = ("doctor", "corpora", "embed", "finetune", "benchmark")


@pytest.fixture
def model(tmp_path):
    """Folder of a tiny model."""
    return make_clap().save(tmp_path / "model")


@pytest.fixture
def clips(tmp_path, private_cache):
    """Folder of a tiny corpus."""
    make_corpus(tmp_path / "clips", n_each=4)
    return tmp_path / "clips"


@pytest.fixture
def benchmark_calls(monkeypatch):
    """Stand in for the benchmark: keep what it is asked for."""
    calls = []

    def run_benchmark(*, settings, seeds, folder):
        calls.append((settings, seeds, folder))
        return {"seeds": seeds, "rows": [{"method": "chance", "uar": 0.25}]}

    stand_in = types.ModuleType("clepdg_lib.evaluation.benchmark")
    stand_in.run_benchmark = run_benchmark
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    return calls


def error(capsys, *line):
    """Run a command that fails; return its one line of error."""
    assert main([str(word) for word in line]) == 2
    text = capsys.readouterr().err
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in text
    return lines[0]


# ---------------------------------------------------------------- the line itself
def test_help_lists_the_commands_without_importing_torch():
    code = (
        "import sys; from clepdg_lib.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert all(name in run.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_its_options(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"clepdg_lib {command}" in capsys.readouterr().out


def test_the_version_is_that_of_the_project():
    pyproject = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{clepdg_lib.__version__}"\n' in pyproject


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "required: COMMAND"),
        (["bench"], "invalid choice: 'bench'"),
        (["embed", "emosynth"], "required: --out"),
        (["benchmark", "--json", "x", "--settings", "loc"], "invalid choice: 'loc'"),
        (["benchmark", "--json", "x", "--seeds", "0.5"], "invalid int value: '0.5'"),
        (["embed", "emosynth", "--out", "x", "--epochs", "3"], "unrecognized"),
    ],
)
def test_a_wrong_line_is_refused(line, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(line)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_an_interruption_is_no_traceback(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("clepdg_lib.corpora.list_corpora", interrupt)
    assert main(["corpora"]) == 130
    assert "interrupted" in capsys.readouterr().err


# ---------------------------------------------------------------- doctor, corpora
def test_corpora_are_listed_and_the_doctor_decides_the_status(capsys, monkeypatch):
    monkeypatch.setattr("clepdg_lib.course.doctor.main", lambda: 1)
    assert (main(["corpora"]), main(["doctor"])) == (0, 1)
    table = capsys.readouterr().out
    assert "emosynth" in table and "emodb" in table and "licence" in table


# ---------------------------------------------------------------- embed
def test_embed_writes_arrays_without_pickles_or_paths(model, clips, tmp_path, capsys):
    out = tmp_path / "new" / "tones.npz"
    assert main(["embed", str(clips), "--model", str(model), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["embeddings"].shape == (16, 16)
        assert arrays["features"].shape == (16, 32)
        assert sorted(set(arrays["emotion"])) == ["angry", "happy", "neutral", "sad"]
        assert "path" not in arrays


def launch_two(*line, folder):
    """Run a command in two processes that talk through gloo."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launch, "--nproc-per-node", "2", "-m", "clepdg_lib", *line]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=300)


def test_two_processes_write_the_same_embeddings_as_one(model, clips, tmp_path):
    out = tmp_path / "all.npz"
    line = ["embed", str(clips), "--model", str(model), "--out", str(out)]
    assert main(line) == 0
    launch_two(*line, folder=tmp_path)
    shards = [tmp_path / f"all-0000{rank}-of-00002.npz" for rank in (0, 1)]
    rows = {}
    for file in (out, *shards):
        with np.load(file, allow_pickle=False) as arrays:
            found = dict(zip(arrays["clip"], arrays["embeddings"], strict=True))
        if file == out:
            expected = found
        else:
            assert len(found) == 8
            rows |= found
    assert rows.keys() == expected.keys()
    assert all(np.allclose(rows[clip], expected[clip], atol=1e-5) for clip in rows)


# ---------------------------------------------------------------- finetune
def test_finetune_saves_a_model_that_loads_and_is_the_same_each_time(
    model, clips, tmp_path, capsys
):
    weights = [load_clap(model).audio_projection.weight]
    for name in ("one", "again"):
        out = str(tmp_path / name)
        line = ["finetune", str(clips), "--model", str(model), "--out", out]
        assert main(line) == 0
        assert f"load_clap({out!r})" in capsys.readouterr().out
        weights.append(load_clap(out).audio_projection.weight)
    assert weights[1].equal(weights[2]) and not weights[0].equal(weights[1])


def test_two_processes_train_the_same_model_as_one_and_embed_each_clip_once(
    model, clips, tmp_path, monkeypatch
):
    line = ["finetune", str(clips), "--model", str(model), "--out"]
    assert main([*line, str(tmp_path / "one")]) == 0
    cache = tmp_path / "empty"
    monkeypatch.setenv("CLEPDG_CACHE", str(cache))
    launch_two(*line, str(tmp_path / "two"), folder=tmp_path)
    one, two = (load_clap(tmp_path / n).audio_projection.weight for n in ("one", "two"))
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert len(list(cache.rglob("*.f32"))) == 16


def test_finetune_refuses_a_folder_of_other_things_before_it_loads_anything(
    tmp_path, capsys
):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    line = ["finetune", "no-corpus", "--model", "no-model", "--out", tmp_path / "notes"]
    assert "exists and is no model; choose a new folder" in error(capsys, *line)


def test_a_tilde_is_the_home_in_every_option(model, clips, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(clips)
    before = sorted(clips.iterdir())
    line = ["finetune", "~/clips", "--model", "~/model", "--out=~/mine"]
    assert main(line) == 0 and (tmp_path / "mine" / "config.json").is_file()
    line = ["embed", "~/clips", "--model", "~/mine", "--out=~/clips"]
    assert main(line) == 2 and sorted(clips.iterdir()) == before  # it is a folder


# ---------------------------------------------------------------- benchmark
def test_benchmark_writes_what_it_returns(benchmark_calls, tmp_path, capsys):
    file = tmp_path / "new" / "result.json"
    assert main(["benchmark", "--json", str(file)]) == 0
    assert benchmark_calls == [(SETTINGS, [0, 1, 2, 3, 4], None)]
    assert json.loads(file.read_text())["rows"][0]["method"] == "chance"
    line = ["benchmark", "--json", str(file), "--settings", "loco", "shift"]
    assert main([*line, "--seeds", "7", "--features", "mine"]) == 0
    assert benchmark_calls[1] == (["loco", "shift"], [7], Path("mine"))
    assert json.loads(file.read_text())["seeds"] == [7]


# ---------------------------------------------------------------- where to write
@pytest.mark.parametrize("command", ["embed", "finetune", "benchmark"])
def test_a_path_that_cannot_be_written_is_refused_before_the_work(
    command, tmp_path, benchmark_calls, capsys
):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "inside"
    line = {
        "embed": ["no-corpus", "--out", path],
        "finetune": ["no-corpus", "--out", path],
        "benchmark": ["--json", path],
    }[command]
    assert f"{path}" in error(capsys, command, *line)
    assert "cannot be written" in error(capsys, command, *line)
    assert benchmark_calls == []


def test_a_folder_is_no_file(tmp_path, benchmark_calls, capsys):
    line = ["benchmark", "--json", tmp_path]
    assert error(capsys, *line) == (f"error: {tmp_path} is a folder; name a file in it")
    assert "is a folder" in error(capsys, "embed", "no-corpus", "--out", tmp_path)
