"""Coverage-guided fuzzing of `read_audio` and of what reads headers and tables.

    python tests/soak/fuzz_audio.py --seconds 3600 --work build/fuzz

Every input is given, as a file, to the reader of sound, to the header parser, and,
where it is text, to the readers of metadata. Anything but a wave, a table or the
project's own error is a finding; so is more than ten seconds or 500 MB. The seeds are
made here; inputs that reached new code are kept in `tests/soak/fuzz_corpus` (small
ones, for the tests to run again) and findings in the work folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import torch  # noqa: E402,F401 (before the instrumentation: it is not ours)

with atheris.instrument_imports(include=["clepdg_lib"]):
    from clepdg_lib.containers import describe, kind_of, what_is_missing
    from clepdg_lib.corpus_findings import CorpusError
    from clepdg_lib.corpus_tables import read_csv, read_iemocap, read_meld, read_nemo
    from clepdg_lib.reading import read_audio
    from clepdg_lib.waves import AudioError

KEPT = 200
FORMATS = (
    ("WAV", "PCM_16"),
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "MS_ADPCM"),
    ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("CAF", "ALAC_16"),
    ("NIST", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
)
TABLES = {
    "csv": b"path,emotion,speaker,sex\na.wav,happy,anna,female\nb.wav,sda,bert,male\n",
    "tsv": b"file_id\temotion\traw_text\tspeaker_id\tgender\nEB0\tfear\tAch\tEB0\tf\n",
    "iemocap": b"[6.29 - 8.23]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n",
    "meld": b"Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nHi,Joey,joy,0,1\n",
}


def write_seeds(folder: Path) -> None:
    """Write one small file of every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(np.arange(800) / 5).astype(np.float32)
    for container, subtype in FORMATS:
        sound = io.BytesIO()
        soundfile.write(sound, tone, 8_000, format=container, subtype=subtype)
        (folder / f"{container}-{subtype}").write_bytes(sound.getvalue())
    for name, content in TABLES.items():
        (folder / f"table-{name}").write_bytes(content)


class Target:
    """What is called for every input."""

    def __init__(self, work: Path, *, seconds: float) -> None:
        self.work, self.stop_at = work, time.monotonic() + seconds
        self.n_runs, self.slowest, self.began = 0, 0.0, time.monotonic()
        self.n_read = self.n_refused = 0
        self.sound = work / "input.bin"
        layout = {
            "a/clips.csv": read_csv,
            "b/data.tsv": lambda file: read_nemo(file.parent),
            "c/Session1/dialog/EmoEvaluation/x.txt": (
                lambda file: read_iemocap(file.parents[3])
            ),
            "d/train_sent_emo.csv": lambda file: read_meld(file.parent),
        }
        self.tables = {}
        for name, read in layout.items():
            file = work / name
            file.parent.mkdir(parents=True, exist_ok=True)
            self.tables[file] = read

    def __call__(self, data: bytes) -> None:
        begun = time.monotonic()
        if begun > self.stop_at:
            self.finish()
        self.n_runs += 1
        kind_of(data[:64])
        describe(data[:64])
        what_is_missing(io.BytesIO(data), size=len(data))
        self.sound.write_bytes(data)
        try:
            wave = read_audio(self.sound)
        except AudioError:
            self.n_refused += 1
        else:
            self.n_read += 1
            assert wave.ndim == 1 and wave.numel() > 0 and wave.isfinite().all()
        if b"\n" in data[:4096] and len(data) < 4096:
            for file, read in self.tables.items():
                file.write_bytes(data)
                with contextlib.suppress(CorpusError):
                    read(file)
        self.slowest = max(self.slowest, time.monotonic() - begun)

    def finish(self) -> None:
        figures = {
            "seconds": round(time.monotonic() - self.began),
            "inputs": self.n_runs,
            "read": self.n_read,
            "refused": self.n_refused,
            "slowest_seconds": round(self.slowest, 3),
            "kept": len(list((self.work / "corpus").iterdir())),
            "findings": len([*self.work.glob("crash-*"), *self.work.glob("oom-*")])
            + len(list(self.work.glob("timeout-*"))),
        }
        (self.work / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
        print(figures, flush=True)
        os._exit(0)


def keep_figures(work: Path) -> None:
    """Put a finished run into the results, and its small inputs among the tests'."""
    from record import record

    kept = sorted((work / "corpus").iterdir(), key=lambda file: file.stat().st_size)
    (HERE / "fuzz_corpus").mkdir(exist_ok=True)
    for file in kept[:KEPT]:
        if file.stat().st_size <= 4096:
            (HERE / "fuzz_corpus" / file.name).write_bytes(file.read_bytes())
    told = json.loads((work / "figures.json").read_text())
    record(
        "fuzzing",
        did=f"{told['inputs']:,} inputs, coverage-guided, to the readers of sound, "
        "headers and metadata",
        found=f"{told['findings']} crashes, hangs or other errors; {told['read']:,} "
        f"inputs read, {told['refused']:,} refused; slowest "
        f"{told['slowest_seconds']:.2f} s; {told['kept']} inputs kept",
        seconds=told["seconds"],
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--work", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--record", action="store_true", help="only keep the figures")
    args = parser.parse_args()
    work = args.work.absolute()
    if args.record:
        keep_figures(work)
        return
    write_seeds(work / "seeds")
    (work / "corpus").mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [
            sys.argv[0],
            str(work / "corpus"),
            str(work / "seeds"),
            str(HERE / "fuzz_corpus"),
            f"-artifact_prefix={work}/",
            "-max_len=20000",
            "-timeout=10",
            "-rss_limit_mb=1500",  # torch alone takes a third of it
            "-print_final_stats=1",
        ],
        Target(work, seconds=args.seconds),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
