"""Break the library a little, many times, and count how often its tests notice.

    python tests/soak/mutate.py --each 40 [--seconds 1800] [--only acpt]

Cosmic Ray's operators make the mutants; a sample of each module's is drawn with a seed.
A process that has imported torch and its kind once is forked for every mutant, imports
the changed module and runs the module's tests: seconds instead of half a minute. What
changes nothing but annotations is no mutant. Survivors are printed with their line and
kept in `build/mutants.json`.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from record import PROJECT, record  # noqa: E402

TESTS = {
    "acpt": ("test_acpt.py", "test_speed_contexts.py", "test_limits.py"),
    "contexts": ("test_contexts.py", "test_acpt.py", "test_limits.py"),
    "clep": ("test_clep.py",),
    "transfer": ("test_transfer.py", "test_limits.py"),
    "evaluation": ("test_evaluation.py", "test_limits.py"),
}
GOAL = 0.85


class Changed(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Serve one module of the library from a string."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = f"clepdg_lib.{name}", source

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.name:
            return None
        return importlib.util.spec_from_loader(
            fullname, self, origin=self.get_filename("")
        )

    def get_filename(self, fullname):
        return str(PROJECT / "clepdg_lib" / f"{self.name.split('.')[1]}.py")

    def get_data(self, path):
        return self.source.encode()

    def path_stats(self, path):
        raise OSError  # never from a compiled file


class _Bare(ast.NodeTransformer):
    """Drop what does not run: annotations, docstrings, imports for types."""

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.returns = None
        if isinstance(node.body[0], ast.Expr) and len(node.body) > 1:
            node.body = node.body[1:]
        return node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        node.annotation = ast.Constant(0)
        return node

    def visit_If(self, node):
        self.generic_visit(node)
        named = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return ast.Pass() if named else node


def bare(source: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(source)))


def mutants(name: str) -> list[tuple[str, str]]:
    """All mutants of a module that differ in what runs: (operator, source)."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = (PROJECT / "clepdg_lib" / f"{name}.py").read_text(encoding="utf-8")
    plain, seen, found = bare(source), set(), []
    for operator_name in sorted(operator_names()):
        kind = get_operator(operator_name)
        if kind.arguments() or "NoOp" in operator_name:
            continue
        operator = kind()
        n = sum(
            len(list(operator.mutation_positions(node)))
            for node in ast_nodes(get_ast(source))
        )
        for i in range(n):
            changed = mutate_code(source, operator, i)
            with contextlib.suppress(SyntaxError):
                told = bare(changed) if changed else plain
                if told != plain and told not in seen:
                    seen.add(told)
                    found.append((operator_name, changed))
    return found


def survives(name: str, source: str | None, *, seconds: float) -> tuple[bool, str]:
    """Run a module's tests on a changed source; True if they pass."""
    child = os.fork()
    if child == 0:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        status = 1
        try:
            import pytest

            if source is not None:
                sys.meta_path.insert(0, Changed(name, source))
            files = [str(PROJECT / "tests" / file) for file in TESTS[name]]
            options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
            status = int(pytest.main([*options, *files]))
        except BaseException:
            status = 1
        finally:
            os._exit(min(status, 100))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0, ""
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, "timeout"


def what_changed(name: str, source: str) -> str:
    old = (PROJECT / "clepdg_lib" / f"{name}.py").read_text(encoding="utf-8")
    lines = difflib.unified_diff(old.splitlines(), source.splitlines(), n=0)
    return " / ".join(
        line.strip()
        for line in lines
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--each", type=int, default=40, help="mutants of each module")
    parser.add_argument("--seconds", type=float, default=3600, help="of it all")
    parser.add_argument("--only", choices=list(TESTS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.chdir(PROJECT)
    sys.path[:0] = [str(PROJECT / "tests"), str(PROJECT)]
    for module in ("torch", "transformers", "sklearn.linear_model", "pandas", "pytest"):
        importlib.import_module(module)
    importlib.import_module("transformers.models.clap.modeling_clap")
    importlib.import_module("soundfile")
    sys.modules["torch"].set_num_threads(1)
    began, rows, alive = time.monotonic(), [], []
    names = [args.only] if args.only else list(TESTS)
    for k, name in enumerate(names):
        begun = time.monotonic()
        passed, _ = survives(name, None, seconds=600)
        took = time.monotonic() - begun
        if not passed:
            raise SystemExit(f"the tests of {name} fail without any mutant")
        every = mutants(name)
        drawn = random.Random(args.seed).sample(every, min(args.each, len(every)))
        until = began + args.seconds * (k + 1) / len(names)
        n = killed = 0
        for operator, source in drawn:
            if time.monotonic() > until:
                break
            n += 1
            lives, _ = survives(name, source, seconds=5 * took + 20)
            killed += not lives
            if lives:
                change = what_changed(name, source)
                alive.append({"module": name, "operator": operator, "change": change})
                print(f"{name} survived: {change}", flush=True)
        rows.append((name, killed, n, len(every)))
        print(f"{name}: {killed} of {n} killed (of {len(every)} mutants)", flush=True)
    (PROJECT / "build").mkdir(exist_ok=True)
    (PROJECT / "build" / "mutants.json").write_text(json.dumps(alive, indent=1) + "\n")
    total, dead = sum(n for _, _, n, _ in rows), sum(k for _, k, _, _ in rows)
    if not args.only:
        parts = ", ".join(f"{name} {k} of {n}" for name, k, n, _ in rows)
        record(
            "mutation",
            did=f"{total} mutants drawn from {sum(m for *_, m in rows):,} of "
            f"{', '.join(names)}",
            found=f"{dead / max(total, 1):.0%} killed ({parts}); "
            f"{total - dead} survived",
            seconds=time.monotonic() - began,
        )
    sys.exit(0 if dead >= GOAL * total else 1)


if __name__ == "__main__":
    main()
