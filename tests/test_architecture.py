"""The library's arrows never run back, and its modules stay small and safe."""

import ast
import re
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "clepdg_lib"
MODULES = {path.stem: path for path in sorted(LIBRARY.glob("*.py"))}
# One direction of travel: a stage may import from earlier stages, directly or through
# other modules, and never from later ones or from its neighbours in the same stage.
STAGES = (
    {"files"},
    {"audio"},
    {"environments"},
    {"corpora"},
    {"captions"},
    {"text_tower"},
    {"clap", "real_speech"},
    {"clep", "contexts"},
    {"acpt"},
    {"transfer"},
    {"evaluation"},
    {"methods"},
    {"verdicts"},
    {"judging"},
    {"material"},
    {"references"},
    {"benchmark", "speed_contexts"},
    {"speed"},
    {"supervised", "ablation"},
    {"selection"},
    {"benchmark_run"},
    {"plots"},
    {"planes"},
    {
        "widgets_contexts",
        "widgets_map",
        "widgets_mixer",
        "widgets_prompt",
        "widgets_voice",
    },
    {"widgets"},
    {"widget_speed"},
    {"exercises"},
    {"lesson"},
    {"pages"},
    {"course", "doctor", "results", "editions"},
    {"slides"},
    {"__main__"},
)
STAGE_OF = {name: i for i, names in enumerate(STAGES) for name in names}
MAX_LINES = 320
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}


def _imports(path: Path) -> set[str]:
    """Modules of the library that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = f"clepdg_lib.{base}".rstrip(".")
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    names = {name.split(".")[1] for name in found if name.startswith("clepdg_lib.")}
    return names & set(MODULES) - {path.stem}


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen, todo = set(), [start]
    while todo:
        fresh = graph[todo.pop()] - seen
        seen |= fresh
        todo += fresh
    return seen


def _backward(graph: dict[str, set[str]]) -> list[str]:
    """Arrows that run back, between stages or in a circle."""
    wrong = []
    for name in graph:
        reached = _reachable(graph, name)
        if name in reached:
            wrong.append(f"{name} imports itself through others")
        for other in reached & set(STAGE_OF) - {name}:
            if name in STAGE_OF and STAGE_OF[other] >= STAGE_OF[name]:
                wrong.append(f"{name} must not import {other}")
    return sorted(wrong)


def test_imports_never_run_back():
    graph = {name: _imports(path) for name, path in MODULES.items()}
    del graph["__init__"]  # the public face looks at everything, lazily
    assert _backward(graph) == []


def test_a_backward_import_would_be_noticed(tmp_path):
    bad = tmp_path / "audio.py"
    bad.write_text("def f():\n    from clepdg_lib.lesson import check\n")
    assert _imports(bad) == {"lesson"}
    graph = {"audio": {"rooms"}, "rooms": {"lesson"}, "lesson": set()}
    assert _backward(graph) == ["audio must not import lesson"]
    assert _backward({"a": {"b"}, "b": {"a"}}) != []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_one_idea(name):
    text = MODULES[name].read_text(encoding="utf-8")
    assert name not in VAGUE
    n_lines = len(text.splitlines())
    assert n_lines <= MAX_LINES, f"{name}.py has {n_lines} lines; split it by idea"
    assert ast.get_docstring(ast.parse(text)), f"{name}.py does not say what it is for"


# What could run code that came in a file. The build scripts and notebooks keep to it
# too, and so does everything that they would teach by example.
UNSAFE = re.compile(
    r"\b(import|from) (pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b"
    r"|\bpickle\.\w|\btorch\.load\(|\b(read|to)_pickle\(|trust_remote_code"
    r"|allow_pickle ?= ?True|weights_only ?= ?False|\byaml\.(unsafe_)?load\("
    r"|(?<![.\w])(eval|exec)\(|\bos\.system\(|shell ?= ?True"
)
SOURCES = [
    *MODULES.values(),
    *sorted(LIBRARY.parent.glob("data/*.py")),
    *sorted(LIBRARY.parent.glob("notebooks/*.ipynb")),
    *sorted(LIBRARY.parent.glob("tests/soak/*.py")),
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_runs_code_from_files(path):
    text = path.read_text(encoding="utf-8")
    assert [match[0] for match in UNSAFE.finditer(text)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "model = torch.load('x.pt')",
        "np.load(file, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "frame.to_pickle('x')",
        "eval(text)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_what_runs_code_would_be_noticed(line):
    assert UNSAFE.search(line)


@pytest.mark.parametrize("line", ["model.eval()", "self.evaluate(x)", "retrieval(x)"])
def test_what_only_sounds_like_it_is_left_alone(line):
    assert not UNSAFE.search(line)


def test_no_pickled_file_is_shipped():
    kinds = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy")
    shipped = [p for p in (LIBRARY.parent / "data").rglob("*") if p.suffix in kinds]
    assert shipped == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_names_no_place_on_anyones_machine(name):
    text = MODULES[name].read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|Users|work|tmp)/\w", text)


def test_every_module_is_mirrored_by_a_test():
    tests = {path.stem for path in Path(__file__).parent.glob("test_*.py")}
    elsewhere = {"__init__": "test_public_face", "__main__": "test_main"}
    missing = [
        name
        for name in STAGE_OF
        if name in MODULES and elsewhere.get(name, f"test_{name}") not in tests
    ]
    assert missing == []
