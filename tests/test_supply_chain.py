"""The lists of what the course stands on are whole, exact, and fit its ranges."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[1]
PYPROJECT = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")


def constraints():
    text = (PROJECT / ".ci" / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    return text, [Requirement(line) for line in lines]


def required():
    lists = re.findall(r"^(?:dependencies|test) = \[(.*?)\]$", PYPROJECT, re.M | re.S)
    return [Requirement(q) for part in lists for q in re.findall(r'"([^"]+)"', part)]


def test_every_constraint_is_one_exact_version_and_no_address():
    text, lines = constraints()
    assert "://" not in text and not re.search(r"^-|@|--hash|index", text, flags=re.M)
    assert len(lines) > 100
    for line in lines:
        (only,) = line.specifier
        assert only.operator == "==" and "*" not in only.version
    names = [canonicalize_name(line.name) for line in lines]
    assert names == sorted(set(names))


@pytest.mark.parametrize("needed", required(), ids=lambda r: r.name)
def test_a_range_has_a_floor_and_holds_the_tested_version(needed):
    tested = {canonicalize_name(r.name): str(r.specifier) for r in constraints()[1]}
    version = tested[canonicalize_name(needed.name)].removeprefix("==")
    assert needed.specifier.contains(version)
    assert any(part.operator == ">=" for part in needed.specifier)


def test_what_changes_its_ways_has_a_ceiling():
    ceilings = {r.name for r in required() if "<" in str(r.specifier)}
    held = {"torch", "torchaudio", "transformers", "jupyterlab", "ipywidgets"}
    assert held <= ceilings


def test_every_package_has_a_licence_in_the_list():
    page = (PROJECT / ".ci" / "licences.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w.-]+) \| (\S+) \| (.+) \|$", page, flags=re.M)
    listed = {name: (version, told) for name, version, told in rows if name != "---"}
    for line in constraints()[1]:
        version, told = listed[canonicalize_name(line.name)]
        assert f"=={version}" == str(line.specifier) and told.strip()
