"""Prepare what the model builders train on, once: log-mels, places, eGeMAPS.

For every clip: its log-mel picture, and pictures of it in random environments
(with what room, channel and noise it was), and the 88 eGeMAPSv02 functionals of
the clean clip. Corpora come from $CLEPDG_CORPORA, ESC-10 from --acoustics, and
"voices" is neutral synthetic speech in ten languages, rendered here by espeak-ng.

    CLEPDG_CORPORA=../shared/corpora python data/build_features.py \\
        --acoustics ../shared/acoustics --work build/features

One file per corpus and kind; those that exist are kept, so an interrupted run
resumes. Needs the `build` extra (opensmile) and Debian's espeak-ng.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from clepdg_lib.audio import SAMPLE_RATE, LogMel, level, read_audio, resample, trim
from clepdg_lib.captions import PROPERTIES
from clepdg_lib.corpora import load_corpus
from clepdg_lib.environments import place, random_environment

CORPORA = ("emodb", "ravdess", "tess", "nemo", "emogator")
PLACES = ("room", "channel", "noise")
SENTENCES = {
    "cs": "Dnes ráno svítí slunce na staré střechy.|Vlak přijede za deset minut.",
    "da": "Bogen ligger på bordet ved vinduet.|Vi mødes på stationen klokken otte.",
    "es": "El tren sale de la estación a las nueve.|La llave está encima de la mesa.",
    "fi": "Kirja on pöydällä ikkunan vieressä.|Juna lähtee asemalta kello yhdeksän.",
    "fr-fr": "Le livre est posé sur la petite table.|Le train part à neuf heures.",
    "hu": "A könyv az asztalon van az ablak mellett.|A vonat kilenckor indul.",
    "it": "Il libro si trova sul tavolo in cucina.|Il treno parte alle nove.",
    "nl": "Het boek ligt op de tafel bij het raam.|De trein vertrekt om negen uur.",
    "pt": "O livro está em cima da mesa pequena.|O trem parte às nove horas.",
    "sv": "Boken ligger på bordet vid fönstret.|Tåget går från stationen klockan nio.",
}
VARIANTS = {
    "male": ("m1", "m2", "m3", "m4", "m5", "m6", "m7"),
    "female": ("f1", "f2", "f3", "f4", "f5"),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--work", type=Path, default=Path("build/features"))
    arguments.add_argument("--acoustics", type=Path, default=Path("../shared/acoustics"))
    arguments.add_argument("--only", nargs="+", default=("esc10", "voices", *CORPORA))
    arguments.add_argument("--kind", nargs="+", default=("mels", "egemaps"))
    arguments.add_argument("--places", type=int, default=2, help="environments a clip")
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        clips, info = gather(name, args)
        for kind in args.kind:
            target = args.work / f"{name}-{kind}.npz"
            if target.is_file():
                print(f"{target} is there already", flush=True)
                continue
            work = mels if kind == "mels" else egemaps
            arrays = work(name, clips, args)
            partial = target.with_suffix(".partial.npz")
            np.savez(partial, **info, **arrays)
            partial.replace(target)
            print(f"{target} written: {len(clips)} clips", flush=True)


def gather(name: str, args) -> tuple[list[Path], dict[str, np.ndarray]]:
    """List a corpus's sound files and what is known of each."""
    if name == "esc10":
        folder = args.acoustics / "esc10"
        clips = sorted(p for p in folder.glob("*/*") if p.is_file())
        if not clips:
            raise SystemExit(f"no ESC-10 clips under {folder}; pass --acoustics")
        # Folders are like 001_Dog_bark, files like fold-source-take.
        words = [c.parent.name.split("_", 1)[1].replace("_", " ").lower() for c in clips]
        table = {"sound": words, "split": [f"fold{c.name[0]}" for c in clips]}
        ids = [f"{c.parent.name}/{c.stem}" for c in clips]
        info = {"clip": ids, **table, "sex": [""] * len(clips)}
    elif name == "voices":
        clips, sexes = render_voices(args.work / "voices", seed=args.seed)
        info = {"clip": [c.stem for c in clips], "sex": sexes}
        info |= {"split": ["train"] * len(clips), "sound": [""] * len(clips)}
    else:
        table = load_corpus(name).clips
        clips = [Path(p) for p in table["path"]]
        info = {c: list(table[c]) for c in ("clip", "sex", "split", "emotion")}
        info |= {"speaker": list(table["speaker"]), "sound": [""] * len(clips)}
    return clips, {key: np.array(value, dtype=str) for key, value in info.items()}


def waves(name: str, clips: list[Path]) -> Iterator[torch.Tensor]:
    """Read clips one at a time; speech is trimmed, all is levelled."""
    began = time.time()
    for n, clip in enumerate(clips):
        wave = read_audio(clip)
        yield level(wave if name == "esc10" else trim(wave))
        if n % 500 == 499:
            rate = (n + 1) / (time.time() - began)
            print(f"{name}: {n + 1} of {len(clips)}, {rate:.0f} clips/s", flush=True)


def mels(name: str, clips: list[Path], args) -> dict[str, np.ndarray]:
    """Draw the clip, and the clip in places -> (n, 1 + places, frames, mels)."""
    log_mel = LogMel()
    generator = torch.Generator().manual_seed(args.seed)
    n_places = 4 * args.places if name == "esc10" else args.places
    pictures = np.empty(
        (len(clips), 1 + n_places, log_mel.n_frames, log_mel.n_mels), np.float16
    )
    known = {p: list(PROPERTIES[p]) for p in PLACES}
    drawn = np.zeros((len(clips), 1 + n_places, len(PLACES)), np.int8)
    for i, wave in enumerate(waves(name, clips)):
        versions = [crop(wave, log_mel.n_samples, 0.5)]
        for v in range(n_places):
            start, bend = torch.rand(2, generator=generator).tolist()
            piece = crop(wave, round(1.1 * log_mel.n_samples), start)
            # Up to 6 % faster or slower: another length of throat, another tempo.
            rate = round(SAMPLE_RATE * (0.94 + 0.12 * bend))
            piece = resample(piece, from_rate=rate, to_rate=SAMPLE_RATE)
            piece = piece[: log_mel.n_samples]
            spot = random_environment(generator)
            versions.append(place(piece, spot, generator=generator))
            for k, aspect in enumerate(PLACES):
                drawn[i, 1 + v, k] = known[aspect].index(getattr(spot, aspect))
        pictures[i] = log_mel(versions)[:, 0].numpy()
    if name == "esc10":
        drawn[:] = -1  # sounds are themselves noise: nothing to say of noise
    elif name != "voices":
        drawn[:, 0] = -1  # nobody noted where these were recorded
    return {"mels": pictures, "places": drawn}


def egemaps(name: str, clips: list[Path], args) -> dict[str, np.ndarray]:
    """Measure the 88 eGeMAPSv02 functionals (Eyben et al. 2016) -> (n, 88)."""
    try:
        import opensmile
    except ImportError:
        raise SystemExit("opensmile is missing: pip install -e '.[build]'") from None
    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.Functionals,
    )
    rows = [
        smile.process_signal(wave.numpy(), SAMPLE_RATE).to_numpy()[0]
        for wave in waves(name, clips)
    ]
    values = np.nan_to_num(np.array(rows, np.float32))
    return {"egemaps": values, "names": np.array(smile.feature_names, dtype=str)}


def crop(wave: torch.Tensor, n_samples: int, where: float) -> torch.Tensor:
    """Cut `n_samples` out of a wave, starting at a fraction of the surplus."""
    start = round(max(0, wave.numel() - n_samples) * where)
    return wave[start : start + n_samples]


def render_voices(folder: Path, *, seed: int) -> tuple[list[Path], list[str]]:
    """Let espeak-ng read sentences in many voices, pitches and tempos."""
    if shutil.which("espeak-ng") is None:
        raise SystemExit("espeak-ng is missing: apt-get install espeak-ng")
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    clips, sexes = [], []
    for language, sentences in SENTENCES.items():
        for sex, variants in VARIANTS.items():
            for variant in variants * (5 if sex == "male" else 7):
                for sentence in sentences.split("|"):
                    pitch, speed = draw.randint(15, 85), draw.randint(110, 240)
                    gap = draw.choice((0, 0, 2))
                    clip = folder / f"{language}-{variant}-{len(clips):05d}.wav"
                    command = ["espeak-ng", "-v", f"{language}+{variant}"]
                    command += ["-p", str(pitch), "-s", str(speed), "-g", str(gap)]
                    if not clip.is_file():
                        subprocess.run(
                            [*command, "-w", str(clip), sentence], check=True
                        )
                    clips.append(clip)
                    sexes.append(sex)
    return clips, sexes


if __name__ == "__main__":
    main()
