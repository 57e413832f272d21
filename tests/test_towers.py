"""Towers: equal to transformers where they stand for it, and blind to neighbours."""

import pytest
import torch
import transformers
from stand_ins import laion_parts, tiny_clap, word_tokenizer

from clepdg_lib.towers import (
    AudioTower,
    HtsatTower,
    TextTower,
    WhisperTower,
    build_audio_tower,
    cut_windows,
)

RATE = 16_000


def noise(seconds, *, seed=0, rate=RATE):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(seconds * rate), generator=generator)


@pytest.fixture(scope="module")
def whisper():
    return tiny_clap("whisper").audio_tower


@pytest.fixture(scope="module")
def htsat():
    return tiny_clap("htsat", sample_rate=48_000).audio_tower


# ------------------------------------------------------------------ whisper
@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("seconds", [0.5, 1.237, 9.99])
def test_spectrogram_is_that_of_transformers(seconds, n_mels):
    tower = WhisperTower(
        n_blocks=1, n_positions=50, d_model=8, n_heads=1, n_mels=n_mels
    )
    wave = noise(seconds) * torch.linspace(0, 1, round(seconds * RATE))
    extractor = transformers.WhisperFeatureExtractor(feature_size=n_mels)
    expected = extractor(
        wave.numpy(), sampling_rate=RATE, return_tensors="pt", padding=False
    )["input_features"][0]
    found = tower.spectrogram(wave)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_encoder_is_that_of_transformers(whisper):
    wave = noise(2)  # fills the window, so that there is nothing to mask
    expected = whisper.encoder(whisper.spectrogram(wave)[None]).last_hidden_state
    found = whisper.encode([wave])
    torch.testing.assert_close(found, expected.mean(dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["whisper", "htsat"])
def test_features_do_not_depend_on_neighbours_or_batches(kind, request):
    tower: AudioTower = request.getfixturevalue(kind)
    lengths = (0.01, 0.4, 5.3, 1.0, 1.9, 0.3333)
    rate = tower.sample_rate
    waves = [noise(s, seed=i, rate=rate) for i, s in enumerate(lengths)]
    together = tower.features(waves)
    assert together.shape == (6, tower.width) and together.dtype == torch.float32
    alone = torch.cat([tower.features([wave]) for wave in waves])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    in_pairs = tower.features(waves, batch_size=2)
    torch.testing.assert_close(together, in_pairs, atol=1e-4, rtol=0)
    assert (alone[0] - alone[1]).abs().max() > 1e-2  # and the check could fail


# ------------------------------------------------------------------ windows
@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, [1]), (10, [10]), (11, [10, 10]), (20, [10, 10]), (1000, [10] * 20)],
)
def test_windows_cover_a_wave_evenly(n, expected):
    wave = torch.arange(n)
    windows = cut_windows(wave, 10)
    assert [len(w) for w in windows] == expected
    assert int(windows[0][0]) == 0 and int(windows[-1][-1]) == n - 1


@pytest.mark.parametrize("kind", ["whisper", "htsat"])
def test_a_long_clip_is_the_mean_of_its_windows(kind, request):
    tower = request.getfixturevalue(kind)
    rate = tower.sample_rate
    wave = noise(7.3, rate=rate)
    windows = cut_windows(wave, round(tower.window_seconds * rate))
    assert len(windows) > 2
    expected = tower.features(windows).mean(dim=0, keepdim=True)
    torch.testing.assert_close(tower.features([wave]), expected, atol=1e-5, rtol=0)


# -------------------------------------------------------------------- htsat
def test_htsat_is_that_of_transformers():
    model, _, extractor = laion_parts(16_000)
    tower = HtsatTower(model.audio_model, extractor)
    waves = [noise(1), noise(3)]
    inputs = extractor(
        [wave.numpy() for wave in waves], sampling_rate=RATE, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model.audio_model(**inputs).pooler_output
    torch.testing.assert_close(tower.features(waves), expected, atol=1e-5, rtol=0)


# --------------------------------------------------------- settings, weights
@pytest.mark.parametrize("kind", ["whisper", "htsat"])
def test_settings_make_the_same_architecture(kind, request):
    tower = request.getfixturevalue(kind)
    again = build_audio_tower(tower.config)
    assert again.config == tower.config and "version" not in str(tower.config)
    assert again.fingerprint() != tower.fingerprint()  # random weights
    again.load_state_dict(tower.state_dict())
    assert again.fingerprint() == tower.fingerprint()
    wave = noise(1, rate=tower.sample_rate)
    assert torch.equal(again.features([wave]), tower.features([wave]))


# --------------------------------------------------------------------- text
@pytest.fixture(scope="module")
def text():
    model, tokenizer, _ = laion_parts()
    return TextTower(model.text_model, tokenizer)


def test_text_is_encoded_as_transformers_does(text):
    ids, mask = text.tokenize(["this person is feeling sad", "sad"])
    assert ids.shape == mask.shape == (2, 7) and mask.sum(dim=1).tolist() == [7, 3]
    expected = text.model(input_ids=ids, attention_mask=mask).pooler_output
    found = text(text.table[ids], mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_prompt_that_is_too_long_is_cut_and_named(text, recwarn):
    assert text.max_tokens == 62
    text.tokenize(["sad " * 60])
    assert len(recwarn) == 0
    with pytest.warns(UserWarning, match=r"1 of 2 prompts.*62 tokens.*'happy happy"):
        ids, mask = text.tokenize(["sad", "happy " * 61])
    assert ids.shape == (2, 62) and mask.sum(dim=1).tolist() == [3, 62]
    assert int(ids[1, -1]) == word_tokenizer().sep_token_id
