"""Files are written whole, checked whole, and never unpickled."""

import errno
import getpass
import hashlib
import io
import json
import os
import pickle
import platform
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from clepdg_lib import files


# ------------------------------------------------------------------ folders
def test_roots_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("CLEPDG_DATA", raising=False)
    monkeypatch.delenv("CLEPDG_CACHE", raising=False)
    assert files.data_root() == files.PROJECT / "data"
    assert files.cache_root() == Path.home() / ".cache" / "clepdg_lib"
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path / "d"))
    monkeypatch.setenv("CLEPDG_CACHE", "~/c")
    assert files.data_root() == tmp_path / "d"
    assert files.cache_root() == Path.home() / "c"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX users")
def test_a_user_without_a_home_has_a_cache_folder():
    code = """
import pwd, tempfile
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
from clepdg_lib import files
from pathlib import Path
assert files.cache_root() == Path(tempfile.gettempdir()) / "clepdg_lib"
assert files.as_path("~/x") == Path("~/x")
from clepdg_lib.clap import load_clap  # torch's compiler asks for the user's name
"""
    hidden = ("HOME", "CLEPDG_CACHE")
    kept = {k: v for k, v in os.environ.items() if k not in hidden}
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=kept, cwd=files.PROJECT, check=True)


def test_a_tilde_is_the_home_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.as_path("~/x") == tmp_path / "x"
    files.write_atomically("~/f/note.txt", "hello")
    files.write_arrays("~/f/a.npz", x=np.arange(3))
    assert sorted(x.name for x in (tmp_path / "f").iterdir()) == ["a.npz", "note.txt"]
    assert files.read_arrays("~/f/a.npz", names=["x"])["x"].tolist() == [0, 1, 2]
    assert files.sha256("~/f/note.txt") == hashlib.sha256(b"hello").hexdigest()
    files.write_checksums("~/f")
    assert files.verify_checksums("~/f") == {}
    files.refuse_changed("~/f")


# ------------------------------------------------------------------ writing
@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "choose another folder")],
)
def test_a_failed_write_changes_nothing(tmp_path, monkeypatch, number, remedy, step):
    target = files.write_atomically(tmp_path / "note.txt", "old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match=f"note.txt was not.*{remedy}") as error:
        files.write_atomically(target, "new")
    assert error.value.errno == number and target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]
    with pytest.raises(OSError, match="was not written"):
        files.write_atomically(target / "below.txt", "new")  # a file is no folder


# ------------------------------------------------------------------ checksums
def test_checksums_find_what_changed(tmp_path):
    for name in ("one", "two words", "deep/three", ".hidden", "__pycache__/x.pyc"):
        files.write_atomically(tmp_path / name, name)
    lines = files.write_checksums(tmp_path).read_text().splitlines()
    assert [x[66:] for x in lines] == ["deep/three", "one", "two words"]
    assert files.verify_checksums(tmp_path) == {}
    files.write_atomically(tmp_path / "one", "changed")
    (tmp_path / "two words").unlink()
    files.write_atomically(tmp_path / "four", "new")
    problems = files.verify_checksums(tmp_path)
    assert list(problems) == ["four", "one", "two words"]
    assert problems["one"].startswith("one differs")
    assert "missing" in problems["two words"] and "not listed" in problems["four"]
    with pytest.raises(files.MissingFileError, match="write_checksums"):
        files.verify_checksums(tmp_path / "deep")
    with pytest.raises(files.MissingFileError, match="no such folder"):
        files.write_checksums(tmp_path / "absent")


def test_any_file_name_has_a_checksum(tmp_path):
    names = ["Müller.wav", "a  b.wav", "\u2028.wav"]
    if sys.platform == "linux":
        names.append(os.fsdecode(b"latin-\xfc.wav"))
    for name in names:
        (tmp_path / name).write_bytes(b"one")
    files.write_checksums(tmp_path)
    assert files.verify_checksums(tmp_path) == {}
    for name in names:
        (tmp_path / name).write_bytes(b"other")
    assert set(files.verify_checksums(tmp_path)) == set(names)


def test_a_folder_that_changed_is_refused_by_name(tmp_path):
    for name in ("a.bin", "b.bin", "READ ME.md"):
        (tmp_path / name).write_text(name)
    files.refuse_changed(tmp_path)  # no list, no promise
    files.write_checksums(tmp_path)
    files.refuse_changed(tmp_path)
    (tmp_path / "READ ME.md").write_text("other words")
    files.refuse_changed(tmp_path)
    (tmp_path / "b.bin").write_text("other")
    (tmp_path / "c.py").write_text("")
    with pytest.raises(ValueError, match="b.bin differs.*c.py is not listed"):
        files.refuse_changed(tmp_path)
    (tmp_path / files.CHECKSUMS).unlink()
    files.refuse_changed(tmp_path)
    with pytest.raises(ValueError, match="SHA256SUMS is missing"):
        files.refuse_changed(tmp_path, required=True)


# ------------------------------------------------------------------ arrays
class Trap:
    """Unpickling this would set a mark."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_arrays_come_back_as_they_were(tmp_path):
    file = files.write_arrays(tmp_path / "new" / "a.npz", x=np.arange(6.0), name="café")
    arrays = files.read_arrays(file, names=["x", "name"])
    np.testing.assert_array_equal(arrays["x"], np.arange(6.0))
    assert str(arrays["name"]) == "café"
    with pytest.raises(ValueError, match=r"lacks \['y'\], and has \['x', 'name'\]"):
        files.read_arrays(file, names=["x", "y"])
    with pytest.raises(files.MissingFileError, match=r"b\.npz does not exist"):
        files.read_arrays(tmp_path / "b.npz", names=["x"])
    with pytest.raises(ValueError, match="clips holds Python objects"):
        files.write_arrays(tmp_path / "c.npz", clips=np.array([{}], dtype=object))
    assert not (tmp_path / "c.npz").exists()


def test_a_planted_pickle_is_refused_and_never_runs(tmp_path):
    assert pickle.loads(pickle.dumps(Trap())) is None and Trap.sprung  # it would work
    Trap.sprung = False
    inside = tmp_path / "inside.npz"
    np.savez(inside, x=np.array([Trap()], dtype=object))
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps(Trap()))
    member = tmp_path / "member.npz"
    with zipfile.ZipFile(member, "w") as packed:
        packed.writestr("x.npy", pickle.dumps(Trap()))
    for file in (inside, bare, member):
        with pytest.raises(ValueError, match=f"{file.name} cannot be read as arrays"):
            files.read_arrays(file, names=["x"])
    with pytest.raises(ValueError, match="holds a pickle, which could run any code"):
        files.read_arrays(inside, names=["x"])
    assert not Trap.sprung


def test_damaged_arrays_are_named(tmp_path):
    values = np.random.default_rng(0).random(500)
    file = files.write_arrays(tmp_path / "a.npz", x=values)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    alone = io.BytesIO()
    np.save(alone, np.zeros(3))
    cuts = [whole[: n * len(whole) // 20] for n in range(20)]
    for content in (*cuts, bytes(flipped), b"text\n", alone.getvalue()):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz cannot be read as arrays"):
            files.read_arrays(file, names=["x"])


# ------------------------------------------------------------------ provenance
def test_what_computes_is_named_and_nobody_else():
    stamp = files.versions()
    assert stamp["torch"] == metadata.version("torch")
    assert stamp["python"] == platform.python_version()
    assert {"code", "python", "system", *files.PACKAGES} == set(stamp)
    assert all(isinstance(value, str) and value for value in stamp.values())
    text, user = json.dumps(stamp), getpass.getuser()
    for secret in (platform.node(), str(Path.home()), str(Path.cwd())):
        assert secret not in text
    assert len(user) < 5 or user not in text


def test_other_code_or_data_of_the_library_shows(monkeypatch, tmp_path):
    codes = {files.versions()["code"]}
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    (tmp_path / "clepdg_lib" / "audio").mkdir(parents=True)
    for name in ("a.py", "a.json", "note.txt"):
        (tmp_path / "clepdg_lib" / "audio" / name).write_text("{}")
        codes.add(files.versions()["code"])
    assert len(codes) == 3  # notes do not count
