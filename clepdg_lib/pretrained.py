"""A CLAP on disk, in Hugging Face's layout: weights, tokenizer, view of sound.

Shapes: none; files only.
Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel
from transformers.utils import logging

# Commits of LAION's checkpoints: a name alone would give whatever the hub holds today.
REVISIONS = {
    "laion/clap-htsat-unfused": "8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a",
    "laion/clap-htsat-fused": "365dea6ef167def6676140ed93bbc43f84dabb28",
    "laion/larger_clap_music_and_speech": "195c3a3e68faebb3e2088b9a79e79b43ddbda76b",
}


def read_parts(
    source: str, *, revision: str | None = None
) -> tuple[ClapModel, Any, ClapFeatureExtractor]:
    """Read model (float32), tokenizer and feature extractor.

    Args:
        source: A folder, or a hub name.
        revision: Commit of a hub model.

    Raises:
        OSError: Something is missing and cannot be fetched.
    """
    with _without_bars(is_local=Path(source).is_dir()):
        model = ClapModel.from_pretrained(
            source, revision=revision, use_safetensors=True, dtype=torch.float32
        )
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    extractor = ClapFeatureExtractor.from_pretrained(source, revision=revision)
    return model, tokenizer, extractor


def write_parts(
    folder: Path,
    model: ClapModel,
    tokenizer: Any,
    extractor: ClapFeatureExtractor,
    *,
    half: bool = False,
) -> Path:
    """Write them so that transformers reads them back; `half` stores 16-bit weights."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.half() if half and tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)
    _tell_less(folder / "tokenizer_config.json")
    extractor.save_pretrained(folder)
    return folder


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


def _tell_less(file: Path) -> None:
    """Keep in a tokenizer's settings what is of the tokenizer, not of this machine.

    transformers 5 also writes how it was loaded, and a class name that no earlier
    version knows.
    """
    settings = json.loads(file.read_text(encoding="utf-8"))
    for name in ("backend", "is_local", "local_files_only"):
        settings.pop(name, None)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
