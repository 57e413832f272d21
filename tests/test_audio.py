"""Waves are read whole or refused; checked, levelled, resampled, trimmed, prepared."""

import math
import os
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
import torch
from odd_sounds import FORMATS, encoded, odd_sounds, tone, wav_bytes
from stand_ins import odd_torch

from clepdg_lib import audio
from clepdg_lib.audio import AudioError, as_wave, prepare, read_audio, resample
from clepdg_lib.audio.waves import LEVEL_DB
from clepdg_lib.files import PROJECT

RATE = 16_000
REMEDIES = ("again", "check", "pass", "use", "cut", "convert", "average", "divide")


def sine(seconds=1.0, *, hertz=440.0, sample_rate=RATE, peak=0.5):
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    return peak * torch.sin(2 * math.pi * hertz * time)


def outcome(path, **options):
    """The wave, or the message of the one error that is allowed."""
    try:
        return read_audio(path, **options), ""
    except AudioError as error:
        return None, str(error)


# ------------------------------------------------------------------ as_wave
@pytest.mark.parametrize(
    "wave",
    [
        [0.0, 0.5, -0.5],
        np.array([0.0, 0.5, -0.5]),
        np.array([0.0, 0.5, -0.5], ">f4"),
        np.array([0.0, 0.5, -0.5], np.float16),
        np.array([-0.5, 0.5, 0.0])[::-1],
        np.array([[0.0], [0.5], [-0.5]], np.float32),
        np.array([[0.0, 0.5, -0.5]]),
        pd.Series([0.0, 0.5, -0.5]),
        torch.tensor([0.0, 0.5, -0.5], dtype=torch.float64),
        torch.tensor([0.0, 0.5, -0.5], dtype=torch.bfloat16),
        torch.tensor([[0.0, 0.5, -0.5]], requires_grad=True),
    ],
)
def test_whatever_holds_one_channel_is_a_wave(wave, recwarn):
    if isinstance(wave, np.ndarray):
        wave.flags.writeable = False
    checked = as_wave(wave)
    assert checked.dtype == torch.float32 and not checked.requires_grad
    assert checked.tolist() == [0.0, 0.5, -0.5] and not recwarn.list


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (torch.zeros(100, 2), r"\(100, 2\).*average the channels"),
        (np.zeros((2, 100)), r"\(2, 100\).*average the channels"),
        (torch.tensor(0.5), r"shape \(\)"),
        (torch.zeros(0), "empty"),
        ([], "empty"),
        (torch.tensor([0.0, float("nan")]), "NaN, infinite"),
        (np.array([0.0, np.inf]), "NaN, infinite"),
        (np.array([0.0, 1e300]), "NaN, infinite"),
        (torch.tensor([1e30]), "absurd"),
        (torch.zeros(9, dtype=torch.int16), "32768"),
        (np.zeros((9, 1), np.int16), "32768"),
        ([1, 0, 1], "32768"),
        (torch.zeros(9, dtype=torch.complex64), "floats"),
        ("speech.wav", "is a str .*read_audio"),
        (None, "is a NoneType"),
        ([[0.1, 0.2], [0.3]], "is a list"),
    ],
)
def test_a_bad_wave_is_named_and_explained(wave, message):
    with pytest.raises(AudioError, match=message) as error:
        as_wave(wave, name="my clip")
    assert str(error.value).startswith("my clip")


def test_waves_do_not_depend_on_what_torch_is_set_to(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 48_000)
    expected = prepare(read_audio(tmp_path / "a.wav"))
    with odd_torch():
        found = prepare(read_audio(tmp_path / "a.wav"))
        assert as_wave([0.5, 0.25]).device.type == "cpu"
        assert as_wave([0.5, 0.25]).dtype == torch.float32
        half = resample(found, from_rate=RATE, to_rate=8_000)
    assert torch.equal(found, expected)
    assert half.dtype == torch.float32 and half.device.type == "cpu"


# ------------------------------------------------------------------ as_clips
def test_one_clip_is_a_list_of_one():
    assert audio.as_clips("a.wav") == [Path("a.wav")] == audio.as_clips(Path("a.wav"))
    mono = (np.zeros((9, 1)), np.zeros((1, 9)), torch.zeros(9, 1))
    for wave in (torch.zeros(9), np.zeros(9), [0.0] * 9, pd.Series([0.0] * 9), *mono):
        (clip,) = audio.as_clips(wave)
        assert as_wave(clip).shape == (9,)


def test_many_paths_or_waves_are_a_list():
    names = ("a.wav", "b.wav")
    columns = (pd.Series(names), np.array(names), np.array(names, object))
    for clips in (["a.wav", Path("b.wav")], names, (n for n in names), *columns):
        assert audio.as_clips(clips) == [Path("a.wav"), Path("b.wav")], type(clips)
    batch = torch.arange(12.0).view(3, 4)
    for clips in (batch, batch.numpy(), list(batch), (row for row in batch), [*batch]):
        assert [as_wave(x).tolist() for x in audio.as_clips(clips)] == batch.tolist()
    mixed = audio.as_clips(["a.wav", batch[0], [0.5, 0.25]])
    assert mixed[0] == Path("a.wav") and as_wave(mixed[2]).tolist() == [0.5, 0.25]
    assert audio.as_clips([]) == []


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (np.zeros((9, 2)), "average the channels"),
        (torch.zeros(9, 2), "average the channels"),
        (torch.zeros(9_000, 6), r"\(9000, 6\).*average the channels"),
        (np.zeros(9, np.int16), "32768"),
        ([0, 1, 2], "32768"),
        (5, "a clip is 5"),
        (0.5, "a clip is 0.5"),
        (None, "a clip is None"),
        (b"RIFF", "read_recording"),
        ({"a.wav": 1}, "pass a path"),
        ({"a.wav"}, "pass a path"),
        (["a.wav", None], "a clip is None"),
        (["a.wav", 3], "a clip is 3"),
        (pd.Series(["a.wav", math.nan]), "a clip is nan"),
    ],
)
def test_what_are_no_clips_is_refused(clips, message):
    with pytest.raises(AudioError, match=message):
        audio.as_clips(clips)


# ------------------------------------------------------------------ rates
def test_whole_numbers_are_rates():
    for rate in (16_000, np.int64(16_000), np.int32(16_000), np.float32(16e3), 16e3):
        checked = audio.check_rate(rate)
        assert checked == 16_000 and type(checked) is int


@pytest.mark.parametrize(
    "rate",
    [0, -1, 999, 16_000.5, 10**7, None, "16000", math.nan, math.inf, True, Decimal(1)],
)
def test_what_is_no_rate_is_refused_at_once(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    for call in (
        lambda: audio.check_rate(rate),
        lambda: read_audio(tmp_path / "a.wav", sample_rate=rate),
        lambda: audio.read_recording(b"", name="x", sample_rate=rate),
        lambda: resample(sine(), from_rate=rate, to_rate=RATE),
        lambda: resample(sine(), from_rate=RATE, to_rate=rate),
        lambda: prepare(sine(), sample_rate=rate),
    ):
        with pytest.raises(AudioError, match="whole number from 1000 to 768000"):
            call()


@pytest.mark.parametrize("from_rate", [8_000, 24_414, 48_000])
def test_resampling_keeps_the_tone_and_leaves_no_empty_wave(from_rate):
    wave = resample(sine(sample_rate=from_rate), from_rate=from_rate, to_rate=RATE)
    assert abs(len(wave) - RATE) <= 1
    middle = slice(2_000, 14_000)
    assert torch.allclose(wave[middle], sine()[middle], atol=2e-3)
    assert torch.equal(resample(sine(), from_rate=RATE, to_rate=RATE), sine())
    with pytest.raises(AudioError, match="a wave of 1 samples at 1000 Hz"):
        resample(torch.ones(1), from_rate=48_000, to_rate=1_000)


# ------------------------------------------------------------------ level and trim
def test_level_reaches_the_level_and_never_clips():
    for peak in (1e-3, 0.1, 0.9):
        levelled = audio.level(sine(peak=peak))
        assert audio.rms_db(levelled) == pytest.approx(LEVEL_DB, abs=1e-3)
    click = torch.zeros(RATE)
    click[100] = 0.01
    levelled = audio.level(click)
    assert float(levelled.abs().max()) == pytest.approx(1.0)
    assert audio.rms_db(levelled) < LEVEL_DB


def test_silence_stays_silent():
    assert audio.rms_db(torch.zeros(10)) == -math.inf
    for silence in (torch.zeros(9_000), torch.full((100,), 1e-6), torch.zeros(1)):
        assert torch.equal(audio.level(silence), silence)
        assert torch.equal(audio.trim(silence), silence)
        assert audio.is_silent(silence) and audio.is_silent(prepare(silence))
    assert torch.equal(prepare(torch.zeros(9_000)), torch.zeros(9_000))
    for constant in (torch.full((9_000,), 0.9), torch.arange(9_000) // 4_500 / 5):
        assert audio.is_silent(constant) and not prepare(constant).any()  # or a step
    assert not audio.is_silent(sine(peak=1e-3))
    for thump in (torch.ones(1), sine(0.02), 0.01 * sine(0.05)):  # and nothing else
        wave = torch.cat([torch.zeros(9_000), thump, torch.zeros(9_000)]) + 0.1
        assert audio.is_silent(wave) and audio.is_silent(prepare(wave))


def test_trim_cuts_the_ends_and_keeps_the_pause():
    quiet = 1e-4 * sine(0.5)
    wave = torch.cat([quiet, sine(0.5), quiet, sine(0.5), quiet])
    # 1.5 s, 50 ms on either side, and up to a frame more
    assert abs(len(audio.trim(wave)) - 25_600) <= 640
    slow = resample(wave, from_rate=RATE, to_rate=8_000)
    assert abs(len(audio.trim(slow, sample_rate=8_000)) - 12_800) <= 320


@pytest.mark.parametrize("at", [0.05, 0.98, 2.4])
def test_a_thump_does_not_cut_the_speech(at):
    wave = torch.nn.functional.pad(sine(1.0, peak=0.01), (RATE, RATE))
    start = round(at * RATE)
    wave[start : start + 320] += sine(0.02, peak=0.99)  # 40 dB above the speech
    kept = audio.trim(wave)
    whole = int((kept.abs() > 1e-3).sum())
    assert whole > 0.9 * int((wave.abs() > 1e-3).sum()) and len(kept) > RATE


# ------------------------------------------------------------------ prepare
def test_a_prepared_clip_has_no_dc_no_quiet_ends_and_one_level():
    quiet = torch.zeros(RATE)
    wave = torch.cat([quiet, sine(0.5, peak=0.02), quiet])
    prepared = prepare(wave)
    assert abs(len(prepared) - 9_600) <= 640
    assert audio.rms_db(prepared) == pytest.approx(LEVEL_DB, abs=1e-3)
    assert abs(float(prepared.mean())) < 1e-4
    torch.testing.assert_close(prepare(3 * wave), prepared)


@pytest.mark.parametrize("offset", [0.2, -0.2, 1e-3])
def test_dc_changes_nothing(offset):
    noise = 1e-5 * torch.randn(3 * RATE, generator=torch.Generator().manual_seed(0))
    wave = noise + torch.nn.functional.pad(sine(), (RATE, RATE))
    torch.testing.assert_close(prepare(wave + offset), prepare(wave), atol=1e-5, rtol=0)


# ------------------------------------------------------------------ reading
def test_channels_are_averaged_and_rates_converted(tmp_path):
    stereo = np.stack([np.full(48_000, 0.2), np.full(48_000, 0.4)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 48_000)
    read = read_audio(str(tmp_path / "stereo.wav"))
    assert read.shape == (RATE,)
    assert float(read[RATE // 2]) == pytest.approx(0.3, abs=1e-3)
    assert read_audio(tmp_path / "stereo.wav", sample_rate=8_000).shape == (8_000,)


def test_each_of_many_odd_files_is_read_right_or_refused(tmp_path):
    odd = odd_sounds(tmp_path / "odd")
    assert len(odd) >= 300
    wrong = []
    for case in odd:
        wave, message = outcome(case.path)
        name = case.path.name
        if wave is None:
            if case.n_samples not in (None, -1):
                wrong.append(f"{name!r} was refused: {message}")
            elif str(case.path) not in message or case.message not in message:
                wrong.append(f"{name!r} has another message: {message}")
            elif not any(remedy in message.lower() for remedy in REMEDIES):
                wrong.append(f"{name!r}: no remedy in: {message}")
        elif not torch.isfinite(wave).all() or wave.dtype != torch.float32:
            wrong.append(f"{name!r} is read as something that is no wave")
        elif case.n_samples is None:
            wrong.append(f"{name!r} ({len(wave)} samples) should be refused")
        elif case.n_samples >= 0 and abs(len(wave) - case.n_samples) > case.loose:
            wrong.append(f"{name!r} has {len(wave)} samples, not {case.n_samples}")
    assert wrong == []


@pytest.mark.parametrize("suffix", ["raw", "mp3", "RAW", ""])
def test_the_content_counts_and_not_the_suffix(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(encoded(tone(), container="FLAC"))
    content = path.read_bytes()
    read = audio.read_recording(content, name="x", sample_rate=RATE)
    assert torch.equal(read_audio(path), read)


@pytest.mark.parametrize("rate", [8_000, 24_414, 44_100, 48_000])
def test_reading_by_blocks_changes_nothing(tmp_path, monkeypatch, rate):
    wave = np.random.default_rng(0).normal(0, 0.1, (30_001, 2))
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    whole = read_audio(tmp_path / "a.wav")
    monkeypatch.setattr(audio.waves, "BLOCK", 700)
    assert torch.equal(read_audio(tmp_path / "a.wav"), whole)
    mono = wave.astype(np.float32).mean(axis=1)
    np.testing.assert_array_equal(whole, soxr.resample(mono, rate, RATE, quality="HQ"))


def test_paths_are_expanded_and_what_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    assert len(read_audio("~/a.wav")) == 4_000
    for path in (None, 7, ["a.wav"], b"a.wav", "~nobody-at-all/a.wav"):
        wave, message = outcome(path)
        assert wave is None and "cannot be opened" in message


def test_too_long_is_an_error_and_never_a_cut(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(5_000), RATE)
    soundfile.write(tmp_path / "wide.wav", tone(2_000, channels=64), RATE)
    monkeypatch.setattr(audio.waves, "BLOCK", 512)
    monkeypatch.setattr(audio.waves, "MAX_SAMPLES", 4_999)
    for name in ("a.wav", "wide.wav"):
        wave, message = outcome(tmp_path / name)
        assert wave is None and "4,999 samples" in message and "Cut it" in message
    assert len(read_audio(tmp_path / "a.wav", sample_rate=8_000)) == 2_500


def test_a_file_that_fails_while_it_is_read_is_named(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    lost = soundfile.SoundFileRuntimeError("lost.")
    for error in (OSError(5, "disk error"), soundfile.LibsndfileError(5), lost):
        monkeypatch.setattr(soundfile.SoundFile, "read", Mock(side_effect=error))
        wave, message = outcome(tmp_path / "a.wav")
        assert wave is None and "a.wav" in message and "again" in message


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "caf"])
def test_what_is_in_memory_reads_as_from_a_file(tmp_path, suffix):
    container, subtype = FORMATS[suffix]
    content = encoded(tone(), rate=48_000, container=container, subtype=subtype)
    (tmp_path / "a").write_bytes(content)
    about = {"name": "my voice", "sample_rate": RATE}
    read = audio.read_recording(content, **about)
    assert torch.equal(read, read_audio(tmp_path / "a"))
    for broken in (b"", b"no sound", content[: len(content) // 2]):
        with pytest.raises(AudioError, match="my voice .*again"):
            audio.read_recording(broken, **about)


MEASURE = """
    import resource, sys
    import torch, soundfile, soxr
    from clepdg_lib.audio import AudioError, prepare, read_audio
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    before = peak()
    for path in sys.argv[1:]:
        try:
            print(len(prepare(read_audio(path))), end=" ")
        except AudioError:
            print("refused", end=" ")
    print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_an_hour_or_a_false_header_takes_less_than_500_mb(tmp_path):
    hour = tmp_path / "hour.flac"
    with soundfile.SoundFile(hour, "w", 22_050, 1, "PCM_16") as file:
        minute = np.tile(tone(22_050), 60)
        for _ in range(60):
            file.write(minute)
    long = tmp_path / "long.wav"  # five hours of nothing, which take no disk
    n_bytes = 5 * 3600 * 2 * RATE
    long.write_bytes(wav_bytes(b"", data_size=n_bytes, riff_size=36 + n_bytes))
    os.truncate(long, 44 + n_bytes)
    false = tmp_path / "false.wav"
    false.write_bytes(wav_bytes(bytes(4_000), data_size=2**30, channels=64))
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), false, long, hour]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    first, second, n_samples, megabytes = run.stdout.split()
    assert (first, second) == ("refused", "refused")
    assert int(n_samples) == pytest.approx(3600 * RATE, abs=RATE)
    assert int(megabytes) < 500
