"""Environment, supply chain, offline behaviour, public face, README and results."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import clepdg_lib
import results
from clepdg_lib.corpora import CORPORA
from clepdg_lib.files import PROJECT, MissingFileError

CONDA = (PROJECT / "environment.yml").read_text(encoding="utf-8")
PYPROJECT = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")


# ---------------------------------------------------------------- environment
def required(section="dependencies"):
    """Read a list of pyproject.toml; tomllib came with 3.11, and we start at 3.10."""
    block = re.search(rf"^{section} = \[\n(.*?)^\]", PYPROJECT, flags=re.M | re.S)[1]
    lines = re.findall(r'^\s*"([^"]+)"', block, flags=re.M)
    return {r.name: r.specifier for r in map(Requirement, lines)}


def test_conda_installs_the_same_packages_within_the_same_bounds():
    *packages, last = yaml.safe_load(CONDA)["dependencies"]
    pip = last["pip"]
    assert pip[-1] == "-e ."
    assert {r.name: r.specifier for r in map(Requirement, pip[:-1])} == required()
    assert {re.split("[<>=]", p)[0] for p in packages} == {"python", "pip", "make"}
    oldest = re.search(r'requires-python = ">=([\d.]+)"', PYPROJECT)[1]
    assert packages[0].startswith(f"python>={oldest},")
    lines = CONDA.partition("dependencies:")[2].splitlines()
    lines = [line for line in lines if "- " in line and not line.endswith("pip:")]
    assert [line for line in lines if not re.search(r"  # \w+", line)] == []


def test_torch_and_torchaudio_are_a_pair_and_what_breaks_is_held():
    needed = required()
    assert needed["torch"] == needed["torchaudio"]
    for name in ("torch", "torchaudio"):
        bounds = re.search(rf'"{name}(>=[^"]+)"', MAKEFILE)[1]
        assert Requirement(name + bounds).specifier == needed[name]
    held = {"torch", "torchaudio", "transformers", "jupyterlab", "ipywidgets"}
    assert held <= {name for name, bounds in needed.items() if "<" in str(bounds)}


def test_what_is_imported_is_required_and_what_is_required_is_used():
    modules = {"scikit-learn": "sklearn", "umap-learn": "umap"}
    folders = ("clepdg_lib", "notebooks")
    files = [f for folder in folders for f in (PROJECT / folder).rglob("*.*")]
    text = MAKEFILE + "".join(
        f.read_text(encoding="utf-8") for f in files if f.suffix in (".py", ".ipynb")
    )
    tools = {"ipykernel", "nbval", "jupyterlab"}  # run, never imported
    for name in set(required()) - tools:
        module = modules.get(name, name).replace("-", "_")
        assert re.search(rf"\b(import|from) {module}\b", text), f"nothing uses {name}"


def test_ci_runs_what_anyone_runs():
    script = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().endswith("\nmake test")
    assert "set -euo pipefail" in script
    wanted = {"tests": [".ci/run", "make test"], "book": ["make course"]}
    for name, commands in wanted.items():
        flow = (PROJECT / ".github" / "workflows" / f"{name}.yml").read_text("utf-8")
        jobs = yaml.safe_load(flow)["jobs"].values()
        runs = [s["run"] for job in jobs for s in job["steps"] if "run" in s]
        assert runs[: len(commands)] == commands


# ---------------------------------------------------------------- supply chain
def constraints():
    text = (PROJECT / ".ci" / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    assert not re.search(r"^-|@|--hash|://", text, flags=re.M)
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def test_every_constraint_is_one_exact_version_with_a_licence():
    page = (PROJECT / ".ci" / "licences.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w.-]+) \| (\S+) \| (.+) \|$", page, flags=re.M)
    licences = {f"{name}=={version}" for name, version, licence in rows if licence}
    found = constraints()
    assert len(found) > 100 and list(found) == sorted(found)
    assert {f"{name}{bounds}" for name, bounds in found.items()} <= licences


def test_a_range_has_a_floor_and_holds_the_tested_version():
    tested = constraints()
    ranges = {**required(), **required("test"), **required("book")}
    for name, bounds in ranges.items():
        version = str(tested[canonicalize_name(name)]).removeprefix("==")
        assert bounds.contains(version), name
        assert any(part.operator == ">=" for part in bounds), name


def test_no_file_names_a_registry_or_a_place_on_a_machine():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    kinds = (".py", ".md", ".toml", ".yml", ".ipynb", ".txt", ".cff", "")
    hosts = r"pypi\.org|pythonhosted\.org|npmjs\.(org|com)|anaconda\.(org|com)"
    private = r"/(?:work|root|farm)/\w|/tmp/(?:old|spec)"
    wrong = []
    for name in listed.stdout.split("\n"):
        file = PROJECT / name
        if not file.is_file() or file.suffix not in kinds or file == Path(__file__):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        wrong += [(name, m[0]) for m in re.finditer(f"{hosts}|{private}", text)]
    assert wrong == []


# ---------------------------------------------------------------- offline
def test_tests_and_course_ask_for_no_network_and_the_lab_listens_here_only():
    with pytest.raises(OSError, match="tests have no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)
    for value in ("HF_HUB_OFFLINE = 1", "TRANSFORMERS_OFFLINE = 1"):
        assert f"\ncourse test: export {value}\n" in MAKEFILE
    assert "\ncourse test lab: export OMP_WAIT_POLICY = PASSIVE\n" in MAKEFILE
    command = re.search(r"^\t\$\(BIN\)/jupyter (lab.*)$", MAKEFILE, flags=re.M)[1]
    assert "--ip=127.0.0.1" in command  # who is elsewhere needs a token as well
    assert not re.search(r"token|password|allow.origin|xsrf|0\.0\.0\.0", command)


def test_the_method_needs_no_network_and_writes_to_its_cache_alone(tmp_path):
    """Model, corpus, embeddings and prediction, with every socket refused."""
    code = """if True:
        import sys
        def refuse(event, args):
            if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
                raise SystemExit(f"network: {event} {args}")
        sys.addaudithook(refuse)
        from clepdg_lib import embed_corpus, load_clap, load_corpus, zero_shot
        clap = load_clap("clep-mini")
        corpus = load_corpus("emosynth").select(splits="test", domains="studio")
        points = embed_corpus(clap, corpus)
        print(len(zero_shot(clap, corpus.emotions).predict(points.embeddings)))
    """
    home, place = tmp_path / "home", tmp_path / "place"
    for folder in (home, place):
        folder.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLEPDG", "XDG"))}
    kept |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=place, env=kept, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 10
    assert list(place.iterdir()) == []
    inside = {p.relative_to(home).parts[:2] for p in home.rglob("*") if p.is_file()}
    assert inside <= {(".cache", "clepdg_lib")}


# ---------------------------------------------------------------- public face
FACE = "from clepdg_lib import load_clap, load_corpus, place"


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import clepdg_lib", {"torch", "transformers", "sklearn", "pandas"}),
        (FACE, {"umap", "numba", "matplotlib", "seaborn", "ipywidgets"}),
        ("import clepdg_lib.plots", {"torch", "matplotlib", "seaborn", "sklearn"}),
    ],
)
def test_importing_is_light_and_silent_and_seeds_nothing(statement, heavy):
    code = (
        f"import random, sys; random.seed(1); before = random.getstate(); {statement}; "
        f"assert random.getstate() == before; print(*({heavy} & sys.modules.keys()))"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "", "")


def test_the_face_is_small_and_explained_and_lists_its_names():
    names = clepdg_lib.__all__
    assert len(names) == len(set(names)) == 24
    assert set(names) <= set(dir(clepdg_lib))
    assert all(getattr(clepdg_lib, name).__doc__ for name in names)
    with pytest.raises(AttributeError, match="load_clapp.*load_clap"):
        _ = clepdg_lib.load_clapp


# ---------------------------------------------------------------- README, results
@pytest.fixture
def project(tmp_path):
    """A project with one page and the results of two seeds."""
    scores = [
        ("clep-dg", "tess", 0, 1600, 0.5),
        ("clep-dg", "tess", 1, 100, 0.7),
        ("clep-dg", "nemo", 0, 100, 0.3),
        ("clep-dg", "nemo", 1, 100, 0.3),
        ("a-new-one", "tess", 0, 100, 0.3),
    ]
    rows = pd.DataFrame(scores, columns=["method", "test", "seed", "n", "uar"])
    rows = rows.assign(setting="loco", war=rows["uar"] + 0.1).to_dict("records")
    folder = tmp_path / "data" / "results"
    folder.mkdir(parents=True)
    (folder / "loco.json").write_text(json.dumps({"seeds": [0, 1], "rows": rows}))
    row = {"what": "embed | ratio", "value": 1.5, "n": 1234, "made_with": {"a": 1}}
    (folder / "speed.json").write_text(json.dumps({"rows": [row]}))
    text = "Before.\n\n<!-- results:loco -->\nold\n<!-- /results:loco -->\n\nAfter.\n"
    (tmp_path / "README.md").write_text(text)
    return tmp_path


def test_scores_stand_by_method_and_corpus_with_their_mean(project):
    uar, war = results.render("loco", project=project).split("**WAR**")
    assert "seeds 0, 1" in uar and "loco" in uar
    assert "| method | TESS (n = 1,600) | nEMO (n = 100) | mean |" in uar
    # standard deviation over seeds: of .5 and .7, of .3 and .3, of .4 and .5
    assert "| `clep-dg` | .600 ± .141 | .300 ± .000 | .450 ± .071 |" in uar
    # a corpus is missing: no mean is better than a wrong one
    assert "| `a-new-one` | .400 | – | – |" in war
    table = "| what | value | n |\n| --- | --: | --: |\n"
    table += "| embed \\| ratio | 1.5 | 1,234 |\n"
    assert results.render("speed", project=project) == table
    with pytest.raises(MissingFileError, match=r"nothing\.json is missing"):
        results.render("nothing", project=project)


def test_pages_are_filled_and_then_stay(project):
    page = project / "README.md"
    assert results.write_pages(project=project) == ([page], [])
    text = page.read_text()
    assert text.startswith("Before.\n\n<!-- results:loco -->\n**UAR**")
    assert text.endswith("<!-- /results:loco -->\n\nAfter.\n")
    assert results.write_pages(project=project) == ([], [])
    typed = text.replace(".600", ".900")  # somebody improves a figure by hand
    assert results.fill_page(typed, project=project) == text
    page.write_text(text + "<!-- results:speed -->\n")
    changed, (problem,) = results.write_pages(project=project)
    assert changed == [] and "lacks its partner" in problem


@pytest.mark.parametrize(
    "page", results.find_pages(), ids=lambda p: p.relative_to(PROJECT).as_posix()
)
def test_pages_quote_results_as_measured_and_their_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    assert results.fill_page(text) == text, "run notebooks/build/results.py"
    plain = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)
    for alt, target in re.findall(r"!?\[([^\]]*)\]\(([^)\s]+)\)", plain):
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path):
            assert (page.parent / path).exists(), f"{alt}: {target}"


@pytest.mark.parametrize("page", ["real_speech", "models/clep-mini"])
def test_licences_are_those_of_the_readers_table(page):
    text = (PROJECT / "data" / page / "README.md").read_text(encoding="utf-8")
    for name, title in results.CORPORA.items():
        (row,) = re.findall(rf"^\| {title}, .*$", text, flags=re.M)
        assert row.endswith(f"| {CORPORA[name]['licence']} |"), row


def test_the_readme_is_short_and_says_what_it_is():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.S)
    prose = re.sub(r"^\|.*$", "", prose, flags=re.M)  # tables
    assert len(prose.split()) <= 700
    for words in ("make course", "make lab", "2507.04048", "independent"):
        assert words in text
