"""environment.yml, pyproject.toml and the Makefile must describe one environment."""

import re
from pathlib import Path

import yaml
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[1]
CONDA = (PROJECT / "environment.yml").read_text(encoding="utf-8")
PYPROJECT = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")
# What the course was asked to be built on.
ASKED_FOR = "torch torchaudio transformers jupyterlab matplotlib seaborn umap-learn"
ASKED_FOR = {*ASKED_FOR.split(), "ipywidgets", "nbval"}


def _required() -> dict[str, str]:
    """Name -> bounds of the packages in pyproject.toml.

    Read with an expression: tomllib came with Python 3.11, and we start at 3.10.
    """
    block = re.search(r"^dependencies = \[\n(.*?)^\]", PYPROJECT, flags=re.M | re.S)[1]
    lines = re.findall(r'^\s*"([^"]+)"', block, flags=re.M)
    return {r.name: str(r.specifier) for r in map(Requirement, lines)}


def _conda_parts() -> tuple[list[str], list[str]]:
    packages = yaml.safe_load(CONDA)["dependencies"]
    pip = next(part["pip"] for part in packages if isinstance(part, dict))
    return [part for part in packages if isinstance(part, str)], pip


def test_conda_installs_the_same_packages_within_the_same_bounds():
    _, pip = _conda_parts()
    assert "-e ." in pip
    listed = [Requirement(line) for line in pip if line != "-e ."]
    assert {r.name: str(r.specifier) for r in listed} == _required()


def test_conda_itself_provides_little_and_no_torch():
    packages, _ = _conda_parts()
    names = {re.split(r"[<>=]", package)[0] for package in packages}
    assert names == {"python", "pip", "make"}


def test_conda_python_is_one_that_the_package_accepts():
    oldest = re.search(r'requires-python = ">=([\d.]+)"', PYPROJECT)[1]
    assert f"python>={oldest}," in CONDA


def test_every_line_of_the_environment_has_a_reason():
    packages = CONDA.partition("dependencies:")[2].splitlines()
    lines = [line for line in packages if "- " in line and not line.endswith("pip:")]
    bare = [line for line in lines if not re.search(r"  # \w+", line)]
    assert len(lines) > 20
    assert bare == []


def test_the_packages_asked_for_are_required():
    assert set(_required()) >= ASKED_FOR


def test_torch_and_torchaudio_are_pinned_as_a_pair_everywhere():
    required = _required()
    assert required["torch"] == required["torchaudio"] != ""
    for name in ("torch", "torchaudio"):
        bounds = re.search(rf'"{name}(>=[^"]+)"', MAKEFILE)[1]
        assert Requirement(name + bounds).specifier == required[name]


def test_the_continuous_integration_runs_what_anyone_runs():
    script = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [line for line in script.splitlines() if line.strip()]
    assert commands[-1] == "make test"
    assert "set -euo pipefail" in commands
