"""Gather recordings of many speakers: unlabelled training data for clap-mini.

    python data/build/voices.py --out build/voices  # about 20,000 clips

The recordings come from Debian packages (bookworm): game actors, letters and words in
many languages, telephone prompts. apt downloads and verifies them; they are unpacked,
not installed, and none is part of the project. Clips last 0.8 to 6 s at 16 kHz, carry
no emotion label, and number at most 1,500 per speaker.
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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from tqdm.auto import tqdm

from clepdg_lib.audio.waves import SAMPLE_RATE, resample, trim
from clepdg_lib.files import write_atomically

MIN_SECONDS, MAX_SECONDS = 0.8, 6.0  # of a clip
JOINED_SECONDS = 2.0  # short recordings of a speaker are joined up to this length
MAX_CLIPS = 1500  # per speaker
MIN_RMS, SUFFIXES = 0.003, (".ogg", ".wav", ".opus")


@dataclass(frozen=True)
class Source:
    """Where recordings lie in a Debian package.

    `files` is a regular expression for paths; its groups "voice" and "language" name
    speaker and language. `language` and `sex` hold where the path tells none.
    """

    package: str
    version: str
    files: str
    language: str = ""
    sex: str = ""


PROMPTS = r"/sounds/[a-z]{2}_[A-Z]{2}_[fm]_(?P<voice>\w+)/(?!silence/)"
MENARDI = "asterisk-prompt-it-menardi-wav", "1:1.4.22+mm20110907-3.1"
PLAYERS = r"/sound/player/(?P<voice>\w+)/"
NEXUIZ = r"/sound/(?:tutorial|announcer/(?!robotic)|player/)(?P<voice>[\w-]*)"
WARZONE = r"/audio/(?P<voice>tutorial|memressp|countdown|extra|proxmessages)/"
STAMPS = r"_desc(?:_(?P<language>[A-Za-z]+))?\.ogg"
SOURCES = (
    Source("asterisk-core-sounds-en-wav", "1.6.1-1", PROMPTS, "en", "female"),
    Source("asterisk-core-sounds-es-wav", "1.6.1-1", PROMPTS, "es", "female"),
    Source("asterisk-core-sounds-fr-wav", "1.6.1-1", PROMPTS, "fr", "female"),
    Source("asterisk-core-sounds-it-wav", "1.6.1-1", PROMPTS, "it", "male"),
    Source("asterisk-core-sounds-ru-wav", "1.6.1-1", PROMPTS, "ru"),
    Source(*MENARDI, PROMPTS, "it", "female"),
    Source("fillets-ng-data-cs", "1.0.1-1.1", r"/sound/.*-(?P<voice>\w)-", "cs"),
    Source("fillets-ng-data-nl", "1.0.1-1.1", r"/sound/.*-(?P<voice>\w)-", "nl"),
    Source("gcin-voice", "0~20170223-3", r"/(?P<voice>\d)\.ogg", "zh"),
    Source("hedgewars-data", "1.0.2-6", r"/voices/(?P<voice>\w+)/"),
    Source("klettres-data", "4:22.12.3-1", r"/klettres/(?P<language>\w+)/"),
    Source("ktuberling-data", "4:22.12.3-1", r"/sounds/(?P<language>\w+)/"),
    Source("nexuiz-data", "2.5.2-12", NEXUIZ, "en"),
    Source("openarena-081-players", "0.8.5split-14", PLAYERS, "en"),
    Source("tuxpaint-stamps-default", "2022.06.04-1", STAMPS),
    Source("warzone2100-data", "4.3.3-3", WARZONE, "en"),
    # All recordings of this game lie in one file of its own format.
    Source("flight-of-the-amazon-queen", "1.0.0-9", "", "en"),
)

Recording = tuple[str, str, np.ndarray]  # speaker, language, (n,) at 16 kHz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/voices"))
    args = parser.parse_args()
    tables = []
    for source in SOURCES:
        try:
            tables.append(gather(source, args.out))
        except subprocess.CalledProcessError as error:
            print(f"{source.package} is left out: {error}", file=sys.stderr)
    if not tables:
        raise SystemExit("no package can be had; on Debian 12, run `apt-get update`")
    table = pd.concat(tables)
    write_atomically(args.out / "clips.csv", table.to_csv(index=False))
    print(table.groupby("package")["seconds"].agg(["count", "sum"]).to_string())


def gather(source: Source, out: Path) -> pd.DataFrame:
    """Cut the recordings of a package into clips and list them."""
    folder = out / "clips" / source.package
    folder.mkdir(parents=True, exist_ok=True)
    read = read_queen if source.package.startswith("flight") else read_files
    rows, counts = [], Counter()
    recordings = read(download(source, out / "packages"), source)
    for speaker, language, clip in cut_recordings(tqdm(recordings)):
        if counts[speaker] >= MAX_CLIPS or not is_voice(clip):
            continue
        name = f"{speaker}-{counts[speaker]:04d}.wav"
        counts[speaker] += 1
        soundfile.write(folder / name, np.clip(clip, -1, 1), SAMPLE_RATE)
        row = {"path": f"clips/{source.package}/{name}", "emotion": "unknown"}
        row |= {"speaker": f"{source.package}:{speaker}"}
        row |= {"sex": "male" if speaker == "joe" else source.sex}
        row |= {"language": language, "split": "train", "package": source.package}
        rows.append(row | {"seconds": round(len(clip) / SAMPLE_RATE, 2)})
    return pd.DataFrame(rows)


def download(source: Source, folder: Path) -> Path:
    """Download a package with apt, which may fail, and unpack it, once."""
    if (unpacked := folder / source.package).is_dir():
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    wanted = f"{source.package}={source.version}"
    subprocess.run(["apt-get", "download", "-qq", wanted], cwd=folder, check=True)
    (archive,) = folder.glob(f"{source.package}_*.deb")
    partial = folder / f"{source.package}.partial"
    subprocess.run(["dpkg-deb", "-x", archive, partial], check=True)
    archive.unlink()
    for packed in [*partial.rglob("*.pk3"), *partial.rglob("*.wz")]:
        zipfile.ZipFile(packed).extractall(packed.with_suffix(""))
    return partial.rename(unpacked)


def read_files(folder: Path, source: Source) -> Iterator[Recording]:
    """Read all files of a package that match the source's pattern."""
    for path in sorted(folder.rglob("*")):
        match = re.search(source.files, f"/{path.relative_to(folder).as_posix()}")
        if match is None or path.suffix.lower() not in SUFFIXES:
            continue
        groups = {key: value or "" for key, value in match.groupdict().items()}
        language = groups.get("language") or source.language or "en"
        speaker = groups.get("voice") or groups.get("language") or language
        if (wave := decode(path.read_bytes())) is not None:
            yield re.sub(r"\W", "_", speaker), language, wave


def read_queen(folder: Path, source: Source) -> Iterator[Recording]:
    """Read the dialogue of Flight of the Amazon Queen.

    After the head, a table gives each entry's name, offset and size. Dialogue has names
    like 570012P1.SB: scene, line, role, part. The hero, Joe, is role J.
    """
    content = next(folder.rglob("queen.1c")).read_bytes()
    (n_entries,) = struct.unpack_from(">H", content, 13)
    for i in range(n_entries):
        name, start, size = struct.unpack_from(">12sxII", content, 15 + 21 * i)
        stem, _, suffix = name.split(b"\0")[0].decode("ascii").rpartition(".")
        if suffix != "SB" or not stem[0].isdigit():
            continue
        speaker = "joe" if stem[-2:-1] == "J" else stem[:3] + stem[-2:-1]
        if (wave := decode(content[start : start + size])) is not None:
            yield speaker, source.language, wave


def decode(content: bytes) -> np.ndarray | None:
    """Decode a file, whole or not, to mono at 16 kHz; None if it holds no sound."""
    try:
        wave, rate = soundfile.read(io.BytesIO(content), always_2d=True)
    except soundfile.LibsndfileError:
        return None
    if len(wave) < 0.1 * rate:
        return None
    mono = torch.from_numpy(wave.mean(axis=1)).float()
    return resample(mono, from_rate=rate, to_rate=SAMPLE_RATE).numpy()


def cut_recordings(recordings: Iterable[Recording]) -> Iterator[Recording]:
    """Make clips: short recordings of a speaker are joined, long ones cut."""
    waiting: dict[tuple[str, str], list[np.ndarray]] = {}
    for speaker, language, wave in recordings:
        wave = trim(torch.from_numpy(wave), sample_rate=SAMPLE_RATE).numpy()
        if len(wave) >= MIN_SECONDS * SAMPLE_RATE:
            yield from ((speaker, language, piece) for piece in cut(wave))
            continue
        short = waiting.setdefault((speaker, language), [])
        short.append(wave)
        if sum(map(len, short)) >= JOINED_SECONDS * SAMPLE_RATE:
            yield speaker, language, np.concatenate(waiting.pop((speaker, language)))
    for (speaker, language), short in waiting.items():
        if sum(map(len, short)) >= MIN_SECONDS * SAMPLE_RATE:
            yield speaker, language, np.concatenate(short)


def cut(wave: np.ndarray) -> Iterator[np.ndarray]:
    """Cut a wave of more than 6 s, repeatedly, where it is quietest from 2.5 to 4 s."""
    frame = SAMPLE_RATE // 40
    start, stop = SAMPLE_RATE * 5 // 2, SAMPLE_RATE * 4
    while len(wave) > MAX_SECONDS * SAMPLE_RATE:
        power = (wave[start:stop].reshape(-1, frame) ** 2).mean(axis=1)
        smooth = np.convolve(power, np.ones(3), mode="valid")
        here = start + int(smooth.argmin()) * frame + frame * 3 // 2
        yield wave[:here]
        wave = wave[here:]
    if len(wave) >= MIN_SECONDS * SAMPLE_RATE:
        yield wave


def is_voice(clip: np.ndarray, *, share: float = 0.25) -> bool:
    """Test whether a quarter of the loud frames have a pitch of 70 to 450 Hz."""
    if np.sqrt((clip**2).mean()) < MIN_RMS:
        return False
    size = SAMPLE_RATE // 25
    frames = clip[: len(clip) // size * size].reshape(-1, size)
    frames = frames - frames.mean(axis=1, keepdims=True)
    rms = np.sqrt((frames**2).mean(axis=1))
    frames = frames[rms > 0.12 * np.percentile(rms, 95)]
    spectrum = np.abs(np.fft.rfft(frames, 2 * size)) ** 2
    shortest, longest = SAMPLE_RATE // 450, SAMPLE_RATE // 70  # lags
    correlation = np.fft.irfft(spectrum)[:, : longest + 1]
    correlation /= (correlation[:, :1] + 1e-9) * (1 - np.arange(longest + 1) / size)
    return float((correlation[:, shortest:].max(axis=1) > 0.6).mean()) >= share


if __name__ == "__main__":
    main()
