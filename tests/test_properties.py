"""Measurements become levels by thirds; openSMILE measures where it is installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from clepdg_lib import properties
from clepdg_lib.captions import PROPERTIES
from clepdg_lib.properties import (
    MEASURED,
    feature_names,
    measure_corpus,
    measuring_is_possible,
    property_levels,
    standardise,
)

NAMES = [*MEASURED.values(), "another"]


def test_thirds_become_levels_low_first():
    measured = np.tile(np.arange(9.0)[:, None], (1, len(NAMES)))
    levels = property_levels(measured, NAMES)
    assert set(levels) == set(MEASURED)
    for aspect, level in levels.items():
        assert level.dtype == np.int64
        assert level.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2], aspect


def test_each_aspect_reads_its_own_column():
    measured = np.random.default_rng(0).normal(size=(30, len(NAMES)))
    for column, aspect in enumerate(MEASURED):
        level = property_levels(measured, NAMES)[aspect]
        x = measured[:, column]
        assert x[level == 0].max() < x[level == 1].min()
        assert x[level == 1].max() < x[level == 2].min()


def test_what_was_not_measured_stays_unknown():
    measured = np.tile(np.arange(6.0)[:, None], (1, len(NAMES)))
    measured[2] = np.nan
    level = property_levels(measured, NAMES)["pitch"]
    assert level[2] == -1 and (np.delete(level, 2) >= 0).all()


def test_borders_may_come_from_elsewhere():
    reference = np.tile(np.arange(9.0)[:, None], (1, len(NAMES)))
    high = property_levels(reference + 100, NAMES, reference=reference)
    assert (high["tempo"] == 2).all()


def test_every_measured_aspect_has_three_captions_in_order():
    for aspect in MEASURED:
        assert len(PROPERTIES[aspect]) == 3
    assert list(PROPERTIES["pitch"]) == ["low", "medium", "high"]
    assert list(PROPERTIES["texture"])[0] == "breathy"  # little harmonicity comes first


def test_without_opensmile_the_remedy_is_named(monkeypatch, feeling_corpus, tmp_path):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(ImportError, match="pip install"):
        measure_corpus(feeling_corpus(n_each=1), cache=False)


class FakeSmile:
    feature_names = ("loudness", "length")
    n_calls = 0

    def process_signal(self, samples, rate):
        import pandas as pd

        FakeSmile.n_calls += 1
        assert rate == 16_000 and samples.ndim == 1
        return pd.DataFrame([[np.nan, len(samples)]], columns=self.feature_names)


def test_clips_are_measured_once_and_bad_files_are_rows_of_nan(
    monkeypatch, feeling_corpus, private_cache
):
    monkeypatch.setattr(properties, "_smile", FakeSmile)
    monkeypatch.setattr(FakeSmile, "n_calls", 0)
    corpus = feeling_corpus(n_each=1)
    Path(corpus.clips["path"].iloc[1]).write_bytes(b"")
    values = measure_corpus(corpus)
    assert values.shape == (4, 2) and values.dtype == np.float32
    assert np.isnan(values[1]).all() and not np.isnan(np.delete(values, 1, 0)).any()
    assert (values[[0, 2, 3], 0] == 0).all()  # no number from openSMILE counts as 0
    assert FakeSmile.n_calls == 3
    np.testing.assert_array_equal(measure_corpus(corpus), values)
    assert FakeSmile.n_calls == 3
    (file,) = (private_cache / "egemaps").glob("*.npz")
    file.write_bytes(b"broken")
    np.testing.assert_array_equal(measure_corpus(corpus), values)
    assert FakeSmile.n_calls == 6


@pytest.mark.skipif(not measuring_is_possible(), reason="openSMILE is not installed")
def test_opensmile_measures_what_the_aspects_name(feeling_corpus):
    names = feature_names()
    assert len(names) == 88 and set(MEASURED.values()) <= set(names)
    corpus = feeling_corpus(n_each=1)
    values = measure_corpus(corpus, cache=False)
    assert values.shape == (4, 88)
    pitch = values[:2, names.index(MEASURED["pitch"])]  # 200 and 400 Hz, about
    assert pitch[0] < pitch[1]


def test_standardising_cuts_outliers_and_keeps_gaps():
    values = np.array([[0.0], [1.0], [np.nan], *[[0.5]] * 97, [1e6]])
    found = standardise(values)
    assert found.dtype == np.float32 and np.nanmax(found) == 4
    assert np.isnan(found[2]) and np.isnan(found).sum() == 1
