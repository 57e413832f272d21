"""Several hundred broken or unusual sound files, made from seeds.

`odd_sounds(folder)` writes them; each has the number of samples that it must read to
at 16 kHz, or words that the error must contain.
"""

import io
import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
PCM = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC")
FORMATS = {name.lower(): (name, "PCM_16") for name in PCM}  # suffix -> container
FORMATS |= {"ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}
FORMATS |= {"mp3": ("MP3", "MPEG_LAYER_III")}
RATES = (1, 7, 50, 999, 1000, 4000, 8000, 11_025, 16_000, 22_050, 24_000, 24_414)
RATES += (32_000, 44_056, 44_100, 48_000, 88_200, 96_000, 192_000, 384_000, 768_000)
RATES += (768_001, 5_644_800, 2_000_000_000)
CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True)
class Odd:
    """One file, and what must come of it."""

    path: Path
    n_samples: int | None = None  # None: it must be refused
    message: str = ""  # in the refusal
    loose: int = 0  # samples by which the length may be off


def tone(n=4_000, *, channels=1, pitch=440.0):
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(n) / RATE)
    return np.stack([wave] * channels, axis=1) if channels > 1 else wave


def encoded(wave, *, rate=RATE, container="WAV", subtype="PCM_16"):
    sound = io.BytesIO()
    soundfile.write(sound, wave, rate, format=container, subtype=subtype)
    return sound.getvalue()


def encoded_as(suffix, wave):
    container, subtype = FORMATS[suffix]
    return encoded(wave, container=container, subtype=subtype)


def wav_bytes(
    samples, *, rate=RATE, channels=1, data_size=None, riff_size=None, code=1, bits=16
):
    """Build a WAV by hand, so that its header can say anything."""
    body = bytes(samples)
    align = channels * bits // 8
    speed, align = rate * align & 0xFFFFFFFF, align & 0xFFFF
    about = struct.pack("<HHIIHH", code, channels, rate, speed, align, bits)
    length = len(body) if data_size is None else data_size
    whole = 36 + len(body) if riff_size is None else riff_size
    head = b"RIFF" + struct.pack("<I", whole) + b"WAVE"
    head += b"fmt " + struct.pack("<I", 16) + about
    return head + b"data" + struct.pack("<I", length) + body


def id3(n_bytes, *, stated=None):
    """An ID3 tag with a picture of so many bytes in it."""
    picture = b"APIC" + struct.pack(">I", n_bytes) + b"\0\0" + bytes(n_bytes)
    size = len(picture) if stated is None else stated
    safe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + safe + picture


def odd_sounds(folder: Path) -> list[Odd]:
    """Write all of them; the folder may be new."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = (_truncated, _rates_and_channels, _contents, _headers, _no_sounds, _names)
    parts = (*parts, _joined)
    return [odd for part in parts for odd in part(folder / part.__name__.strip("_"))]


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _truncated(folder):
    wave = tone(400) + 0.02 * np.random.default_rng(0).standard_normal(400)
    for suffix in FORMATS:
        whole = encoded_as(suffix, wave)
        yield Odd(_write(folder / f"whole.{suffix}", whole), 400)
        # Every tenth byte; of the larger headers every fortieth, to stay short.
        step = 10 if len(whole) < 2_000 else 40
        for n in range(0, len(whole) - 2, step):
            path = _write(folder / f"{n:05d}.{suffix}", whole[:n])
            yield Odd(path, message="0 bytes" if n == 0 else "again")


def _rates_and_channels(folder):
    for rate in RATES:
        data = wav_bytes((tone(2_000) * 32767).astype("<i2").tobytes(), rate=rate)
        path = _write(folder / f"{rate}-hertz.wav", data)
        if 1_000 <= rate <= 768_000:
            yield Odd(path, round(2_000 * RATE / rate), loose=1)
        else:
            yield Odd(path, message="sample rate")
    for channels in CHANNELS:
        for subtype in ("PCM_16", "FLOAT"):
            data = encoded(tone(500, channels=channels), subtype=subtype)
            yield Odd(_write(folder / f"{channels}-of-{subtype}.wav", data), 500)
    for channels in (0, 1025, 65_535):
        data = wav_bytes(bytes(4_000), channels=channels)
        yield Odd(_write(folder / f"{channels}-channels.wav", data), message="audio")
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
            data = encoded(wave, subtype=subtype)
            yield Odd(_write(folder / f"{name}.{subtype}.wav", data), len(wave))
    for name in ("nan", "inf", "-inf", "1e300"):
        for where in ("first", "last", "all"):
            wave = tone(3_000)
            wave[{"first": 0, "last": -1, "all": slice(None)}[where]] = float(name)
            data = encoded(wave, subtype="DOUBLE")
            yield Odd(_write(folder / f"{name}-{where}.wav", data), message="NaN")
    absurd = encoded(tone(300) * 1e30, subtype="FLOAT")
    yield Odd(_write(folder / "absurd.wav", absurd), message="absurd")
    for suffix in ("wav", "flac", "aiff", "caf"):
        data = encoded_as(suffix, np.zeros(0))
        yield Odd(_write(folder / f"zero-length.{suffix}", data), message="again")
    data = encoded(tone(2), rate=48_000)
    yield Odd(_write(folder / "too-few.wav", data), 1, loose=1)
    sound = encoded_as("mp3", tone(8_000))
    for n_bytes in (10, 100_000, 5_000_000):
        data = id3(n_bytes) + sound
        yield Odd(_write(folder / f"picture-{n_bytes}.mp3", data), 8_000)
    lie = id3(20, stated=200_000_000) + sound
    yield Odd(_write(folder / "picture-that-lies.mp3", lie), message="audio")


def _headers(folder):
    sound = (tone(1_000) * 32767).astype("<i2").tobytes()
    for size in (2_002, 4_000, 2**30, 0xFFFFFF00):
        data = wav_bytes(sound, data_size=size)
        yield Odd(_write(folder / f"data-{size}.wav", data), message="truncated")
        both = wav_bytes(sound, data_size=size, riff_size=size)
        yield Odd(_write(folder / f"both-{size}.wav", both), message="truncated")
    for size in (2, 100, 999, 1_000):  # the header counts only the beginning
        data = wav_bytes(sound, data_size=size)
        yield Odd(_write(folder / f"data-only-{size}.wav", data), message="after what")
    # Written into a pipe by SoX, arecord or ffmpeg: the length was unknown.
    for size in (0x7FFFF000, 0x7FFFFF00, 2**31, 0xFFFFFFF8, 0xFFFFFFFF):
        riff = min(size + 36, 0xFFFFFFFF)
        for data in (sound, sound[:-1]):
            bits = 8 if len(data) % 2 else 16
            piped = wav_bytes(data, data_size=size, riff_size=riff, bits=bits)
            path = _write(folder / f"piped-{size}-{bits}.wav", piped)
            yield Odd(path, len(data) * 8 // bits)
    never = wav_bytes(sound, data_size=0, riff_size=0)
    yield Odd(_write(folder / "unclosed-0.wav", never), message="again")
    tags = b"LIST" + struct.pack("<I", 20) + b"INFOISFT" + struct.pack("<I", 8)
    for n, rest in ((1_999, b""), (1_999, tags + bytes(8)), (2_000, tags + bytes(8))):
        data = wav_bytes(sound[:n], bits=8) + rest  # no padding after an odd length
        yield Odd(_write(folder / f"unpadded-{n}-{len(rest)}.wav", data), n)
    for tag in (b"TAG" + bytes(125), b"ID3\x03" + bytes(99), bytes(4_096)):
        path = _write(folder / f"tagged-{tag[0]}.wav", wav_bytes(sound) + tag)
        yield Odd(path, 1_000)
    for code in (0, 2, 85, 0x1234, 0xFFFE):
        data = wav_bytes(sound, code=code)
        yield Odd(_write(folder / f"codec-{code}.wav", data), message="wav")
    for bits in (0, 1, 7, 12, 13, 33, 65_535):
        data = wav_bytes(sound, bits=bits)
        yield Odd(_write(folder / f"{bits}-bits.wav", data), -1)  # either way
    endless = wav_bytes(b"")[:36] + b"junk\0\0\0\0" * 50_000
    yield Odd(_write(folder / "endless-chunks.wav", endless), message="again")
    au = bytearray(encoded(tone(500), container="AU"))
    au[8:12] = b"\x7f\xff\xff\xff"
    yield Odd(_write(folder / "liar.au", au), message="again")
    flac = bytearray(encoded(tone(500), container="FLAC"))
    flac[21:26] = flac[21:22] + b"\xff\xff\xff\xff"  # number of samples
    yield Odd(_write(folder / "liar.flac", flac), message="again")
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
        message = "0 bytes" if not data else "audio"
        message = "again" if name in ("riff.wav", "only-head.wav") else message
        yield Odd(_write(folder / name, data), message=message)
    for i in range(40):
        noise = draw.integers(0, 256, int(draw.integers(1, 3_000)), np.uint8).tobytes()
        yield Odd(_write(folder / f"noise-{i}.wav", noise), message="audio")
    for i, suffix in enumerate(FORMATS):
        head = encoded_as(suffix, tone(200))[:40]
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
        data = encoded_as(suffix, tone(8_000))
        yield Odd(_write(folder / f"really-{suffix}.wav", data), 8_000)
    (folder / "loop-1.wav").symlink_to(folder / "loop-2.wav")
    (folder / "loop-2.wav").symlink_to(folder / "loop-1.wav")
    (folder / "dangling.wav").symlink_to(folder / "nowhere.wav")
    lost = ["missing.wav", "n" * 300 + ".wav", "zero\0byte.wav", "a b.wav/below.wav"]
    for name in (*lost, "loop-1.wav", "dangling.wav"):
        yield Odd(folder / name, message="cannot be opened")
    yield Odd(folder, message="folder")
    (folder / "link.wav").symlink_to(folder / "a b.wav")
    yield Odd(folder / "link.wav", 1_000)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.wav")
        yield Odd(folder / "pipe.wav", message="pipe")
    if Path("/dev/zero").exists():
        yield Odd(Path("/dev/zero"), message="device")
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        locked = _write(folder / "locked.wav", sound)
        locked.chmod(0)
        yield Odd(locked, message="cannot be opened")


def _joined(folder):
    """Files of which a decoder would silently read only a part."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE)
    for suffix in ("rf64", "w64", "aiff", "au", "caf", "flac", "wav"):
        long, short = encoded_as(suffix, noise[:RATE]), encoded_as(suffix, noise[:99])
        for name, data in (("short-last", long + short), ("short-first", short + long)):
            yield Odd(_write(folder / f"{name}.{suffix}", data), message="again")
    for suffix in ("ogg", "opus", "flac", "mp3", "wav"):
        for n in (RATE // 2, len(noise)):
            first = encoded_as(suffix, noise[:n])
            both = first + encoded_as(suffix, noise[: n // 2])
            yield Odd(_write(folder / f"cat-{n}.{suffix}", both), message="again")
        for share in (0.1, 0.5, 0.9, 0.97):
            cut = first[: int(share * len(first))]
            yield Odd(_write(folder / f"cut-{share}.{suffix}", cut), message="again")
    nist = encoded(noise, container="NIST")
    yield Odd(_write(folder / "half.nist", nist[: len(nist) // 2]), message="promises")
    tagged = io.BytesIO()
    with soundfile.SoundFile(tagged, "w", RATE, 1, "VORBIS", format="OGG") as file:
        file.comment = "x" * 20_000  # more than the log of libsndfile holds
        file.write(noise)
    data = tagged.getvalue()
    yield Odd(_write(folder / "tagged.ogg", data), len(noise))
    yield Odd(_write(folder / "tagged-twice.ogg", data + data), message="again")
    half = data[: len(data) // 2]
    yield Odd(_write(folder / "tagged-cut.ogg", half), message="again")
    # A variable bit rate, and no header that counts the frames: an estimate is wrong.
    for name, loud in (("first", slice(0, RATE)), ("last", slice(-RATE, None))):
        wave = 1e-3 * noise
        wave[loud] = noise[loud]
        mp3 = io.BytesIO()
        how = {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.1}
        with soundfile.SoundFile(mp3, "w", RATE, 1, **how) as file:
            file.write(wave)
        data = mp3.getvalue()
        yield Odd(_write(folder / f"loud-{name}.mp3", data), len(wave))
        bare = data[data.index(data[:2], 200) :]
        yield Odd(_write(folder / f"loud-{name}-bare.mp3", bare), message="again")
