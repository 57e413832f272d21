"""The bundled corpus is whole, balanced, speaker-disjoint and as hard as it says."""

import importlib.util
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from clepdg_lib.audio import LEVEL_DB, read_audio, rms_db
from clepdg_lib.environments import ENVIRONMENTS
from clepdg_lib.files import PROJECT, verify_checksums

FOLDER = PROJECT / "data" / "emosynth"
DATASHEET = FOLDER / "README.md"


@pytest.fixture(scope="module")
def clips():
    return pd.read_csv(FOLDER / "clips.csv")


@pytest.fixture(scope="module")
def script():
    """The build script as a module; it imports what only builders have lazily."""
    path = PROJECT / "data" / "build_emosynth.py"
    spec = importlib.util.spec_from_file_location("build_emosynth", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_folder_is_whole_and_small():
    assert verify_checksums(FOLDER) == []
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size <= 8_000_000


def test_the_table_lists_the_files(clips):
    on_disk = {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*.ogg")}
    assert set(clips["path"]) == on_disk and clips["path"].is_unique
    assert (clips["path"] == clips["clip"] + ".ogg").all()
    assert 1_000 <= len(clips) <= 1_600
    assert clips["seconds"].between(1.5, 3.0).all()
    assert not clips.isna().any().any()


def test_files_are_what_the_table_says(clips):
    for row in clips.sample(40, random_state=0).itertuples():
        info = soundfile.info(FOLDER / row.path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "OPUS")
        wave = read_audio(FOLDER / row.path)
        assert len(wave) / 16_000 == pytest.approx(row.seconds, abs=0.002)
        assert rms_db(wave) == pytest.approx(LEVEL_DB, abs=1.5)


def test_voices_keep_to_one_domain_and_one_split(clips):
    assert clips["speaker"].nunique() >= 10 and clips["text"].nunique() >= 20
    for column in ("domain", "split", "sex", "engine"):
        assert (clips.groupby("speaker")[column].nunique() == 1).all()
    assert clips["engine"].nunique() == clips["speaker"].nunique()
    assert set(clips["domain"]) == set(ENVIRONMENTS)
    per_domain = clips.drop_duplicates("speaker").groupby("domain")
    for _, voices in per_domain:
        assert sorted(voices["split"]) == ["test", "train", "train", "validation"]
        assert sorted(voices["sex"]) == ["female", "female", "male", "male"]


def test_words_say_nothing_of_the_emotion(clips):
    said = clips.groupby(["speaker", "text"])[["emotion", "intensity"]].value_counts()
    assert (said == 1).all() and len(said) == len(clips)
    assert (clips.groupby(["speaker", "text"]).size() == 8).all()


def test_the_datasheet_carries_the_measured_difficulty():
    text = DATASHEET.read_text(encoding="utf-8")
    match = re.search(
        r"\| \*\*mean\*\* \| \| \| \*\*(.+?)\*\* \| \*\*(.+?)\*\* \|", text
    )
    inside, outside = float(match[1]), float(match[2])
    assert 0.60 <= inside <= 0.95
    assert inside - outside >= 0.10


def test_the_datasheet_and_the_audio_agree(script, clips):
    """One domain, one figure: the checksums hold the rest."""
    text = DATASHEET.read_text(encoding="utf-8")
    shown = float(re.search(r"^\| hall \| 256 \| .* \| (0\.\d+) \| 0", text, re.M)[1])
    here = clips[clips["domain"] == "hall"]
    features = script.probe_features(FOLDER, here)
    measured = script.probe_inside(
        features, here["emotion"].to_numpy(), here["speaker"].to_numpy()
    )
    assert measured == pytest.approx(shown, abs=0.03)


def test_a_build_twice_over_is_the_same(script, tmp_path):
    for engine in ("flite", "espeak-ng"):
        if shutil.which(engine) is None:
            pytest.skip(f"{engine} is not installed; only building emosynth needs it")
    pytest.importorskip("pyworld", reason="only building emosynth needs pyworld")
    voices = (script.VOICES[0], script.VOICES[-1])
    one = script.build(tmp_path / "one", voices=voices, n_sentences=1)
    script.build(tmp_path / "two", voices=voices[::-1], n_sentences=1)
    assert len(one) == 16
    for path in one["path"]:
        first = (tmp_path / "one" / path).read_bytes()
        assert first == (tmp_path / "two" / path).read_bytes()


def test_another_seed_is_another_corpus(script):
    voice = script.VOICES[0]
    drawn = [script.manner_of(voice, "sad", "normal", key=(s, 0)) for s in (1, 1, 2)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).all()


def test_a_missing_engine_is_named(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="apt-get install espeak-ng"):
        script.build(tmp_path)


def test_ogg_checksums_are_those_of_the_format(script, tmp_path):
    """libsndfile's own pages carry right checksums: ours must agree with them."""
    path = tmp_path / "tone.ogg"
    wave = 0.1 * np.sin(np.arange(16_000) / 10).astype(np.float32)
    soundfile.write(path, wave, 16_000, format="OGG", subtype="OPUS")
    data = path.read_bytes()
    stop = data.index(b"OggS", 4)
    first = data[:stop]
    blank = first[:22] + bytes(4) + first[26:]
    assert script.ogg_crc(blank).to_bytes(4, "little") == first[22:26]
    script.write_opus(path, torch.from_numpy(wave))
    assert len(read_audio(path)) == 16_000


def test_the_datasheet_needs_its_markers(script, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("<!-- measured: begin -->\nold\n<!-- measured: end -->\nkept\n")
    script.write_report(path, "new \\1")
    text = path.read_text()
    assert "new \\1" in text and "old" not in text and text.endswith("kept\n")
    path.write_text("no markers")
    with pytest.raises(ValueError, match="measured: begin"):
        script.write_report(path, "new")
