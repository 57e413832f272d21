"""Several hundred bad or odd sound files, made on the spot: what forty laptops hold.

`odd_sounds(folder)` writes them and says of each what must come of it: the number of
samples that it reads to at 16 kHz, or words that the refusal must contain.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
FORMATS = {  # suffix -> container and subtype
    "wav": ("WAV", "PCM_16"),
    "wavex": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
RATES = (1, 7, 50, 999, 1000, 4000, 8000, 11_025, 16_000, 22_050, 24_000, 24_414)
RATES += (32_000, 44_056, 44_100, 48_000, 88_200, 96_000, 192_000, 384_000, 768_000)
RATES += (768_001, 5_644_800, 2_000_000_000)
CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True)
class Odd:
    """One file, and what must come of it."""

    path: Path
    n_samples: int | None = None  # None: it must be refused
    says: str = ""  # in the refusal
    loose: int = 0  # samples by which the length may be off


def tone(n=4_000, *, channels=1, pitch=440.0):
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(n) / RATE)
    return np.stack([wave] * channels, axis=1) if channels > 1 else wave


def encoded(wave, *, rate=RATE, container="WAV", subtype="PCM_16"):
    sound = io.BytesIO()
    soundfile.write(sound, wave, rate, format=container, subtype=subtype)
    return sound.getvalue()


def wav_bytes(
    samples, *, rate=RATE, channels=1, data_says=None, riff_says=None, code=1, bits=16
):
    """Build a WAV by hand, so that its header can say anything."""
    body = bytes(samples)
    align = channels * bits // 8
    about = struct.pack(
        "<HHIIHH",
        *(code, channels, rate & 0xFFFFFFFF, rate * align & 0xFFFFFFFF),
        *(align & 0xFFFF, bits),
    )
    length = len(body) if data_says is None else data_says
    whole = 36 + len(body) if riff_says is None else riff_says
    head = b"RIFF" + struct.pack("<I", whole) + b"WAVE"
    head += b"fmt " + struct.pack("<I", 16) + about
    return head + b"data" + struct.pack("<I", length) + body


def id3(n_bytes, *, says=None):
    """An ID3 tag with a picture of so many bytes in it."""
    picture = b"APIC" + struct.pack(">I", n_bytes) + b"\0\0" + bytes(n_bytes)
    size = len(picture) if says is None else says
    safe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + safe + picture


def odd_sounds(folder: Path) -> list[Odd]:
    """Write all of them; the folder may be new."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        *_truncated(folder / "truncated"),
        *_rates_and_channels(folder / "rates"),
        *_contents(folder / "contents"),
        *_headers(folder / "headers"),
        *_no_sounds(folder / "no-sounds"),
        *_names(folder / "names"),
    ]


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _truncated(folder):
    wave = tone(400) + 0.02 * np.random.default_rng(0).standard_normal(400)
    for suffix, (container, subtype) in FORMATS.items():
        whole = encoded(wave, container=container, subtype=subtype)
        yield Odd(_write(folder / f"whole.{suffix}", whole), 400)
        # Every tenth byte; of the larger headers every fortieth, to stay short.
        step = 10 if len(whole) < 2_000 else 40
        for n in range(0, len(whole) - 2, step):
            path = _write(folder / f"{n:05d}.{suffix}", whole[:n])
            yield Odd(path, says="0 bytes" if n == 0 else "again")


def _rates_and_channels(folder):
    for rate in RATES:
        data = wav_bytes((tone(2_000) * 32767).astype("<i2").tobytes(), rate=rate)
        path = _write(folder / f"{rate}-hertz.wav", data)
        if 1_000 <= rate <= 768_000:
            yield Odd(path, round(2_000 * RATE / rate), loose=1)
        else:
            yield Odd(path, says="sample rate")
    for channels in CHANNELS:
        for subtype in ("PCM_16", "FLOAT"):
            data = encoded(tone(500, channels=channels), subtype=subtype)
            yield Odd(_write(folder / f"{channels}-of-{subtype}.wav", data), 500)
    for channels in (0, 1025, 65_535):
        data = wav_bytes(bytes(4_000), channels=channels)
        yield Odd(_write(folder / f"{channels}-channels.wav", data), says="audio")
    for container, subtypes in (
        ("WAV", "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM"),
        ("AIFF", "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE"),
        ("FLAC", "PCM_S8 PCM_16 PCM_24"),
        ("CAF", "PCM_S8 PCM_24 PCM_32 FLOAT DOUBLE ALAC_16 ALAC_24 ALAC_32"),
        ("AU", "PCM_S8 PCM_24 PCM_32 FLOAT DOUBLE ULAW"),
        ("W64", "PCM_U8 PCM_24 PCM_32 FLOAT DOUBLE"),
        ("RF64", "PCM_U8 PCM_24 PCM_32 FLOAT DOUBLE"),
        ("NIST", "PCM_S8 PCM_16 PCM_24 PCM_32"),
    ):
        for subtype in subtypes.split():
            data = encoded(tone(1_010), container=container, subtype=subtype)
            path = _write(folder / f"{container}-{subtype}.{container.lower()}", data)
            # ADPCM comes in blocks of 505 samples or so.
            yield Odd(path, 1_010, loose=7 if "ADPCM" in subtype else 0)


def _contents(folder):
    for name, wave in {
        "one-sample": np.full(1, 0.5),
        "two-samples": np.full(2, 0.5),
        "zeros": np.zeros(3_000),
        "dc": np.full(3_000, 0.9),
        "clipped": np.sign(tone(3_000)),
        "beyond-one": 40.0 * tone(3_000),
        "integers-as-floats": 32_768.0 * tone(3_000),
        "denormal": np.full(3_000, 1e-40),
        "impulse": np.eye(1, 3_000, 7)[0],
    }.items():
        for subtype in ("FLOAT", "DOUBLE"):
            path = _write(folder / f"{name}.{subtype}.wav", encoded(wave, rate=RATE))
            path.write_bytes(encoded(wave, subtype=subtype))
            yield Odd(path, len(wave))
    for name, value in {
        "nan": np.nan,
        "inf": np.inf,
        "minus-inf": -np.inf,
        "too-large": 1e300,
    }.items():
        for where in ("first", "last", "all"):
            wave = tone(3_000)
            wave[{"first": 0, "last": -1, "all": slice(None)}[where]] = value
            data = encoded(wave, subtype="DOUBLE")
            path = _write(folder / f"{name}-{where}.wav", data)
            yield Odd(path, says="NaN or infinite")
    absurd = encoded(tone(300) * 1e30, subtype="FLOAT")
    yield Odd(_write(folder / "absurd.wav", absurd), says="samples lie from -1 to 1")
    for suffix in ("wav", "flac", "aiff", "caf"):
        container, subtype = FORMATS[suffix]
        data = encoded(np.zeros(0), container=container, subtype=subtype)
        yield Odd(_write(folder / f"zero-length.{suffix}", data), says="again")
    few = encoded(tone(2), rate=48_000)
    yield Odd(_write(folder / "too-few.wav", few), 1, loose=1)
    for n_bytes in (10, 100_000, 5_000_000):
        container, subtype = FORMATS["mp3"]
        sound = encoded(tone(8_000), container=container, subtype=subtype)
        path = _write(folder / f"picture-{n_bytes}.mp3", id3(n_bytes) + sound)
        yield Odd(path, 8_000)
    lie = id3(20, says=200_000_000) + sound
    yield Odd(_write(folder / "picture-that-lies.mp3", lie), says="tag alone")


def _headers(folder):
    sound = (tone(1_000) * 32767).astype("<i2").tobytes()
    for says in (2_002, 4_000, 2**31 - 1, 2**31, 0xFFFFFF00):
        data = wav_bytes(sound, data_says=says)
        yield Odd(_write(folder / f"data-says-{says}.wav", data), says="truncated")
        both = wav_bytes(sound, data_says=says, riff_says=says)
        yield Odd(_write(folder / f"both-say-{says}.wav", both), says="truncated")
    for says in (2, 100, 1_000):  # the rest of the sound is not announced
        data = wav_bytes(sound, data_says=says)
        yield Odd(_write(folder / f"data-says-only-{says}.wav", data), says="follow")
    for says in (0xFFFFFFFF, 0xFFFFFFF8):  # recorders that were never closed
        data = wav_bytes(sound, data_says=says, riff_says=says)
        yield Odd(_write(folder / f"unclosed-{says}.wav", data), 1_000)
    never = wav_bytes(sound, data_says=0, riff_says=0)
    yield Odd(_write(folder / "unclosed-0.wav", never), says="holds no samples")
    for tag in (b"TAG" + bytes(125), b"ID3\x03" + bytes(99), bytes(4_096)):
        path = _write(folder / f"tagged-{tag[0]}.wav", wav_bytes(sound) + tag)
        yield Odd(path, 1_000)
    for code in (0, 2, 85, 0x1234, 0xFFFE):
        data = wav_bytes(sound, code=code)
        yield Odd(_write(folder / f"codec-{code}.wav", data), says="wav")
    for bits in (0, 1, 7, 12, 13, 33, 65_535):
        data = wav_bytes(sound, bits=bits)
        yield Odd(_write(folder / f"{bits}-bits.wav", data), -1)  # either way
    endless = wav_bytes(b"")[:36] + b"junk\0\0\0\0" * 50_000
    yield Odd(_write(folder / "endless-chunks.wav", endless), says="again")
    au = bytearray(encoded(tone(500), container="AU"))
    au[8:12] = b"\x7f\xff\xff\xff"
    yield Odd(_write(folder / "liar.au", au), says="promises")
    flac = bytearray(encoded(tone(500), container="FLAC"))
    flac[21:26] = flac[21:22] + b"\xff\xff\xff\xff"  # number of samples
    yield Odd(_write(folder / "liar.flac", flac), says="again")
    broken = bytearray(encoded(tone(9_000), container="FLAC"))
    broken[len(broken) // 2] ^= 0xFF
    yield Odd(_write(folder / "broken.flac", broken), -1)


def _no_sounds(folder):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.wav", wav_bytes(bytes(100)))
    draw = np.random.default_rng(0)
    for name, data in {
        "empty.wav": b"",
        "text.wav": b"Dear student,\nthis is no sound.\n" * 40,
        "zip.wav": archive.getvalue(),
        "pdf.mp3": b"%PDF-1.7\n" + bytes(400),
        "png.flac": b"\x89PNG\r\n\x1a\n" + bytes(400),
        "page.mp3": b"<!DOCTYPE html><html>404</html>" * 20,
        "video.wav": bytes(4) + b"ftypM4A " + bytes(500),
        "one-byte.wav": b"R",
        "riff.wav": b"RIFF",
        "only-head.wav": wav_bytes(b"")[:40],
        "zeros.wav": bytes(5_000),
        "ones.mp3": b"\xff" * 5_000,
        "gzip.ogg": b"\x1f\x8b" + bytes(300),
        "utf16.wav": "no sound".encode("utf-16") * 50,
        "headerless.raw": draw.integers(0, 120, 4_000, np.uint8).tobytes(),
    }.items():
        says = "0 bytes" if not data else "audio"
        says = "again" if name in ("riff.wav", "only-head.wav") else says
        yield Odd(_write(folder / name, data), says=says)
    for i in range(40):
        noise = draw.integers(0, 256, int(draw.integers(1, 3_000)), np.uint8).tobytes()
        yield Odd(_write(folder / f"noise-{i}.wav", noise), says="audio")
    for i, (suffix, (container, subtype)) in enumerate(FORMATS.items()):
        head = encoded(tone(200), container=container, subtype=subtype)[:40]
        noise = head + draw.integers(0, 256, 900, np.uint8).tobytes()
        yield Odd(_write(folder / f"head-{i}.{suffix}", noise), -1)


def _names(folder):
    sound = wav_bytes((tone(1_000) * 32767).astype("<i2").tobytes())
    names = ["a b.wav", "new\nline.wav", "tab\t.wav", "emoji-\N{GRINNING FACE}.wav"]
    names += ["M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller.wav", "-rf.wav", "'\".wav"]
    names += ["$HOME.wav", "%s%n.wav", "{path}.wav", "no suffix", "upper.WAV"]
    names += ["a.raw", "a.mp3", "a.flac", "a.txt", ".hidden", "\u202egnp.wav"]
    names += ["n" * 251 + ".wav", os.fsdecode(b"latin-\xfc.wav")]
    for name in names:
        try:
            yield Odd(_write(folder / name, sound), 1_000)
        except (OSError, UnicodeError):
            continue  # this system has no such names, so nobody brings one
    for suffix in ("flac", "ogg", "mp3"):
        container, subtype = FORMATS[suffix]
        data = encoded(tone(8_000), container=container, subtype=subtype)
        yield Odd(_write(folder / f"really-{suffix}.wav", data), 8_000)
    yield Odd(folder / "missing.wav", says="does not exist")
    yield Odd(folder / ("n" * 300 + ".wav"), says="cannot be opened")
    yield Odd(folder / "zero\0byte.wav", says="cannot be opened")
    yield Odd(folder, says="is a folder")
    yield Odd(folder / "a b.wav" / "below.wav", says="cannot be opened")
    (folder / "loop-1.wav").symlink_to(folder / "loop-2.wav")
    (folder / "loop-2.wav").symlink_to(folder / "loop-1.wav")
    yield Odd(folder / "loop-1.wav", says="cannot be opened")
    (folder / "dangling.wav").symlink_to(folder / "nowhere.wav")
    yield Odd(folder / "dangling.wav", says="does not exist")
    (folder / "link.wav").symlink_to(folder / "a b.wav")
    yield Odd(folder / "link.wav", 1_000)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.wav")
        yield Odd(folder / "pipe.wav", says="pipe")
    if Path("/dev/zero").exists():
        yield Odd(Path("/dev/zero"), says="device")
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        locked = _write(folder / "locked.wav", sound)
        locked.chmod(0)
        yield Odd(locked, says="cannot be opened")
