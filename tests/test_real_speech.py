"""The shipped features of real speech: whole, small, as rounded, and computed anew."""

import numpy as np
import pytest
import real_speech as build
import torch
from stand_ins import tiny_clap

from clepdg_lib.audio import prepare
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import load_clap
from clepdg_lib.corpora import load_corpus
from clepdg_lib.evaluation.real_speech import load_features, read_features
from clepdg_lib.files import MissingFileError, data_root, verify_checksums

FOLDER = data_root() / "real_speech"
CLIPS = {"emodb": 339, "ravdess": 1439, "tess": 2798, "nemo": 4481, "emotale": 800}


@pytest.fixture(scope="module")
def everything():
    return load_features(emotions=None)


def test_the_folder_is_whole_and_small_and_every_clip_described(everything):
    assert verify_checksums(FOLDER) == {}
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 15.3e6
    clips = everything.clips
    assert clips["corpus"].value_counts().to_dict() == CLIPS
    assert list(clips.columns) == build.TABLE
    assert not clips.isin(["", "nan"]).any(axis=None)
    assert not clips.duplicated(["corpus", "clip"]).any()
    assert clips["speaker"].nunique() == 63
    assert everything.features.isfinite().all()
    shared = load_features(corpora=["emodb", "tess"])
    assert set(shared.clips["emotion"]) == set(EMOTIONS) and len(shared) == 339 + 1598


@pytest.mark.parametrize(("condition", "n"), [("pairs", 5000), ("shift", 7500)])
def test_clips_in_places_stand_beside_the_clean_ones(everything, condition, n):
    data = load_features(condition)
    assert len(data) == len(data.features) == len(data.clean) == n
    assert (data.clips["corpus"].value_counts() == n // 5).all()
    names = everything.clips[["corpus", "clip"]].agg("/".join, axis=1)
    rows = {name: row for row, name in enumerate(names)}
    own = [rows[name] for name in data.clips[["corpus", "clip"]].agg("/".join, axis=1)]
    assert torch.equal(data.clean, everything.features[own])
    moved = (data.features - data.clean) / everything.features.std(dim=0)
    assert moved.isfinite().all() and moved.square().mean() > 0.1
    if condition == "pairs":
        assert data.clips["severity"].between(0.5, 2.5).all()
    else:
        each = data.clips.groupby(["corpus", "sentence", "severity"]).size()
        assert len(each) == 75 and (each == 100).all()


def test_baselines_hold_the_shared_emotions_and_unknown_names_are_refused(tmp_path):
    for name, width in (("egemaps", 88), ("audioset", 384)):
        data = load_features(name)
        assert data.features.shape == (len(data), width)
        assert set(data.clips["emotion"]) == set(EMOTIONS)
    with pytest.raises(ValueError, match=r"\['iemocap'\], but \['emodb'"):
        load_features(corpora=["emodb", "iemocap"])
    with pytest.raises(MissingFileError, match="holds no features"):
        load_features(folder=tmp_path)


def test_rounding_is_within_half_a_step(tmp_path):
    values = np.random.default_rng(0).normal(3, 2, (500, 4)).astype("f4")
    values[:, 1], values[0, 2] = 7, -90  # constant, and far out
    build.write_rounded(tmp_path / "x.npz", values, 0.002)
    found = read_features(tmp_path, "x").numpy()
    error = np.abs(found - values) / values.std(axis=0).clip(1)
    assert error.max() < 0.00101


def test_only_the_tower_that_made_the_features_may_embed_them(everything):
    embedded = everything.take(np.arange(9)).embedded_by(load_clap("clep-mini"))
    torch.testing.assert_close(embedded.embeddings.norm(dim=1), torch.ones(9))
    with pytest.raises(ValueError, match="not of tiny.s tower"):
        everything.embedded_by(tiny_clap())


@pytest.mark.parametrize("name", ["emodb", "emotale"])
def test_recordings_give_what_is_shipped(everything, real_corpora, name, monkeypatch):
    monkeypatch.setenv("CLEPDG_CORPORA", str(real_corpora))
    corpus, shipped = load_corpus(name), everything.clips
    tower = load_clap("clap-mini").audio_tower
    rows = [0, len(corpus) // 2, len(corpus) - 1]
    found = tower.features([prepare(corpus.read(i)) for i in rows])
    for row, features in zip(rows, found, strict=True):
        clip = corpus.clips["clip"][row]
        (own,) = np.flatnonzero((shipped["corpus"] == name) & (shipped["clip"] == clip))
        assert (features - everything.features[own]).abs().max() < 1e-3
