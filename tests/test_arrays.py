"""Arrays come back as they were; a pickle among them is refused by its file's name."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from clepdg_lib.arrays import read_arrays, write_arrays
from clepdg_lib.files import MissingFileError


class Trap:
    """Unpickling this would set a mark."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_arrays_come_back_as_they_were(tmp_path):
    file = write_arrays(tmp_path / "new" / "a.npz", x=np.arange(6.0), name="café")
    found = read_arrays(file, names=["x", "name"])
    np.testing.assert_array_equal(found["x"], np.arange(6.0))
    assert str(found["name"]) == "café"


def test_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="clips holds Python objects"):
        write_arrays(tmp_path / "a.npz", clips=np.array([{}], dtype=object))
    assert list(tmp_path.iterdir()) == []


def test_a_planted_pickle_is_refused_and_never_runs(tmp_path):
    Trap.sprung = False
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
            read_arrays(file, names=["x"])
    with pytest.raises(ValueError, match="holds a pickle, which could run anything"):
        read_arrays(inside, names=["x"])
    assert not Trap.sprung


def test_damage_is_named(tmp_path):
    file = write_arrays(tmp_path / "a.npz", x=np.random.default_rng(0).random(500))
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    alone = io.BytesIO()
    np.save(alone, np.zeros(3))
    cuts = [whole[: n * len(whole) // 20] for n in range(20)]
    for content in (*cuts, bytes(flipped), b"text\n", alone.getvalue()):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz cannot be read as arrays"):
            read_arrays(file, names=["x"])


def test_what_is_lacking_is_named(tmp_path):
    file = write_arrays(tmp_path / "a.npz", x=np.zeros(1))
    with pytest.raises(ValueError, match=r"lacks \['y'\], and has \['x'\]"):
        read_arrays(file, names=["x", "y"])
    with pytest.raises(MissingFileError, match=r"b\.npz does not exist"):
        read_arrays(tmp_path / "b.npz", names=["x"])
