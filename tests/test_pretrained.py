"""Models on disk: whole or not there, safetensors or refused, and refused by name."""

import copy
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from clepdg_lib import pretrained
from clepdg_lib.clap import load_clap
from clepdg_lib.files import (
    CHECKSUMS,
    PROJECT,
    ChangedFileError,
    WriteError,
    verify_checksums,
)


@pytest.fixture
def folder(tiny_clap, tmp_path):
    """A saved model of the test's own."""
    return tiny_clap.save(tmp_path / "model")


def without_checksums(folder):
    (folder / CHECKSUMS).unlink()
    return folder


def test_a_saved_model_has_checksums_and_says_what_made_it(folder):
    assert verify_checksums(folder) == []
    made = json.loads((folder / "made_with.json").read_text())
    assert made["torch"].startswith("2.")
    assert sorted(p.name for p in folder.parent.iterdir()) == ["model"]


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json"],
)
def test_a_tampered_file_is_refused_by_its_name(folder, name):
    file = folder / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1  # one bit of the last weight, or of the text
    file.write_bytes(content)
    with pytest.raises(ChangedFileError, match=f"{name} differs from its checksum"):
        load_clap(folder)
    file.unlink()
    lost = (
        "unknown model" if name == "config.json" else f"{name} is listed.*but missing"
    )
    with pytest.raises(ValueError, match=lost):
        load_clap(folder)


def test_a_planted_file_is_refused_by_its_name(folder):
    (folder / "modeling_clap.py").write_text("print('hello')")
    with pytest.raises(ChangedFileError, match="modeling_clap.py is not listed"):
        load_clap(folder)


def test_a_page_about_a_model_may_change(folder):
    (folder / "README.md").write_text("about")
    assert load_clap(folder).dim == 16


def test_a_bundled_model_without_checksums_is_refused(folder, monkeypatch, tmp_path):
    target = tmp_path / "data" / "models" / "clap-mini"
    shutil.copytree(without_checksums(folder), target)
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path / "data"))
    with pytest.raises(ChangedFileError, match="SHA256SUMS is missing.*clap-mini"):
        load_clap("clap-mini")


def test_a_planted_pickle_is_refused_and_never_runs(folder, tmp_path):
    mark = tmp_path / "sprung"

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    without_checksums(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"pytorch_model\.bin, a pickle"):
        load_clap(folder)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))  # renamed
    with pytest.raises(ValueError, match="cannot be read as a CLAP"):
        load_clap(folder)
    assert not mark.exists()


def test_code_of_its_own_is_refused_and_never_runs(folder, tmp_path):
    without_checksums(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["auto_map"] = {"AutoTokenizer": ["evil.Evil", None]}
    settings["tokenizer_class"] = "Evil"
    file.write_text(json.dumps(settings))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json asks for Python"):
        load_clap(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_cut_weights_are_refused(folder, share):
    file = without_checksums(folder) / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="model cannot be read as a CLAP"):
        load_clap(folder)


def test_weights_of_another_size_are_refused(folder):
    file = without_checksums(folder) / "config.json"
    config = json.loads(file.read_text())
    config["text_config"]["hidden_size"] = 64
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="another kind of model"):
        load_clap(folder)


def test_weights_that_are_not_numbers_are_refused(folder):
    file = without_checksums(folder) / "model.safetensors"
    tensors = load_file(file)
    name = next(n for n in tensors if n.startswith("audio_projection"))
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"NaN or infinite weights in {name}"):
        load_clap(folder)


def test_half_precision_that_would_overflow_is_not_written(tiny_clap, tmp_path):
    large = copy.copy(tiny_clap)
    large.model = copy.deepcopy(tiny_clap.model)
    large.model.audio_projection.linear1.weight.data[0, 0] = 70_000.0
    with pytest.raises(ValueError, match=r"audio_projection.*at most 65,504"):
        large.save(tmp_path / "half", half=True)
    assert list(tmp_path.iterdir()) == []
    assert load_clap(large.save(tmp_path / "full")).dim == 16
    large.model.audio_projection.linear1.weight.data[0, 0] = float("inf")
    with pytest.raises(ValueError, match="finite numbers"):
        large.save(tmp_path / "other")


def test_saving_over_a_model_keeps_what_else_lies_there(tiny_clap, folder):
    (folder / "README.md").write_text("my notes")
    other = copy.copy(tiny_clap)
    other.model = copy.deepcopy(tiny_clap.model)
    other.model.logit_scale_a.data += 0.5
    other.save(folder)
    assert (folder / "README.md").read_text() == "my notes"
    assert verify_checksums(folder) == []
    assert load_clap(folder).logit_scale == pytest.approx(other.logit_scale)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["model"]


def test_an_empty_folder_may_be_there_already(tiny_clap, tmp_path):
    (tmp_path / "model").mkdir()
    assert load_clap(tiny_clap.save(tmp_path / "model")).dim == 16


def test_a_save_that_stops_half_way_is_refused_by_name(tiny_clap, folder, monkeypatch):
    other = copy.copy(tiny_clap)
    other.model = copy.deepcopy(tiny_clap.model)
    other.model.logit_scale_a.data += 0.5
    replace = Path.replace

    def stop(self, target):
        if self.name == "model.safetensors":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        other.save(folder)
    with pytest.raises(ChangedFileError, match="model.safetensors differs"):
        load_clap(folder)
    monkeypatch.undo()
    other.save(folder)
    assert load_clap(folder).logit_scale == pytest.approx(other.logit_scale)


FULL = """
    import resource, signal, sys
    from clepdg_lib.clap import load_clap
    model = load_clap(sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        model.save(sys.argv[2])
    except OSError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no such limit here")
def test_a_disk_that_takes_no_more_is_an_error_and_leaves_nothing(folder, tmp_path):
    target = tmp_path / "there" / "copy"
    code, words = textwrap.dedent(FULL), [str(folder), str(target)]
    run = subprocess.run(
        [sys.executable, "-c", code, *words],
        **{"cwd": PROJECT, "capture_output": True, "text": True},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("WriteError") and "nothing was changed" in run.stdout
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "free some space"),
        (OSError(30, "Read-only file system"), "read-only: choose a folder"),
        (pretrained.SafetensorError("No space left (os error 28)"), "free some space"),
        (pretrained.SafetensorError("odd"), "odd"),
        (WriteError(13, "mine"), "mine"),
    ],
)
def test_what_stops_a_save_is_told(tiny_clap, tmp_path, monkeypatch, error, told):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(type(tiny_clap.model), "save_pretrained", fail)
    with pytest.raises(WriteError, match=told):
        tiny_clap.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_bundled_models_load_and_a_changed_one_does_not(tmp_path, monkeypatch):
    source = PROJECT / "data" / "models" / "clap-mini"
    target = tmp_path / "data" / "models" / "clap-mini"
    shutil.copytree(source, target)
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path / "data"))
    assert load_clap("clap-mini").name == "clap-mini"
    with (target / "model.safetensors").open("rb+") as weights:
        weights.seek(-1, os.SEEK_END)
        weights.write(b"\x01")
    with pytest.raises(ChangedFileError, match="model.safetensors differs"):
        load_clap("clap-mini")


def test_a_model_with_quiet_bars_stays_quiet(folder, capsys):
    pretrained.logging.disable_progress_bar()
    try:
        load_clap(folder)
    finally:
        pretrained.logging.enable_progress_bar()
    assert capsys.readouterr().err == ""
