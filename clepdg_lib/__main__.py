"""The command line: ``python -m clepdg_lib COMMAND``; ``--help`` after any of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

# Each command imports what it needs itself: `--help` answers at once, and `doctor`
# answers even where torch cannot be imported.
TIERS = ("audio", "embeddings", "emosynth")
SETTINGS = ("loco", "supervised", "shift", "selection", "ablation")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = _parser().parse_args(arguments)
    try:
        return args.run(args) or 0
    except (ValueError, OSError) as error:
        # Ours all say what is wrong and what helps; a traceback would hide that.
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # Caches and checkpoints are whole at any moment: nothing is lost but a part.
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clepdg_lib",
        description="CLEP-DG, rebuilt: look after the course, or work without it.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run)
        return command

    add("doctor", _doctor, "is this machine ready? OK and FIX lines")
    listed = add("corpora", _corpora, "list the corpora, or report on one of them")
    listed.add_argument("name", nargs="?", help="name, folder or csv: report on it")
    listed.add_argument("--strict", action="store_true", help="fail on any bad file")

    embed = add("embed", _embed, "embed a corpus into an npz file")
    _add_model_and_corpus(embed)
    embed.add_argument("--out", type=Path, required=True, help="npz file to write")

    finetune = add("finetune", _finetune, "fine-tune CLAP to CLEP on a corpus")
    _add_model_and_corpus(finetune)
    finetune.add_argument("--out", type=Path, required=True, help="folder to write")
    finetune.add_argument("--epochs", type=int, default=5)
    finetune.add_argument("--seed", type=int, default=0)
    finetune.add_argument(
        "--batch-size", type=int, help="clips in a step, over all processes"
    )
    finetune.add_argument(
        "--pieces", type=int, default=1, help="parts in which a batch is heard"
    )
    finetune.add_argument(
        "--checkpoint", type=Path, help="file to go on from after an interruption"
    )

    speed = add("speed", _speed, "measure this machine: ratios, memory, start-up")
    speed.add_argument("--json", metavar="PATH", help="write figures here; - prints")
    speed.add_argument("--only", nargs="+", help="some of the measurements; else all")

    benchmark = add("benchmark", _benchmark, "leave one corpus or domain out, in turn")
    benchmark.add_argument(
        "--tier",
        choices=TIERS,
        default="audio",
        help="audio: corpora under $CLEPDG_CORPORA; embeddings: what ships of them; "
        "emosynth: the bundled domains",
    )
    benchmark.add_argument(
        "--setting",
        choices=SETTINGS,
        help="loco (default): a corpus out. Of the audio tier, supervised: other "
        "speakers of the same corpus; shift: other speakers in worse and worse places; "
        "selection: three ways of choosing how contexts are tuned. "
        "Of the embeddings tier, ablation: what each part of context tuning is worth",
    )
    benchmark.add_argument("--json", metavar="PATH", help="write rows here; - prints")
    benchmark.add_argument(
        "--seeds", type=int, nargs="+", help="default 0; of embeddings, all that ship"
    )
    benchmark.add_argument("--model", default="clap-mini", help="where CLEP starts")
    benchmark.add_argument(
        "--work",
        type=Path,
        help="folder for checkpoints; an interrupted run resumes from them",
    )

    course = add("course", _course, "run the notebooks and write them as web pages")
    course.add_argument("names", nargs="*", help="numbers, names or paths; else all")
    course.add_argument(
        "--write", action="store_true", help="store the outputs in the notebooks"
    )

    student = add("student", _student, "write the notebooks without their solutions")
    student.add_argument(
        "--out", type=Path, metavar="FOLDER", help="else build/student"
    )

    slides = add("slides", _slides, "write a notebook as slides")
    slides.add_argument("name", nargs="?", default="00", help="number or name; else 00")

    widgets = add("widgets", _widgets, "measure how fast the widgets answer")
    widgets.add_argument("-n", type=int, default=10, help="answers of each widget")
    widgets.add_argument("--json", type=Path, metavar="PATH", help="keep the figures")

    readme = add("readme", _readme, "write data/results/*.json into the README files")
    readme.add_argument(
        "--timing",
        type=Path,
        metavar="JSON",
        help="also keep the seconds of a whole run, build/course/timing.json",
    )
    return parser


def _add_model_and_corpus(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default="clap-mini", help="name, folder, hub name")
    command.add_argument("--corpus", default="emosynth", help="name, folder or csv")


def _doctor(args: argparse.Namespace) -> int:
    from clepdg_lib.doctor import main as examine

    return examine()


def _corpora(args: argparse.Namespace) -> None:
    from clepdg_lib.corpora import list_corpora, load_corpus

    if args.name is None:
        print(list_corpora().to_string(index=False))
        return
    corpus = load_corpus(args.name, strict=args.strict)
    print(corpus)
    for path, problem, _ in corpus.problems.itertuples(index=False):
        print(f"left out: {path}: {problem}")
    if len(corpus.problems):
        print(corpus.report()[["files", "problem"]].to_string(index=False))
    counts = corpus.clips.groupby(["split", "emotion"]).size().unstack(fill_value=0)
    print(counts.to_string())


def _embed(args: argparse.Namespace) -> None:
    from clepdg_lib.arrays import write_arrays
    from clepdg_lib.clap import load_clap
    from clepdg_lib.corpora import load_corpus
    from clepdg_lib.processes import Team
    from clepdg_lib.sharing import embed_together
    from clepdg_lib.versions import versions

    team, corpus = Team(), load_corpus(args.corpus)
    clap = load_clap(args.model, device=team.device)
    embedded = embed_together(clap, corpus, team=team, progress=True)
    if not team.leads:
        return
    columns = {  # text, not objects: np.load then needs no pickle
        name: embedded.clips[name].astype(str).to_numpy(dtype=str)
        for name in embedded.clips
        if name != "path"  # where this machine keeps the clip is nobody's business
    }
    write_arrays(
        args.out,
        embeddings=embedded.embeddings.numpy(),
        made_with=json.dumps(versions()),
        **columns,
    )
    n, dim = embedded.embeddings.shape
    print(f"{args.out}: {n} clips, {dim} dimensions, {len(columns)} columns")


def _finetune(args: argparse.Namespace) -> None:
    from clepdg_lib.clap import load_clap
    from clepdg_lib.clep import finetune_clep
    from clepdg_lib.contrast import Recipe
    from clepdg_lib.corpora import load_corpus
    from clepdg_lib.processes import Team

    team, corpus = Team(), load_corpus(args.corpus)
    changes = {"epochs": args.epochs, "pieces": args.pieces}
    if args.batch_size:
        changes["batch_size"] = args.batch_size
    clep = finetune_clep(
        load_clap(args.model, device=team.device),
        corpus,
        recipe=Recipe(**changes),
        seed=args.seed,
        checkpoint=args.checkpoint,
        progress=team.leads,
    )
    if not team.leads:
        return
    clep.save(args.out)
    print(clep.history.to_string(index=False))
    print(f"Use it: load_clap({str(args.out)!r})")


def _speed(args: argparse.Namespace) -> None:
    from clepdg_lib.speed import main as measure_speed

    measure_speed(args)


def _benchmark(args: argparse.Namespace) -> int | None:
    from clepdg_lib.benchmark_run import main as run_benchmark

    return run_benchmark(args)


def _course(args: argparse.Namespace) -> int:
    from clepdg_lib.course import run_course

    return 1 if run_course(args.names, write=args.write) else 0


def _student(args: argparse.Namespace) -> None:
    from clepdg_lib.editions import STUDENT, write_student_edition

    folder = write_student_edition(args.out or STUDENT)
    print(f"wrote {len(list(folder.glob('*.ipynb')))} notebooks without solutions")


def _slides(args: argparse.Namespace) -> None:
    from clepdg_lib.slides import write_slides

    print(f"wrote {write_slides(args.name).name} into build/slides")


def _widgets(args: argparse.Namespace) -> int:
    from clepdg_lib.widget_speed import main as measure

    return measure(n=args.n, file=args.json)


def _readme(args: argparse.Namespace) -> int:
    from clepdg_lib.results import draw_scores, write_pages

    draw_scores()
    changed, problems = write_pages(timing=args.timing)
    for page in changed:
        print(f"wrote {page}")
    for problem in problems:
        print(f"left as it is: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
