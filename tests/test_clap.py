"""One model, three verbs: what goes in, what comes out, and what is refused."""

import copy
import json
import shutil

import pytest
import soundfile
import torch
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel, ClapProcessor

from clepdg_lib import clap as clap_module
from clepdg_lib.audio import AudioError, LogMel
from clepdg_lib.clap import Clap, EmbeddedCorpus, embed_corpus, load_clap
from clepdg_lib.files import data_root

RATE = 16_000
SENTENCES = ["this person is feeling sad", "happy", "rain in the background"]


def noise(seconds, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(seconds * RATE), generator=generator)


def unit(rows):
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    return rows


# ------------------------------------------------------------------- sound
def test_sound_is_heard_as_transformers_hears_it(tiny_clap, tiny_clap_folder):
    clips = {"short": noise(1), "exact": noise(3), "silent": torch.zeros(RATE)}
    processor = ClapProcessor(
        feature_extractor=ClapFeatureExtractor.from_pretrained(tiny_clap_folder),
        tokenizer=AutoTokenizer.from_pretrained(tiny_clap_folder),
    )
    reference = ClapModel.from_pretrained(tiny_clap_folder).eval()
    waves = [clip.numpy() for clip in clips.values()]
    inputs = processor(audio=waves, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        expected = reference.get_audio_features(**inputs).pooler_output
    found = unit(tiny_clap.embed_audio(list(clips.values())))
    assert found.dtype == torch.float32 and found.shape == (3, tiny_clap.dim)
    cosines = torch.nn.functional.cosine_similarity(found, expected)
    for name, cosine in zip(clips, cosines, strict=True):
        assert cosine >= 0.9999, name
    # and the check could fail: different clips differ by more than that
    assert (found @ found.T)[0, 2] < 0.999


def test_a_long_clip_is_the_mean_of_its_windows(tiny_clap):
    long = noise(7.3)
    windows = tiny_clap.log_mel.windows(long)
    assert len(windows) == 3
    mean = tiny_clap.embed_audio(windows).mean(dim=0, keepdim=True)
    expected = torch.nn.functional.normalize(mean, dim=-1)
    torch.testing.assert_close(tiny_clap.embed_audio([long]), expected)


def test_batches_and_neighbours_change_nothing(tiny_clap):
    clips = [noise(0.4, seed=1), noise(4, seed=2), noise(1, seed=3)]
    together = tiny_clap.embed_audio(clips)
    in_pieces = tiny_clap.embed_audio(clips, batch_size=2)
    torch.testing.assert_close(together, in_pieces, atol=1e-5, rtol=0)
    alone = tiny_clap.embed_audio(clips[2])
    torch.testing.assert_close(together[2:], alone, atol=1e-5, rtol=0)


def test_a_path_an_array_and_a_tensor_are_one_clip(tiny_clap, tmp_path):
    wave = noise(1)
    path = tmp_path / "clip.wav"
    soundfile.write(path, wave.numpy(), RATE, subtype="FLOAT")
    found = tiny_clap.embed_audio([path, str(path), wave, wave.numpy()])
    assert float((found - found[0]).abs().max()) < 1e-6
    assert tiny_clap.embed_audio(str(path)).shape == (1, tiny_clap.dim)


def test_another_rate_is_resampled(tiny_clap):
    time = torch.arange(2 * RATE) / RATE
    slow = 0.2 * torch.sin(2 * torch.pi * 440 * time)
    fast = 0.2 * torch.sin(2 * torch.pi * 440 * torch.arange(4 * RATE) / (2 * RATE))
    a = tiny_clap.embed_audio([slow])
    b = tiny_clap.embed_audio([fast], sample_rate=2 * RATE)
    assert float(a @ b.T) > 0.999


@pytest.mark.parametrize(
    ("clips", "says"),
    [
        ([], "no clips"),
        ([torch.full((RATE,), torch.nan)], "NaN"),
        ([torch.zeros(2, RATE)], "clip 0"),
        ([noise(1), torch.zeros(0)], "clip 1"),
        (["nowhere.wav"], "does not exist"),
    ],
)
def test_what_is_no_clip_is_refused_by_name(tiny_clap, clips, says):
    with pytest.raises(AudioError, match=says):
        tiny_clap.embed_audio(clips)


def test_bad_clips_among_many_are_left_out_and_counted(tiny_clap, tmp_path):
    good = [noise(1, seed=1), noise(1, seed=2)]
    clips = [good[0], tmp_path / "gone.wav", good[1], torch.full((9,), torch.nan)]
    with pytest.warns(UserWarning, match=r"2 of 4 clips left out.*gone\.wav"):
        found = tiny_clap.embed_audio(clips, on_error="skip")
    torch.testing.assert_close(found, tiny_clap.embed_audio(good))
    with (
        pytest.warns(UserWarning, match="2 of 2"),
        pytest.raises(AudioError, match="none of 2"),
    ):
        tiny_clap.embed_audio(clips[1::2], on_error="skip")
    with pytest.raises(ValueError, match="'ignore'.*'raise' or 'skip'"):
        tiny_clap.embed_audio(good, on_error="ignore")


def test_gradients_reach_the_audio_tower_only_where_asked(tiny_clap):
    mels = LogMel()([noise(1)])
    assert not tiny_clap.embed_mels(mels).requires_grad
    own = Clap(copy.deepcopy(tiny_clap.model), tiny_clap.tokenizer, tiny_clap.extractor)
    own.audio_features(mels)[0, 0].backward()
    heard = [p.grad for p in own.model.audio_projection.parameters()]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in heard)
    assert all(p.grad is None for p in own.model.text_model.parameters())


# -------------------------------------------------------------------- text
def test_sentences_become_unit_rows_whatever_stands_beside_them(tiny_clap):
    together = unit(tiny_clap.embed_text(SENTENCES))
    assert together.dtype == torch.float32 and together.shape == (3, tiny_clap.dim)
    alone = torch.cat([tiny_clap.embed_text(s) for s in SENTENCES])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    in_pieces = tiny_clap.embed_text(SENTENCES, batch_size=2)
    torch.testing.assert_close(together, in_pieces, atol=1e-5, rtol=0)


def test_text_is_read_as_transformers_reads_it(tiny_clap):
    inputs = tiny_clap.tokenizer(SENTENCES, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        expected = tiny_clap.model.get_text_features(**inputs).pooler_output
    torch.testing.assert_close(tiny_clap.embed_text(SENTENCES), expected)


def test_token_vectors_say_what_their_sentence_says(tiny_clap):
    vectors, mask = tiny_clap.token_embeddings(SENTENCES)
    assert vectors.shape == (3, mask.shape[1], 32) and mask.shape[0] == 3
    assert mask.sum(dim=1).tolist() == [7, 3, 6]
    found = unit(tiny_clap.embed_tokens(vectors, mask).detach())
    torch.testing.assert_close(found, tiny_clap.embed_text(SENTENCES))


def test_gradients_reach_token_vectors(tiny_clap):
    vectors, mask = tiny_clap.token_embeddings(SENTENCES)
    vectors.requires_grad_(True)
    found = tiny_clap.embed_tokens(vectors, mask)
    (grad,) = torch.autograd.grad(found[0, 0], [vectors])
    assert grad[0].abs().sum() > 0
    assert grad[1:].abs().sum() == 0  # sentences do not see each other


@pytest.mark.parametrize("texts", [[], ["fine", ""], ["fine", "  "], ["fine", None]])
def test_what_is_no_sentence_is_refused(tiny_clap, texts):
    with pytest.raises(ValueError, match="no sentences|sentence 1 is"):
        tiny_clap.embed_text(texts)


def test_a_text_longer_than_the_tower_is_cut_and_not_a_crash(tiny_clap):
    assert tiny_clap.embed_text(["sad " * 500]).shape == (1, tiny_clap.dim)


@pytest.mark.parametrize(
    ("shape", "says"),
    [((2, 5), r"\(2, 5\)"), ((2, 5, 31), "32"), ((1, 63, 32), "63 tokens.*takes 62")],
)
def test_token_vectors_of_a_wrong_shape_are_refused(tiny_clap, shape, says):
    with pytest.raises(ValueError, match=says):
        tiny_clap.embed_tokens(torch.zeros(shape), torch.ones(shape[:2]))


# ------------------------------------------------------------------- files
def test_a_saved_model_comes_back(tiny_clap, tmp_path):
    loaded = load_clap(tiny_clap.save(tmp_path / "copy"))
    assert loaded.name == "copy" and loaded.dim == 16
    assert loaded.log_mel == tiny_clap.log_mel
    assert loaded.fingerprint() == tiny_clap.fingerprint()
    assert torch.equal(loaded.embed_text(SENTENCES), tiny_clap.embed_text(SENTENCES))
    assert "16" in repr(loaded) and "copy" in repr(loaded)


def test_loading_from_disk_shows_no_bar_and_leaves_bars_as_they_were(
    tiny_clap_folder, capfd
):
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
    load_clap(tiny_clap_folder)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


def test_a_saved_tokenizer_says_nothing_of_how_it_was_used(tiny_clap, tmp_path):
    loaded = load_clap(tiny_clap.save(tmp_path / "one"))
    loaded.embed_text(["a sentence that is cut and one that is padded", "short"])
    folder = loaded.save(tmp_path / "two")
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    told = {"is_local", "local_files_only", "backend", "max_length", "stride"}
    assert not told & set(settings)
    assert settings["tokenizer_class"] != "TokenizersBackend"
    rules = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    assert rules["truncation"] is rules["padding"] is None
    again = load_clap(folder)  # and it pads and cuts as before
    assert torch.equal(again.embed_text(SENTENCES), loaded.embed_text(SENTENCES))


@pytest.mark.parametrize("name", ["clap-mini", "clep-mini"])
def test_a_plain_processor_cuts_no_sound_to_the_length_of_a_sentence(name):
    # It takes a length that it finds beside the tokenizer for that of sounds, too.
    processor = ClapProcessor.from_pretrained(data_root() / "models" / name)
    wave = noise(3).numpy()
    heard = processor(audio=wave, sampling_rate=RATE, return_tensors="pt")
    assert heard["input_features"].shape == (1, 1, 251, 64)


def test_half_the_precision_is_half_the_size_and_the_same_model(tiny_clap, tmp_path):
    whole = tiny_clap.save(tmp_path / "whole") / "model.safetensors"
    half = tiny_clap.save(tmp_path / "half", half=True) / "model.safetensors"
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    loaded = load_clap(tmp_path / "half")
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())
    clips = [noise(1)]
    for a, b in (
        (loaded.embed_text(SENTENCES), tiny_clap.embed_text(SENTENCES)),
        (loaded.embed_audio(clips), tiny_clap.embed_audio(clips)),
    ):
        assert (a * b).sum(dim=1).min() > 0.999


def test_saving_leaves_the_model_as_it_is(tiny_clap, tmp_path):
    before = {k: v.clone() for k, v in tiny_clap.model.state_dict().items()}
    tiny_clap.save(tmp_path / "half", half=True)
    for name, tensor in tiny_clap.model.state_dict().items():
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name])


def test_transformers_reads_what_was_saved(tiny_clap_folder):
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in tiny_clap_folder.iterdir()
    }
    assert not list(tiny_clap_folder.glob("*.bin"))


def test_an_unknown_name_lists_the_valid_ones(monkeypatch, tmp_path, tiny_clap_folder):
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path))
    shutil.copytree(tiny_clap_folder, tmp_path / "models" / "clap-mini")
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("clap-mimi", str(tmp_path / "nowhere"), "clep-mini", "empty/folder"):
        with pytest.raises(ValueError, match=r"\['clap-mini'\].*laion/") as error:
            load_clap(name)
        assert repr(name) in str(error.value)
    assert load_clap("clap-mini").name == "clap-mini"


def test_a_hub_name_without_a_network_is_one_clear_error(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"'nobody/no-such-clap'.*HF_HUB_OFFLINE.*hf download"
    ):
        load_clap("nobody/no-such-clap")


def test_a_fingerprint_follows_the_audio_tower_alone(tiny_clap):
    own = Clap(copy.deepcopy(tiny_clap.model), tiny_clap.tokenizer, tiny_clap.extractor)
    assert own.fingerprint() == tiny_clap.fingerprint()
    with torch.no_grad():
        own.model.text_projection.linear1.weight += 1
        own.model.audio_projection.linear1.weight += 1
    assert own.fingerprint() == tiny_clap.fingerprint()
    with torch.no_grad():
        own.model.audio_model.audio_encoder.norm.weight[0] += 1e-3
    assert own.fingerprint() != tiny_clap.fingerprint()


def test_what_lessons_import_from_here_is_here():
    assert {"Clap", "EmbeddedCorpus", "embed_corpus", "load_clap"} <= set(
        clap_module.__all__
    )
    assert callable(embed_corpus) and isinstance(EmbeddedCorpus, type)
