"""Imports run one way, a name has one address, and the library stays small."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
LIBRARY = PROJECT / "clepdg_lib"
FILES = sorted(LIBRARY.rglob("*.py"))
# The aim is 5,000 lines of library: lower the bound with every line that goes.
MAX_LINES, MAX_FILES, MAX_TEST_LINES = 5_000, 34, 9_000
# Room (a module or a package at the top of the library) -> rooms that it may import.
NAVE = {"captions", "clap", "embeddings", "clep", "acpt", "transfer"}
WINGS = {"audio", "corpora", "files", "towers"}
ARROWS = {
    "files": set(),
    "captions": set(),
    "audio": set(),
    "plots": set(),
    "corpora": {"audio", "files", "captions"},
    "towers": {"audio", "files"},
    "clap": {"towers", "audio", "files", "captions"},
    "embeddings": {"clap", "corpora", "audio", "files"},
    "clep": {"embeddings", "clap", "captions", "corpora", "audio", "files"},
    "acpt": {"clap", "captions", "files", "embeddings"},
    "transfer": {"acpt", "clap", "captions"},
    "evaluation": NAVE | WINGS,
    "widgets": NAVE | WINGS | {"evaluation", "plots"},
    "course": {"plots", "files", "audio", "corpora"},
    "__main__": NAVE | WINGS | {"evaluation", "course"},
}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "core"}


def module_name(path: Path, root: Path = PROJECT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """Return the part of a module's name that `ARROWS` knows: clepdg_lib.ROOM."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(tree: ast.Module, module: str, *, package: bool = False):
    """Yield (module, name) of every import, also in functions, not for typing alone."""
    typing_only = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for statement in node.body:
                typing_only |= {id(inner) for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                up = parts[: len(parts) - node.level + int(package)]
                base = ".".join([*up, *filter(None, [base])])
            yield from ((base, alias.name) for alias in node.names)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path):
    """Return (module, name) of every import of a file of the library."""
    is_package = path.name == "__init__.py"
    return imports(parse(path), module_name(path), package=is_package)


def room_of(target: str, name: str) -> str | None:
    """Return the room that an import leads to, None outside of the library."""
    if target == "clepdg_lib":
        return room(f"clepdg_lib.{name}") if name in ARROWS else "__init__"
    return room(target) if target.startswith("clepdg_lib.") else None


def wrong_arrows(module: str, found) -> list[str]:
    here = room(module)
    rooms = {room_of(target, name) for target, name in found}
    wrong = rooms - {None, here} - ARROWS.get(here, set())
    return sorted(f"{module} must not import {there}" for there in wrong)


def defined(tree: ast.Module) -> set[str]:
    """Return the names that a module itself defines at its top."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                names |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    return names


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_arrows_run_one_way_and_a_name_has_one_address(path):
    """A name is imported from the module that defines it, or from its package."""
    if path != LIBRARY / "__init__.py":  # which hands on everything, lazily
        assert wrong_arrows(module_name(path), imports_of(path)) == []
    names = {module_name(file): defined(parse(file)) for file in FILES}
    faces = {module_name(f): f.parent for f in FILES if f.name == "__init__.py"}
    wrong = []
    for target, name in imports_of(path):
        if target not in names or name in names[target] or f"{target}.{name}" in names:
            continue
        inside = [m for m in names if m.startswith(f"{target}.") and name in names[m]]
        if target not in faces or not inside:
            wrong.append(f"{name} is not defined in {target}")
    assert wrong == []


def test_no_name_is_defined_twice():
    homes = {}
    for path in FILES:
        for name in defined(parse(path)):
            if not name.startswith("_") and not name.isupper() and name != "main":
                homes.setdefault(name, []).append(module_name(path))
    twice = {name: where for name, where in homes.items() if len(where) > 1}
    assert twice == {}


def test_a_wrong_arrow_would_be_noticed():
    def found(source, module="clepdg_lib.audio.waves"):
        return wrong_arrows(module, imports(ast.parse(source), module))

    assert found("def f():\n    from clepdg_lib.course.lesson import check") != []
    assert found("from clepdg_lib import plots") != []
    assert found("from ..files import sha256") != []
    assert found("import clepdg_lib.clap") != []
    assert found("from clepdg_lib.audio.places import place") == []
    lazily = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
    assert found(lazily + "from clepdg_lib.clap import Clap") == []
    assert found("from clepdg_lib.corpora import Corpus", "clepdg_lib.clap") != []


def n_lines(paths):
    return sum(len(p.read_text(encoding="utf-8").splitlines()) for p in paths)


def test_library_and_tests_stay_small():
    assert n_lines(FILES) <= MAX_LINES
    assert len(FILES) <= MAX_FILES
    assert n_lines((PROJECT / "tests").rglob("*.py")) <= MAX_TEST_LINES
    rooms = {room(module_name(path)) for path in FILES}
    assert rooms <= {*ARROWS, "__init__"}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_modules_and_functions_are_explained_and_options_taken_by_keyword(path):
    assert path.stem not in VAGUE and path.parent.name not in VAGUE
    docstring = ast.get_docstring(parse(path)) or ""
    assert 1 <= len(docstring.splitlines()) <= 12
    wrong = []
    for node in parse(path).body:
        members = node.body if isinstance(node, ast.ClassDef) else []
        for item in (node, *members):
            public = isinstance(item, (ast.FunctionDef, ast.ClassDef))
            if not public or item.name.startswith("_") or node.name.startswith("_"):
                continue
            if not ast.get_docstring(item) and item is node:
                wrong.append(f"{item.name} has no docstring")
            if isinstance(item, ast.FunctionDef):
                names = [a.arg for a in (*item.args.posonlyargs, *item.args.args)]
                n_positional = len([n for n in names if n not in ("self", "cls")])
                if n_positional > 4 or len(item.args.defaults) > 1:
                    wrong.append(f"{item.name}: options must be keyword-only")
    assert wrong == []


def test_nothing_imports_what_only_builds_or_tests():
    makers = ("data", "notebooks", "tests", "course", "results", "conftest")
    wrong = []
    for path in FILES:
        wrong += [t for t, _ in imports_of(path) if t.split(".")[0] in makers]
        wrong += re.findall(r"sys\.path\b.*", path.read_text(encoding="utf-8"))
    assert wrong == []


# What could run code that came in a file. Scripts and notebooks keep to it too.
UNSAFE = re.compile(
    r"\b(import|from) (pickle|cPickle|dill|cloudpickle|shelve|marshal)\b"
    r"|\bjoblib\.(load|dump)\b|from joblib import .*\b(load|dump)\b"
    r"|\bpickle\.\w|\btorch\.load\(|\b(read|to)_pickle\("
    r"|trust_remote_code ?= ?True"
    r"|allow_pickle ?= ?True|weights_only ?= ?False|\byaml\.(unsafe_)?load\("
    r"|(?<![.\w])(eval|exec)\(|\bos\.system\(|shell ?= ?True"
)
PLACES = "data/build/*.py notebooks/*.ipynb notebooks/build/*.py tests/s*/*.py"
SOURCES = FILES + sorted(f for place in PLACES.split() for f in PROJECT.glob(place))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_nothing_runs_code_from_files(path):
    text = path.read_text(encoding="utf-8")
    assert [match[0] for match in UNSAFE.finditer(text)] == []


def test_unsafe_code_would_be_noticed_and_no_pickle_is_shipped():
    unsafe = (
        "import pickle",
        "from joblib import Parallel, load",
        "model = torch.load('x.pt')",
        "np.load(file, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "eval(text)",
        "subprocess.run(line, shell=True)",
    )
    assert all(UNSAFE.search(line) for line in unsafe)
    assert not UNSAFE.search("model.eval(); self.evaluate(x); retrieval(x)")
    kinds = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy")
    assert [p for p in (PROJECT / "data").rglob("*") if p.suffix in kinds] == []
