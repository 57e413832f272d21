"""A batch in pieces is a batch at once, and frozen stages keep still."""

from dataclasses import replace

import pytest
import torch

from clepdg_lib.passes import freeze, listen
from clepdg_lib.recipe import Recipe
from clepdg_lib.trainer import Trainer

RECIPE = Recipe(learning_rate=1e-4, tower_share=1.0, precision="float32")


def pictures(n=6):
    return torch.randn(n, 1, 251, 64, generator=torch.Generator().manual_seed(0))


def make(clap, **changes):
    torch.manual_seed(0)
    recipe = replace(RECIPE, **changes)
    trainer = Trainer(clap, recipe, n_steps=20, n_targets=2, n_of_moment=3)
    for module in trainer.clap.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # it would draw other numbers for other pieces
    return trainer


def step(trainer):
    """A loss in which every clip meets every other."""
    audio, said, told = listen(trainer, pictures())
    loss = (audio @ audio.T * 5).logsumexp(dim=1).mean() + said.square().mean()
    loss = loss + told.square().mean()
    return trainer.update(loss)


@pytest.mark.parametrize(
    "how", [{"pieces": 3}, {"pieces": 4}, {"gradient_checkpointing": True}]
)
def test_pieces_and_checkpoints_change_memory_and_nothing_else(tiny_clap, how):
    whole, parted = make(tiny_clap), make(tiny_clap, **how)
    for _ in range(2):
        assert step(parted) == pytest.approx(step(whole), abs=1e-6)
    other = parted.clap.model.state_dict()
    for name, tensor in whole.clap.model.state_dict().items():
        if name.endswith("key.bias"):
            continue  # it changes no attention: its gradient is rounding, made a step
        torch.testing.assert_close(tensor, other[name], atol=1e-5, rtol=0)


def test_pieces_are_forgotten_until_the_way_back(tiny_clap):
    def kept(**how):
        trainer, n_bytes = make(tiny_clap, **how), [0]

        def pack(tensor):
            n_bytes[0] += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            listen(trainer, pictures())
        return n_bytes[0]

    assert kept(pieces=3) < 0.5 * kept()


def test_stages_thaw_from_the_top(tiny_clap):
    trainer = make(tiny_clap, frozen_stages=(2, 1, 0))

    def moved():
        before = {k: v.clone() for k, v in trainer.clap.model.state_dict().items()}
        step(trainer)
        after = trainer.clap.model.state_dict()
        names = {name for name in before if not torch.equal(before[name], after[name])}
        layers = {n.split(".layers.")[1][0] for n in names if ".layers." in n}
        return layers, any("patch_embed" in name for name in names)

    for epoch, wanted in enumerate([{"2"}, {"1", "2"}, {"0", "1", "2"}]):
        freeze(trainer, epoch)
        assert moved() == (wanted, epoch == 2)
    freeze(trainer, 9)  # the last number holds on
    assert moved() == ({"0", "1", "2"}, True)


def test_without_a_plan_nothing_is_touched(tiny_clap):
    trainer = make(tiny_clap)
    encoder = trainer.clap.model.audio_model.audio_encoder
    encoder.layers[0].requires_grad_(False)
    freeze(trainer, 0)
    assert not any(p.requires_grad for p in encoder.layers[0].parameters())
