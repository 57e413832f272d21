"""Files are written whole and proved whole."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from clepdg_lib import files
from clepdg_lib.files import (
    ChangedFileError,
    MissingFileError,
    WriteError,
    cache_root,
    data_root,
    refuse_changed,
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


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "you may not write there"),
        (errno.EIO, "choose another folder"),
    ],
)
def test_what_cannot_be_written_is_told_and_nothing_changes(
    tmp_path, monkeypatch, number, told
):
    target = write_atomically(tmp_path / "note.txt", "old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError, match=told) as error:
        write_atomically(target, "new")
    assert str(target) in str(error.value) and error.value.errno == number
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_a_place_that_is_no_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="was not written"):
        write_atomically(tmp_path / "file" / "note.txt", "new")


def test_what_a_killed_process_left_is_swept_after_an_hour(tmp_path):
    old, young = tmp_path / ".note.txt.abcd1234", tmp_path / ".note.txt.efgh5678"
    other = tmp_path / ".note.txt.much-longer"
    for file in (old, young, other):
        file.write_text("half")
        os.utime(file, (1, 1))
    os.utime(young)
    write_atomically(tmp_path / "note.txt", "whole")
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == [young.name, other.name, "note.txt"]


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: calls.append("sync") or fsync(f))
    monkeypatch.setattr(
        os, "replace", lambda a, b: calls.append("name") or replace(a, b)
    )
    write_atomically(tmp_path / "note.txt", "content")
    assert calls == ["sync", "name", "sync"]  # the last one: the folder's list


def test_a_folder_that_changed_is_refused_by_name(tmp_path):
    for name in ("a.bin", "b.bin", "README.md"):
        (tmp_path / name).write_text(name)
    refuse_changed(tmp_path)  # no list, no promise
    write_checksums(tmp_path)
    refuse_changed(tmp_path)
    (tmp_path / "README.md").write_text("other words")
    refuse_changed(tmp_path)
    (tmp_path / "b.bin").write_text("other")
    (tmp_path / "c.py").write_text("")
    with pytest.raises(ChangedFileError, match="b.bin differs.*c.py is not listed"):
        refuse_changed(tmp_path)
