"""Checkpoints: what was written comes back, damage is named, nothing is lost."""

import pytest
import torch
from safetensors import SafetensorError

from clepdg_lib import checkpoints
from clepdg_lib.checkpoints import read_checkpoint, write_checkpoint
from clepdg_lib.files import WriteError

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(1)}


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "new" / "checkpoint.safetensors"
    write_checkpoint(file, TENSORS, {"epoch": "1"})
    return file


def test_what_was_written_comes_back_and_nothing_else_lies_there(file):
    tensors, notes = read_checkpoint(file)
    assert notes == {"epoch": "1"} and set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("kept", [0, 7, 60, -1])
def test_a_damaged_checkpoint_is_named_with_a_remedy(file, kept):
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors.*delete it"):
        read_checkpoint(file)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SafetensorError("I/O error: No space left on device"), "free some space"),
        (SafetensorError("something else"), "another folder"),
        (OSError(28, "No space left on device"), "free some space"),
    ],
)
def test_a_full_disk_leaves_the_last_checkpoint(file, monkeypatch, error, told):
    def fail(tensors, partial, notes):
        partial.write_bytes(b"half")
        raise error

    before = file.read_bytes()
    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(WriteError, match=told):
        write_checkpoint(file, TENSORS, {"epoch": "2"})
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


def test_the_content_is_on_the_disk_before_the_name_is(file, monkeypatch):
    order = []
    monkeypatch.setattr(checkpoints.os, "fsync", lambda handle: order.append("sync"))
    real = type(file).replace

    def replace(self, target):
        order.append("name")
        return real(self, target)

    monkeypatch.setattr(type(file), "replace", replace)
    write_checkpoint(file, TENSORS, {})
    assert order[:2] == ["sync", "name"]
