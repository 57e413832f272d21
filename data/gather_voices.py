"""Gather human voices from Debian packages: what clap-mini's audio tower hears.

    python data/gather_voices.py  # writes build/voices: some 20,000 clips

EmoGator has ninety contributors, and they utter bursts, not words. A tower that is to
measure any voice must have heard many. Free software has recorded them: actors of
games, letters and words in many languages, telephone prompts. The packages are
Debian's (bookworm), fetched and proved by apt, and unpacked, not installed. No clip has
an emotion label. Nothing of this is shipped.

Clips last 0.8 to 6 s at 16 kHz. Shorter files of one voice are joined, longer ones cut
at their quietest moment; what has no pitch is left out, and of one voice all after its
first 1,500 clips.
"""

from __future__ import annotations

import argparse
import io
import re
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
import torch
from tqdm.auto import tqdm

from clepdg_lib.audio import SAMPLE_RATE, resample, trim

SHORTEST, LONGEST, JOINED = 0.8, 6.0, 2.0  # seconds
BLINK = 0.1  # seconds: what is shorter is no line
MOST = 1500  # clips of one voice
QUIETEST = 0.003  # root mean square
SOUNDS = (".ogg", ".wav", ".opus")


@dataclass(frozen=True)
class Source:
    """Where voices lie in a package.

    Attributes:
        package: Debian's name.
        version: Debian's version.
        files: Regular expression for paths in the package, or within its archives;
            its groups "voice" and "language" say who speaks in what language.
        language: If the path does not say.
        sex: Of the one who speaks, if known.
        archive: Suffix of zip archives in which the files lie.
    """

    package: str
    version: str
    files: str
    language: str = ""
    sex: str = ""
    archive: str = ""


PROMPTS = r".*/sounds/[a-z]{2}_[A-Z]{2}_[fm]_(?P<voice>\w+)/(?!silence/).*"
SOURCES = (
    Source("asterisk-core-sounds-en-wav", "1.6.1-1", PROMPTS, "en", "female"),
    Source("asterisk-core-sounds-es-wav", "1.6.1-1", PROMPTS, "es", "female"),
    Source("asterisk-core-sounds-fr-wav", "1.6.1-1", PROMPTS, "fr", "female"),
    Source("asterisk-core-sounds-it-wav", "1.6.1-1", PROMPTS, "it", "male"),
    Source("asterisk-core-sounds-ru-wav", "1.6.1-1", PROMPTS, "ru"),
    Source(
        "asterisk-prompt-it-menardi-wav",
        "1:1.4.22+mm20110907-3.1",
        PROMPTS,
        "it",
        "female",
    ),
    # Two fish talk: the small one ("m") and the big one ("v"); and others.
    Source("fillets-ng-data-cs", "1.0.1-1.1", r".*/sound/.*-(?P<voice>\w)-", "cs"),
    Source("fillets-ng-data-nl", "1.0.1-1.1", r".*/sound/.*-(?P<voice>\w)-", "nl"),
    Source("gcin-voice", "0~20170223-3", r".*/(?P<voice>\d)\.ogg", "zh"),
    Source("hedgewars-data", "1.0.2-6", r".*/voices/(?P<voice>\w+)/"),
    Source("klettres-data", "4:22.12.3-1", r".*/klettres/(?P<language>\w+)/"),
    Source("ktuberling-data", "4:22.12.3-1", r".*/sounds/(?P<language>\w+)/"),
    Source(
        "nexuiz-data",
        "2.5.2-12",
        r"sound/(?:tutorial|announcer/(?!robotic)|player/)(?P<voice>[\w-]*)",
        "en",
        archive=".pk3",
    ),
    Source(
        "openarena-081-players",
        "0.8.5split-14",
        r"sound/player/(?P<voice>\w+)/",
        "en",
        archive=".pk3",
    ),
    Source(
        "tuxpaint-stamps-default",
        "2022.06.04-1",
        r".*_desc(?:_(?P<language>[A-Za-z]+))?\.ogg",
    ),
    Source(
        "warzone2100-data",
        "4.3.3-3",
        r"audio/(?P<voice>tutorial|memressp|countdown|extra|proxmessages)/",
        "en",
        archive=".wz",
    ),
    # The talkie keeps its lines in one file of its own kind.
    Source("flight-of-the-amazon-queen", "1.0.0-9", r"(?P<voice>)", "en"),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=Path("build/voices"))
    args = arguments.parse_args()
    tables = [gather(source, args.out) for source in SOURCES]
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(args.out / "clips.csv", index=False)
    print(table.groupby("package")["seconds"].agg(["count", "sum"]).to_string())


def gather(source: Source, out: Path) -> pd.DataFrame:
    """Fetch a package, cut its voices into clips, and list them; keep what is there."""
    folder = out / "clips" / source.package
    listed = folder.with_suffix(".csv")
    if listed.is_file():
        return pd.read_csv(listed, keep_default_na=False)
    folder.mkdir(parents=True, exist_ok=True)
    rows, counted = [], Counter()
    lines = talkie_lines if source.package.startswith("flight") else file_lines
    found = lines(fetch(source, out / "packages"), source)
    for voice, language, clip in cut_lines(tqdm(found, desc=source.package)):
        if counted[voice] >= MOST or not is_voice(clip):
            continue
        name = f"{voice}-{counted[voice]:04d}.wav"
        counted[voice] += 1
        sf.write(folder / name, np.clip(clip, -1, 1), SAMPLE_RATE)
        rows.append(
            {
                "path": f"clips/{source.package}/{name}",
                "emotion": "unknown",
                "speaker": f"{source.package}:{voice}",
                "sex": source.sex or known_sex(source, voice),
                "language": language,
                "split": "train",
                "package": source.package,
                "seconds": round(len(clip) / SAMPLE_RATE, 2),
            }
        )
    if not rows:
        raise SystemExit(f"{source.package} {source.version} holds no voices")
    table = pd.DataFrame(rows)
    table.to_csv(listed, index=False)
    return table


def known_sex(source: Source, voice: str) -> str:
    if source.package.startswith("flight") and voice == "joe":
        return "male"
    return ""


def fetch(source: Source, folder: Path) -> Path:
    """Download and unpack a package, at its version or at the one that apt offers."""
    unpacked = folder / source.package
    if unpacked.is_dir():
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    for wanted in (f"{source.package}={source.version}", source.package):
        asked = subprocess.run(["apt-get", "download", "-qq", wanted], cwd=folder)
        if asked.returncode == 0:
            break
        print(f"{wanted} cannot be had from apt", file=sys.stderr)
    archives = sorted(folder.glob(f"{source.package}_*.deb"))
    if not archives:
        raise SystemExit(
            f"{source.package} could not be downloaded; on Debian 12, run "
            "`apt-get update` first"
        )
    partial = unpacked.with_suffix(".partial")
    subprocess.run(["dpkg-deb", "-x", archives[-1], partial], check=True)
    archives[-1].unlink()
    return partial.rename(unpacked)


Line = tuple[str, str, np.ndarray]  # voice, language, (n,) at 16 kHz


def file_lines(folder: Path, source: Source) -> Iterator[Line]:
    """Read all files of a package, or of archives in it, that the source speaks of."""
    for name, read in listed_files(folder, source.archive):
        match = re.match(source.files, name)
        if match is None or not name.lower().endswith(SOUNDS):
            continue
        groups = {key: found or "" for key, found in match.groupdict().items()}
        language = groups.get("language") or source.language or "en"
        voice = groups.get("voice") or groups.get("language") or language
        if (wave := decode(read())) is not None:
            yield re.sub(r"\W", "_", voice), language, wave


def listed_files(folder: Path, archive: str):
    if not archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            yield "/" + str(path.relative_to(folder)), path.read_bytes
        return
    for path in sorted(folder.rglob(f"*{archive}")):
        with zipfile.ZipFile(path) as opened:
            for name in sorted(opened.namelist()):
                yield name, lambda name=name, opened=opened: opened.read(name)


def talkie_lines(folder: Path, source: Source) -> Iterator[Line]:
    """Read the lines of Flight of the Amazon Queen.

    A table after the head names each entry, its place and its size. Spoken lines are
    called like 570012P1.SB: dialogue, line, role, part. The hero, Joe, is role J.
    """
    packed = next(folder.rglob("queen.1c")).read_bytes()
    (n,) = struct.unpack_from(">H", packed, 13)
    for i in range(n):
        name, start, size = struct.unpack_from(">12sxII", packed, 15 + 21 * i)
        line = name.split(b"\0")[0].decode("ascii")
        if not line.endswith(".SB") or not line[0].isdigit():
            continue
        stem = line.removesuffix(".SB")
        voice = "joe" if stem[-2:-1] == "J" else stem[:3] + stem[-2:-1]
        wave = decode(packed[start : start + size])
        if wave is not None:
            yield voice, source.language, wave


def decode(data: bytes) -> np.ndarray | None:
    """Decode a file to mono at 16 kHz, or say None where there is no sound in it."""
    for kind in (None, "MP3"):
        try:
            wave, rate = sf.read(io.BytesIO(data), always_2d=True, format=kind)
        except (sf.LibsndfileError, TypeError):
            continue
        if len(wave) < BLINK * rate:  # some files are empty
            return None
        mono = torch.from_numpy(wave.mean(axis=1).astype(np.float32))
        return resample(mono, from_rate=rate, to_rate=SAMPLE_RATE).numpy()
    return None


def cut_lines(lines: Iterator[Line]) -> Iterator[Line]:
    """Make clips of lines: short ones of a voice joined, long ones cut."""
    waiting: dict[tuple[str, str], list[np.ndarray]] = {}
    for voice, language, wave in lines:
        if len(wave) < BLINK * SAMPLE_RATE or np.abs(wave).max() < QUIETEST:
            continue
        wave = trim(torch.from_numpy(wave)).numpy()
        if len(wave) >= SHORTEST * SAMPLE_RATE:
            yield from ((voice, language, piece) for piece in cut(wave))
            continue
        short = waiting.setdefault((voice, language), [])
        short.append(wave)
        if sum(map(len, short)) >= JOINED * SAMPLE_RATE:
            yield voice, language, np.concatenate(waiting.pop((voice, language)))
    for (voice, language), short in waiting.items():
        if sum(map(len, short)) >= SHORTEST * SAMPLE_RATE:
            yield voice, language, np.concatenate(short)


def cut(wave: np.ndarray) -> Iterator[np.ndarray]:
    """Cut a long line at the quietest moment between 2.5 and 4 seconds, repeatedly."""
    frame = SAMPLE_RATE // 40
    while len(wave) > LONGEST * SAMPLE_RATE:
        early, late = round(2.5 * SAMPLE_RATE), 4 * SAMPLE_RATE
        energy = (wave[early:late].reshape(-1, frame) ** 2).mean(axis=1)
        around = np.convolve(energy, np.ones(3), mode="valid")  # of three frames
        here = early + int(around.argmin()) * frame + frame * 3 // 2
        yield wave[:here]
        wave = wave[here:]
    if len(wave) >= SHORTEST * SAMPLE_RATE:
        yield wave


def is_voice(clip: np.ndarray, *, share: float = 0.25) -> bool:
    """Ask whether a quarter of the loud moments have a pitch of 70 to 450 Hz."""
    if np.sqrt((clip**2).mean()) < QUIETEST:
        return False
    size = SAMPLE_RATE // 25
    frames = clip[: len(clip) // size * size].reshape(-1, size)
    frames = frames - frames.mean(axis=1, keepdims=True)
    loudness = np.sqrt((frames**2).mean(axis=1))
    frames = frames[loudness > 0.12 * np.percentile(loudness, 95)]
    spectrum = np.abs(np.fft.rfft(frames, 2 * size)) ** 2
    shortest, longest = SAMPLE_RATE // 450, SAMPLE_RATE // 70
    alike = np.fft.irfft(spectrum)[:, : longest + 1]
    alike /= (alike[:, :1] + 1e-9) * (1 - np.arange(longest + 1) / size)
    return float((alike[:, shortest:].max(axis=1) > 0.6).mean()) >= share


if __name__ == "__main__":
    main()
