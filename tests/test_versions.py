"""A result says what made it, and nothing about who or where."""

import getpass
import json
import platform
from importlib import metadata
from pathlib import Path

from clepdg_lib import versions as module
from clepdg_lib.versions import PACKAGES, versions


def test_what_computes_is_named():
    found = versions()
    assert found["torch"] == metadata.version("torch")
    assert found["python"] == platform.python_version()
    assert set(PACKAGES) < set(found)
    assert all(isinstance(value, str) and value for value in found.values())


def test_nobody_and_no_place_is_named():
    told = json.dumps(versions())
    for secret in (platform.node(), str(Path.home()), str(Path.cwd())):
        assert secret not in told
    user = getpass.getuser()
    assert len(user) < 4 or user not in told


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package-at-all",))
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    found = versions()
    assert found["no-such-package-at-all"] == "not installed"
    assert found["libsndfile"] == "not installed"


def test_other_code_has_another_hash(tmp_path, monkeypatch):
    before = versions()["code"]
    (tmp_path / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "versions.py"))
    module._code.cache_clear()
    try:
        assert versions()["code"] != before
    finally:
        module._code.cache_clear()
