"""Build emosynth, the bundled corpus of synthetic emotional speech.

Two speech synthesisers read neutral sentences; WORLD takes each reading apart into
pitch, spectrum and breath, which are changed as published studies say emotions
change them; the result is put into one of five environments. Nobody needs to run
this to take the course: its output lies in `data/emosynth`.

    python data/build_emosynth.py               # render (minutes), probe, datasheet
    python data/build_emosynth.py --probe-only  # measure what is there

Needs Debian's espeak-ng 1.51 and flite 2.2 and the `build` extra (pyworld 0.3.5).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from clepdg_lib.audio import SAMPLE_RATE, LogMel, level, read_audio, trim  # noqa: E402
from clepdg_lib.environments import place, vary  # noqa: E402
from clepdg_lib.files import write_atomically, write_checksums  # noqa: E402

SEED = 2025
EMOTIONS = ("angry", "happy", "neutral", "sad")
INTENSITIES = {"normal": 0.7, "strong": 1.0}
SENTENCES_PER_VOICE = 8
FRAME_SECONDS = 0.005
OPUS_COMPRESSION = 0.955  # about 20 kbit/s through libsndfile
PROBE_C = 0.1
MIN_SECONDS, MAX_SECONDS = 1.5, 3.0

SENTENCES = (
    "The train leaves at half past nine.",
    "The blue cup is on the table.",
    "She put the letter in the drawer.",
    "There are seven chairs in the room.",
    "The meeting was moved to Tuesday.",
    "He walked along the river bank.",
    "The shop is open until eight.",
    "My keys are next to the window.",
    "We will be there in ten minutes.",
    "The book has two hundred pages.",
    "They painted the door dark green.",
    "The bus stops behind the station.",
    "I saw your brother at the market.",
    "The kettle is in the kitchen.",
    "It takes an hour to get to town.",
    "The paper is under the lamp.",
    "You can leave the bags over here.",
    "The road goes past the old mill.",
    "Her office is on the third floor.",
    "The phone was ringing in the hall.",
    "He bought some bread and some milk.",
    "The film begins at a quarter to six.",
    "The garden is behind the house.",
    "They said the parcel came today.",
)


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker, in one domain and one split."""

    name: str
    sex: str
    engine: str
    engine_voice: str
    domain: str
    split: str


def _voices() -> tuple[Voice, ...]:
    """Twenty voices: in each domain two to train on, one to choose by, one to test.

    No voice stands in two domains, and each domain has two women and two men.
    """
    table = {
        "studio": "F flite slt, M espeak-ng en-gb+rob, "
        "F espeak-ng en-us+f2, M espeak-ng en-us+m3",
        "telephone": "F espeak-ng en-gb+f4, M flite rms, "
        "M espeak-ng en-us+travis, F espeak-ng en-us+f5",
        "living room": "F espeak-ng en-us+Annie, M flite awb, "
        "F espeak-ng en-gb+f3, M espeak-ng en-us+robert",
        "street": "F espeak-ng en-us+linda, M espeak-ng en-gb-scotland+m7, "
        "M flite kal16, F espeak-ng en-gb+Alicia",
        "hall": "F espeak-ng en-us+f1, M espeak-ng en-us+m4, "
        "F espeak-ng en-gb-x-rp+belinda, M espeak-ng en-us+edward",
    }
    voices = []
    for domain, row in table.items():
        splits = ("train", "train", "validation", "test")
        for entry, split in zip(row.split(", "), splits, strict=True):
            sex, engine, engine_voice = entry.split()
            sex = {"F": "female", "M": "male"}[sex]
            name = f"v{len(voices) + 1:02d}"
            voices.append(Voice(name, sex, engine, engine_voice, domain, split))
    return tuple(voices)


VOICES = _voices()


@dataclass(frozen=True)
class Manner:
    """How something is said, as differences from the plain reading.

    Attributes:
        pitch: Mean F0, semitones.
        range: F0 excursions, log2 of the factor.
        lift: F0 glide from start to end, semitones.
        tempo: Speaking rate, log2 of the factor.
        drive: Loudness differences between syllables, log2 of the factor.
        tilt: Spectral slope from 500 Hz to 4 kHz, dB an octave; up is a pressed voice.
        breath: Aperiodic energy, dB.
        rough: Cycle-to-cycle F0 irregularity, semitones.
        smile: Formants, log2 of the factor.
    """

    pitch: float = 0.0
    range: float = 0.0
    lift: float = 0.0
    tempo: float = 0.0
    drive: float = 0.0
    tilt: float = 0.0
    breath: float = 0.0
    rough: float = 0.0
    smile: float = 0.0

    def numbers(self) -> np.ndarray:
        return np.array([getattr(self, field.name) for field in fields(self)])


# Directions after Banse & Scherer (1996), Juslin & Laukka (2003, tables 7-11) and
# Scherer (2003); sizes are ours, set by the probe in the datasheet.
MANNERS = {
    "angry": Manner(2.5, 0.6, -2.0, 0.25, 1.2, 6.5, 0.0, 0.6, -0.05),
    "happy": Manner(6.5, 1.0, 3.0, 0.15, 0.3, 2.2, -5.0, 0.05, 0.15),
    "neutral": Manner(drive=-0.1, tilt=-0.4),
    "sad": Manner(-2.0, -1.0, -1.5, -0.3, -0.8, -5.0, 8.0, 0.1, -0.06),
}
# What speakers differ by, and what one speaker varies by from clip to clip.
SPEAKER_SPREAD = Manner(1.2, 0.2, 0.5, 0.06, 0.1, 0.5, 0.8, 0.06, 0.01)
CLIP_SPREAD = Manner(1.0, 0.25, 1.0, 0.06, 0.15, 0.5, 0.8, 0.06, 0.01)
EQUALISED = 0.9  # of the way, see `equalise`
CUE_SPREAD = 0.2  # a speaker uses each cue more or less than others do


def random_numbers(*key: object) -> np.random.Generator:
    """A generator for one purpose: a clip is the same in any subset or order."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def manner_of(voice: Voice, emotion: str, intensity: str, *, key: tuple) -> np.ndarray:
    """Draw how this voice says one clip in this emotion, in `Manner`'s order."""
    speaker = random_numbers(key[0], voice.name)
    habit = speaker.normal(size=len(fields(Manner))) * SPEAKER_SPREAD.numbers()
    use = np.clip(1 + CUE_SPREAD * speaker.normal(size=len(habit)), 0.2, 1.8)
    clip = random_numbers(*key, voice.name, emotion, intensity)
    chance = clip.normal(size=len(habit)) * CLIP_SPREAD.numbers()
    strength = INTENSITIES[intensity] * clip.uniform(0.7, 1.2)
    return habit + use * strength * MANNERS[emotion].numbers() + chance


def read_aloud(voice: Voice, sentence: str) -> np.ndarray:
    """The plain reading of a sentence, trimmed, (n,) float64 at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "read.wav"
        if voice.engine == "flite":
            command = [
                "flite",
                "-voice",
                voice.engine_voice,
                "-t",
                sentence,
                "-o",
                path,
            ]
        else:
            command = ["espeak-ng", "-v", voice.engine_voice, "-s", "148"]
            command += ["-w", path, sentence]
        subprocess.run(command, check=True, capture_output=True)
        wave = trim(level(read_audio(path)), margin_seconds=0.03)
    return wave.double().numpy()


def analyse(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """WORLD: F0 (T,), power spectrum (T, bins), aperiodicity (T, bins)."""
    import pyworld

    f0, seconds = pyworld.dio(wave, SAMPLE_RATE, frame_period=1e3 * FRAME_SECONDS)
    f0 = pyworld.stonemask(wave, f0, seconds, SAMPLE_RATE)
    spectrum = pyworld.cheaptrick(wave, f0, seconds, SAMPLE_RATE)
    aperiodicity = pyworld.d4c(wave, f0, seconds, SAMPLE_RATE)
    return f0, equalise(spectrum), aperiodicity


def equalise(spectrum: np.ndarray) -> np.ndarray:
    """Bring a reading's average spectrum most of the way to that of real speech.

    The engines' voices differ in slope by 18 dB, far more than people do; without
    this the voice drowns its manner. Target: flat to 500 Hz, then falling by 7 dB an
    octave, roughly Byrne et al. (1994). A fourth-order curve leaves formants alone.
    """
    decibels = 10 * np.log10(spectrum.mean(axis=0))
    hertz = np.linspace(0, SAMPLE_RATE / 2, len(decibels))
    octaves = np.log2(np.maximum(hertz, 100) / 500)
    target = -7.0 * np.maximum(octaves, 0)
    # Weights make every octave count alike
    curve = np.polyfit(octaves, decibels - target, 4, w=1 / np.sqrt(hertz + 100))
    correction = -EQUALISED * np.polyval(curve, octaves)
    return spectrum * 10 ** (correction.clip(-30, 30) / 10)


def express(
    analysis: tuple, manner: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Say an analysed reading in a manner; (n,) float64, 1.5 to 3 s."""
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

    # Pitch: deviations from the mean, plus an accent on each loud syllable (the
    # engines read rather flatly), stretched; then the glide and the roughness.
    time = np.linspace(0, 1, n)
    energy = np.logaddexp.reduce(power, axis=1) * 10 / np.log(10)  # dB
    smooth = np.convolve(energy, np.hanning(25) / np.hanning(25).sum(), mode="same")
    prominence = np.clip((smooth - np.percentile(smooth, 60)) / 10, 0, 1)
    accents = prominence * np.interp(
        time, np.linspace(0, 1, 6), generator.uniform(0.5, 3.0, 6)
    )
    middle = logs[voiced].mean() if voiced.any() else logs.mean()
    contour = 12 * (logs - middle) + accents - 2.0 * (time - 0.5)
    contour = contour * 2.0**spread + pitch + lift * np.clip(2 * time - 1, -0.3, 1)
    contour = contour + abs(rough) * generator.normal(size=n)
    new_f0 = np.where(voiced, 2.0 ** (middle + contour / 12), 0.0)
    new_f0 = np.where(voiced, np.clip(new_f0, 60, 600), 0.0)

    # Voice quality: formants moved, slope tilted, breath added from 1 kHz up.
    hertz = np.linspace(0, SAMPLE_RATE / 2, power.shape[1])
    moved = np.interp(hertz * 2.0**-smile, hertz, np.arange(len(hertz)))
    below = np.floor(moved).astype(int)
    above = np.minimum(below + 1, len(hertz) - 1)
    power = power[:, below] + (power[:, above] - power[:, below]) * (moved - below)
    octaves = np.log2(np.clip(hertz, 500, 4000) / 500)  # sibilants stay natural
    power = power + tilt * octaves * np.log(10) / 10
    power = (
        power
        + (2.0**drive - 1)
        * 0.4
        * (smooth - smooth.mean()).clip(-20, 20)[:, None]
        * np.log(10)
        / 10
    )
    more = 10 ** (breath / 20 * np.clip(hertz / 1000, 0, 1.5))
    noise = np.clip(noise * more, 1e-6, 1 - 1e-6)
    return pyworld.synthesize(
        np.ascontiguousarray(new_f0),
        np.ascontiguousarray(np.exp(power)),
        np.ascontiguousarray(noise),
        SAMPLE_RATE,
        1e3 * FRAME_SECONDS,
    )


def build(
    folder: str | Path,
    *,
    seed: int = SEED,
    voices: tuple[Voice, ...] = VOICES,
    n_sentences: int = SENTENCES_PER_VOICE,
) -> pd.DataFrame:
    """Render the corpus (or part of it) into a folder, with `clips.csv`.

    Returns:
        The table as written: one row per clip.
    """
    for engine in sorted({voice.engine for voice in voices}):
        if shutil.which(engine) is None:
            raise FileNotFoundError(
                f"{engine} is not installed; on Debian: apt-get install {engine}."
            )
    folder = Path(folder)
    shutil.rmtree(folder / "audio", ignore_errors=True)
    (folder / "audio").mkdir(parents=True)
    rows = []
    for voice in voices:
        # Neighbouring voices start three sentences apart: all are used about equally
        start = 3 * VOICES.index(voice)
        for number in [(start + i) % len(SENTENCES) for i in range(n_sentences)]:
            analysis = analyse(read_aloud(voice, SENTENCES[number]))
            for emotion in EMOTIONS:
                for intensity in INTENSITIES:
                    key = (seed, number)
                    manner = manner_of(voice, emotion, intensity, key=key)
                    own = random_numbers(*key, voice, emotion, intensity, "sound")
                    said = torch.from_numpy(express(analysis, manner, own)).float()
                    generator = torch.Generator().manual_seed(int(own.integers(2**31)))
                    where = vary(voice.domain, generator=generator)
                    heard = place(level(said), where, generator=generator)
                    clip = f"audio/{voice.name}_{emotion}_{intensity}_s{number + 1:02d}"
                    write_opus(folder / f"{clip}.ogg", heard)
                    rows.append(
                        {
                            "path": f"{clip}.ogg",
                            "clip": clip,
                            "emotion": emotion,
                            "intensity": intensity,
                            "speaker": voice.name,
                            "sex": voice.sex,
                            "language": "en",
                            "engine": f"{voice.engine} {voice.engine_voice}",
                            "domain": voice.domain,
                            "split": voice.split,
                            "sentence": number + 1,
                            "text": SENTENCES[number],
                            "seconds": round(len(heard) / SAMPLE_RATE, 3),
                        }
                    )
        print(f"{voice.name} {voice.engine} {voice.engine_voice}: {voice.domain}")
    clips = pd.DataFrame(rows)
    write_atomically(folder / "clips.csv", clips.to_csv(index=False))
    return clips


def write_opus(path: Path, wave: torch.Tensor) -> None:
    """Write Ogg Opus, the same bytes whenever the samples are the same."""
    soundfile.write(
        path,
        wave.numpy(),
        SAMPLE_RATE,
        format="OGG",
        subtype="OPUS",
        compression_level=OPUS_COMPRESSION,
    )
    # libsndfile draws each file's stream number from the clock: put a fixed one
    # into every page, and the page's checksum right (RFC 3533, section 6).
    data = bytearray(path.read_bytes())
    start = 0
    while start < len(data):
        n_segments = data[start + 26]
        stop = start + 27 + n_segments
        stop += sum(data[start + 27 : stop])
        data[start + 14 : start + 18] = (1).to_bytes(4, "little")
        data[start + 22 : start + 26] = bytes(4)
        crc = ogg_crc(bytes(data[start:stop]))
        data[start + 22 : start + 26] = crc.to_bytes(4, "little")
        start = stop
    path.write_bytes(data)


MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_crc(page: bytes) -> int:
    """Ogg's CRC-32: zlib's polynomial, but highest bit first and not inverted."""
    crc = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def probe_features(folder: Path, clips: pd.DataFrame) -> np.ndarray:
    """Mean and standard deviation over time of levelled log-mels, (n, 128)."""
    # "repeat" fills the window with the clip itself: padding would tell its length
    log_mel = LogMel(padding="repeat")
    waves = [level(read_audio(folder / path)) for path in clips["path"]]
    rows = []
    for start in range(0, len(waves), 64):
        mels = log_mel([w[: log_mel.n_samples] for w in waves[start : start + 64]])
        rows.append(torch.cat([mels.mean(dim=2), mels.std(dim=2)], dim=2)[:, 0])
    return torch.cat(rows).numpy()


def probe_predictions(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Emotions that a linear probe trained on (x, y) gives to new features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(C=PROBE_C, max_iter=2000)
    return make_pipeline(StandardScaler(), model).fit(x, y).predict(new)


def probe_inside(x: np.ndarray, y: np.ndarray, speakers: np.ndarray) -> float:
    """UAR when each speaker in turn is left out of the training."""
    from sklearn.metrics import balanced_accuracy_score

    predicted = np.empty(len(y), dtype=y.dtype)
    for speaker in np.unique(speakers):
        test = speakers == speaker
        predicted[test] = probe_predictions(x[~test], y[~test], x[test])
    return float(balanced_accuracy_score(y, predicted))


def probe(folder: Path) -> pd.DataFrame:
    """How far a log-mel linear probe gets, inside each domain and without it.

    Inside: leave one speaker out among the domain's four. Outside: train on the
    other four domains, test on this one.

    Returns:
        One row per domain: domain, inside, outside (UAR).
    """
    from sklearn.metrics import balanced_accuracy_score

    clips = pd.read_csv(folder / "clips.csv")
    x, y = probe_features(folder, clips), clips["emotion"].to_numpy()
    rows = []
    for domain in clips["domain"].unique():
        here = (clips["domain"] == domain).to_numpy()
        outside = probe_predictions(x[~here], y[~here], x[here])
        rows.append(
            {
                "domain": domain,
                "inside": probe_inside(
                    x[here], y[here], clips["speaker"].to_numpy()[here]
                ),
                "outside": balanced_accuracy_score(y[here], outside),
            }
        )
    return pd.DataFrame(rows)


def report(folder: Path, scores: pd.DataFrame) -> str:
    """The measured part of the datasheet, in Markdown."""
    clips = pd.read_csv(folder / "clips.csv")
    lines = [
        f"{len(clips):,} clips, {clips['speaker'].nunique()} voices, "
        f"{clips['text'].nunique()} sentences, {clips['seconds'].sum() / 60:.0f} "
        f"minutes ({clips['seconds'].min():.2f} to {clips['seconds'].max():.2f} s "
        "a clip). Chance is .25.",
        "",
        "| domain | clips | train / validation / test | inside | left out |",
        "|---|---|---|---|---|",
    ]
    for row in scores.itertuples():
        here = clips[clips["domain"] == row.domain]
        sizes = here["split"].value_counts()
        split = " / ".join(str(sizes[s]) for s in ("train", "validation", "test"))
        lines.append(
            f"| {row.domain} | {len(here)} | {split} | {row.inside:.2f} | "
            f"{row.outside:.2f} |"
        )
    inside, outside = scores["inside"].mean(), scores["outside"].mean()
    lines.append(f"| **mean** | | | **{inside:.2f}** | **{outside:.2f}** |")
    lines += [
        "",
        f"Leaving the domain out costs {100 * (inside - outside):.0f} points.",
    ]
    return "\n".join(lines)


def write_report(datasheet: Path, text: str) -> None:
    """Put the measured part between the datasheet's markers."""
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    old = datasheet.read_text(encoding="utf-8")
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    if not re.search(pattern, old, flags=re.S):
        raise ValueError(f"{datasheet} lacks the markers {begin} and {end}.")
    new = re.sub(pattern, lambda _: f"{begin}\n{text}\n{end}", old, flags=re.S)
    write_atomically(datasheet, new)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the emosynth corpus.")
    parser.add_argument("--out", type=Path, default=PROJECT / "data" / "emosynth")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--probe-only", action="store_true", help="render nothing")
    options = parser.parse_args()
    # One thread: sums over threads may differ in the last bit
    torch.set_num_threads(1)
    if not options.probe_only:
        build(options.out, seed=options.seed)
    text = report(options.out, probe(options.out))
    print(text)
    if (options.out / "README.md").is_file():
        write_report(options.out / "README.md", text)
    write_checksums(options.out)


if __name__ == "__main__":
    main()
