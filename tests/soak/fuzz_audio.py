"""Coverage-guided fuzzing of the readers of sound and of corpora's tables.

    python tests/soak/fuzz_audio.py --seconds 3600 --work build/fuzz

Every input is read as a sound file and, where it is text, as the table of a corpus.
Anything but a wave, a corpus or the project's own error is a finding and ends the
campaign, and so are ten seconds or 1.5 GB for one input. Small inputs that reached new
code are kept in `tests/soak/fuzz_corpus`, which the tests read again.
"""

import argparse
import contextlib
import io
import os
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
from record import make_parser, record

KEPT = Path(__file__).resolve().parent / "fuzz_corpus"
N_KEPT, MAX_BYTES = 200, 4096
FORMATS = (  # container/subtype
    "WAV/PCM_16 WAV/PCM_U8 WAV/PCM_24 WAV/FLOAT WAV/DOUBLE WAV/MS_ADPCM WAVEX/PCM_16 "
    "RF64/PCM_16 W64/PCM_16 AIFF/PCM_16 AU/PCM_16 CAF/PCM_16 CAF/ALAC_16 NIST/PCM_16 "
    "FLAC/PCM_16 OGG/VORBIS OGG/OPUS MP3/MPEG_LAYER_III"
)
# The table of a corpus: where it lies, and an example of it.
TABLES = {
    "own/clips.csv": b"path,emotion,speaker\na.wav,happy,anna\nb.wav,sda,bert\n",
    "nemo/data.tsv": b"file_id\temotion\tspeaker_id\tgender\nE1\tfear\tE\tf\n",
    "iemocap/Session1/dialog/EmoEvaluation/x.txt": b"[6.29 - 8.23]\tS_F0\tneu\t[2.5]",
    "meld/train_sent_emo.csv": b"Speaker,Emotion,Dialogue_ID,Utterance_ID\nA,joy,0,1\n",
}


def write_seeds(folder: Path) -> None:
    """Write one small file of every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(np.arange(800) / 5).astype(np.float32)
    for name in FORMATS.split():
        container, subtype = name.split("/")
        sound = io.BytesIO()
        soundfile.write(sound, tone, 8_000, format=container, subtype=subtype)
        (folder / name.replace("/", "-")).write_bytes(sound.getvalue())
    for place, content in TABLES.items():
        (folder / place.replace("/", "-")).write_bytes(content)


class Target:
    """What is called for every input; raises what is no error of the project."""

    def __init__(self, work: Path, args: argparse.Namespace) -> None:
        from clepdg_lib.audio import AudioError, read_audio
        from clepdg_lib.corpora import CorpusError, load_corpus

        self.read_audio, self.audio_error = read_audio, AudioError
        self.load_corpus, self.corpus_error = load_corpus, CorpusError
        self.work, self.args = work, args
        self.n_read = self.n_refused = self.slowest = 0
        os.environ["CLEPDG_CORPORA"] = str(work)
        for place in TABLES:
            (work / place).parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, data: bytes) -> None:
        start = time.monotonic()
        if start > self.args.began + self.args.seconds:
            self.finish()
        sound = self.work / "input.bin"
        sound.write_bytes(data)
        try:
            wave = self.read_audio(sound)
        except self.audio_error:
            self.n_refused += 1
        else:
            self.n_read += 1
            if wave.ndim != 1 or wave.numel() == 0 or not wave.isfinite().all():
                raise AssertionError(f"no wave: {wave}")
        if b"\n" in data and len(data) < MAX_BYTES:
            for place in TABLES:
                name = place.split("/")[0]
                (self.work / place).write_bytes(data)
                with contextlib.suppress(self.corpus_error):
                    self.load_corpus(self.work / name if name == "own" else name)
        self.slowest = max(self.slowest, time.monotonic() - start)

    def finish(self) -> None:
        """Keep the figures and the small inputs, and end the process."""
        found = (self.work / "corpus").iterdir()
        for file in sorted(found, key=lambda file: file.stat().st_size)[:N_KEPT]:
            if file.stat().st_size <= MAX_BYTES:
                (KEPT / file.name).write_bytes(file.read_bytes())
        record(
            "fuzzing",
            self.args,
            work=f"{self.n_read + self.n_refused:,} inputs, coverage-guided, to the "
            "readers of sound and of corpora's tables",
            result=f"0 crashes, hangs or other errors; {self.n_read:,} inputs read, "
            f"{self.n_refused:,} refused; slowest {self.slowest:.2f} s",
        )
        sys.stdout.flush()
        os._exit(0)  # libFuzzer would go on


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--work", type=Path, default=Path("build/fuzz"))
    args = parser.parse_args()
    import atheris  # the `soak` extra

    work, args.json = args.work.absolute(), args.json.absolute()
    write_seeds(work / "seeds")
    (work / "corpus").mkdir(exist_ok=True)
    import torch  # noqa: F401 (before the instrumentation: it is not ours)

    with atheris.instrument_imports(include=["clepdg_lib"]):
        target = Target(work, args)
    options = ["-max_len=20000", "-timeout=10", "-rss_limit_mb=1500"]
    folders = [str(work / "corpus"), str(work / "seeds"), str(KEPT)]
    prefix = f"-artifact_prefix={work}/"
    atheris.Setup([sys.argv[0], *folders, prefix, *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
