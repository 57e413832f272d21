"""What is remembered comes back; what cannot be remembered does no harm."""

import sqlite3
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from clepdg_lib import cache
from clepdg_lib.cache import EmbeddingCache, content_key, load_arrays, store_arrays


def rows(*names, dim=8):
    return {n: np.full(dim, i + 0.5, np.float32) for i, n in enumerate(names)}


@pytest.fixture
def clock(monkeypatch):
    """A clock that ticks at every look, so that 'least recently' is never a tie."""
    now = iter(range(1, 10_000))
    monkeypatch.setattr(cache.time, "time", lambda: float(next(now)))


def test_rows_come_back_as_they_were(tmp_path):
    stored = rows("a", "b")
    EmbeddingCache(tmp_path).put(stored)
    found = EmbeddingCache(tmp_path).get(["a", "b", "c"])
    assert found.keys() == stored.keys()
    for key, row in found.items():
        assert row.dtype == np.float32
        np.testing.assert_array_equal(row, stored[key])
    found["a"][0] = 7  # a copy, not a view of something read-only


def test_a_key_stored_again_is_replaced(tmp_path):
    store = EmbeddingCache(tmp_path)
    store.put({"a": np.zeros(2)})
    store.put({"a": np.ones(2)})
    np.testing.assert_array_equal(store.get(["a"])["a"], [1, 1])


def test_more_keys_than_one_question_may_hold(tmp_path):
    store = EmbeddingCache(tmp_path)
    store.put({str(i): np.array([i], np.float32) for i in range(1203)})
    found = store.get([str(i) for i in range(1203)])
    assert len(found) == 1203 and found["1202"][0] == 1202


def test_the_rows_unused_for_longest_go_first(tmp_path, clock):
    store = EmbeddingCache(tmp_path, limit_bytes=3 * 8 * 4)
    for name in "abc":
        store.put(rows(name))
    store.get(["a"])  # b is now the one that nobody asked for
    store.put(rows("d"))
    assert set(store.get(list("abcd"))) == {"a", "c", "d"}


def test_a_limit_holds_however_much_comes_at_once(tmp_path):
    store = EmbeddingCache(tmp_path, limit_bytes=1000)
    store.put({str(i): np.zeros(8) for i in range(300)})
    assert 0 < len(store.get([str(i) for i in range(300)])) * 32 <= 1000


def test_two_processes_write_at_once_and_lose_nothing(tmp_path):
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from clepdg_lib.cache import EmbeddingCache\n"
        "store = EmbeddingCache(Path(sys.argv[1]))\n"
        "for i in range(60):\n"
        "    name = f'{sys.argv[2]}-{i}'\n"
        "    store.put({name: np.full(4, i, np.float32), 'both': np.zeros(4)})\n"
        "    assert name in store.get([name])\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name])
        for name in "ab"
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    names = [f"{name}-{i}" for name in "ab" for i in range(60)]
    found = EmbeddingCache(tmp_path).get([*names, "both"])
    assert set(found) == {*names, "both"}
    assert all(found[name][0] == int(name[2:]) for name in names)


def test_a_broken_file_is_an_empty_cache(tmp_path):
    store = EmbeddingCache(tmp_path)
    store.file.write_bytes(b"this is no data base at all, " * 40)
    assert store.get(["a"]) == {}
    store.put(rows("a"))
    assert store.get(["a"]) == {}


def test_a_place_that_cannot_be_written_is_an_empty_cache(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = EmbeddingCache(tmp_path / "file" / "cache")
    store.put(rows("a"))
    assert store.get(["a"]) == {}


def test_a_read_only_file_still_answers(tmp_path, monkeypatch):
    names = [str(i) for i in range(700)]
    EmbeddingCache(tmp_path).put(rows(*names))

    def read_only(store):
        return sqlite3.connect(f"file:{store.file}?mode=ro", uri=True)

    monkeypatch.setattr(EmbeddingCache, "_open", read_only)
    store = EmbeddingCache(tmp_path)
    store.put(rows("new"))
    assert set(store.get([*names, "new"])) == set(names)


def test_the_default_place_is_the_cache_folder(private_cache):
    EmbeddingCache().put(rows("a"))
    assert (private_cache / "embeddings.sqlite").is_file()


def test_a_key_follows_content_and_prefix_and_not_the_name(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    key = content_key("model", tmp_path / "a")
    assert key == content_key("model", str(tmp_path / "b"))
    assert key != content_key("model", tmp_path / "c")
    assert key != content_key("other", tmp_path / "a")
    with pytest.raises(OSError):
        content_key("model", tmp_path / "missing")


def test_arrays_come_back_or_are_none(tmp_path):
    file = tmp_path / "new" / "arrays.npz"
    assert load_arrays(file) is None
    store_arrays(file, x=np.arange(3), y=np.zeros((2, 2), np.float16))
    found = load_arrays(file)
    assert found.keys() == {"x", "y"} and found["y"].dtype == np.float16
    whole = file.read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"PK" + bytes(100)):
        file.write_bytes(broken)
        assert load_arrays(file) is None
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x", "no array")
    assert load_arrays(file) is None
    with file.open("wb") as stream:  # one array, and no archive of them
        np.save(stream, np.arange(3))
    assert load_arrays(file) is None


def test_arrays_that_would_run_code_are_not_read(tmp_path):
    file = tmp_path / "arrays.npz"
    np.savez(file, x=np.array([{"an": "object"}], dtype=object))
    assert load_arrays(file) is None


def test_arrays_that_cannot_be_kept_do_no_harm(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store_arrays(tmp_path / "file" / "arrays.npz", x=np.zeros(1))
