"""A CLAP on disk, in Hugging Face's layout: weights, tokenizer, view of sound.

Shapes: none; files only.
Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel
from transformers.utils import logging

from clepdg_lib.checkpoints import could_not_write
from clepdg_lib.files import (
    CHECKSUMS,
    ChangedFileError,
    WriteError,
    refuse_changed,
    settle,
    write_checksums,
)
from clepdg_lib.versions import versions

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
# What transformers 5 writes into a tokenizer's settings of how it was last called.
LAST_CALL = ("backend", "is_local", "local_files_only", "max_length", "stride")
LAST_CALL += ("pad_to_multiple_of", "pad_token_type_id", "truncation_strategy")
# Commits of LAION's checkpoints: a name alone would give whatever the hub holds today.
REVISIONS = {
    "laion/clap-htsat-unfused": "8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a",
    "laion/clap-htsat-fused": "365dea6ef167def6676140ed93bbc43f84dabb28",
    "laion/larger_clap_music_and_speech": "195c3a3e68faebb3e2088b9a79e79b43ddbda76b",
}


def _require_checksums(folder: Path) -> None:
    """Refuse a bundled model that nobody can prove whole."""
    if not (folder / CHECKSUMS).is_file():
        raise ChangedFileError(
            f"{folder / CHECKSUMS} is missing, so nobody can tell whether "
            f"{folder.name} is whole; fetch it again: "
            f"git checkout -- data/models/{folder.name}"
        )


def read_parts(
    source: str, *, revision: str | None = None, ships: bool = False
) -> tuple[ClapModel, Any, ClapFeatureExtractor]:
    """Read model (float32), tokenizer and feature extractor.

    Only safetensors are read, and no code that a model brings is run. A folder with
    checksums must agree with them.

    Args:
        source: A folder, or a hub name.
        revision: Commit of a hub model.
        ships: The folder ships with the course, so it must have checksums.

    Raises:
        OSError: Something is missing and cannot be fetched.
        ChangedFileError: A file of the folder differs from its checksum, or a folder
            that ships has none.
        ValueError: Weights in a pickle, code of its own, damaged files, or weights
            that are not finite.
    """
    is_local = Path(source).is_dir()
    if ships:
        _require_checksums(Path(source))
    if is_local:
        refuse_changed(source)
        _refuse_code(Path(source))
    try:
        with _without_bars(is_local=is_local):
            model = ClapModel.from_pretrained(
                source, revision=revision, use_safetensors=True, dtype=torch.float32
            )
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        extractor = ClapFeatureExtractor.from_pretrained(source, revision=revision)
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{source} cannot be read as a CLAP ({error}); its files are damaged or of "
            "another kind of model. Fetch or save it again."
        ) from error
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(
                f"{source} holds NaN or infinite weights in {name}; its training went "
                "wrong, or it was saved in half precision and overflowed. Use another."
            )
    return model, tokenizer, extractor


def how_to_fetch(name: str, revision: str | None) -> str:
    """Say that a hub model is neither here nor reachable, and how to get it."""
    offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    pin = f" --revision {revision}" if revision else ""
    return (
        f"{name!r} is not on this machine and could not be fetched from the hub"
        f"{' (HF_HUB_OFFLINE is set)' if offline else ''}, as safetensors. With a "
        f"network, run `hf download {name}{pin}` once (LAION's are 0.6 to 0.8 GB); "
        "meanwhile use load_clap('clap-mini')."
    )


def _refuse_code(folder: Path) -> None:
    """Refuse what could run something: pickled weights, and classes of its own."""
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        if pickles:
            raise ValueError(
                f"{folder} keeps its weights in {', '.join(pickles)}, a pickle, which "
                "could run anything; only safetensors are read. Convert it where you "
                "trust it: model.save_pretrained(folder) writes safetensors."
            )
    for file in sorted(folder.glob("*.json")):
        if '"auto_map"' in file.read_text(encoding="utf-8", errors="replace"):
            raise ValueError(
                f"{file} asks for Python code of its own (auto_map), which is never "
                "run here; use a model of the plain ClapModel class."
            )


def write_parts(
    folder: Path,
    model: ClapModel,
    tokenizer: Any,
    extractor: ClapFeatureExtractor,
    *,
    half: bool = False,
) -> Path:
    """Write them, with checksums, so that transformers reads them back.

    A new folder appears whole or not at all. In an old one files are replaced one by
    one, behind the new checksums: if that is interrupted, `read_parts` refuses the
    mixture by name. Other files in it stay.

    Args:
        folder: Where to; created.
        model: Weights and configuration.
        tokenizer: Beside it.
        extractor: Beside it.
        half: Store 16-bit weights.

    Raises:
        WriteError: Disk full, folder read-only, or the like.
        ValueError: Weights that are not finite, or not in half precision.
    """
    state = {
        name: tensor.half() if half and tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            kind = "half precision (at most 65,504)" if half else "finite numbers"
            raise ValueError(
                f"{name} does not fit into {kind}; {folder} was not written. Save with "
                "half=False, or train with a lower learning rate."
            )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}.", dir=folder.parent
        ) as scratch:
            parts = Path(scratch) / "parts"
            model.save_pretrained(parts, state_dict=state)
            tokenizer.save_pretrained(parts)
            _tell_less(parts)
            extractor.save_pretrained(parts)
            stamp = json.dumps(versions(), indent=1) + "\n"
            (parts / "made_with.json").write_text(stamp, encoding="utf-8")
            write_checksums(parts)
            for file in parts.iterdir():
                with file.open("rb+") as stream:
                    os.fsync(stream.fileno())
            _put(parts, folder)
    except (OSError, SafetensorError) as error:
        if isinstance(error, WriteError):
            raise
        raise could_not_write(folder, error) from error
    return folder


def _put(parts: Path, folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if not folder.exists():
        parts.replace(folder)
    else:
        names = sorted(file.name for file in parts.iterdir())
        names.remove(CHECKSUMS)
        for name in (CHECKSUMS, *names):
            (parts / name).replace(folder / name)
        settle(folder)
        write_checksums(folder)  # of what else lies there, too
    settle(folder.parent)


@contextlib.contextmanager
def _without_bars(*, is_local: bool) -> Iterator[None]:
    """Keep transformers' bars for downloads: a local file is read in a blink."""
    if not (is_local and logging.is_progress_bar_enabled()):
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def _tell_less(folder: Path) -> None:
    """Keep in a tokenizer's files what is of the tokenizer, not of its last call.

    transformers 5 also writes how it was loaded, a class name that no earlier version
    knows, and to what length it last cut, to which a processor would cut audio as well.
    """
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    for name in LAST_CALL:
        settings.pop(name, None)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    file = folder / "tokenizer.json"
    if file.is_file():
        rules = json.loads(file.read_text(encoding="utf-8"))
        rules |= {"truncation": None, "padding": None}
        text = json.dumps(rules, indent=2, ensure_ascii=False) + "\n"
        file.write_text(text, encoding="utf-8")
