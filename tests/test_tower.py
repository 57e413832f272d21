"""Listening fast gives what transformers gives, whatever the model's shape."""

import copy

import pytest
import torch
from torch.nn import functional as F
from transformers import ClapAudioConfig, ClapConfig, ClapModel

from clepdg_lib import tower
from clepdg_lib.tower import choose_way, hear, plain_features, project

SHAPES = {
    "three stages": {"depths": [2, 2, 2], "num_attention_heads": [1, 2, 4]},
    # 16 x 16 patches, windows of 8: shifted in the first stage, whole in the second
    "wide windows": {"window_size": 8, "depths": [2, 3], "num_attention_heads": [2, 4]},
    "one block": {"depths": [1], "num_attention_heads": [2]},
    "another function": {
        "hidden_act": "relu",
        "depths": [2, 1],
        "num_attention_heads": [2, 2],
    },
    "fused": {
        "enable_fusion": True,
        "depths": [2, 2],
        "num_attention_heads": [2, 4],
    },
}


def make(**changes):
    """A CLAP with random weights, moved away from their almost equal start."""
    depths = changes["depths"]
    sound = {
        "spec_size": 128,
        "patch_size": 8,
        "patch_stride": [8, 8],
        "patch_embeds_hidden_size": 16,
        "window_size": 4,
        "num_hidden_layers": len(depths),
        "hidden_size": 16 * 2 ** (len(depths) - 1),
        "enable_fusion": False,
        "projection_dim": 16,
        **changes,
    }
    text = {"vocab_size": 9, "hidden_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "intermediate_size": 16}
    config = ClapConfig(text_config=text, audio_config=sound, projection_dim=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ClapModel(config).eval()
        for weight in model.audio_model.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
        for norm in model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.running_mean.uniform_(-1, 1)
                norm.running_var.uniform_(0.5, 2)
    return model


def embed(model, mels, **how):
    """The fast tower, and the layers above it."""
    with torch.no_grad():
        return project(model, hear(model, mels, **how))


@pytest.fixture(scope="module")
def mels():
    generator = torch.Generator().manual_seed(1)
    noise = 6 * torch.randn(5, 1, 251, 64, generator=generator) - 30
    pitch = torch.arange(1, 6).view(5, 1, 1, 1)  # another one for each clip
    time = torch.linspace(0, 6, 251).view(251, 1)
    return noise + 20 * torch.cos(pitch * (torch.arange(64) / 10 + time))


@pytest.mark.parametrize("name", SHAPES)
def test_the_result_is_that_of_transformers(name, mels):
    model = make(**SHAPES[name])
    with torch.no_grad():
        wanted = plain_features(model, mels)
    # the check can fail: clips differ a hundred times more than it allows
    assert (wanted[1:] - wanted[:-1]).abs().amax(dim=1).min() > 1e-3
    found = embed(model, mels)
    assert found.shape == wanted.shape and found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    rough = embed(model, mels, way=torch.bfloat16)
    assert F.cosine_similarity(rough, wanted).min() > 0.999


def test_masks_and_biases_matter_in_these_tests(mels, monkeypatch):
    model = make(**SHAPES["three stages"])
    with torch.no_grad():
        wanted = plain_features(model, mels)
    monkeypatch.setattr(tower, "MASKED", 0.0)
    tower._mask.cache_clear()
    found = embed(model, mels)
    tower._mask.cache_clear()
    assert (found - wanted).abs().max() > 1e-4


def test_weights_that_change_are_heard_at_once(mels):
    model = make(**SHAPES["three stages"])
    before = embed(model, mels)
    with torch.no_grad():
        model.audio_model.audio_encoder.layers[0].blocks[1].output.dense.weight.mul_(2)
        wanted = plain_features(model, mels)
    after = embed(model, mels)
    torch.testing.assert_close(after, wanted, atol=1e-5, rtol=0)
    assert (after - before).abs().max() > 1e-4


def test_no_gradients_are_kept(mels):
    model = make(**SHAPES["one block"])
    assert not hear(model, mels).requires_grad
    assert plain_features(model, mels[:1]).requires_grad


@pytest.mark.parametrize("fast", [True, False])
def test_the_fastest_way_that_agrees_is_chosen(monkeypatch, fast):
    monkeypatch.setattr(tower, "bfloat16_is_fast", lambda device: fast)
    model = make(**SHAPES["three stages"])
    wanted = torch.bfloat16 if fast else torch.float32
    assert choose_way(model, n_frames=251) == wanted


def test_a_way_that_disagrees_is_not_taken(monkeypatch):
    model = make(**SHAPES["three stages"])
    truly = tower.hear

    def off(model, mels, *, way):
        turned = truly(model, mels, way=way)
        return turned.flip(1) if way in wrong else turned

    monkeypatch.setattr(tower, "bfloat16_is_fast", lambda device: True)
    monkeypatch.setattr(tower, "hear", off)
    wrong = {torch.bfloat16}
    assert choose_way(model, n_frames=251) == torch.float32
    wrong = {torch.bfloat16, torch.float32}
    assert choose_way(model, n_frames=251) is None


def test_a_shape_that_does_not_divide_is_left_to_transformers(mels):
    odd = make(depths=[1, 1], num_attention_heads=[2, 2], window_size=6)
    assert choose_way(odd, n_frames=251) is None
    with torch.no_grad():
        assert torch.equal(embed(odd, mels, way=None), plain_features(odd, mels))


def test_the_default_shape_of_transformers_is_usual():
    config = ClapAudioConfig()
    assert config.window_size == 8 and config.spec_size == 256
    model = copy.copy(make(**SHAPES["one block"]))
    assert tower._is_usual(model)
