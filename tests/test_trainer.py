"""The machinery learns where it should, remembers the average, and can be resumed."""

from dataclasses import replace

import pytest
import torch

from clepdg_lib.measuring import count_moments
from clepdg_lib.recipe import Recipe, fast_precision
from clepdg_lib.trainer import Trainer

RECIPE = Recipe(epochs=2, learning_rate=1e-2, tower_share=1.0, precision="float32")
N_STEPS = 20


def pictures(n=3):
    return torch.randn(n, 1, 251, 64, generator=torch.Generator().manual_seed(0))


def make(clap, **changes):
    torch.manual_seed(0)  # dropout
    recipe = replace(RECIPE, **changes)
    return Trainer(clap, recipe, n_steps=N_STEPS, n_targets=2)


def test_hearing_gives_unit_rows_and_predictions(tiny_clap):
    trainer = make(tiny_clap)
    audio, said = trainer.project(trainer.hear(pictures()).mean(dim=1))
    assert audio.shape == (3, 16) and said.shape == (3, 2)
    torch.testing.assert_close(audio.norm(dim=1), torch.ones(3))
    assert audio.requires_grad and said.requires_grad


def test_the_mean_over_moments_is_what_transformers_pools(tiny_clap):
    trainer = make(tiny_clap)
    trainer.clap.model.eval()
    heard = trainer.hear(pictures())
    longer = torch.zeros(3, 1, dtype=torch.bool)
    pooled = trainer.clap.model.audio_model(
        input_features=pictures(), is_longer=longer
    ).pooler_output
    assert heard.shape[1] == count_moments(tiny_clap.model) > 1
    torch.testing.assert_close(heard.mean(dim=1), pooled)
    assert trainer.follow(heard) is heard  # nothing is asked of moments here


def test_dropout_hides_parts_anew_and_leaves_the_mean(tiny_clap):
    trainer = make(tiny_clap, dropout=0.5)
    heard = trainer.hear(pictures()).mean(dim=1).detach()
    sure = trainer.head(heard)
    said = torch.stack([trainer.project(heard)[1] for _ in range(400)])
    assert (said[0] != said[1]).all()
    off = (said.mean(dim=0) - sure).abs() / said.std(dim=0)
    assert off.max() < 0.25, "what is kept must be raised by what is hidden"
    calm = make(tiny_clap)
    assert torch.equal(calm.project(heard)[0], calm.project(heard)[0])


def test_the_learning_rate_warms_up_and_falls_to_zero(tiny_clap):
    trainer = make(tiny_clap)
    shares = []
    for trainer.n_done in range(N_STEPS + 1):
        shares.append(trainer._share())
    assert shares[:3] == [0.5, 1.0, 1.0]
    assert all(a > b for a, b in zip(shares[2:], shares[3:], strict=False))
    assert shares[-1] == pytest.approx(0, abs=1e-9)


def test_a_step_goes_down_and_the_average_follows_slowly(tiny_clap):
    trainer = make(tiny_clap)
    goal = torch.nn.functional.normalize(torch.ones(3, 16), dim=1)
    start = [p.clone() for p in trainer.average.model.audio_projection.parameters()]
    losses = []
    for _ in range(6):
        audio, _ = trainer.project(trainer.hear(pictures()).mean(dim=1))
        losses.append(trainer.update((audio - goal).square().sum()))
    assert losses[-1] < losses[0]
    own = list(trainer.clap.model.audio_projection.parameters())
    slow = list(trainer.average.model.audio_projection.parameters())
    for before, mean, now in zip(start, slow, own, strict=True):
        assert 0 < (mean - before).norm() < (now - before).norm()


def test_an_average_begun_anew_forgets_what_was_before(tiny_clap):
    trainer = make(tiny_clap)
    audio, _ = trainer.project(trainer.hear(pictures()).mean(dim=1))
    trainer.update(audio[:, 0].sum())
    trainer.start_average()
    own = trainer.clap.model.state_dict()
    for name, tensor in trainer.average.model.state_dict().items():
        assert torch.equal(tensor, own[name]), name
    assert not trainer.average.model.training


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_the_text_tower_learns_only_if_it_has_a_rate(tiny_clap, rate):
    trainer = make(tiny_clap, text_learning_rate=rate)
    assert trainer.tunes_text == (rate > 0)
    before = {k: v.clone() for k, v in trainer.clap.model.state_dict().items()}
    audio, _ = trainer.project(trainer.hear(pictures(1)).mean(dim=1))
    text = trainer.read(["this person is feeling sad"])
    assert text.requires_grad == (rate > 0)
    trainer.update(-(audio * text).sum())
    for name, tensor in trainer.clap.model.state_dict().items():
        if name.startswith("text_model.encoder"):
            assert torch.equal(tensor, before[name]) == (rate == 0), name


def test_saving_and_resuming_leaves_nothing_out(tiny_clap, tmp_path):
    file = tmp_path / "new" / "checkpoint.safetensors"

    def steps(trainer, n):
        for _ in range(n):
            torch.manual_seed(trainer.n_done)
            audio, said = trainer.project(trainer.hear(pictures()).mean(dim=1))
            trainer.update(audio[:, 0].sum() + said.square().sum())

    whole = make(tiny_clap)
    steps(whole, 10)
    whole.history.append({"epoch": 1, "loss": 0.5})
    whole.save(file, epoch=1, plan="plan")
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    resumed = make(tiny_clap)
    assert resumed.resume(file, plan="plan") == 1
    assert resumed.history == whole.history and resumed.n_done == 10
    steps(whole, 3)
    steps(resumed, 3)
    for a, b in (
        (whole.clap.model, resumed.clap.model),
        (whole.average.model, resumed.average.model),
        (whole.head, resumed.head),
    ):
        for name, tensor in a.state_dict().items():
            assert torch.equal(tensor, b.state_dict()[name]), name


def test_a_checkpoint_of_another_training_is_refused(tiny_clap, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    trainer = make(tiny_clap)
    assert trainer.resume(file, plan="this") == 0
    trainer.save(file, epoch=1, plan="that")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors.*that.*this"):
        trainer.resume(file, plan="this")


def test_precision_is_chosen_by_name(monkeypatch):
    cpu = torch.device("cpu")
    assert fast_precision(cpu, "bfloat16") and not fast_precision(cpu, "float32")
    for has_units in (True, False):
        for units in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
            monkeypatch.setattr(torch.cpu, units, lambda x=has_units: x)
        assert fast_precision(cpu, "auto") == has_units
    for has_units in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda x=has_units: x)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert fast_precision(torch.device("cuda"), "auto") == has_units
    with pytest.raises(ValueError, match="'half'.*'bfloat16'"):
        fast_precision(cpu, "half")
