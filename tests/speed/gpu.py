"""Clips a second on one accelerator, and the fraction of its matrix-product rate.

    python tests/speed/gpu.py --json build/gpu.json            # on a machine with a GPU
    python tests/speed/gpu.py --device cpu --clips 8 --towers clap-mini

It measures clap-mini's tower and one of LAION's full size (random weights: the rate is
the same), in both precisions, and fine-tuning on the features that ship. The number of
clips is a multiple of the batch size.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from measure import alternate
from torch.utils.flop_counter import FlopCounterMode

from clepdg_lib.clap import load_clap
from clepdg_lib.clep import finetune_clep
from clepdg_lib.evaluation.real_speech import load_features
from clepdg_lib.files import versions, write_atomically
from clepdg_lib.towers import AudioTower, HtsatTower

TOWERS, SECONDS = ("clap-mini", "laion"), 3


def make_tower(name: str) -> AudioTower:
    """The bundled tower, or LAION's architecture with random weights."""
    if name == "clap-mini":
        return load_clap(name).audio_tower
    model = transformers.ClapAudioModel(transformers.ClapAudioConfig())
    extractor = transformers.ClapFeatureExtractor(
        truncation="rand_trunc", padding="repeatpad"
    )
    return HtsatTower(model, extractor)


def measure_tower(
    name: str, *, device: str, n_clips: int, batch_size: int, bfloat16: bool
) -> dict:
    """Clips a second from waves in memory, and of the network without preparation."""
    tower = make_tower(name).to(device)
    tower.low_precision = bfloat16
    if name == "laion":  # its spectrograms are numpy's, and slow
        n_clips = min(n_clips, batch_size)
    generator = torch.Generator().manual_seed(0)
    clip = 0.1 * torch.randn(SECONDS * tower.sample_rate, generator=generator)
    waves = [clip] * n_clips
    kind = torch.bfloat16 if bfloat16 else torch.float32
    size = 1024 if device == "cpu" else 8192
    matrix = torch.randn(size, size, dtype=kind, device=device)

    def multiply() -> None:
        for _ in range(10):
            product = matrix @ matrix
        product.sum().item()  # waits for the device

    def encode() -> None:
        tower.features(waves, batch_size=batch_size)

    with FlopCounterMode(display=False) as counter:
        encode()
    flops = counter.get_total_flops()  # of all clips
    product, seconds = alternate(multiply, encode, repeats=3)
    ready = tower.spectrograms(waves[:batch_size])
    tower.spectrograms = lambda _: ready
    (alone,) = alternate(encode, repeats=3)
    return {
        "tower": name,
        "precision": "bfloat16" if bfloat16 else "float32",
        "clips_per_second": round(n_clips / seconds),
        "network_per_second": round(n_clips / alone),
        "gflop_a_clip": round(flops / n_clips / 1e9, 2),
        "fraction_of_rate": round(flops / alone * product / (20 * size**3), 3),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clips", type=int, default=4096, help=f"of {SECONDS} s each")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--towers", nargs="+", choices=TOWERS, default=TOWERS)
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args(arguments)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no GPU is here; measure the processor with --device cpu --clips 64")
    rows = []
    how = {"device": args.device, "n_clips": args.clips, "batch_size": args.batch_size}
    for name in args.towers:
        for bfloat16 in (False, True):
            rows.append(measure_tower(name, bfloat16=bfloat16, **how))
            print(*rows[-1].values(), flush=True)
    clap, speech = load_clap("clap-mini", device=args.device), load_features()
    (seconds,) = alternate(lambda: finetune_clep(clap, speech, progress=False))
    print(f"fine-tuning on {len(speech):,} clips' features: {seconds:.2f} s")
    gpu = torch.cuda.get_device_name() if args.device.startswith("cuda") else "none"
    result = {"rows": rows, "finetune_s": round(seconds, 3), "finetune_n": len(speech)}
    result["machine"] = versions() | {"device": args.device, "gpu": gpu}
    if args.json:
        write_atomically(args.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
