"""Build emosynth, the bundled corpus of synthetic emotional speech.

    python data/build/emosynth.py --out build/emosynth  # render: a few minutes
    python data/build/emosynth.py --out data/emosynth --probe-only  # measure

Two speech synthesisers read neutral sentences; WORLD (Morise et al. 2016) splits each
reading into pitch, spectrum and aperiodicity, which are changed as published studies
describe emotions; the result is placed in one of five environments. The table of the
shipped corpus says who speaks what. Needs espeak-ng 1.51, flite 2.2 (Debian) and the
`build` extra (pyworld). On one machine, a seed gives the same samples again. The
shipped files were made once, by an earlier version: a new run gives equivalent clips.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchaudio.transforms import MelSpectrogram

from clepdg_lib.audio.places import ENVIRONMENTS, Environment, place
from clepdg_lib.audio.waves import SAMPLE_RATE, level, prepare, read_audio
from clepdg_lib.files import data_root, write_atomically, write_checksums

SEED = 2025
INTENSITIES = {"normal": 0.7, "strong": 1.0}
FRAME_SECONDS = 0.005
OPUS_COMPRESSION = 0.955  # about 20 kbit/s through libsndfile
MIN_SECONDS, MAX_SECONDS = 1.5, 3.0

# What a manner changes, as differences from the plain reading.
CUES = {
    "pitch": "mean F0, semitones",
    "range": "F0 excursions, log2 of the factor",
    "lift": "F0 glide from start to end, semitones",
    "tempo": "speaking rate, log2 of the factor",
    "drive": "loudness differences between syllables, log2 of the factor",
    "tilt": "slope from 500 Hz to 4 kHz, dB an octave; up is a pressed voice",
    "breath": "aperiodic energy, dB",
    "rough": "cycle-to-cycle F0 irregularity, semitones",
    "smile": "formants, log2 of the factor",
}
# Directions after Banse & Scherer (1996), Juslin & Laukka (2003, tables 7-11) and
# Scherer (2003); sizes are ours, set by the probe in the datasheet.
MANNERS = {
    "angry": (2.5, 0.6, -2.0, 0.25, 1.2, 6.5, 0.0, 0.6, -0.05),
    "happy": (6.5, 1.0, 3.0, 0.15, 0.3, 2.2, -5.0, 0.05, 0.15),
    "neutral": (0.0, 0.0, 0.0, 0.0, -0.1, -0.4, 0.0, 0.0, 0.0),
    "sad": (-2.0, -1.0, -1.5, -0.3, -0.8, -5.0, 8.0, 0.1, -0.06),
}
# Standard deviations between speakers, and between clips of one speaker.
SPEAKER_SPREAD = (1.2, 0.2, 0.5, 0.06, 0.1, 0.5, 0.8, 0.06, 0.01)
CLIP_SPREAD = (1.0, 0.25, 1.0, 0.06, 0.15, 0.5, 0.8, 0.06, 0.01)
EQUALISED = 0.9  # of the way, see `equalise`
CUE_SPREAD = 0.2  # a speaker uses each cue more or less than others do


def generator_for(*key: object) -> np.random.Generator:
    """A generator for one purpose: a clip is the same in any subset or order."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def draw_manner(row: pd.Series, *, seed: int) -> np.ndarray:
    """Draw how a clip of the table is spoken: (9,) in the order of `CUES`."""
    speaker = generator_for(seed, row.speaker)
    habit = speaker.normal(size=len(CUES)) * SPEAKER_SPREAD
    use = np.clip(1 + CUE_SPREAD * speaker.normal(size=len(CUES)), 0.2, 1.8)
    clip = generator_for(seed, row["clip"])
    chance = clip.normal(size=len(CUES)) * CLIP_SPREAD
    strength = INTENSITIES[row.intensity] * clip.uniform(0.7, 1.2)
    return habit + use * strength * MANNERS[row.emotion] + chance


def read_aloud(engine: str, sentence: str) -> np.ndarray:
    """Synthesise a plain reading by an engine and voice, (n,) float64 at 16 kHz."""
    program, voice = engine.split()
    if shutil.which(program) is None:
        raise FileNotFoundError(f"{program} is missing: apt-get install {program}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "read.wav"
        command = [program, "-v", voice, "-s", "148", "-w", path]
        if program == "flite":
            command = [program, "-voice", voice, "-o", path, "-t"]
        subprocess.run([*command, sentence], check=True, capture_output=True)
        return prepare(read_audio(path)).double().numpy()


def analyse(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return WORLD's F0 (T,), power spectrum (T, bins), aperiodicity (T, bins)."""
    import pyworld

    f0, seconds = pyworld.dio(wave, SAMPLE_RATE, frame_period=1e3 * FRAME_SECONDS)
    f0 = pyworld.stonemask(wave, f0, seconds, SAMPLE_RATE)
    spectrum = pyworld.cheaptrick(wave, f0, seconds, SAMPLE_RATE)
    aperiodicity = pyworld.d4c(wave, f0, seconds, SAMPLE_RATE)
    return f0, equalise(spectrum), aperiodicity


def equalise(spectrum: np.ndarray) -> np.ndarray:
    """Bring a reading's average spectrum most of the way to that of real speech.

    The engines' voices differ in slope by 18 dB, far more than people do; without
    this the voice masks its manner. Target: flat to 500 Hz, then falling by 7 dB an
    octave, roughly Byrne et al. (1994). A fourth-order curve leaves formants alone.
    """
    decibels = 10 * np.log10(spectrum.mean(axis=0))
    hertz = np.linspace(0, SAMPLE_RATE / 2, len(decibels))
    octaves = np.log2(np.maximum(hertz, 100) / 500)
    target = -7.0 * np.maximum(octaves, 0)
    # Weights: every octave counts alike.
    curve = np.polyfit(octaves, decibels - target, 4, w=1 / np.sqrt(hertz + 100))
    correction = -EQUALISED * np.polyval(curve, octaves)
    return spectrum * 10 ** (correction.clip(-30, 30) / 10)


def express(
    analysis: tuple, manner: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Synthesise an analysed reading in a manner, (n,) float64 of 1.5 to 3 s."""
    import pyworld

    pitch, spread, lift, tempo, drive, tilt, breath, rough, smile = manner
    f0, spectrum, aperiodicity = analysis
    longest, shortest = MAX_SECONDS - 0.05, MIN_SECONDS + 0.05
    seconds = len(f0) * FRAME_SECONDS * 2.0**-tempo
    n = round(np.clip(seconds, shortest, longest) / FRAME_SECONDS)
    where = np.linspace(0, len(f0) - 1, n)
    nearest = where.round().astype(int)
    voiced = f0[nearest] > 0
    logs = np.interp(where, np.flatnonzero(f0 > 0), np.log2(f0[f0 > 0]))
    blend = (where - np.floor(where))[:, None]
    low, high = np.floor(where).astype(int), np.ceil(where).astype(int)
    power = np.log(spectrum[low]) * (1 - blend) + np.log(spectrum[high]) * blend
    noise = aperiodicity[nearest]

    # Pitch: deviations from the mean and an accent on each loud syllable, stretched;
    # then glide and roughness.
    time = np.linspace(0, 1, n)
    energy = np.logaddexp.reduce(power, axis=1) * 10 / np.log(10)  # dB
    smooth = np.convolve(energy, np.hanning(25) / np.hanning(25).sum(), mode="same")
    prominence = np.clip((smooth - np.percentile(smooth, 60)) / 10, 0, 1)
    sizes = generator.uniform(0.5, 3.0, 6)
    accents = prominence * np.interp(time, np.linspace(0, 1, 6), sizes)
    middle = logs[voiced].mean() if voiced.any() else logs.mean()
    contour = 12 * (logs - middle) + accents - 2.0 * (time - 0.5)
    contour = contour * 2.0**spread + pitch + lift * np.clip(2 * time - 1, -0.3, 1)
    contour = contour + abs(rough) * generator.normal(size=n)
    new_f0 = np.where(voiced, (2.0 ** (middle + contour / 12)).clip(60, 600), 0.0)

    # Voice quality: formants moved, slope tilted, breath added from 1 kHz up.
    hertz = np.linspace(0, SAMPLE_RATE / 2, power.shape[1])
    moved = np.interp(hertz * 2.0**-smile, hertz, np.arange(len(hertz)))
    below = np.floor(moved).astype(int)
    above = np.minimum(below + 1, len(hertz) - 1)
    power = power[:, below] + (power[:, above] - power[:, below]) * (moved - below)
    octaves = np.log2(np.clip(hertz, 500, 4000) / 500)  # sibilants stay natural
    power = power + tilt * octaves * np.log(10) / 10
    dynamics = (smooth - smooth.mean()).clip(-20, 20)[:, None]
    power = power + (2.0**drive - 1) * 0.4 * dynamics * np.log(10) / 10
    more = 10 ** (breath / 20 * np.clip(hertz / 1000, 0, 1.5))
    noise = np.clip(noise * more, 1e-6, 1 - 1e-6)
    parts = map(np.ascontiguousarray, (new_f0, np.exp(power), noise))
    return pyworld.synthesize(*parts, SAMPLE_RATE, 1e3 * FRAME_SECONDS)


def vary(environment: Environment, generator: np.random.Generator) -> Environment:
    """Change an environment's numbers a little, for every clip another one."""
    draw = generator.uniform
    high = environment.high_hz
    return dataclasses.replace(
        environment,
        rt60_seconds=environment.rt60_seconds * draw(0.75, 1.3),
        direct_to_reverb_db=environment.direct_to_reverb_db + draw(-3, 3),
        snr_db=environment.snr_db + draw(-4, 4),
        low_hz=environment.low_hz * draw(0.85, 1.15),
        high_hz=high * draw(0.9, 1.1) if high < 8000 else high,
        tilt_db=environment.tilt_db + draw(-0.5, 0.5),
    )


def build(folder: Path, table: pd.DataFrame, *, seed: int = SEED) -> pd.DataFrame:
    """Render the clips of a table into a folder; return the table with new lengths.

    The table is emosynth's `clips.csv`, or a part of it: it says who speaks what, in
    which emotion and domain. A clip does not depend on the others.

    Raises:
        FileNotFoundError: A speech synthesiser is not installed.
    """
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for (engine, text), clips in table.groupby(["engine", "text"], sort=False):
        analysis = analyse(read_aloud(engine, text))
        for _, row in clips.iterrows():
            own = generator_for(seed, row["clip"], "sound")
            wave = express(analysis, draw_manner(row, seed=seed), own)
            environment = vary(ENVIRONMENTS[row.domain], own)
            generator = torch.Generator().manual_seed(int(own.integers(2**31)))
            wave = level(torch.from_numpy(wave).float())
            wave = place(wave, environment, generator=generator)
            write_opus(folder / row.path, wave)
            rows.append({**row, "seconds": round(len(wave) / SAMPLE_RATE, 3)})
        print(f"{engine}: {text}")
    clips = pd.DataFrame(rows)
    write_atomically(folder / "clips.csv", clips.to_csv(index=False))
    return clips


def write_opus(path: Path, wave: torch.Tensor) -> None:
    options = {"subtype": "OPUS", "compression_level": OPUS_COMPRESSION}
    soundfile.write(path, wave.numpy(), SAMPLE_RATE, format="OGG", **options)


def probe_features(folder: Path, clips: pd.DataFrame) -> np.ndarray:
    """Mean and standard deviation over time of levelled log-mel spectrograms, (n, 128).

    A clip is repeated up to 3 s, so that its length does not show.
    """
    options = {"n_fft": 1024, "hop_length": 192, "f_min": 50.0, "f_max": 8000.0}
    mel = MelSpectrogram(
        SAMPLE_RATE, n_mels=64, norm="slaney", mel_scale="slaney", **options
    )
    rows = []
    for path in clips["path"]:
        wave = level(read_audio(folder / path))
        n_samples = round(MAX_SECONDS * SAMPLE_RATE)
        repeated = wave.repeat(n_samples // len(wave) + 1)[:n_samples]
        decibels = 10 * mel(repeated).clamp_min(1e-10).log10()  # (64, frames)
        rows.append(torch.cat([decibels.mean(dim=1), decibels.std(dim=1)]))
    return torch.stack(rows).numpy()


def make_probe():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))


def probe_inside(x: np.ndarray, y: np.ndarray, speakers: np.ndarray) -> float:
    """UAR of a linear probe, each speaker left out in turn."""
    predicted = cross_val_predict(
        make_probe(), x, y, groups=speakers, cv=LeaveOneGroupOut()
    )
    return float(balanced_accuracy_score(y, predicted))


def probe(folder: Path) -> pd.DataFrame:
    """UAR of a linear probe per domain: inside it, and trained on the other four."""
    clips = pd.read_csv(folder / "clips.csv")
    x, y = probe_features(folder, clips), clips["emotion"].to_numpy()
    rows = []
    for domain in clips["domain"].unique():
        here = (clips["domain"] == domain).to_numpy()
        predicted = make_probe().fit(x[~here], y[~here]).predict(x[here])
        inside = probe_inside(x[here], y[here], clips["speaker"].to_numpy()[here])
        outside = balanced_accuracy_score(y[here], predicted)
        rows.append({"domain": domain, "inside": inside, "outside": outside})
    return pd.DataFrame(rows)


def report(folder: Path, scores: pd.DataFrame) -> str:
    """Write the measured part of the datasheet, in Markdown."""
    clips = pd.read_csv(folder / "clips.csv")
    seconds = clips["seconds"]
    lines = [
        f"{len(clips):,} clips, {clips['speaker'].nunique()} voices, "
        f"{clips['text'].nunique()} sentences, {seconds.sum() / 60:.0f} minutes "
        f"({seconds.min():.2f} to {seconds.max():.2f} s a clip). Chance is .25.",
        "",
        "| domain | clips | train / validation / test | inside | left out |",
        "|---|---|---|---|---|",
    ]
    for row in scores.itertuples():
        sizes = clips[clips["domain"] == row.domain]["split"].value_counts()
        split = " / ".join(str(sizes[s]) for s in ("train", "validation", "test"))
        uar = f"{row.inside:.2f} | {row.outside:.2f}"
        lines.append(f"| {row.domain} | {sizes.sum()} | {split} | {uar} |")
    inside, outside = scores["inside"].mean(), scores["outside"].mean()
    lines.append(f"| **mean** | | | **{inside:.2f}** | **{outside:.2f}** |")
    points = 100 * (inside - outside)
    return "\n".join([*lines, "", f"Leaving the domain out costs {points:.0f} points."])


def write_report(datasheet: Path, text: str) -> None:
    """Put the measured part between the datasheet's markers."""
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    old = datasheet.read_text(encoding="utf-8")
    before, found, rest = old.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{datasheet} lacks the markers {begin} and {end}")
    write_atomically(datasheet, f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/emosynth"))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--probe-only", action="store_true", help="render nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)  # sums over threads may differ in the last bit
    if not args.probe_only:
        table = pd.read_csv(data_root() / "emosynth" / "clips.csv")
        build(args.out, table, seed=args.seed)
    text = report(args.out, probe(args.out))
    print(text)
    if (args.out / "README.md").is_file():
        write_report(args.out / "README.md", text)
    write_checksums(args.out)


if __name__ == "__main__":
    main()
