"""Kill the course two hundred times, at random moments, and see what is left.

    python tests/soak/cut_power.py --kills 200

Work runs in a forked process, which SIGKILL ends somewhere in the middle; then what
lies on the disk is examined, and the work is started again on top of it, until it
comes through. Whatever is found damaged, lost, or different from an uninterrupted run
by more than 1e-6 ends the campaign with an error.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from record import record  # noqa: E402
from tiny import make_corpus, make_model  # noqa: E402

from clepdg_lib import benchmark, course, embedding, material, methods  # noqa: E402
from clepdg_lib.acpt import AcousticContexts, random_contexts  # noqa: E402
from clepdg_lib.clap import load_clap  # noqa: E402
from clepdg_lib.clep import finetune_clep  # noqa: E402
from clepdg_lib.contrast import Recipe  # noqa: E402
from clepdg_lib.corpora import CorpusError  # noqa: E402
from clepdg_lib.embedding import embed_corpus  # noqa: E402
from clepdg_lib.files import ChangedFileError, write_atomically  # noqa: E402
from clepdg_lib.verdicts import rows_of  # noqa: E402

SHARES = {"embed": 70, "finetune": 60, "benchmark": 30, "save": 20, "course": 20}
RECIPE = Recipe(epochs=4, batch_size=8, probe_steps=3, precision="float32")


class Damage(Exception):
    """What a cut of power must not do."""


def run(work: Callable[[], None], *, seconds: float | None) -> bool:
    """Do work in a forked process, killed after some seconds; True if it came through.

    Its whole process group dies with it: a notebook's kernel, too.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        # torch makes its pool of threads anew after a fork, but not safely in two
        # threads at once, as the readers of files would have it: do it here.
        torch.set_num_threads(1)
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if until is not None and time.monotonic() >= until:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.002)
    if status != 0:
        raise Damage(f"the work failed by itself, status {status}")
    return True


class Campaign:
    """One kind of work: how it is done, and what must hold whenever it stopped."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.n_kills = self.n_finished = 0

    def go(self, n_kills: int, draw: random.Random) -> None:
        self.fresh()
        began = time.monotonic()
        run(self.work, seconds=None)
        took = time.monotonic() - began
        self.keep_reference()
        self.fresh()
        while self.n_kills < n_kills:
            if run(self.work, seconds=draw.uniform(0.0, took)):
                self.n_finished += 1
                self.compare()
                self.fresh()
            else:
                self.n_kills += 1
                self.examine()
        run(self.work, seconds=None)  # the last one, on top of all that was left
        self.n_finished += 1
        self.compare()
        print(f"{self.name}: {self.n_kills} kills, {self.n_finished} runs came through")

    def fresh(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        os.environ["CLEPDG_CACHE"] = str(self.folder / "cache")
        self.seen = 0


class Embed(Campaign):
    """Embed a corpus into the cache; nothing that was stored is ever lost."""

    def __init__(self, folder: Path, clap, corpus) -> None:
        super().__init__("embed", folder)
        self.clap, self.corpus = clap, corpus

    def work(self) -> None:
        embedding.FLUSH_ROWS = 4
        found = embed_corpus(self.clap, self.corpus, batch_size=4)
        np.save(self.folder / "out.npy", found.embeddings.numpy())

    def keep_reference(self) -> None:
        self.expected = np.load(self.folder / "out.npy", allow_pickle=False)
        self.rows = self.stored()

    def stored(self) -> dict[str, bytes]:
        file = self.folder / "cache" / "embeddings.sqlite"
        if not file.exists():
            return {}
        with contextlib.closing(sqlite3.connect(file)) as store:
            (state,) = store.execute("PRAGMA integrity_check").fetchone()
            if state != "ok":
                raise Damage(f"the cache says {state}")
            try:
                return dict(store.execute("SELECT key, row FROM rows"))
            except sqlite3.OperationalError:  # killed before the table was made
                return {}

    def examine(self) -> None:
        rows = self.stored()
        if len(rows) < self.seen:
            raise Damage(f"{self.seen} rows were stored, {len(rows)} are left")
        self.seen = len(rows)
        for key, row in rows.items():
            gap = np.frombuffer(row, "<f4") - np.frombuffer(self.rows[key], "<f4")
            if np.abs(gap).max() > 1e-6:
                raise Damage("a stored row is another one")

    def compare(self) -> None:
        found = np.load(self.folder / "out.npy", allow_pickle=False)
        if np.abs(found - self.expected).max() > 1e-6:
            raise Damage("the embeddings are others than without a cut")


class Finetune(Campaign):
    """Fine-tune with a checkpoint; going on ends at the weights of a whole run."""

    def __init__(self, folder: Path, clap, corpus) -> None:
        super().__init__("finetune", folder)
        self.clap, self.corpus = clap, corpus

    def work(self) -> None:
        clep = finetune_clep(
            self.clap,
            self.corpus,
            recipe=RECIPE,
            n_places=0,
            checkpoint=self.folder / "checkpoint.safetensors",
            progress=False,
        )
        clep.save(self.folder / "clep")

    def weights(self) -> dict[str, torch.Tensor]:
        return load_clap(self.folder / "clep").model.state_dict()

    def keep_reference(self) -> None:
        self.expected = self.weights()

    def examine(self) -> None:
        from safetensors import safe_open

        file = self.folder / "checkpoint.safetensors"
        epoch = 0
        if file.exists():
            with safe_open(file, "pt") as opened:
                epoch = int(opened.metadata()["epoch"])
                for name in opened.keys():  # noqa: SIM118 (it is no dictionary)
                    if not torch.isfinite(opened.get_tensor(name).float()).all():
                        raise Damage(f"{name} of the checkpoint is not finite")
        if epoch < self.seen:
            raise Damage(f"epoch {self.seen} was finished, the checkpoint has {epoch}")
        self.seen = epoch
        if (self.folder / "clep").exists():
            self.compare()

    def compare(self) -> None:
        for name, tensor in self.weights().items():
            gap = (tensor.double() - self.expected[name].double()).abs().max()
            if gap > 1e-6:
                raise Damage(f"{name} is {float(gap):.2g} away from a whole run's")


class Benchmark(Campaign):
    """Leave two corpora out in turn; rows as without a cut, finished models kept."""

    def __init__(self, folder: Path, clap, corpora: dict) -> None:
        super().__init__("benchmark", folder)
        self.clap, self.corpora = clap, corpora

    def work(self) -> None:
        def load(name, **_):
            if name not in self.corpora:
                raise CorpusError(f"{name} is not here")
            return self.corpora[name]

        for module in (benchmark, material):
            module.load_corpus = load
            module.measuring_is_possible = lambda: False
        benchmark.REAL = tuple(self.corpora)
        methods.tune_contexts = functools.partial(
            methods.tune_contexts, n_contexts=2, n_tokens=1, steps=2
        )
        verdicts = benchmark.leave_corpora_out(
            self.clap,
            tests=list(self.corpora)[:2],
            recipe=RECIPE,
            work=self.folder / "work",
            progress=False,
        )
        rows = json.dumps(rows_of(verdicts))
        write_atomically(self.folder / "rows.json", rows)

    def rows(self) -> list[dict]:
        return json.loads((self.folder / "rows.json").read_text())

    def keep_reference(self) -> None:
        self.expected = self.rows()

    def examine(self) -> None:
        work = self.folder / "work"
        models = [p for p in work.glob("loco-*") if (p / "SHA256SUMS").exists()]
        for folder in models:
            load_clap(folder)
        if len(models) < self.seen:
            raise Damage(f"{self.seen} models were finished, {len(models)} are left")
        self.seen = len(models)
        if (self.folder / "rows.json").exists():
            self.compare()

    def compare(self) -> None:
        if self.rows() != self.expected:
            raise Damage("the scores are others than without a cut")


class Save(Campaign):
    """Save another model over one, again and again: one, the other, or refused."""

    def __init__(self, folder: Path, one, other) -> None:
        super().__init__("save", folder)
        self.models = (one, other)
        self.scales = {round(model.logit_scale, 4) for model in self.models}
        self.n_refused = 0

    def work(self) -> None:
        for i in range(12):
            self.models[i % 2].save(self.folder / "model")
            contexts = random_contexts(self.models[0], n_contexts=2, seed=i)
            contexts.save(self.folder / "contexts.npz")

    def keep_reference(self) -> None:
        self.examine()

    def examine(self) -> None:
        if (self.folder / "contexts.npz").exists():
            AcousticContexts.load(self.folder / "contexts.npz")
        if not (self.folder / "model").exists():
            return
        try:
            scale = round(load_clap(self.folder / "model").logit_scale, 4)
        except ChangedFileError:
            self.n_refused += 1  # a mixture, and it is said
            return
        if scale not in self.scales:
            raise Damage(f"a model was loaded that nobody saved ({scale})")

    def compare(self) -> None:
        load_clap(self.folder / "model")


class Course(Campaign):
    """Run two notebooks and store them: a student's file is the old or the new."""

    def __init__(self, folder: Path) -> None:
        super().__init__("course", folder)

    def fresh(self) -> None:
        import nbformat
        from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

        super().fresh()
        (self.folder / "notebooks").mkdir()
        for name in ("00_welcome", "01_probe_clap"):
            cells = [new_markdown_cell(f"# {name}"), new_code_cell("print(6 * 7)")]
            for i, cell in enumerate(cells):
                cell["id"] = f"cell-{i}"
            file = self.folder / "notebooks" / f"{name}.ipynb"
            nbformat.write(new_notebook(cells=cells), file)
        self.old = self.texts()

    def work(self) -> None:
        failed = course.run_course(
            ["00_welcome", "01_probe_clap"],
            write=True,
            notebooks=self.folder / "notebooks",
            pages=self.folder / "pages",
        )
        if failed:
            raise RuntimeError(f"{failed} notebooks failed")

    def texts(self) -> dict[str, str]:
        files = sorted((self.folder / "notebooks").glob("*.ipynb"))
        return {file.name: file.read_text(encoding="utf-8") for file in files}

    def keep_reference(self) -> None:
        self.new = self.texts()

    def examine(self) -> None:
        for name, text in self.texts().items():
            if text not in (self.old[name], self.new[name]):
                raise Damage(f"{name} is neither what it was nor what it becomes")
        for page in (self.folder / "pages").glob("*.html"):
            if not page.read_text(encoding="utf-8").rstrip().endswith("</html>"):
                raise Damage(f"{page.name} is half a page")
        for file in (self.folder / "pages").glob("*.json"):
            json.loads(file.read_text())

    def compare(self) -> None:
        if self.texts() != self.new:
            raise Damage("a notebook is other than without a cut")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(SHARES))
    args = parser.parse_args()
    torch.set_num_threads(1)  # a forked process inherits no threads
    began = time.monotonic()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as base:
        base = Path(base)
        clap = load_clap(make_model(base / "tiny"))
        other = load_clap(base / "tiny")
        other.model.logit_scale_a.data += 0.5
        clips = make_corpus(base / "clips", n_each=16)
        names = ("one", "two", "three")
        small = {
            name: make_corpus(base / name, name=name, n_each=2, seed=i)
            for i, name in enumerate(names)
        }
        assert soundfile.info(clips.clips["path"][0]).frames > 0
        campaigns = {
            "embed": Embed(base / "embed", clap, clips),
            "finetune": Finetune(base / "finetune", clap, small["one"]),
            "benchmark": Benchmark(base / "benchmark", clap, small),
            "save": Save(base / "save", clap, other),
            "course": Course(base / "course"),
        }
        chosen = [args.only] if args.only else list(SHARES)
        total = sum(SHARES[name] for name in chosen)
        for name in chosen:
            n_kills = round(args.kills * SHARES[name] / total)
            campaigns[name].go(n_kills, draw)
        done = [campaigns[name] for name in chosen]
    n_kills = sum(c.n_kills for c in done)
    parts = ", ".join(f"{c.n_kills} {c.name}" for c in done)
    finished = sum(c.n_finished for c in done)
    if not args.only:
        refused = campaigns["save"].n_refused
        record(
            "power cuts",
            did=f"{n_kills} SIGKILLs at random moments ({parts})",
            found="0 damaged or lost files; "
            f"{finished} runs came through, each within 1e-6 of an uninterrupted "
            f"one; {refused} half-replaced models, refused by name",
            seconds=time.monotonic() - began,
        )


if __name__ == "__main__":
    main()
