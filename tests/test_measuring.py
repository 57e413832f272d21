"""What is unknown costs nothing, and the mean over a clip counts beside its moments."""

import pytest
import torch
from transformers import ClapModel

from clepdg_lib.measuring import MEAN_SHARE, count_moments, miss, miss_moments

NAN = float("nan")


def test_what_is_unknown_costs_nothing():
    said = torch.zeros(2, 3, requires_grad=True)
    wanted = torch.tensor([[2.0, NAN, NAN], [NAN, NAN, NAN]])
    # Huber's, beyond 1, is |x| - 1/2.
    assert float(miss(said.detach(), wanted.numpy())) == 1.5
    told = torch.zeros(2, 4, 3, requires_grad=True)
    nothing = torch.full((2, 4, 3), NAN)
    for loss in (miss(said, nothing[:, 0].numpy()), miss_moments(told, nothing)):
        assert float(loss.detach()) == 0
        loss.backward()  # and can still be learned from
    assert (told.grad == 0).all() and (said.grad == 0).all()


def test_errors_that_cancel_cost_less_than_one_that_stays():
    told = torch.zeros(1, 4, 2)
    swings = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 4, 1).expand(1, 4, 2)
    assert float(miss_moments(told, swings)) == pytest.approx(0.5)
    assert float(miss_moments(told, swings.abs())) == pytest.approx(0.5 + MEAN_SHARE)


def test_the_mean_is_that_over_known_moments_of_known_clips():
    told = torch.zeros(2, 4, 2)
    wanted = torch.full((2, 4, 2), NAN)
    wanted[0, 1:3] = 1.0
    assert float(miss_moments(told, wanted)) == pytest.approx(0.5 + MEAN_SHARE)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"patch_size": 8, "patch_stride": [8, 8], "depths": [1, 1]}, 16),
        ({"patch_size": [64, 8], "patch_stride": [64, 2], "depths": [1]}, 128),
        ({"patch_size": [32, 4], "patch_stride": [32, 4], "depths": [1]}, 64),
    ],
)
def test_moments_are_counted_as_transformers_makes_them(tiny_clap, changes, expected):
    config = type(tiny_clap.model.config)(**tiny_clap.model.config.to_dict())
    n_stages = len(changes["depths"])
    for name, value in changes.items():
        setattr(config.audio_config, name, value)
    config.audio_config.num_attention_heads = [2] * n_stages
    config.audio_config.num_hidden_layers = n_stages
    config.audio_config.patch_embeds_hidden_size = 16
    config.audio_config.hidden_size = 16 * 2 ** (n_stages - 1)
    config.audio_config.window_size = 2
    config.audio_config.spec_size = 128
    model = ClapModel(config).eval()
    longer = torch.zeros(1, 1, dtype=torch.bool)
    found = model.audio_model(torch.randn(1, 1, 251, 64), is_longer=longer)
    assert count_moments(model) == expected == found.last_hidden_state.shape[-1]
