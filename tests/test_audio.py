"""Files are read or explained; log-mels are those of ClapFeatureExtractor."""

import numpy as np
import pytest
import soundfile
import torch
from transformers import ClapFeatureExtractor

from clepdg_lib import audio
from clepdg_lib.audio import AudioError, LogMel, read_audio

RATE = 16_000


def speechlike(n, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(n, generator=generator)


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [(".wav", 1e-4), (".flac", 1e-4), (".ogg", 0.5)]
)
def test_a_file_is_read_as_it_is(tmp_path, suffix, tolerance):
    wave = 0.2 * torch.sin(torch.arange(RATE) / 20)
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, wave.numpy(), RATE)
    read = read_audio(path)
    assert read.dtype == torch.float32 and read.shape == (RATE,)
    assert float((read - wave).abs().max()) < tolerance
    # its own loudness: not levelled
    assert float(read.std()) == pytest.approx(float(wave.std()), rel=0.05)


def test_channels_are_averaged_and_rates_converted(tmp_path):
    stereo = np.stack([np.full(48_000, 0.2), np.full(48_000, 0.4)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 48_000)
    read = read_audio(str(tmp_path / "stereo.wav"))
    assert read.shape == (RATE,)
    assert float(read[RATE // 2]) == pytest.approx(0.3, abs=1e-3)
    assert read_audio(tmp_path / "stereo.wav", sample_rate=8_000).shape == (8_000,)


def test_what_cannot_be_read_is_named_with_cause_and_remedy(tmp_path):
    missing = tmp_path / "missing.wav"
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    text = tmp_path / "text.wav"
    text.write_text("this is no sound\n" * 40)
    nothing = tmp_path / "nothing.wav"
    soundfile.write(nothing, np.zeros(0, np.float32), RATE)
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.full(100, np.nan, np.float32), RATE, subtype="FLOAT")
    for path, says in (
        (missing, "does not exist"),
        (empty, "0 bytes"),
        (text, "cannot be read as audio"),
        (nothing, "no samples"),
        (nan, "100 NaN or infinite"),
        (tmp_path, "folder"),
    ):
        with pytest.raises(AudioError, match=says) as error:
            read_audio(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", None),
        ("a.flac", None),
        ("a.ogg", "VORBIS"),
        ("b.ogg", "OPUS"),
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_file_is_refused(tmp_path, name, subtype, share):
    path = tmp_path / name
    soundfile.write(path, speechlike(3 * RATE).numpy(), RATE, subtype=subtype)
    assert len(read_audio(path)) == pytest.approx(3 * RATE, abs=1000)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(AudioError) as error:
        read_audio(path)
    assert str(path) in str(error.value) and "again" in str(error.value)


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize(
    "settings",
    [
        {
            "sampling_rate": RATE,
            "hop_length": 192,
            "max_length_s": 3,
            "frequency_min": 50,
            "frequency_max": 8000,
        },
        {"frequency_min": 50},  # the LAION checkpoints: 48 kHz, 10 s
    ],
    ids=["clap-mini", "laion"],
)
def test_log_mel_is_that_of_transformers(settings, padding):
    extractor = ClapFeatureExtractor(
        feature_size=64,
        fft_window_size=1024,
        truncation="rand_trunc",
        padding=padding,
        **settings,
    )
    log_mel = LogMel.from_extractor(extractor)
    n = log_mel.n_samples
    waves = [speechlike(k) for k in (1, 500, n // 3, n // 2 + 1, n - 1, n)]
    waves += [torch.zeros(n // 4), 0.9 * torch.sin(torch.arange(n) / 30.0)]
    expected = extractor(
        [wave.numpy() for wave in waves],
        sampling_rate=log_mel.sample_rate,
        return_tensors="pt",
    )["input_features"]
    pictures = log_mel(waves)
    assert pictures.shape == (len(waves), 1, log_mel.n_frames, 64)
    assert pictures.dtype == torch.float32
    assert float((pictures - expected).abs().max()) < 1e-3


def test_a_batch_is_the_sum_of_its_clips():
    log_mel, waves = LogMel(), [speechlike(20_000, seed=i) for i in range(3)]
    alone = torch.cat([log_mel([wave]) for wave in waves])
    assert torch.allclose(log_mel(waves), alone, atol=1e-5)
    assert torch.equal(log_mel(torch.stack(waves)), log_mel(waves))


@pytest.mark.parametrize("n", [1, 47_999, 48_000, 48_001, 100_000, 144_001])
def test_windows_cover_a_clip_with_as_few_as_can(n):
    log_mel, wave = LogMel(), torch.arange(float(n))
    windows = log_mel.windows(wave)
    assert len(windows) == max(1, -(-n // 48_000))
    assert set(torch.cat(windows).tolist()) == set(wave.tolist())
    assert {len(window) for window in windows} == {min(n, 48_000)}


def test_a_very_long_clip_has_twenty_windows_from_end_to_end():
    wave = torch.arange(40 * 48_000)
    windows = LogMel().windows(wave)
    assert len(windows) == 20
    assert (int(windows[0][0]), int(windows[-1][-1])) == (0, len(wave) - 1)


def test_log_mel_says_what_it_cannot_take():
    with pytest.raises(AudioError, match="at most 48000"):
        LogMel()([torch.zeros(48_001)])
    with pytest.raises(AudioError, match="no clips"):
        LogMel()([])
    with pytest.raises(AudioError, match="empty"):
        LogMel()([torch.zeros(0)])
    with pytest.raises(ValueError, match="repeatpad"):
        LogMel(padding="reflect")
    with pytest.raises(ValueError, match="'middle'.*'fusion', 'rand_trunc'"):
        LogMel.from_extractor(ClapFeatureExtractor(truncation="middle"))


def test_a_fused_checkpoint_sees_whole_windows_by_its_own_mel_scale():
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="fusion")
    log_mel = LogMel.from_extractor(extractor)
    waves = [speechlike(k) for k in (500, log_mel.n_samples)]
    expected = extractor(
        [wave.numpy() for wave in waves], sampling_rate=48_000, return_tensors="pt"
    )["input_features"]  # (2, 4, F, M), four times the same
    assert float((log_mel(waves) - expected[:, :1]).abs().max()) < 1e-3
    unfused = LogMel.from_extractor(
        ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")
    )
    assert float((unfused(waves) - expected[:, :1]).abs().max()) > 1


def test_pictures_are_drawn_in_single_precision_where_it_is_enough(monkeypatch):
    log_mel = audio.LogMel()
    time = torch.arange(48_000) / 16_000
    tone = 0.9 * torch.sin(2 * torch.pi * 150 * time)  # nothing in the upper bands
    hiss = 1e-3 * torch.randn(48_000, generator=torch.Generator().manual_seed(0))
    drawn = [log_mel([wave]) for wave in (tone, tone + hiss)]
    monkeypatch.setattr(audio, "SINGLE_PRECISION_DB", -1.0)
    exact = [log_mel([wave]) for wave in (tone, tone + hiss)]
    assert torch.equal(drawn[0], exact[0])
    torch.testing.assert_close(drawn[1], exact[1], atol=5e-3, rtol=0)
    monkeypatch.setattr(audio, "SINGLE_PRECISION_DB", float("inf"))
    rough = log_mel([tone])
    assert (rough - exact[0]).abs().max() > 0.05  # which is why
