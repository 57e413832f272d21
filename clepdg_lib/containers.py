"""What a sound file says of itself before anything decodes it: kind, and length.

libsndfile reads a cut file to its end without a word, and tries two dozen formats on
whatever it is given. So the file is asked here first: is it of a kind that recordings
come in, and is it as long as its own header says? Only bytes are compared; nothing is
decoded, and no claim of a header is believed further than the file reaches.

Lesson: none; `read_audio` uses it.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import BinaryIO

HEAD_BYTES = 64
MAX_CHUNKS = 10_000  # a header of endless empty chunks must not be walked for ever
UNKNOWN = 0xFFFFFFF0  # recorders that stream leave 0 or all ones where a size should be
W64_MAGIC = bytes.fromhex("726966662e91cf11a5d628db04c10000")  # "riff" and its GUID
# What may follow the sound of a WAV file without belonging to it: old tags.
TAGS = (b"TAG", b"ID3", b"APE")
FOREIGN = {
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"\x1f\x8b": "a gzip archive",
    b"<!DO": "a web page",
    b"<htm": "a web page",
    b"\x1aE\xdf\xa3": "Matroska or WebM",
}


def kind_of(head: bytes) -> str:
    """Name the container that the first bytes of a file announce, or "".

    Example:
        >>> kind_of(b"RIFF$\\x00\\x00\\x00WAVEfmt "), kind_of(b"PK\\x03\\x04")
        ('wav', '')
    """
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"RF64" and head[8:12] == b"WAVE":
        return "rf64"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:16] == W64_MAGIC:
        return "w64"
    for magic, kind in (
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
        (b"caff", "caf"),
        (b".snd", "au"),
        (b"NIST_1A", "nist"),
        (b"ID3", "mp3"),  # a tag in front of it
    ):
        if head.startswith(magic):
            return kind
    # Eleven ones begin an MPEG frame; layer and rate must not be the reserved ones.
    if len(head) > 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        plausible = head[1] & 0x06 and head[1] & 0x18 != 0x08 and head[2] & 0x0C != 0x0C
        return "mp3" if plausible else ""
    return ""


def describe(head: bytes) -> str:
    """Say what a file that is no recording seems to be.

    Example:
        >>> describe(b"PK\\x03\\x04...."), describe(b"Dear student, this is")
        ('it is a zip archive', 'it is text')
    """
    for magic, name in FOREIGN.items():
        if head.startswith(magic):
            return f"it is {name}"
    if head[4:8] == b"ftyp":
        return "it is MP4 or M4A, which is not read here"
    if head and all(chr(byte) in string.printable for byte in head):
        return "it is text"
    return f"no format known here begins with {head[:4].hex(' ') or 'nothing'}"


def what_is_missing(stream: BinaryIO, *, size: int) -> str:
    """Say why a file is shorter, or longer, than its own header promises; or "".

    Args:
        stream: The file, opened for reading bytes; it is left anywhere.
        size: Its length in bytes.
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    kind = kind_of(head)
    if kind == "wav":
        return _riff(stream, head, size)
    if kind == "ogg":
        return _ogg(stream, size)
    if kind == "mp3":
        return _mpeg(stream, head, size)
    promised = 0
    if kind == "rf64" and head[12:16] == b"ds64":
        promised = int.from_bytes(head[20:28], "little") + 8
    elif kind == "aiff":
        promised = int.from_bytes(head[4:8], "big") + 8
        promised = promised if promised < UNKNOWN else 0
    elif kind == "w64":
        promised = int.from_bytes(head[16:24], "little")
    elif kind == "au":
        sound = int.from_bytes(head[8:12], "big")
        known = sound < UNKNOWN
        promised = int.from_bytes(head[4:8], "big") + sound if known else 0
    elif kind == "caf":
        promised = max((end for *_, end in _caf_chunks(stream, size)), default=0)
    return _short(promised, size)


def _short(promised: int, size: int) -> str:
    if promised > size + 1:  # one byte of padding is often forgotten
        return f"its header promises {promised:,} bytes, it has {size:,}"
    return ""


def _riff(stream: BinaryIO, head: bytes, size: int) -> str:
    order = "big" if head[:4] == b"RIFX" else "little"
    said = int.from_bytes(head[4:8], order) + 8
    if 8 < said < UNKNOWN and (problem := _short(said, size)):
        return problem
    position, sound = 12, 0
    for _ in range(MAX_CHUNKS):
        stream.seek(position)
        chunk = stream.read(8)
        if len(chunk) < 8:
            return ""
        length = int.from_bytes(chunk[4:], order)
        if chunk[:4] == b"data":
            if length == 0 or length >= UNKNOWN:
                return ""  # never closed by its recorder: it is read to the end
            sound = length
        elif sound and (position >= said or not _is_name(chunk[:4])):
            return _left_over(stream, position, size, sound)
        if position + 8 + length > size + 1:
            what = chunk[:4].decode("ascii", "replace")
            held = size - position - 8
            return f"its part {what!r} should have {length:,} bytes, it has {held:,}"
        position += 8 + length + length % 2
    return ""


def _is_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)


def _left_over(stream: BinaryIO, position: int, size: int, sound: int) -> str:
    """What follows a WAV file's last part: an old tag, zeros, or sound unannounced."""
    stream.seek(position)
    rest = stream.read(65_536)
    if rest.startswith(TAGS) or not rest.strip(b"\0"):
        return ""
    n = size - position
    if n < 64:
        return ""
    return f"its header promises {sound:,} bytes of sound, and {n:,} more follow"


def _ogg(stream: BinaryIO, size: int) -> str:
    stream.seek(max(0, size - 65_536))  # no Ogg page is longer
    tail = stream.read()
    last = tail.rfind(b"OggS")
    page = tail[last:]
    if last < 0 or len(page) < 27 or not page[5] & 4:
        return "its last Ogg page is not marked as the end"
    n_segments = page[26]
    if len(page) < 27 + n_segments + sum(page[27 : 27 + n_segments]):
        return "its last Ogg page is cut short"
    return ""


def _mpeg(stream: BinaryIO, head: bytes, size: int) -> str:
    start = 0
    if head[:3] == b"ID3":
        # Four times seven bits: what the tag holds, pictures and all.
        start = 10 + sum((b & 0x7F) << 7 * i for i, b in enumerate(head[9:5:-1]))
        if start >= size:
            return f"its tag alone should have {start:,} bytes, the file has {size:,}"
    stream.seek(start)
    frame = stream.read(512)
    # The first frame of most files counts the bytes of all of them.
    for name in (b"Xing", b"Info"):
        at = frame.find(name)
        if 0 < at < 200 and len(frame) >= at + 16 and frame[at + 7] & 2:
            at += 12 if frame[at + 7] & 1 else 8
            return _short(start + int.from_bytes(frame[at : at + 4], "big"), size)
    return ""


def _caf_chunks(stream: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    position = 8
    for _ in range(MAX_CHUNKS):
        stream.seek(position)
        chunk = stream.read(12)
        if len(chunk) < 12:
            return
        length = int.from_bytes(chunk[4:], "big", signed=True)
        if length < 0:  # -1: the sound goes on to the end
            return
        position += 12 + length
        yield chunk[:4], position
        if position > size:
            return
