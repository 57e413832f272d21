"""Build clap-mini: frozen towers, and projections that know sounds, voices and places.

    python data/build/voices.py                            # human voices, once
    CLEPDG_CORPORA=../shared/corpora python data/build/clap_mini.py --work build/clap

The audio tower is the beginning of Whisper-base's encoder (`whisper.py`), the text
tower is the one of `text_tower.py`; both stay frozen. A linear audio projection learns
from captions for sound classes, AudioSet tags, sex, pitch, melody, effort, tempo,
texture, room, channel and noise. It is trained on EmoGator's bursts (no test speaker),
ESC-10 (folds 1-4) and voices from free software; never on RAVDESS, TESS, EMO-DB, nEMO,
EmoTale or emosynth, and on no emotion label.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from random_places import random_environment
from tqdm import tqdm
from whisper import beginning, encoder_weights

from clepdg_lib.audio import AudioError, place
from clepdg_lib.captions import PROPERTIES
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.clep import CaptionAttribute, TrainConfig, train_projection
from clepdg_lib.corpora import Corpus, load_corpus
from clepdg_lib.files import data_root, write_checksums
from clepdg_lib.towers import WhisperTower

N_BLOCKS, N_POSITIONS = 3, 500
CONFIG = TrainConfig(max_iterations=120, l2=1.0)
N_VOICES, PART = 1500, 400
VERSIONS = {"bursts": 2, "sounds": 2, "voices": 2}  # in places, beside the clean one
SHARES = {"bursts": 1.0, "sounds": 3.0, "voices": 1.0}
PLACE_ASPECTS = ("room", "noise", "channel")
# What openSMILE measures of each property; captions speak of its thirds.
MEASURED = {
    "pitch": "F0semitoneFrom27.5Hz_sma3nz_amean",
    "melody": "F0semitoneFrom27.5Hz_sma3nz_stddevNorm",
    "effort": "alphaRatioV_sma3nz_amean",
    "tempo": "loudnessPeaksPerSec",
    "texture": "HNRdBACF_sma3nz_amean",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--work", type=Path, default=Path("build/clap-mini"))
    arguments.add_argument("--voices", type=Path, default=Path("build/voices"))
    arguments.add_argument("--shared", type=Path, default=Path("../shared"))
    arguments.add_argument("--out", type=Path, default=data_root() / "models/clap-mini")
    arguments.add_argument("--text-from", default="clap-mini")
    args = arguments.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    clap = untrained(args.work, args.text_from)
    corpora = gather(args.shared, args.voices)
    tables, features = [], []
    for kind, corpus in corpora.items():
        table, rows = encode(clap, corpus, args.work, kind)
        tables.append(table.assign(kind=kind))
        features.append(rows)
    clips = pd.concat(tables, ignore_index=True)
    attributes = write_attributes(clips, args.shared / "teachers")
    for attribute in attributes:
        known = (attribute.labels >= 0).mean()
        print(f"{attribute.name}: {len(attribute.sentences)} levels, {known:.0%} known")
    trained = train_projection(
        clap,
        torch.from_numpy(np.concatenate(features)),
        attributes,
        config=CONFIG,
    )
    trained.name = "clap-mini"
    trained.save(args.out)
    trained.history.round(4).to_csv(args.out / "training-log.csv", index=False)
    write_checksums(args.out)


def untrained(work: Path, text_from: str) -> Clap:
    """The frozen towers, the text projection, and an audio projection of zeros."""
    tower = WhisperTower(n_blocks=N_BLOCKS, n_positions=N_POSITIONS)
    weights = beginning(
        encoder_weights(work / "whisper"), n_blocks=N_BLOCKS, n_positions=N_POSITIONS
    )
    tower.load_state_dict({f"encoder.{name}": v for name, v in weights.items()})
    text = load_clap(text_from)
    return Clap(
        tower,
        text.text_tower,
        audio_projection=torch.nn.Linear(tower.width, text.dim),
        text_projection=text.text_projection,
        logit_scale=text.logit_scale,
        name="clap-mini",
    )


def gather(shared: Path, voices: Path) -> dict[str, Corpus]:
    """Bursts, sounds and voices, each without what the model is evaluated on."""
    bursts = load_corpus("emogator")
    first = bursts.clips["clip"].str.endswith("-1") & (bursts.clips["split"] != "test")
    esc = load_esc10(shared)
    held_out = in_fold_5(esc)
    if not (voices / "clips.csv").is_file():
        raise SystemExit(f"no voices in {voices}; run data/build/voices.py first")
    spoken = load_corpus(voices)
    draw = np.random.default_rng(0)
    sizes = spoken.clips.groupby("speaker")["speaker"].transform("size").to_numpy()
    chances = sizes**-0.5 / (sizes**-0.5).sum()
    rows = draw.choice(len(spoken), min(N_VOICES, len(spoken)), False, chances)
    return {
        "bursts": replace(bursts, clips=bursts.clips[first]),
        "sounds": replace(esc, clips=esc.clips[~held_out]),
        "voices": replace(spoken, clips=spoken.clips.iloc[np.sort(rows)]),
    }


def load_esc10(shared: Path) -> Corpus:
    """ESC-10, whose folders are called "001_Dog_bark"; "emotion" is then "dog bark"."""
    folder = shared / "acoustics" / "esc10"
    names = {p.name: p.name[4:].replace("_", " ").lower() for p in folder.iterdir()}
    return load_corpus(folder, emotion_map=names)


def in_fold_5(esc: Corpus) -> pd.Series:
    """Clips that the model is evaluated on."""
    return esc.clips["clip"].str.split("/").str[-1].str.startswith("5-")


def encode(
    clap: Clap, corpus: Corpus, work: Path, kind: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """Features of all clips, clean and in random environments, part by part.

    Returns:
        Clips with the levels of their environments and the measured properties, and
        features (n, D), one row per clip and version.
    """
    tables, features = [], []
    for start in tqdm(range(0, len(corpus), PART), desc=kind, unit="part"):
        file = work / f"{kind}-{start:06d}"
        if not file.with_suffix(".npy").is_file():
            rows, waves = [], []
            for i in range(start, min(start + PART, len(corpus))):
                try:
                    clean = corpus.read(i)
                except AudioError as error:
                    print(error)
                    continue
                measured = {} if kind == "sounds" else measure(clean)
                draw = torch.Generator().manual_seed(i)
                rows.append({"row": i, **measured})
                waves.append(clean)
                for _ in range(VERSIONS[kind]):
                    where = random_environment(draw)
                    levels = {name: getattr(where, name) for name in PLACE_ASPECTS}
                    rows.append({"row": i, **measured, **levels})
                    waves.append(place(clean, where, generator=draw))
            pd.DataFrame(rows).to_csv(file.with_suffix(".csv"), index=False)
            np.save(file.with_suffix(".npy"), clap.audio_features(waves).numpy())
        tables.append(pd.read_csv(file.with_suffix(".csv")))
        features.append(np.load(file.with_suffix(".npy")))
    table = pd.concat(tables, ignore_index=True)
    clips = corpus.clips.iloc[table["row"]].reset_index(drop=True)
    return pd.concat([clips, table], axis=1), np.concatenate(features)


_smile = None


def measure(wave: torch.Tensor) -> dict[str, float]:
    """The functionals that captions speak of, by openSMILE (eGeMAPSv02)."""
    global _smile
    import opensmile

    if _smile is None:
        _smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02,
            feature_level=opensmile.FeatureLevel.Functionals,
        )
    row = _smile.process_signal(wave.numpy(), 16_000).iloc[0]
    return {name: float(row[functional]) for name, functional in MEASURED.items()}


def write_attributes(clips: pd.DataFrame, teachers: Path) -> list[CaptionAttribute]:
    """Every attribute that captions speak of, with labels for all rows."""
    is_sound = (clips["kind"] == "sounds").to_numpy()
    names = clips["emotion"].where(is_sound, "")
    attributes = [named("sound", names.to_numpy(), 2.0)]
    attributes.append(named("tag", audioset_tags(clips, teachers), 0.5, least=20))
    for name in ("sex", *MEASURED, *PLACE_ASPECTS):
        levels = list(PROPERTIES[name])
        if name in MEASURED:
            thirds = clips[name].quantile([1 / 3, 2 / 3])
            labels = np.digitize(clips[name], thirds)
            labels[clips[name].isna()] = -1
        else:
            labels = clips[name].map({level: k for k, level in enumerate(levels)})
            labels = labels.fillna(-1).to_numpy(np.int64)
        if name in PLACE_ASPECTS:
            labels[is_sound] = -1  # a sound is itself noise
        share = 2.0 if name in PLACE_ASPECTS else 0.5
        sentences = list(PROPERTIES[name].values())
        attributes.append(CaptionAttribute(name, sentences, labels, share=share))
    return [
        replace(attribute, weights=even_weights(attribute.labels, clips["kind"]))
        for attribute in attributes
    ]


def even_weights(labels: np.ndarray, kinds: pd.Series) -> torch.Tensor:
    """Weights such that levels count alike, and kinds of clips by their shares."""
    sizes = pd.Series(labels).groupby(labels).transform("size")
    shares = kinds.map(SHARES).to_numpy()
    return torch.tensor(shares / sizes.to_numpy(), dtype=torch.float32)


def named(
    name: str, names: np.ndarray, share: float, *, least: int = 1
) -> CaptionAttribute:
    """An attribute whose levels are names of sounds; "" is unknown."""
    kinds, counts = np.unique(names[names != ""], return_counts=True)
    kept = list(kinds[counts >= least])
    labels = np.array([kept.index(n) if n in kept else -1 for n in names])
    forms = ("the sound of {}", "{}", "this is a recording of {}")
    return CaptionAttribute(
        name,
        [[form.format(kind) for form in forms] for kind in kept],
        labels,
        share=share,
    )


def audioset_tags(clips: pd.DataFrame, teachers: Path) -> np.ndarray:
    """The likeliest AudioSet class of each burst, "" where unknown: (n,)."""
    file = teachers / "audioset_mobilenet.npz"
    if not file.is_file():
        raise SystemExit(f"the AudioSet features are missing; expected {file}")
    with np.load(file, allow_pickle=False) as arrays:
        best = arrays["class_names"][arrays["top_class"][:, 0]]
        paths = [str(path).rsplit(".", 1)[0] for path in arrays["path"]]
    tags = dict(zip(paths, (str(name).lower() for name in best), strict=True))
    bursts = "corpora/emogator/" + clips["clip"]
    known = bursts.map(tags).where(clips["kind"] == "bursts")
    return known.fillna("").to_numpy(dtype=str)


if __name__ == "__main__":
    main()
