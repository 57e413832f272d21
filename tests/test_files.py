"""Files are written whole and proved whole."""

import hashlib
from pathlib import Path

import pytest

from clepdg_lib import files
from clepdg_lib.files import (
    MissingFileError,
    cache_root,
    data_root,
    sha256,
    verify_checksums,
    write_atomically,
    write_checksums,
)


def test_the_project_is_where_the_library_is():
    assert (files.PROJECT / "clepdg_lib" / "files.py").is_file()


def test_roots_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("CLEPDG_DATA", raising=False)
    monkeypatch.delenv("CLEPDG_CACHE", raising=False)
    assert data_root() == files.PROJECT / "data"
    assert cache_root() == Path.home() / ".cache" / "clepdg_lib"
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path / "d"))
    monkeypatch.setenv("CLEPDG_CACHE", str(tmp_path / "c"))
    assert (data_root(), cache_root()) == (tmp_path / "d", tmp_path / "c")


def test_writing_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "note.txt"
    assert write_atomically(path, "first") == path
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["note.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "note.txt", "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_sha256_is_that_of_hashlib(tmp_path):
    path = write_atomically(tmp_path / "x", b"abc" * 1_000_000)
    assert sha256(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    with pytest.raises(MissingFileError, match="no-such"):
        sha256(tmp_path / "no-such")


def test_checksums_find_what_changed(tmp_path):
    for name in ("one", "two", "deep/three"):
        write_atomically(tmp_path / name, name)
    listing = write_checksums(tmp_path)
    assert [line.split("  ")[1] for line in listing.read_text().splitlines()] == [
        "deep/three",
        "one",
        "two",
    ]
    assert verify_checksums(tmp_path) == []
    write_atomically(tmp_path / "one", "changed")
    (tmp_path / "two").unlink()
    write_atomically(tmp_path / "four", "new")
    problems = verify_checksums(tmp_path)
    assert len(problems) == 3
    for name, word in (("one", "differs"), ("two", "missing"), ("four", "not listed")):
        assert any(p.startswith(name) and word in p for p in problems)


def test_checksums_of_nothing_say_what_is_missing(tmp_path):
    with pytest.raises(MissingFileError, match="no such folder"):
        write_checksums(tmp_path / "absent")
    with pytest.raises(MissingFileError, match="write_checksums"):
        verify_checksums(tmp_path)
