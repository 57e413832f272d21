"""A corpus is encoded once; the cache follows content and tower, and can be lost."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from stand_ins import DIM, tiny_clap, tone_corpus

from clepdg_lib.audio import AudioError
from clepdg_lib.clep import finetune_clep
from clepdg_lib.embeddings import embed_corpus, write_shard
from clepdg_lib.files import read_arrays

pytestmark = pytest.mark.usefixtures("private_cache")


class Counting:
    """Count the clips that a model's tower encodes, until it is to be interrupted."""

    def __init__(self, clap, monkeypatch, *, stop_after=10**9):
        self.n, encode = 0, clap.audio_tower.features

        def features(waves, **options):
            if self.n >= stop_after:
                raise KeyboardInterrupt
            self.n += len(waves)
            return encode(waves, **options)

        monkeypatch.setattr(clap.audio_tower, "features", features)


@pytest.fixture
def clap():
    return tiny_clap("whisper")


@pytest.fixture
def corpus(tmp_path):
    return tone_corpus(tmp_path / "tones")


def same(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["whisper", "htsat"])
def test_one_clip_has_one_embedding_whichever_way_it_comes(kind, tmp_path):
    """Files of 48 kHz with a tone that 16 kHz cannot hold, for a tower of 48 kHz."""
    clap = tiny_clap(kind, sample_rate=48_000)
    corpus = tone_corpus(tmp_path / "bright", n_each=1, sample_rate=48_000)
    time = np.arange(24_000) / 48_000
    for path in corpus.clips["path"]:
        wave, _ = soundfile.read(path)
        wave += 0.2 * np.sin(2 * np.pi * 12_000 * time)
        soundfile.write(path, wave.astype(np.float32), 48_000)
    embedded = embed_corpus(clap, corpus)
    paths = list(corpus.clips["path"])
    same(embedded.features, clap.audio_features(paths))
    same(embedded.embeddings, clap.embed_audio(paths))
    waves = [torch.from_numpy(soundfile.read(path)[0]).float() for path in paths]
    same(embedded.features, clap.audio_features(waves, sample_rate=48_000))
    a, b = (finetune_clep(clap, x, progress=False) for x in (corpus, embedded))
    same(a.audio_projection.weight, b.audio_projection.weight)
    if kind == "htsat":  # and the tone matters: read at 16 kHz it is gone
        dull = [corpus.read(i) for i in range(len(corpus))]
        assert (clap.audio_features(dull) - embedded.features).abs().max() > 1e-2


def test_rows_are_chosen_by_columns(clap, corpus):
    embedded = embed_corpus(clap, corpus)
    chosen = embedded.select(split="test", emotion=["angry", "sad"])
    assert list(chosen.clips["emotion"]) == ["angry", "sad"]
    assert torch.equal(chosen.embeddings, embedded.embeddings[[1, 7]])
    assert torch.equal(chosen.features, embedded.take(np.array([1, 7])).features)
    assert len(embedded.select(emotion="angry").select(emotion="sad")) == 0
    assert len(embedded.select(emotion="Anger")) == 2  # labels are normalised
    with pytest.raises(ValueError, match="no columns .'mood'.; the table has"):
        embedded.select(mood="sad")
    with pytest.raises(ValueError, match="no speaker .'x'., but .*tones-test"):
        embedded.select(speaker="x")


# -------------------------------------------------------------------- cache
def test_the_second_time_nothing_is_encoded(clap, corpus, monkeypatch):
    count = Counting(clap, monkeypatch)
    first, second = embed_corpus(clap, corpus), embed_corpus(clap, corpus)
    assert count.n == 8
    assert torch.equal(first.embeddings, second.embeddings)
    embed_corpus(clap, corpus, cache=False)
    assert count.n == 16


def test_the_cache_follows_content_and_not_names(clap, corpus, tmp_path, monkeypatch):
    before = embed_corpus(clap, corpus)
    first, second = (Path(path) for path in corpus.clips["path"][:2])
    assert first.stat().st_size == second.stat().st_size
    content, times = first.read_bytes(), os.stat(first)
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    for path in (first, second):
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    count = Counting(clap, monkeypatch)
    after = embed_corpus(clap, corpus)
    assert torch.equal(after.features, before.features[[1, 0, 2, 3, 4, 5, 6, 7]])
    moved = shutil.copytree(tmp_path / "tones", tmp_path / "moved")
    paths = [str(moved / Path(path).name) for path in corpus.clips["path"]]
    moved_corpus = replace(corpus, clips=corpus.clips.assign(path=paths))
    assert torch.equal(embed_corpus(clap, moved_corpus).features, after.features)
    assert count.n == 0


def test_models_share_features_exactly_if_they_share_the_tower(
    clap, corpus, monkeypatch
):
    before = embed_corpus(clap, corpus)
    other = clap.with_projection(torch.nn.Linear(clap.width, DIM), name="other")
    count = Counting(other, monkeypatch)
    after = embed_corpus(other, corpus)
    assert count.n == 0 and torch.equal(after.features, before.features)
    assert not torch.allclose(after.embeddings, before.embeddings, atol=1e-2)
    assert torch.equal(before.embedded_by(other).embeddings, after.embeddings)
    other.audio_tower.encoder.conv1.weight *= 1.5
    embed_corpus(other, corpus)
    assert count.n == 8
    with pytest.raises(ValueError, match="not of other's tower"):  # of equal width
        before.embedded_by(other)


def test_an_interrupted_run_keeps_what_it_has(clap, corpus, monkeypatch):
    monkeypatch.setattr("clepdg_lib.clap.AT_ONCE", 3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Counting(clap, patch, stop_after=6)
        embed_corpus(clap, corpus)
    count = Counting(clap, monkeypatch)
    assert len(embed_corpus(clap, corpus)) == 8
    assert count.n == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "other text", "a bit", "wider"])
def test_a_damaged_cache_is_made_anew(clap, corpus, private_cache, damage):
    before = embed_corpus(clap, corpus)
    kept = {file: file.read_bytes() for file in private_cache.rglob("*.f32")}
    assert len(kept) == 8
    for file, whole in kept.items():
        wider = whole[:-32] + bytes(4)  # whole, and of another width
        damaged = {
            "empty": b"",
            "cut": whole[:-5],
            "other text": b"broken" * 100,
            "a bit": whole[:9] + bytes([whole[9] ^ 1]) + whole[10:],
            "wider": wider + hashlib.sha256(wider).digest(),
        }
        file.write_bytes(damaged[damage])
    same(embed_corpus(clap, corpus).features, before.features)
    assert kept == {file: file.read_bytes() for file in private_cache.rglob("*.f32")}


def test_a_cache_that_cannot_be_written_does_no_harm(
    clap, corpus, private_cache, monkeypatch
):
    private_cache.write_text("a file where the folder should be")
    assert len(embed_corpus(clap, corpus)) == 8
    private_cache.unlink()
    embed_corpus(clap, corpus.select(splits="test"))

    def refuse(source, target):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(os, "replace", refuse)
    count = Counting(clap, monkeypatch)
    assert len(embed_corpus(clap, corpus)) == 8
    assert count.n == 4  # what was kept before is still used


# ----------------------------------------------------------------- bad files
def test_bad_files_among_many_are_listed_and_counted(clap, corpus):
    Path(corpus.clips["path"].iloc[1]).write_bytes(b"")
    Path(corpus.clips["path"].iloc[4]).unlink()
    soundfile.write(corpus.clips["path"].iloc[6], np.zeros(8_000), 16_000)
    with pytest.warns(UserWarning, match=r"^3 clips left out.*angry-1"):
        embedded = embed_corpus(clap, corpus)
    assert len(embedded) == len(embedded.embeddings) == 5
    assert list(embedded.problems["path"]) == list(corpus.clips["path"].iloc[[1, 4, 6]])
    assert "0 bytes" in embedded.problems["problem"].iloc[0]
    assert "silent" in embedded.problems["problem"].iloc[2]
    kept = corpus.clips["clip"].drop(index=[1, 4, 6])
    assert list(embedded.clips["clip"]) == list(kept)
    same(embedded.embeddings[4:], clap.embed_audio([corpus.read(7)]))
    broken = corpus.select(speakers="tones-train")
    for path in broken.clips["path"]:
        Path(path).write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="^4 clips left out"),
        pytest.raises(AudioError, match="tones: none of its 4 clips"),
    ):
        embed_corpus(clap, broken)


# -------------------------------------------------------------------- shards
def test_shares_of_several_processes_are_the_whole(clap, corpus, tmp_path):
    files = [
        write_shard(clap, corpus, tmp_path / "out" / "tones.npz", rank=rank, world=3)
        for rank in range(3)
    ]
    assert [f.name for f in files] == [f"tones-0000{i}-of-00003.npz" for i in range(3)]
    names = ("clip", "emotion", "embeddings", "features")
    parts = [read_arrays(file, names=names) for file in files]
    whole = embed_corpus(clap, corpus)
    for rank, part in enumerate(parts):
        assert list(part["clip"]) == list(whole.clips["clip"][rank::3])
        same(torch.from_numpy(part["embeddings"]), whole.embeddings[rank::3])
        same(torch.from_numpy(part["features"]), whole.features[rank::3])
    assert b"/tones/" not in files[0].read_bytes()  # no paths of this machine
    with np.load(files[0], allow_pickle=False) as npz:
        assert "path" not in npz.files
    alone = write_shard(clap, corpus, tmp_path / "alone")
    assert alone == tmp_path / "alone.npz"
    assert len(read_arrays(alone, names=["clip"])["clip"]) == 8


def test_a_clip_that_changes_meanwhile_is_not_kept(clap, corpus, private_cache):
    def read(index, *, sample_rate):  # somebody writes just then
        shutil.copy(corpus.clips["path"][7], corpus.clips["path"][0])
        return corpus.read(index, sample_rate=sample_rate)

    changing = SimpleNamespace(name="changing", clips=corpus.clips, read=read)
    embed_corpus(clap, changing)
    assert len(list(private_cache.rglob("*.f32"))) == 7


def test_a_share_that_cannot_be_made_or_written_is_one_clear_error(
    clap, corpus, tmp_path, monkeypatch
):
    count = Counting(clap, monkeypatch)
    for rank, world, message in ((0, 9, "world is 9; .* 1 to 8"), (3, 3, "rank is 3")):
        with pytest.raises(ValueError, match=message):
            write_shard(clap, corpus, tmp_path / "tones.npz", rank=rank, world=world)
    assert count.n == 0
    (tmp_path / "file").write_text("here")
    with pytest.raises(OSError, match="was not written"):
        write_shard(clap, corpus, tmp_path / "file" / "tones.npz")
    write_shard(clap, corpus, tmp_path / "new" / "tones.npz")
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["tones.npz"]
