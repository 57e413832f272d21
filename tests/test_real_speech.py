"""The shipped features of real speech: whole, small, as rounded, and computed anew."""

import json

import numpy as np
import pytest
import real_speech as build
import torch
from stand_ins import tiny_clap

from clepdg_lib.audio import prepare
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import load_clap
from clepdg_lib.corpora import load_corpus
from clepdg_lib.evaluation.metrics import uar
from clepdg_lib.evaluation.probes import fit_probe
from clepdg_lib.evaluation.real_speech import (
    CORPORA,
    _read,
    load_baseline,
    load_features,
)
from clepdg_lib.files import MissingFileError, data_root, verify_checksums

FOLDER = data_root() / "real_speech"
CLIPS = {"emodb": 339, "ravdess": 1439, "tess": 2798, "nemo": 4481, "emotale": 800}


@pytest.fixture(scope="module")
def everything():
    return load_features(emotions=None)


@pytest.fixture(scope="module")
def clap():
    return load_clap("clap-mini")


def test_the_folder_is_whole_and_small():
    assert verify_checksums(FOLDER) == {}
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 15.3e6
    assert "/" not in (FOLDER / "tower.txt").read_text()


def test_every_clip_has_features_and_a_description(everything):
    clips = everything.clips
    assert clips["corpus"].value_counts().to_dict() == CLIPS
    assert list(clips.columns) == build.TABLE
    assert not clips.isin(["", "nan"]).any(axis=None)
    assert not clips.duplicated(["corpus", "clip"]).any()
    assert clips["speaker"].nunique() == 63
    assert clips.groupby("speaker")["corpus"].nunique().max() == 1
    assert everything.features.shape == (9857, 512)
    assert everything.features.isfinite().all() and everything.clean is None
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
        assert data.clips["caption"].str.len().min() > 5
    else:
        assert data.clips["place"].nunique() == data.clips["sentence"].nunique() == 5
        each = data.clips.groupby(["corpus", "place", "severity"]).size()
        assert len(each) == 75 and (each == 100).all()


@pytest.mark.parametrize(("name", "width"), [("egemaps", 88), ("audioset", 384)])
def test_baselines_hold_the_shared_emotions(name, width):
    data = load_baseline(name)
    assert data.features.shape == (len(data), width) and data.features.isfinite().all()
    assert set(data.clips["emotion"]) == set(EMOTIONS)
    assert set(data.clips["corpus"]) <= set(CORPORA)


def test_rounding_is_within_half_a_step(tmp_path):
    values = np.random.default_rng(0).normal(3, 2, (500, 4)).astype("f4")
    values[:, 1], values[0, 2] = 7, -90  # constant, and far out
    build.write_rounded(tmp_path / "x.npz", values, 0.002)
    error = np.abs(_read(tmp_path, "x").numpy() - values) / values.std(axis=0).clip(1)
    assert error.max() < 0.00101


def test_only_the_tower_that_made_the_features_may_embed_them(clap, everything):
    embedded = everything.take(np.arange(9)).embedded_by(clap)
    torch.testing.assert_close(embedded.embeddings.norm(dim=1), torch.ones(9))
    with pytest.raises(ValueError, match="tiny has another audio tower"):
        everything.embedded_by(tiny_clap())
    config = json.loads((data_root() / "models/clep-mini/config.json").read_text())
    assert config["towers"] == "../clap-mini"


def test_a_corpus_left_out_is_predicted_above_chance():
    clips = load_features()
    test = (clips.clips["corpus"] == "emodb").to_numpy()
    train, judged = clips.take(np.flatnonzero(~test)[::5]), clips.take(test)
    probe = fit_probe(train.features, train.clips["emotion"])
    assert uar(judged.clips["emotion"], probe.predict(judged.features)) > 0.4


def test_unknown_names_are_answered_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="'noisy'; it must be 'clean', 'pairs'"):
        load_features("noisy")
    with pytest.raises(ValueError, match=r"\['iemocap'\]; here are \['emodb'"):
        load_features(corpora=["emodb", "iemocap"])
    with pytest.raises(ValueError, match="'mfcc'; it must be one of"):
        load_baseline("mfcc")
    with pytest.raises(MissingFileError, match="holds no features"):
        load_features(folder=tmp_path)


@pytest.mark.parametrize("name", ["emodb", "emotale"])
def test_recordings_give_the_shipped_features(clap, everything, real_corpora, name):
    corpus, shipped = load_corpus(name, root=real_corpora), everything.clips
    rows = [0, len(corpus) // 2, len(corpus) - 1]
    found = clap.audio_tower.features([prepare(corpus.read(i)) for i in rows])
    for row, features in zip(rows, found, strict=True):
        clip = corpus.clips["clip"][row]
        (own,) = np.flatnonzero((shipped["corpus"] == name) & (shipped["clip"] == clip))
        assert (features - everything.features[own]).abs().max() < 1e-3
