"""Kill work at random moments, look at what is left, and let it go on.

    python tests/soak/cut_power.py --kills 200

Work runs in a process that SIGKILL ends; then the files are examined, and the
work starts again on top of them, until it comes through. What is damaged, lost, or
differs from an uninterrupted run by more than 1e-6 ends the campaign with an error.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from record import FORKS, fork, make_parser, record
from tiny import make_clap, make_corpus

from clepdg_lib import clap as clap_module
from clepdg_lib.__main__ import main as command_line
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.clep import TrainConfig, finetune_clep
from clepdg_lib.corpora import Corpus
from clepdg_lib.embeddings import embed_corpus
from clepdg_lib.files import PROJECT

sys.path.insert(0, str(PROJECT / "notebooks" / "build"))
import course  # noqa: E402

SHARES = {"embed": 80, "finetune": 90, "course": 20, "benchmark": 10}


class Damage(Exception):
    """What a cut of power must not do."""


class Campaign:
    """One kind of work, and what must hold whenever it stopped."""

    def __init__(self, folder: Path, model: Path, corpus: Corpus) -> None:
        self.folder, self.model, self.corpus = folder, model, corpus
        self.n_kills = self.n_finished = self.n_refused = 0

    def go(self, n_kills: int, draw: random.Random) -> None:
        self.reset()
        began = time.monotonic()
        self.comes_through(None)
        took = time.monotonic() - began
        self.expected = self.result()
        self.reset()
        while True:
            limit = draw.uniform(0.0, took) if self.n_kills < n_kills else None
            if self.comes_through(limit):
                self.n_finished += 1
                self.compare()
                self.reset()
                if limit is None:
                    return
            else:
                self.n_kills += 1
                self.examine()

    def comes_through(self, seconds: float | None) -> bool:
        status = fork(self.work, seconds=seconds)
        if status:
            raise Damage(f"the work failed by itself, status {status}")
        return status == 0

    def reset(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.n_stored = 0

    def work(self) -> None:
        raise NotImplementedError

    def result(self) -> object:
        """What the finished work left: compared with an uninterrupted run."""
        raise NotImplementedError

    def examine(self) -> None:
        """Look at what a killed run left; raise `Damage`."""

    def load(self, name: str) -> Clap | None:
        """Load a model that is there and whole; count one that is refused."""
        if (self.folder / name).exists():
            try:
                return load_clap(self.folder / name)
            except (ValueError, FileNotFoundError):
                self.n_refused += 1  # half of its files, and the error says so
        return None

    def compare(self) -> None:
        if not _close(self.result(), self.expected):
            raise Damage("the result differs from that of an uninterrupted run")


def _close(one: object, other: object) -> bool:
    """Equal; arrays within 1e-6."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray):
        return bool(np.abs(one - other).max() <= 1e-6)
    return one == other


class Embed(Campaign):
    """Embed into the cache; features that are stored stay, and are right."""

    def work(self) -> None:
        os.environ["CLEPDG_CACHE"] = str(self.folder / "cache")
        clap_module.AT_ONCE = 4  # stores features every four clips
        embedded = embed_corpus(load_clap(self.model), self.corpus, batch_size=4)
        np.save(self.folder / "result.npy", embedded.embeddings.numpy())

    def result(self) -> dict[str, np.ndarray]:
        return {**self.stored(), "result": np.load(self.folder / "result.npy")}

    def stored(self) -> dict[str, np.ndarray]:
        files = (self.folder / "cache").rglob("[!.]*.f32")
        return {f.stem: np.frombuffer(f.read_bytes()[:-32], "f4") for f in files}

    def examine(self) -> None:
        rows = self.stored()
        if len(rows) < self.n_stored:
            raise Damage(f"{self.n_stored} rows were stored, {len(rows)} are left")
        self.n_stored = len(rows)
        if not _close(rows, {name: self.expected[name] for name in rows}):
            raise Damage("a stored row is damaged")


class Finetune(Campaign):
    """Fine-tune and save: no model, a whole one, or one that is refused."""

    def work(self) -> None:
        os.environ["CLEPDG_CACHE"] = str(self.folder / "cache")
        config = TrainConfig(max_iterations=20)
        clap = load_clap(self.model)
        clep = finetune_clep(clap, self.corpus, config=config, progress=False)
        for i in range(8):  # one over another: writing is much of the work
            clep.logit_scale = 10.0 + i % 2
            clep.save(self.folder / "clep")

    def result(self) -> dict[str, np.ndarray]:
        return self.weights(load_clap(self.folder / "clep"))

    def weights(self, clap: Clap) -> dict[str, np.ndarray]:
        weights = clap.audio_projection.state_dict()
        return {name: value.numpy() for name, value in weights.items()}

    def examine(self) -> None:
        clap = self.load("clep")
        known = clap and clap.logit_scale in (10.0, 11.0)
        if clap and not (known and _close(self.weights(clap), self.expected)):
            raise Damage("a model was loaded that was never saved")


class Course(Campaign):
    """Run two notebooks and store them: a student's file is the old or the new."""

    def reset(self) -> None:
        super().reset()
        for name in ("00_welcome", "01_probe_clap"):
            cells = [new_markdown_cell(f"# {name}"), new_code_cell("print(6 * 7)")]
            for i, cell in enumerate(cells):
                cell["id"] = f"cell-{i}"
            file = self.folder / f"{name}.ipynb"
            nbformat.write(new_notebook(cells=cells), file)
        self.old = self.result()

    def work(self) -> None:
        executed = self.folder / "executed"
        if course.run_course(write=True, folder=self.folder, executed=executed):
            raise RuntimeError("a notebook failed")

    def result(self) -> dict[str, str]:
        files = sorted(self.folder.glob("*.ipynb"))
        return {file.name: file.read_text(encoding="utf-8") for file in files}

    def examine(self) -> None:
        for name, text in self.result().items():
            if text not in (self.old[name], self.expected[name]):
                raise Damage(f"{name} is neither what it was nor what it becomes")
        for copy in (self.folder / "executed").glob("*.ipynb"):
            nbformat.read(copy, as_version=4)  # raises where it is half a notebook


class Benchmark(Campaign):
    """Run the benchmark: its file is not there or whole."""

    def work(self) -> None:
        file = str(self.folder / "result.json")
        options = ["--json", file, "--settings", "loco", "--seeds", "0"]
        command_line(["benchmark", *options])

    def result(self) -> list:
        return json.loads((self.folder / "result.json").read_text())["rows"]

    def examine(self) -> None:
        if (self.folder / "result.json").exists():
            self.compare()


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(SHARES))
    args = parser.parse_args()
    draw = random.Random(args.seed)
    kinds = zip(SHARES, (Embed, Finetune, Course, Benchmark), strict=True)
    chosen = [(n, kind) for n, kind in kinds if args.only in (None, n)]
    total = sum(SHARES[name] for name, _ in chosen)
    done = {}
    with tempfile.TemporaryDirectory() as base:
        corpus = make_corpus(Path(base) / "clips", n_each=16)
        model = make_clap().save(Path(base) / "model")
        preloaded = ["clepdg_lib.clep", "clepdg_lib.acpt", "nbconvert"]
        FORKS.set_forkserver_preload(preloaded)
        fork(int, seconds=None)  # imports these, once for all
        for name, kind in chosen:
            done[name] = kind(Path(base) / name, model, corpus)
            done[name].go(round(args.kills * SHARES[name] / total), draw)
            print(f"{name}: {done[name].n_kills} kills, nothing damaged", flush=True)
    kills = ", ".join(f"{campaign.n_kills} {name}" for name, campaign in done.items())
    finished = sum(campaign.n_finished for campaign in done.values())
    refused = sum(campaign.n_refused for campaign in done.values())
    if args.only is None:
        record(
            "power cuts",
            args,
            work=f"SIGKILL at random moments: {kills}",
            result=f"0 damaged or lost files; {finished} runs came through, each "
            f"within 1e-6 of an uninterrupted one; {refused} half-written models, "
            "refused with an error",
        )


if __name__ == "__main__":
    main()
