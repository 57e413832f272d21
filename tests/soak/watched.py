"""Run the course's work while watching: no network, and no file outside its places.

    python tests/soak/watched.py MODEL CLIPS ALLOWED...

Python's audit hooks see every socket and every file that is opened for writing, from
whatever package. An attempt to reach anything, loopback too, and a file written outside
the ALLOWED folders are printed, and the exit status is 1.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")
NETWORK += ("socket.sendto", "socket.bind", "urllib.Request", "http.client.connect")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
seen: list[str] = []


def watch(allowed: list[Path]) -> None:
    """From now on, note what should not be."""
    inside = [str(folder.resolve()) + os.sep for folder in allowed]

    def note(path: object, folder: object = None) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            path = os.fsdecode(path)
            if isinstance(folder, int) and folder >= 0:  # an open one: a name in it
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
            place = os.path.realpath(path)
            if not (place + os.sep).startswith((*inside, "/dev/", "/proc/")):
                seen.append(f"wrote {place}")

    def hook(event: str, args: tuple) -> None:
        if event in NETWORK:
            seen.append(f"{event} {args[1:]}")
            raise OSError(f"this run has no network: {event}")
        if event == "open":
            path, mode, flags = args
            writes = isinstance(mode, str) and set(mode) & set("wax+")
            if writes or (mode is None and isinstance(flags, int) and flags & WRITES):
                note(path)
        elif event == "sqlite3.connect":
            note(args[0])
        elif event in ("os.mkdir", "os.remove", "os.rmdir"):
            note(args[0], args[-1])
        elif event in ("os.rename", "os.link", "os.symlink"):
            note(args[1], args[-1])

    sys.addaudithook(hook)


def work(model: Path, clips: Path) -> None:
    """What a student does: the chain, the pictures, the checks, the bundled models."""
    import torch
    from chain import run_chain
    from matplotlib import pyplot

    from clepdg_lib import doctor, widgets
    from clepdg_lib.clap import embed_corpus, load_clap
    from clepdg_lib.corpora import load_corpus
    from clepdg_lib.environments import ENVIRONMENTS
    from clepdg_lib.lesson import check, play, show, start_lesson
    from clepdg_lib.reading import read_recording
    from clepdg_lib.transfer import zero_shot

    run_chain(model, clips)
    lesson = start_lesson("03")
    check("01.2", ...)
    wave = torch.sin(torch.arange(16_000) / 20) * 0.2
    recording = play(wave, label="mine").data
    assert len(read_recording(recording, name="an upload")) > 10_000
    clap = load_clap("clap-mini")
    corpus = load_corpus("emosynth").select(splits="test", domains="studio")
    heard = embed_corpus(clap, corpus)
    widgets.render_prompt_results(
        clap, heard.embeddings, clips=heard.clips, prompt="somebody sounds sad"
    )
    judge = zero_shot(clap, corpus.emotions)
    widgets.mix_environments(wave, clap=clap, classifier=judge)
    for name in ENVIRONMENTS:
        widgets.render_environment(wave, name, clap=clap, classifier=judge)
    figure, axes = pyplot.subplots()
    axes.plot(wave[:100])
    show(figure, alt="A hundred samples of a tone, as a line.")
    assert lesson.models and list(doctor.examine())


if __name__ == "__main__":
    watch([Path(word) for word in sys.argv[3:]])
    work(Path(sys.argv[1]), Path(sys.argv[2]))
    for line in seen:
        print(line)
    sys.exit(1 if seen else 0)
