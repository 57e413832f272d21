"""What clap-mini is made from: voices cut to clips, bent, measured and squeezed."""

import io
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from clepdg_lib.corpora import load_corpus
from clepdg_lib.files import PROJECT

RATE = 16_000


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The build scripts lie in data/ and import one another."""
    sys.path.insert(0, str(PROJECT / "data"))
    yield
    sys.path.remove(str(PROJECT / "data"))
    for name in ("gather_voices", "whisper_teacher", "build_clap_mini"):
        sys.modules.pop(name, None)


def voice(seconds: float, *, pitch: float = 140.0) -> np.ndarray:
    """A buzz with the spectrum of a voice, and a short pause in each second."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 12))
    return (0.1 * wave * (time % 1 < 0.9)).astype(np.float32)


def test_a_voice_has_a_pitch_and_noise_has_none():
    from gather_voices import is_voice

    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    assert is_voice(voice(2)) and is_voice(voice(2, pitch=400))
    assert not is_voice(noise.astype(np.float32))
    assert not is_voice(0.001 * voice(2)), "too quiet to tell"


def test_short_lines_are_joined_and_long_ones_cut_where_it_is_quiet():
    from gather_voices import JOINED, LONGEST, SHORTEST, cut_lines

    lines = [("anna", "en", voice(0.5)) for _ in range(6)]
    lines += [("ben", "en", voice(0.5)), ("ben", "en", voice(11.0))]
    clips = list(cut_lines(iter(lines)))
    names = [name for name, _, _ in clips]
    # Two of Anna's words are left over; Ben's one word is too short for a clip.
    assert names == ["anna", *["ben"] * (len(clips) - 2), "anna"]
    anna, *ben, rest = [clip for _, _, clip in clips]
    assert len(anna) >= JOINED * RATE > len(rest) >= SHORTEST * RATE
    assert all(SHORTEST * RATE <= len(clip) <= LONGEST * RATE for clip in ben)
    assert sum(map(len, ben)) > (11 - SHORTEST) * RATE, "more than a tail is lost"
    for clip in ben[:-1]:
        assert np.abs(clip[-200:]).max() < 1e-3, "cut within a sound"


@pytest.mark.parametrize("archive", ["", ".pk3"])
def test_files_are_found_in_folders_and_in_archives(tmp_path, archive):
    from gather_voices import Source, file_lines

    sf.write(tmp_path / "line.ogg", voice(1.5), RATE)
    data = (tmp_path / "line.ogg").read_bytes()
    (tmp_path / "line.ogg").unlink()
    names = ["sound/player/orc/taunt.ogg", "sound/doors/shut.ogg", "sound/player/orc/x"]
    if archive:
        with zipfile.ZipFile(tmp_path / f"data{archive}", "w") as packed:
            for name in names:
                packed.writestr(name, data)
    else:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
    files = r"/?sound/player/(?P<voice>\w+)/"
    source = Source("game", "1", files, "en", archive=archive)
    ((who, language, wave),) = file_lines(tmp_path, source)
    assert (who, language) == ("orc", "en") and abs(len(wave) - 1.5 * RATE) < 100


def test_a_talkie_names_its_speakers_in_its_table(tmp_path):
    from gather_voices import SOURCES, talkie_lines

    sf.write(tmp_path / "line.flac", voice(1.0), RATE)
    data = (tmp_path / "line.flac").read_bytes()
    names = [b"570012P1.SB", b"570013J1.SB", b"MUSIC.SB", b"PICTURE.PCX"]
    start = 15 + 21 * len(names)
    table = b"".join(struct.pack(">12sxII", n, start, len(data)) for n in names)
    head = b"QTBL" + bytes(9) + struct.pack(">H", len(names))
    (tmp_path / "queen.1c").write_bytes(head + table + data)
    lines = list(talkie_lines(tmp_path, SOURCES[-1]))
    assert SOURCES[-1].package.startswith("flight")
    assert [(v, k) for v, k, _ in lines] == [("570P", "en"), ("joe", "en")]
    assert all(abs(len(wave) - RATE) < 100 for _, _, wave in lines)


def test_what_was_gathered_is_a_corpus(tmp_path, monkeypatch):
    import gather_voices

    source = gather_voices.Source("prompts", "1", r"/(?P<voice>\w+)/.*", "fr", "female")
    june = tmp_path / "packages" / "prompts" / "june"
    june.mkdir(parents=True)
    for i in range(3):
        sf.write(june / f"{i}.wav", voice(1.2, pitch=140 + 20 * i), RATE)
    monkeypatch.setattr(gather_voices, "SOURCES", (source,))
    monkeypatch.setattr(sys, "argv", ["gather_voices.py", "--out", str(tmp_path)])
    gather_voices.main()
    corpus = load_corpus(tmp_path)
    assert len(corpus) == 3 and set(corpus.clips["sex"]) == {"female"}
    assert set(corpus.clips["speaker"]) == {"prompts:june"}
    assert set(corpus.clips["language"]) == {"fr"}
    before = (tmp_path / "clips.csv").read_text()
    gather_voices.main()  # what is there is kept
    assert (tmp_path / "clips.csv").read_text() == before


def test_an_empty_file_is_no_line():
    from gather_voices import decode

    for seconds, is_line in ((0.0, False), (0.02, False), (0.5, True)):
        file = io.BytesIO()
        sf.write(file, voice(seconds), 8000, format="WAV")
        assert (decode(file.getvalue()) is not None) == is_line


def test_a_package_that_apt_lacks_is_named(tmp_path, monkeypatch):
    import gather_voices

    failed = subprocess.CompletedProcess([], 100)
    monkeypatch.setattr(gather_voices.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(SystemExit, match="gcin-voice could not be downloaded"):
        gather_voices.fetch(gather_voices.Source("gcin-voice", "1", ""), tmp_path)


def test_bending_changes_pitch_and_keeps_to_the_window():
    from build_clap_mini import MOST_BENT, bend

    wave = torch.from_numpy(voice(5.0, pitch=200.0))
    lengths, pitches = [], []
    for seed in range(12):
        bent = bend(wave, 3 * RATE, torch.Generator().manual_seed(seed))
        lengths.append(len(bent))
        spectrum = np.abs(np.fft.rfft(bent.numpy()))
        pitches.append(np.argmax(spectrum) * RATE / len(bent))
    assert max(lengths) <= 3 * RATE and min(lengths) > 2.9 * RATE
    assert max(pitches) / min(pitches) > 1.1
    limits = 200 * np.exp([-MOST_BENT, MOST_BENT])
    assert limits[0] - 2 < min(pitches) and max(pitches) < limits[1] + 2


def test_squeezing_keeps_what_varies_most_and_what_is_unknown():
    from build_clap_mini import squeeze

    generator = np.random.default_rng(0)
    values = np.zeros((400, 6), np.float32)
    values[:, :3] = generator.standard_normal((400, 1))  # one direction, thrice
    values[:, 3] = generator.standard_normal(400)
    values[:5] = np.nan
    known = np.arange(400) >= 5
    found = squeeze(values, 2, like=known)
    assert found.shape == (400, 2) and np.isnan(found[:5]).all()
    first = np.corrcoef(found[5:, 0], values[5:, 0])[0, 1]
    second = np.corrcoef(found[5:, 1], values[5:, 3])[0, 1]
    assert abs(first) > 0.99 and abs(second) > 0.99
    spread = found[5:].std(axis=0)
    assert 1 < spread[0] / spread[1] < 1.5, "small directions are raised by the root"


def test_aspects_know_what_the_clips_know():
    from build_clap_mini import write_aspects

    clips = pd.DataFrame(
        {
            "kind": ["bursts", "sounds", "voices"],
            "clip": ["data/a", "001 dog bark/1-a", "b"],
            "emotion": ["awe", "001 dog bark", "unknown"],
            "sex": ["", "", "female"],
        }
    )
    teacher = {
        "row": {"corpora/emogator/data/a": 0},
        "top_class": np.array([[2]]),
        "class_names": np.array(["x", "y", "Sigh"]),
    }
    measured = np.full((3, 88), np.nan)
    measured[[0, 2]] = np.arange(88)
    places = np.zeros((3, 2, 3), np.int64)
    pytest.importorskip("opensmile")
    aspects = {a.name: a for a in write_aspects(clips, measured, places, teacher)}
    assert aspects["sound"].labels.tolist() == [-1, 0, -1]
    assert aspects["sound"].sentences[0][0] == "the sound of dog bark"
    assert aspects["tag"].labels.tolist() == [-1] * 3  # one sigh is not enough
    assert (aspects["sex"].labels >= 0).tolist() == [False, False, True]
    assert aspects["pitch"].labels[1] == -1 and aspects["room"].labels.shape == (3, 2)


def test_a_stream_is_laid_under_the_moments_in_which_its_clip_is_heard():
    from whisper_teacher import STEP, at_moments

    n, n_window = 20 * STEP, 48 * STEP  # heard twice, then silence
    stream = np.arange(20, dtype=np.float32)[:, None].repeat(3, axis=1)
    found = at_moments(stream, n, n_window=n_window, n_moments=48)
    assert found.shape == (48, 3) and found.dtype == np.float16
    assert found[:40, 0].tolist() == [*range(20), *range(20)]
    assert np.isnan(found[40:]).all()
    # Fewer moments than positions, and a clip that fills the window.
    found = at_moments(stream, n, n_window=n, n_moments=4)
    assert found[:, 1].tolist() == [2, 7, 12, 17]


def test_moments_are_squeezed_by_one_rule_and_what_is_unknown_stays_so():
    from whisper_teacher import squeeze_moments

    generator = np.random.default_rng(0)
    moments = np.zeros((300, 4, 6), np.float16)
    moments[..., :3] = generator.standard_normal((300, 4, 1))
    moments[..., 3] = 7 + generator.standard_normal((300, 4))
    moments[:5] = np.nan
    moments[9, 2:] = np.nan
    voices = np.arange(300) < 200
    found = squeeze_moments(moments, 2, like=voices)
    assert found.shape == (300, 4, 2) and found.dtype == np.float16
    unknown = np.isnan(moments[..., 0])
    assert (np.isnan(found) == unknown[..., None]).all()
    known, given = found[~unknown].astype(float), moments[~unknown].astype(float)
    assert abs(np.corrcoef(known[:, 0], given[:, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(known[:, 1], given[:, 3])[0, 1]) > 0.99
    spread = known.std(axis=0)
    assert 1 < spread[0] / spread[1] < 1.5, "small directions are raised by the root"


def test_the_tower_tells_moments_apart_and_keeps_the_text_side():
    from build_clap_mini import fresh_audio

    from clepdg_lib.clap import load_clap
    from clepdg_lib.measuring import count_moments

    clap = load_clap("clap-mini")
    fresh = fresh_audio(clap, seed=1)
    assert count_moments(fresh.model) == 128
    words = ["a dog barks", "a large hall"]
    assert torch.equal(fresh.embed_text(words), clap.embed_text(words))
    silence = torch.zeros(16_000)
    assert fresh.embed_audio([silence]).shape == (1, 192)


def test_weights_that_are_not_the_teachers_are_refused(tmp_path):
    from whisper_teacher import MODEL, fetch_model

    (tmp_path / MODEL).write_bytes(b"another model")
    with pytest.raises(SystemExit, match="SHA-256"):
        fetch_model(tmp_path)


def test_whispers_picture_of_a_tone():
    from whisper_teacher import N_MELS, filters, log_mel

    time = np.arange(RATE) / RATE
    low, high = (log_mel(np.sin(2 * np.pi * f * time)) for f in (300, 3000))
    assert low.shape == (N_MELS, 100) and low.dtype == np.float32
    peaks = np.argmax(low[:, 50]), np.argmax(high[:, 50])
    centres = filters().argmax(axis=0) * RATE / 400
    assert abs(centres[peaks[0]] - 300) < 45 and abs(centres[peaks[1]] - 3000) < 120
    assert low.max() - low.min() <= 2.0 + 1e-6  # eight decades, over four
