"""Embeddings that ship: whole, by name, unit rows, and a clear word when not."""

import numpy as np
import pandas as pd
import pytest
import torch

from clepdg_lib.files import MissingFileError, data_root, verify_checksums
from clepdg_lib.probes import fit_probe
from clepdg_lib.real_speech import (
    COLUMNS,
    load_embeddings,
    load_measurements,
    load_training,
    shipped_models,
    shipped_seeds,
    write_embeddings,
)


@pytest.fixture
def clips():
    rows = [("x", f"c{i}", "sad", f"s{i}", "female", "en") for i in range(3)]
    rows += [("y", "NA", "angry", "s9", "", "de")]  # a clip may be called anything
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(path="/somewhere/private.wav")


@pytest.fixture
def rows():
    found = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(found, dim=1)


def test_what_was_written_comes_back(tmp_path, clips, rows):
    measured = np.array([[1e5, -3.25, 1e-5]] * 4, np.float32)  # too wide for halves
    arrays = {"clap-mini": rows, "clep-1": -rows, "egemaps": measured}
    write_embeddings(tmp_path, clips, arrays)
    found = load_embeddings(folder=tmp_path)
    assert found.embeddings.dtype == torch.float32
    torch.testing.assert_close(found.embeddings, rows, atol=4e-3, rtol=0)
    assert ((found.embeddings * rows).sum(dim=1) > 1 - 5e-5).all()  # .01 radian
    torch.testing.assert_close(found.embeddings.norm(dim=1), torch.ones(4))
    pd.testing.assert_frame_equal(found.clips, clips[list(COLUMNS)])
    other = load_embeddings("clep-1", corpora="y", folder=tmp_path)
    torch.testing.assert_close(other.embeddings, -found.embeddings[3:])
    assert list(other.clips["clip"]) == ["NA"]
    values, table = load_measurements(folder=tmp_path)
    np.testing.assert_array_equal(values, measured)
    assert len(table) == 4
    assert shipped_models(tmp_path) == ["clap-mini", "clep-1"]
    assert shipped_seeds(tmp_path) == [1]
    assert verify_checksums(tmp_path) == []


def test_what_training_told_comes_back(tmp_path, clips, rows):
    probe = fit_probe(rows, ["sad", "sad", "sad", "angry"])
    facts = {1: {"x": (rows.mean(dim=0), probe)}}
    write_embeddings(tmp_path, clips, {"clap-mini": rows}, training=facts)
    mean, found = load_training(1, "x", folder=tmp_path)
    torch.testing.assert_close(mean, rows.mean(dim=0))
    assert found.predict(rows).tolist() == probe.predict(rows).tolist()


def test_no_path_of_anyones_machine_is_written(tmp_path, clips, rows):
    write_embeddings(tmp_path, clips, {"clap-mini": rows})
    assert "private" not in (tmp_path / "clips.csv").read_text()


def test_unknown_names_are_answered_with_the_known_ones(tmp_path, clips, rows):
    write_embeddings(tmp_path, clips, {"clap-mini": rows})
    with pytest.raises(ValueError, match=r"'clep-7'; here are \['clap-mini'\]"):
        load_embeddings("clep-7", folder=tmp_path)
    with pytest.raises(ValueError, match=r"\['z'\]; here are \['x', 'y'\]"):
        load_embeddings(corpora=["x", "z"], folder=tmp_path)
    with pytest.raises(MissingFileError, match="egemaps.npz is missing"):
        load_measurements(folder=tmp_path)
    with pytest.raises(MissingFileError, match="holds no embeddings"):
        load_embeddings(folder=tmp_path / "nowhere")


def test_a_wrong_number_of_rows_or_columns_is_refused(tmp_path, clips, rows):
    with pytest.raises(ValueError, match="clap-mini has 3 rows for 4 clips"):
        write_embeddings(tmp_path, clips, {"clap-mini": rows[:3]})
    with pytest.raises(ValueError, match="lacks the columns .'sex'."):
        write_embeddings(tmp_path, clips.drop(columns="sex"), {"clap-mini": rows})


@pytest.mark.skipif(
    not (data_root() / "real_speech").is_dir(), reason="no embeddings ship yet"
)
def test_the_shipped_embeddings_are_whole_and_small():
    folder = data_root() / "real_speech"
    assert verify_checksums(folder) == []
    assert sum(f.stat().st_size for f in folder.iterdir()) < 10e6
    found = load_embeddings()
    sizes = found.clips["corpus"].value_counts().to_dict()
    assert sizes == {"emodb": 339, "ravdess": 671, "tess": 1598, "nemo": 3076}
    for model in shipped_models():
        rows = load_embeddings(model).embeddings
        assert rows.shape == (5684, 192) and torch.isfinite(rows).all()
