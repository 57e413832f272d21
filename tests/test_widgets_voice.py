"""Recordings of every kind are read from memory; wrong ones get a sentence."""

import io
from datetime import datetime, timezone

import numpy as np
import pytest
import soundfile
import torch
from stand_ins import CLASSIFIER, EMOTIONS, FakeClap, embedded, voice

from clepdg_lib.audio import AudioError
from clepdg_lib.planes import fit_plane
from clepdg_lib.widgets_voice import (
    MAX_SECONDS,
    SUFFIXES,
    read_upload,
    render_voice,
    try_your_voice,
)

FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}


def recording(suffix=".wav", *, seconds=1.0, rate=16_000, channels=1, gain=1.0):
    wave = gain * voice(seconds).numpy()
    if rate != 16_000:
        times = np.arange(0, len(wave), 16_000 / rate)
        wave = np.interp(times, np.arange(len(wave)), wave)
    file = io.BytesIO()
    samples = np.stack([wave] * channels, axis=1)
    soundfile.write(file, samples, rate, format=FORMATS[suffix])
    return file.getvalue()


WHOLE = recording()
BAD = {
    "empty": (b"", "is empty"),
    "text": (b"this is not a sound", "cannot be read as audio"),
    "cut": (WHOLE[:9_000], "is truncated"),
    "silent": (recording(gain=0.0), "is silent"),
    "no samples": (recording(seconds=0.0), "holds no samples"),
    "large": (b"x" * 20_000_001, "20 MB at most"),
}


def ask(content, **options):
    return render_voice(
        content, clap=FakeClap(), classifiers=CLASSIFIER, name="me<b>", **options
    )


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_becomes_a_mono_wave(suffix, rate, channels):
    wave = read_upload(recording(suffix, rate=rate, channels=channels))
    assert wave.ndim == 1 and wave.dtype == torch.float32
    assert len(wave) == pytest.approx(16_000, abs=2_500)  # MP3 pads
    assert 0.05 < float(wave.abs().max()) < 1


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_a_wrong_file_gets_a_sentence(content, words):
    with pytest.raises(AudioError, match=words):
        read_upload(content)
    result = ask(content)
    assert words in result.problem
    assert 'role="alert"' in result.html and "me&lt;b&gt;" in result.html
    assert result.wave is result.probabilities is result.figure is None


def test_a_long_recording_is_cut_and_says_so():
    result = ask(recording(seconds=MAX_SECONDS + 5))
    assert len(result.wave) <= MAX_SECONDS * 16_000
    assert f"first {MAX_SECONDS:g} s were used" in result.html


def test_steps_probabilities_and_pictures():
    quiet = torch.cat([torch.zeros(8_000), 0.05 * voice(1.0), torch.zeros(8_000)])
    file = io.BytesIO()
    soundfile.write(file, quiet.numpy(), 16_000, format="WAV")
    two = {"without contexts": CLASSIFIER, "with contexts": CLASSIFIER}
    result = render_voice(
        file.getvalue(),
        clap=FakeClap(),
        classifiers=two,
        plane=fit_plane(embedded()),
    )
    assert list(result.steps.index) == ["read", "trim", "level"]
    assert result.steps.loc["trim", "seconds"] < result.steps.loc["read", "seconds"]
    assert result.steps.loc["level", "level (dB)"] == pytest.approx(-26, abs=0.1)
    assert list(result.probabilities.columns) == list(two)
    assert list(result.probabilities.index) == list(EMOTIONS)
    assert np.allclose(result.probabilities.sum(), 1, atol=1e-5)
    assert result.problem == ""
    assert 'alt="Spectrogram' in result.html and "<svg" in result.html
    assert "1 window of" in result.html


def test_one_classifier_and_no_plane():
    result = ask(WHOLE)
    assert list(result.probabilities.columns) == ["probability"]
    assert result.map is None and "<svg" not in result.html


def test_the_upload_follows_good_and_bad_files():
    box = try_your_voice(FakeClap(), CLASSIFIER)
    upload, heard, result = box.children
    assert "memory" in result.value and heard.children == ()

    def give(name, content):
        file = {"name": name, "type": "", "size": len(content), "content": content}
        upload.value = ({**file, "last_modified": datetime.now(timezone.utc)},)

    assert set(upload.accept.split(",")) == set(SUFFIXES)
    give("me.wav", memoryview(WHOLE))
    assert "me.wav" in result.value and len(heard.children) == 1
    give("notes.wav", memoryview(b"words"))
    assert "Not usable" in result.value and heard.children == ()
