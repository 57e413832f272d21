"""Break the library a little, many times, and count how often its tests notice.

    python tests/soak/mutate.py --each 40 [--seconds 1800] [--only acpt]

Cosmic Ray's operators make the mutants; a sample of each module's is drawn. A process
that has imported torch and its like is forked for every mutant, imports the changed
module and runs the module's tests. Survivors are kept in `build/mutants.json`.
"""

import ast
import contextlib
import difflib
import importlib.abc
import importlib.util
import json
import os
import random
import sys
import time
from functools import partial

import pytest
from record import FORKS, fork, make_parser, record

from clepdg_lib.files import PROJECT, write_atomically

MODULES = ("acpt", "clep", "transfer", "evaluation/metrics", "embeddings")
GOAL = 0.85
LIBRARIES = ["pytest", "pandas", "sklearn.linear_model", "torchaudio", "soundfile"]
LIBRARIES += [f"transformers.models.{m}.modeling_{m}" for m in ("clap", "whisper")]


class Changed(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Serve one module of the library from a string."""

    def __init__(self, module: str, source: str) -> None:
        self.name = f"clepdg_lib.{module.replace('/', '.')}"
        self.file, self.source = PROJECT / "clepdg_lib" / f"{module}.py", source

    def find_spec(self, fullname, path=None, target=None):
        if fullname == self.name:
            origin = str(self.file)
            return importlib.util.spec_from_loader(fullname, self, origin=origin)

    def get_filename(self, fullname):
        return str(self.file)

    def get_data(self, path):
        return self.source.encode()

    def path_stats(self, path):
        raise OSError  # never from a compiled file


class Bare(ast.NodeTransformer):
    """Drop what changes nothing: annotations."""

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        node.annotation = ast.Constant(0)
        return node


def make_mutants(source: str) -> list[str]:
    """Return all mutants of a module that differ in what runs."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    mutants = {}
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments():
            continue
        nodes = ast_nodes(get_ast(source))
        n = sum(len(list(operator().mutation_positions(node))) for node in nodes)
        for i in range(n):
            mutant = mutate_code(source, operator(), i) or source
            with contextlib.suppress(SyntaxError):
                mutants[ast.dump(Bare().visit(ast.parse(mutant)))] = mutant
    mutants.pop(ast.dump(Bare().visit(ast.parse(source))), None)
    return list(mutants.values())


def run_tests(module: str, source: str) -> int:
    """Run a module's tests on a changed source."""
    os.dup2(1, 2)
    sys.meta_path.insert(0, Changed(module, source))
    file = PROJECT / "tests" / f"test_{module.split('/')[-1]}.py"
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return min(pytest.main([*options, "-m", "not slow", str(file)]), 100)


def survives(module: str, source: str, *, seconds: float) -> bool:
    return fork(partial(run_tests, module, source), seconds=seconds) == 0


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--each", type=int, default=40, help="mutants of each module")
    parser.add_argument("--seconds", type=float, default=3600, help="of it all")
    parser.add_argument("--only", choices=MODULES)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.chdir(PROJECT)
    FORKS.set_forkserver_preload(LIBRARIES)  # imported once, before every fork
    n, alive, parts = 0, [], []
    modules = [args.only] if args.only else MODULES
    for k, module in enumerate(modules):
        file = PROJECT / "clepdg_lib" / f"{module}.py"
        source = file.read_text(encoding="utf-8")
        start = time.monotonic()
        if not survives(module, source, seconds=600):
            raise SystemExit(f"the tests of {module} fail without any mutant")
        limit = 5 * (time.monotonic() - start) + 20
        mutants = make_mutants(source)
        random.Random(args.seed).shuffle(mutants)
        lives = []
        for mutant in mutants[: args.each]:
            if time.monotonic() > args.began + args.seconds * (k + 1) / len(modules):
                break
            lives.append(survives(module, mutant, seconds=limit))
            if lives[-1]:
                old, new = source.splitlines(), mutant.splitlines()
                change = "\n".join(difflib.unified_diff(old, new, n=0))
                alive.append({"module": module, "change": change})
        n += len(lives)
        parts.append(f"{module} {lives.count(False)} of {len(lives)}")
        print(f"{parts[-1]} killed (of {len(mutants)} mutants)", flush=True)
    write_atomically(PROJECT / "build" / "mutants.json", json.dumps(alive, indent=1))
    killed = n - len(alive)
    if args.only is None:
        record(
            "mutation",
            args,
            work=f"{n} mutants of {', '.join(modules)}",
            result=f"{killed / max(n, 1):.0%} killed ({', '.join(parts)})",
        )
    sys.exit(0 if killed >= GOAL * n else 1)


if __name__ == "__main__":
    main()
