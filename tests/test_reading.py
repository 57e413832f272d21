"""Whatever file a student brings: it reads right, or one error says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from odd_sounds import FORMATS, encoded, odd_sounds, tone, wav_bytes

from clepdg_lib import reading
from clepdg_lib.audio import AudioError, LogMel, read_audio, read_recording
from clepdg_lib.files import PROJECT

RATE = 16_000
KEPT = Path(__file__).parent / "soak" / "fuzz_corpus"
REMEDY = r"again|check|pass|use|cut|convert|read|save|record"


def outcome(path, **options):
    """The wave, or the words of the one error that is allowed."""
    try:
        return read_audio(path, **options), ""
    except AudioError as error:
        return None, str(error)


def test_each_of_hundreds_of_odd_files_is_read_right_or_refused(tmp_path):
    odd = odd_sounds(tmp_path / "odd")
    assert len(odd) >= 300
    wrong, slowest = [], 0.0
    for case in odd:
        begun = time.perf_counter()
        wave, said = outcome(case.path)
        slowest = max(slowest, time.perf_counter() - begun)
        name = case.path.name
        if wave is None:
            if case.n_samples not in (None, -1):
                wrong.append(f"{name!r} was refused: {said}")
            elif str(case.path) not in said or case.says not in said:
                wrong.append(f"{name!r} was refused with other words: {said}")
            elif not any(word in said.lower() for word in REMEDY.split("|")):
                wrong.append(f"{name!r}: no remedy in: {said}")
        elif not torch.isfinite(wave).all() or wave.dtype != torch.float32:
            wrong.append(f"{name!r} reads to something that is no wave")
        elif case.n_samples is None:
            wrong.append(f"{name!r} ({len(wave)} samples) should be refused")
        elif case.n_samples >= 0 and abs(len(wave) - case.n_samples) > case.loose:
            wrong.append(f"{name!r} has {len(wave)} samples, not {case.n_samples}")
    assert wrong == []
    assert slowest < 5


def test_what_fuzzing_has_kept_reads_or_is_refused(tmp_path):
    kept = sorted(KEPT.iterdir())
    assert len(kept) >= 50
    for file in kept:
        wave, said = outcome(file)
        assert (wave is not None and torch.isfinite(wave).all()) or str(file) in said


def test_the_content_is_read_not_the_suffix(tmp_path):
    soundfile.write(tmp_path / "x.flac", tone(), RATE)
    (tmp_path / "x.raw").write_bytes((tmp_path / "x.flac").read_bytes())
    found = read_audio(tmp_path / "x.raw")
    assert torch.equal(found, read_audio(tmp_path / "x.flac"))


@pytest.mark.parametrize("rate", [8_000, 24_414, 44_100, 48_000])
def test_reading_by_blocks_changes_nothing(tmp_path, monkeypatch, rate):
    wave = np.random.default_rng(0).normal(0, 0.1, (30_001, 2))
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    whole = read_audio(tmp_path / "a.wav")
    monkeypatch.setattr(reading, "BLOCK_VALUES", 700)
    assert torch.equal(read_audio(tmp_path / "a.wav"), whole)
    import soxr

    mono = wave.astype(np.float32).mean(axis=1)
    expected = soxr.resample(mono, rate, RATE, quality="HQ")
    np.testing.assert_array_equal(whole.numpy(), expected)


@pytest.mark.parametrize("sample_rate", [0, -1, 16_000.5, 10**7, None])
def test_a_rate_that_is_none_is_refused(tmp_path, sample_rate):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    wave, said = outcome(tmp_path / "a.wav", sample_rate=sample_rate)
    assert wave is None and "whole number from 1000 to 768000" in said


def test_what_is_no_path_is_refused():
    for path in (None, 7, ["a.wav"]):
        wave, said = outcome(path)
        assert wave is None and "pass a str or Path" in said


def test_too_long_is_an_error_and_never_a_cut(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(5_000), RATE)
    soundfile.write(tmp_path / "wide.wav", tone(2_000, channels=8), RATE)
    monkeypatch.setattr(reading, "BLOCK_VALUES", 512)
    monkeypatch.setattr(reading, "MAX_SAMPLES", 4_999)
    monkeypatch.setattr(reading, "MAX_VALUES", 15_000)
    for name in ("a.wav", "wide.wav"):
        wave, said = outcome(tmp_path / name)
        assert wave is None and "4,999 samples" in said and "Cut it" in said
    assert len(read_audio(tmp_path / "a.wav", sample_rate=8_000)) == 2_500


def test_a_file_that_fails_while_it_is_read_is_named(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    for error in (
        OSError(5, "Input/output error"),
        soundfile.LibsndfileError(5),
        soundfile.SoundFileRuntimeError("lost."),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(soundfile.SoundFile, "read", fail)
        wave, said = outcome(tmp_path / "a.wav")
        assert (
            wave is None and "a.wav" in said and "again" in said or "may read" in said
        )


def test_a_file_that_may_not_be_opened_is_named(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    wave, said = outcome(tmp_path / "a.wav")
    assert wave is None and "a.wav cannot be opened (Permission denied)" in said


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "caf"])
def test_what_is_in_memory_reads_as_from_a_file(tmp_path, suffix):
    container, subtype = FORMATS[suffix]
    content = encoded(tone(), rate=48_000, container=container, subtype=subtype)
    (tmp_path / "a").write_bytes(content)
    found = read_recording(content, name="my voice")
    assert torch.equal(found, read_audio(tmp_path / "a"))
    for broken in (b"", b"no sound", content[: len(content) // 2]):
        with pytest.raises(AudioError, match="my voice .*again"):
            read_recording(broken, name="my voice")
    with pytest.raises(AudioError, match="whole number"):
        read_recording(content, sample_rate=0)


def test_an_hour_is_heard_in_windows_from_end_to_end():
    log_mel, hour = LogMel(), torch.arange(3600 * 16.0)  # at a thousandth of the rate
    small = LogMel(max_seconds=0.003)
    starts = [int(window[0]) for window in small.windows(hour)]
    assert len(starts) == 20 and starts[0] == 0
    assert starts[-1] == len(hour) - small.n_samples
    assert len(set(np.diff(starts))) <= 2  # evenly, to a sample
    assert len(log_mel.windows(torch.zeros(3600 * RATE))) == 20


MEASURE = """
    import resource, sys
    import torch, soundfile, soxr
    from clepdg_lib.audio import AudioError, LogMel, level, read_audio, trim
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    before = peak()
    for path in sys.argv[1:]:
        try:
            wave = level(trim(read_audio(path)))
            print(len(wave), end=" ")
            assert len(LogMel().windows(wave)) == 20
        except AudioError:
            print("refused", end=" ")
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_an_hour_or_a_lie_takes_less_than_500_mb(tmp_path):
    hour = tmp_path / "hour.flac"
    with soundfile.SoundFile(hour, "w", 48_000, 2, "PCM_16") as file:
        minute = np.tile(tone(48_000)[:, None], (60, 2))
        for _ in range(60):
            file.write(minute)
    long = tmp_path / "long.wav"  # five hours of nothing, which take no disk
    n_bytes = 5 * 3600 * 2 * RATE
    long.write_bytes(wav_bytes(b"", data_says=n_bytes, riff_says=36 + n_bytes))
    os.truncate(long, 44 + n_bytes)
    liar = tmp_path / "liar.wav"
    liar.write_bytes(wav_bytes(bytes(4_000), data_says=2**31, channels=64))
    code = textwrap.dedent(MEASURE)
    files = [str(liar), str(long), str(hour)]
    run = subprocess.run(
        [sys.executable, "-c", code, *files],
        **{"cwd": PROJECT, "capture_output": True, "text": True, "timeout": 120},
    )
    assert run.returncode == 0, run.stderr
    first, second, n_samples, megabytes = run.stdout.split()
    assert (first, second) == ("refused", "refused")
    assert int(n_samples) == pytest.approx(3600 * RATE, abs=RATE)
    assert int(megabytes) < 500
