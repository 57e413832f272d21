"""Checkpoints of a training: one safetensors file each, whole or not there.

Lesson: none; `trainer` goes on from them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from clepdg_lib.files import WriteError, settle, write_error


def write_checkpoint(
    file: Path, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, str]
) -> None:
    """Write tensors and notes; the content is on the disk before the name is.

    Raises:
        WriteError: Disk full, folder read-only, or the like; an earlier checkpoint of
            this name is unchanged.
    """
    partial = file.with_suffix(".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), partial, dict(notes))
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        partial.replace(file)
        settle(file.parent)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise could_not_write(file, error) from error


def read_checkpoint(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read what `write_checkpoint` wrote.

    Raises:
        ValueError: The file is damaged, or something else.
    """
    try:
        with safe_open(file, "pt") as opened:
            notes = opened.metadata() or {}
            return {name: opened.get_tensor(name) for name in opened.keys()}, notes  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{file} cannot be read as a checkpoint ({error}); delete it, and the "
            "training begins anew"
        ) from error


def could_not_write(path: Path, error: OSError | SafetensorError) -> WriteError:
    """Say what safetensors could not write: it reports a full disk by a word."""
    if isinstance(error, OSError):
        return write_error(path, error)
    code = errno.ENOSPC if "No space" in str(error) else 0
    return write_error(path, OSError(code, str(error)))
