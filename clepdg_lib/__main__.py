"""The command line: ``python -m clepdg_lib COMMAND``; ``--help`` after any of them."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clepdg_lib.files import as_path, write_atomically

# A command imports torch itself: `--help` answers at once, and `doctor` always.
SETTINGS = ["loco", "shift", "lodo", "supervised"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 (doctor: something to fix), 2 (error) or 130."""
    parser = argparse.ArgumentParser(prog="python -m clepdg_lib")
    commands, parsers = parser.add_subparsers(required=True, metavar="COMMAND"), {}
    for run in (doctor, corpora, embed, finetune, benchmark):
        about = run.__doc__
        parsers[run] = commands.add_parser(run.__name__, help=about, description=about)
        parsers[run].set_defaults(run=run)
    for run, out in ((embed, "npz file to write"), (finetune, "folder to write")):
        add = parsers[run].add_argument
        add("corpus", help="name, folder or csv file")
        add("--model", default="clap-mini", help="name or folder")
        add("--bfloat16", action="store_true", help="faster where processors can")
        add("--out", type=as_path, required=True, help=out)
    add = parsers[benchmark].add_argument
    add("--json", type=as_path, required=True, help="file to write")
    add("--features", type=as_path, help="made again by data/build/real_speech.py")
    add("--settings", nargs="+", choices=SETTINGS, default=SETTINGS, help="default all")
    add("--seeds", nargs="+", type=int, default=list(range(5)), help="default 0 to 4")
    args = parser.parse_args(arguments)
    try:
        return args.run(args) or 0
    except (ValueError, OSError, ImportError) as error:
        # They name the problem and the remedy; a traceback would hide that.
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command can be run again", file=sys.stderr)
        return 130


def doctor(_: argparse.Namespace) -> int:
    """Check that this machine is ready, with a remedy for every problem."""
    from clepdg_lib.course.doctor import main as examine

    return examine()


def corpora(_: argparse.Namespace) -> None:
    """List the known corpora, their licences, and which of them are here."""
    from clepdg_lib.corpora import list_corpora

    print(list_corpora().to_string(index=False))


def embed(args: argparse.Namespace) -> None:
    """Write a corpus's embeddings and features as npz; each process writes a share."""
    _check_writable(args.out)
    from clepdg_lib.embeddings import write_shard

    clap, corpus, state = _load(args)
    share = {"rank": state.process_index, "world": state.num_processes}
    print(f"wrote {write_shard(clap, corpus, args.out, **share)}")


def finetune(args: argparse.Namespace) -> None:
    """Fine-tune a CLAP to a CLEP on a corpus's training speakers, and save it.

    Several processes share the embedding, through the cache; the first one trains.
    """
    _check_writable(args.out / "config.json")
    if args.out.exists() and not (args.out / "config.json").is_file():
        raise ValueError(f"{args.out} exists and is no model; choose a new folder")
    from clepdg_lib.clep import finetune_clep
    from clepdg_lib.embeddings import embed_corpus

    clap, corpus, state = _load(args)
    if state.num_processes > 1:
        first = state.process_index % len(corpus)
        share = corpus.clips.iloc[first :: state.num_processes]
        embed_corpus(clap, replace(corpus, clips=share))
    state.wait_for_everyone()
    if state.is_main_process:
        finetune_clep(clap, corpus).save(args.out)
        print(f"wrote {args.out}; use it with load_clap({str(args.out)!r})")
    state.wait_for_everyone()


def benchmark(args: argparse.Namespace) -> None:
    """Compare the methods and their controls on domains left out of training."""
    _check_writable(args.json)
    from clepdg_lib.evaluation.benchmark import run_benchmark

    which = {"settings": args.settings, "seeds": args.seeds}
    result = run_benchmark(**which, folder=args.features)
    write_atomically(args.json, json.dumps(result, indent=1) + "\n")
    print(f"wrote {args.json}")


def _load(args: argparse.Namespace) -> tuple:
    import torch
    from accelerate import PartialState  # of `accelerate launch` or torchrun

    from clepdg_lib.clap import load_clap
    from clepdg_lib.corpora import load_corpus

    state = PartialState(cpu=not torch.cuda.is_available())
    corpus = load_corpus(args.corpus)
    how = {"device": state.device, "bfloat16": args.bfloat16}
    return load_clap(args.model, **how), corpus, state


def _check_writable(path: Path) -> None:
    """Refuse an output file before the long work, not after it."""
    existing = next(place for place in path.absolute().parents if place.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror})") from error
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it")


if __name__ == "__main__":
    sys.exit(main())
