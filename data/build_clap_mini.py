"""Build clap-mini: a small CLAP that knows sounds, voices and rooms, not emotions.

    python data/build_clap_mini_text.py            # the text tower, once
    CLEPDG_CORPORA=../shared/corpora python data/build_clap_mini.py

The audio tower (HTSAT) learns against the frozen text tower from captions on sound
classes, AudioSet tags, sex, pitch, melody, effort, tempo, texture, room, channel and
noise, and predicts eGeMAPS functionals and a teacher's features beside. It hears
EmoGator's bursts, ESC-10 (folds 1-4) and synthetic voices in ten languages. It never
hears RAVDESS, TESS, EMO-DB, nEMO or emosynth, on which the course evaluates, and no
emotion label of any corpus enters. Resumes after the last finished epoch.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
)

from clepdg_lib.captions import PROPERTIES
from clepdg_lib.clap import Clap
from clepdg_lib.contrast import Aspect, Recipe, train_towers
from clepdg_lib.corpora import Corpus, load_corpus
from clepdg_lib.files import data_root, write_checksums
from clepdg_lib.pictures import PLACES, Pictures, draw_corpus
from clepdg_lib.properties import feature_names, measure_corpus, property_levels

DIM = 192
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
    arguments.add_argument("--work", type=Path, default=Path("build/clap-mini"))
    arguments.add_argument("--shared", type=Path, default=Path("../shared"))
    arguments.add_argument("--out", type=Path, default=data_root() / "models/clap-mini")
    arguments.add_argument("--epochs", type=int, default=30)
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    # Pictures and measurements stay with the build, not in the user's cache.
    os.environ.setdefault("CLEPDG_CACHE", str(args.work / "cache"))
    teacher = read_teacher(args.shared / "teachers" / "audioset_mobilenet.npz")
    clap = untrained(args.work, seed=args.seed)

    bursts, esc, voices = gather(args)
    parts = [draw(bursts, clap), fold(draw(esc, clap, n_places=8)), draw(voices, clap)]
    corpora = [bursts, repeat(esc, 3), voices]
    mels = np.concatenate([p.mels for p in parts])
    clips = [c.clips.iloc[p.kept] for c, p in zip(corpora, parts, strict=True)]
    sizes = [len(p) for p in parts]
    measured = [
        measure_corpus(c, progress=True)[p.kept]
        for c, p in zip((bursts, esc, voices), (parts[0], None, parts[2]), strict=True)
        if p is not None
    ]
    blank = np.full((sizes[1], measured[0].shape[1]), np.nan, np.float32)
    egemaps = np.concatenate([measured[0], blank, measured[1]])
    paths = [
        *("corpora/emogator/" + c for c in clips[0]["clip"]),
        *("acoustics/esc10/" + c for c in clips[1]["clip"]),
        *([""] * sizes[2]),
    ]
    parts[2].places[:, 0] = 0  # synthetic: certainly dry, full-range and quiet
    parts[1].places[:] = -1  # a sound is itself noise: nothing to say of noise
    aspects = write_aspects(clips, parts, egemaps, teacher, paths)
    heard = np.array([teacher["row"].get(p, -1) for p in paths])
    features = np.where(
        heard[:, None] >= 0, teacher["embedding"][heard], np.nan
    ).astype(np.float32)
    targets = np.concatenate([standardise(egemaps), standardise(features)], axis=1)
    shares = (1, 2, 1.5)  # sounds are few, voices are wanted
    sampling = np.concatenate(
        [np.full(n, w) for n, w in zip(sizes, shares, strict=True)]
    )
    print(f"{sizes} clips (bursts, sounds, voices); aspects:", flush=True)
    for aspect in aspects:
        print(
            f"  {aspect.name}: {len(aspect.sentences)} levels, "
            f"{(aspect.labels >= 0).mean():.0%} known",
            flush=True,
        )
    torch.set_num_threads(os.cpu_count() or 1)
    clap = train_towers(
        clap,
        mels,
        aspects,
        recipe=Recipe(
            epochs=args.epochs,
            batch_size=96,
            learning_rate=1e-3,
            tower_share=1.0,  # it starts from nothing
            probe_steps=0,
            norm_moves=True,
            averaging=0.998,
            target_weight=2.0,
        ),
        targets=targets,
        sampling=sampling,
        seed=args.seed,
        checkpoint=args.work / "audio-checkpoint.safetensors",
        judge=sound_judge(args, clap),
    )
    clap.save(args.out, half=True)
    clap.history.to_csv(args.out / "training-log.csv", index=False)
    write_checksums(args.out)
    print(clap.history.to_string(index=False))


def read_teacher(file: Path) -> dict:
    """Load the AudioSet teacher's features and tags, and an index of its clips."""
    if not file.is_file():
        raise SystemExit(f"the teacher features are missing; expected {file}")
    with np.load(file, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    paths = [str(p) for p in found.pop("path")]
    found["row"] = {p.rsplit(".", 1)[0]: i for i, p in enumerate(paths)}
    found["embedding"] = found["embedding"].astype(np.float32)
    return found


def gather(args) -> tuple[Corpus, Corpus, Corpus]:
    """Load EmoGator's training speakers, ESC-10's folds 1-4, and render voices."""
    bursts = load_corpus("emogator")
    keep = ~bursts.clips["clip"].str.endswith("-3") & (bursts.clips["split"] != "test")
    bursts = replace(bursts, clips=bursts.clips[keep])
    esc = load_corpus(args.shared / "acoustics" / "esc10")
    inside = ~esc.clips["clip"].str.split("/").str[-1].str.startswith("5-")
    esc = replace(esc, clips=esc.clips[inside])
    return bursts, esc, load_corpus(render_voices(args.work / "voices", args.seed))


def draw(corpus: Corpus, clap: Clap, *, n_places: int = 2) -> Pictures:
    return draw_corpus(corpus, clap.log_mel, n_places=n_places, progress=True)


def fold(pictures: Pictures, n_versions: int = 3) -> Pictures:
    """Count nine versions of a clip as three clips of three versions."""
    n, v = pictures.mels.shape[:2]
    times = v // n_versions
    return Pictures(
        pictures.mels.reshape(n * times, n_versions, *pictures.mels.shape[2:]),
        pictures.places.reshape(n * times, n_versions, -1),
        np.repeat(pictures.kept, times) * times + np.tile(np.arange(times), n),
    )


def repeat(corpus: Corpus, times: int) -> Corpus:
    clips = corpus.clips.loc[corpus.clips.index.repeat(times)]
    return replace(corpus, clips=clips.reset_index(drop=True))


def write_aspects(clips, parts, egemaps, teacher, paths) -> list[Aspect]:
    """Make every aspect that captions speak of, with labels for all clips."""
    n = sum(len(p) for p in parts)
    first, second = len(parts[0]), len(parts[0]) + len(parts[1])
    aspects = []
    # Folders are called "001 dog bark".
    names = [sound_name(e) for e in clips[1]["emotion"]]
    sounds = sorted(set(names))
    labels = np.full(n, -1)
    labels[first:second] = [sounds.index(s) for s in names]
    aspects.append(Aspect("sound", [say(s) for s in sounds], labels, 2.0))
    rows = np.array([teacher["row"].get(p, -1) for p in paths])
    top = np.where(rows >= 0, teacher["top_class"][rows, 0], -1)
    top[first:second] = -1
    tagged, counts = np.unique(top[top >= 0], return_counts=True)
    common = list(tagged[counts >= 15])
    tags = [str(teacher["class_names"][c]).lower() for c in common]
    labels = np.array([common.index(t) if t in common else -1 for t in top])
    aspects.append(Aspect("tag", [say(t) for t in tags], labels, 1.0))
    sexes = list(PROPERTIES["sex"])
    sex = [s for c in clips for s in c["sex"]]
    labels = np.array([sexes.index(s) if s in sexes else -1 for s in sex])
    aspects.append(Aspect("sex", list(PROPERTIES["sex"].values()), labels, 0.5))
    for name, levels in property_levels(egemaps, feature_names()).items():
        aspects.append(Aspect(name, list(PROPERTIES[name].values()), levels, 0.5))
    places = np.concatenate([p.places for p in parts]).astype(np.int64)
    for k, name in enumerate(PLACES):
        aspects.append(
            Aspect(name, list(PROPERTIES[name].values()), places[..., k], 0.5)
        )
    return aspects


def say(name: str) -> tuple[str, ...]:
    return (f"the sound of {name}", name, f"this is a recording of {name}")


def sound_name(folder: str) -> str:
    return folder.split(" ", 1)[1] if folder[:3].isdigit() else folder


def standardise(values: np.ndarray) -> np.ndarray:
    """Bring each column to mean 0 and deviation 1, outliers cut at 4; NaN stay."""
    mean, deviation = np.nanmean(values, axis=0), np.nanstd(values, axis=0) + 1e-6
    return np.clip((values - mean) / deviation, -4, 4).astype(np.float32)


def sound_judge(args, clap: Clap):
    """Zero-shot accuracy on ESC-10's fold 5, for the log; nothing is chosen by it."""
    esc = load_corpus(args.shared / "acoustics" / "esc10")
    held = esc.clips["clip"].str.split("/").str[-1].str.startswith("5-")
    esc = replace(esc, clips=esc.clips[held])
    pictures = draw_corpus(esc, clap.log_mel, n_places=0)
    names = [sound_name(e) for e in esc.clips["emotion"].iloc[pictures.kept]]
    sounds = sorted(set(names))
    truth = np.array([sounds.index(s) for s in names])
    mels = torch.from_numpy(pictures.mels[:, :1])

    def judge(model: Clap) -> dict[str, float]:
        text = model.embed_text([f"the sound of {s}" for s in sounds])
        guess = (model.embed_mels(mels) @ text.T).argmax(dim=1).numpy()
        return {"esc10_fold5": float((guess == truth).mean())}

    return judge


def untrained(work: Path, *, seed: int) -> Clap:
    """Join the trained text tower and a fresh audio tower."""
    folder, weights = work / "text-tower", work / "text-checkpoint.safetensors"
    if not (folder / "config.json").is_file() or not weights.is_file():
        raise SystemExit(
            f"no text tower in {folder}; run data/build_clap_mini_text.py first"
        )
    text = ClapTextConfig.from_pretrained(folder)
    audio = {
        "spec_size": 128,
        "num_mel_bins": 64,
        "patch_size": 8,
        "patch_stride": [8, 8],
        "patch_embeds_hidden_size": 96,
        "depths": [2, 2, 2],
        "num_attention_heads": [4, 8, 16],
        "window_size": 4,
        "hidden_size": 384,
        "num_hidden_layers": 3,
        "projection_dim": DIM,
        "enable_fusion": False,
        "fusion_type": None,
    }
    torch.manual_seed(seed)
    config = ClapConfig(
        text_config=text.to_dict(), audio_config=audio, projection_dim=DIM
    )
    model = ClapModel(config)
    trained = load_file(weights)
    model.text_model.load_state_dict(
        {k[8:]: v for k, v in trained.items() if k.startswith("student.")}
    )
    model.text_projection.load_state_dict(
        {
            k.replace("head.0", "linear1").replace("head.2", "linear2"): v
            for k, v in trained.items()
            if k.startswith("head.")
        }
    )
    extractor = ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=16_000,
        hop_length=192,
        max_length_s=3,
        fft_window_size=1024,
        frequency_min=50,
        frequency_max=8000,
        truncation="rand_trunc",
        padding="repeatpad",
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Clap(model, tokenizer, extractor, name="clap-mini")


def render_voices(folder: Path, seed: int) -> Path:
    """Let espeak-ng read sentences in many voices, pitches and tempos."""
    table = folder / "clips.csv"
    if table.is_file():
        return folder
    if shutil.which("espeak-ng") is None:
        raise SystemExit("espeak-ng is missing: apt-get install espeak-ng")
    folder.mkdir(parents=True, exist_ok=True)
    draw_ = random.Random(seed)
    lines = ["path,emotion,speaker,sex,language,split"]
    for language, sentences in SENTENCES.items():
        for sex, variants in VARIANTS.items():
            for variant in variants * (5 if sex == "male" else 7):
                for sentence in sentences.split("|"):
                    pitch, speed = draw_.randint(15, 85), draw_.randint(110, 240)
                    gap = draw_.choice((0, 0, 2))
                    voice = f"{language}-{variant}"
                    clip = f"{voice}-{len(lines) - 1:05d}.wav"
                    command = ["espeak-ng", "-v", f"{language}+{variant}"]
                    command += ["-p", str(pitch), "-s", str(speed), "-g", str(gap)]
                    command += ["-w", str(folder / clip), sentence]
                    subprocess.run(command, check=True)
                    lines.append(f"{clip},neutral,{voice},{sex},{language},train")
    table.write_text("\n".join(lines) + "\n")
    return folder


if __name__ == "__main__":
    main()
