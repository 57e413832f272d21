"""Label-aware training: the loss, what it changes, what it leaves, what it repeats."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clepdg_lib.audio import LogMel
from clepdg_lib.augmentation import augment
from clepdg_lib.contrast import Aspect, Recipe, label_aware_loss, train_towers
from clepdg_lib.measuring import count_moments

RECIPE = Recipe(
    epochs=2,
    batch_size=4,
    learning_rate=3e-3,
    tower_share=1.0,
    probe_steps=0,
    precision="float32",
)
FEELINGS = (("this person is feeling angry", "a shouting voice"), ("they are sad",))


def slow_loss(audio, text, labels, scale):
    """The same, one clip and one sentence at a time (UniCL; Khosla's eq. 2)."""
    known = [i for i in range(len(labels)) if labels[i] >= 0]
    to_text = 0.0
    for i in known:
        scores = [math.exp(scale * float(audio[i] @ t)) for t in text]
        to_text -= math.log(scores[labels[i]] / sum(scores)) / len(known)
    to_audio, levels = 0.0, sorted({int(labels[i]) for i in known})
    for a in levels:
        scores = {i: math.exp(scale * float(audio[i] @ text[a])) for i in known}
        mine = [i for i in known if labels[i] == a]
        for i in mine:
            share = scores[i] / sum(scores.values())
            # times the number of positives: the best possible share is one of them
            to_audio -= math.log(share * len(mine)) / len(mine) / len(levels)
    return (to_text + to_audio) / 2


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


@pytest.mark.parametrize(
    "labels", [[0, 1, 2, 0, 1, 2], [0, 0, 0, 2, -1, 2], [1, 1, 1, 1, 1, 1]]
)
def test_the_loss_is_that_of_a_slow_reference(labels):
    audio, text = unit(6, 8).double(), unit(3, 8, seed=1).double()
    found = label_aware_loss(audio, text, torch.tensor(labels), torch.tensor(7.0))
    assert float(found) == pytest.approx(slow_loss(audio, text, labels, 7.0))


def test_clips_of_the_same_emotion_are_no_negatives():
    text = torch.eye(2)
    same = torch.tensor([0, 0, 1])
    # Two clips of one level, both perfect: nothing is left to learn.
    perfect = label_aware_loss(text[same], text, same, torch.tensor(50.0))
    assert float(perfect) == pytest.approx(0, abs=1e-6)
    # Clip by clip, as in InfoNCE, the twins would push each other away.
    audio = text[same].clone().requires_grad_(True)
    label_aware_loss(audio, text, same, torch.tensor(50.0)).backward()
    assert audio.grad.abs().max() < 1e-6
    twin = torch.tensor([0, 1, 2])  # three levels, the first two alike in sound
    apart = label_aware_loss(text[same], text[same], twin, torch.tensor(50.0))
    assert float(apart) > 0.3


def test_unknown_clips_pull_nowhere():
    audio, text = unit(3, 8).requires_grad_(True), unit(2, 8, seed=1)
    labels = torch.tensor([0, -1, 1])
    label_aware_loss(audio, text, labels, torch.tensor(5.0)).backward()
    assert (audio.grad[1] == 0).all() and (audio.grad[[0, 2]] != 0).any(dim=1).all()
    none = label_aware_loss(audio, text, torch.full((3,), -1), torch.tensor(5.0))
    assert float(none.detach()) == 0 and none.requires_grad


@pytest.fixture(scope="module")
def tones():
    """Eight clips of two kinds, told apart by pitch: (8, 2, F, M) and labels."""
    labels = np.array([0, 1] * 4)
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(48_000) / 16_000
    waves = [
        0.2 * torch.sin(2 * torch.pi * (300 + 1500 * k) * time)
        + 0.01 * torch.randn(48_000, generator=generator)
        for k in labels.tolist()
    ]
    mels = LogMel()(waves).numpy().astype(np.float16)
    return np.repeat(mels, 2, axis=1), labels


@pytest.fixture
def train(tiny_clap, tones):
    def run(*, clap=tiny_clap, seed=0, targets=None, checkpoint=None, **changes):
        mels, labels = tones
        judge = changes.pop("judge", None)
        return train_towers(
            clap,
            mels,
            [Aspect("emotion", FEELINGS, labels)],
            recipe=replace(RECIPE, **changes),
            targets=targets,
            seed=seed,
            progress=False,
            checkpoint=checkpoint,
            judge=judge,
        )

    return run


def weights(clap):
    return {name: t.clone() for name, t in clap.model.state_dict().items()}


def differing(a, b):
    return {name for name in a if not torch.equal(a[name], b[name])}


def test_the_audio_tower_learns_and_everything_else_stays_bit_for_bit(tiny_clap, train):
    before = weights(tiny_clap)
    tuned = train()
    assert differing(before, weights(tiny_clap)) == set()  # the start is untouched
    assert all(p.grad is None for p in tiny_clap.model.parameters())
    changed = differing(before, weights(tuned))
    assert changed and all(
        name.startswith(("audio_", "logit_scale_a")) for name in changed
    )
    assert {"audio_projection.linear1.weight", "logit_scale_a"} <= changed
    said = ["this person is feeling sad"]
    # Equal weights; a product may still round by where its operands lie in memory.
    torch.testing.assert_close(
        tuned.embed_text(said), tiny_clap.embed_text(said), atol=1e-6, rtol=0
    )
    assert not tuned.model.training


def test_the_text_tower_learns_if_told_to(tiny_clap, train):
    tuned = train(text_learning_rate=1e-3)
    changed = differing(weights(tiny_clap), weights(tuned))
    assert "text_projection.linear1.weight" in changed
    assert "audio_projection.linear1.weight" in changed


def test_a_seed_gives_the_same_model_and_leaves_the_global_source_alone(train):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = train()
    assert torch.equal(torch.rand(3), expected)
    second = train()  # from another state of the global source
    assert differing(weights(first), weights(second)) == set()
    assert differing(weights(first), weights(train(seed=1))) != set()
    assert list(first.history["loss"]) == list(second.history["loss"])


@pytest.mark.parametrize(
    "changes", [{"text_learning_rate": 1e-3}, {"probe_steps": 2, "tower_share": 0.3}]
)
def test_an_interrupted_training_ends_at_the_same_weights(train, tmp_path, changes):
    targets = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    how = {"epochs": 3, "targets": targets, **changes}
    whole = train(**how)
    calls = []

    def pull_the_plug(model):
        calls.append(model)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {}

    file = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(**how, checkpoint=file, judge=pull_the_plug)
    resumed = train(**how, checkpoint=file)
    assert differing(weights(whole), weights(resumed)) == set()
    assert list(resumed.history["epoch"]) == [1, 2, 3]
    assert list(resumed.history["loss"]) == list(whole.history["loss"])
    # finished: nothing is trained again
    again = train(**how, checkpoint=file)
    assert differing(weights(whole), weights(again)) == set()
    for other in ({"seed": 1}, {"targets": targets[:, :2]}):
        with pytest.raises(ValueError, match="another training"):
            train(**{**how, **other}, checkpoint=file)


def test_probing_first_moves_what_stands_above_the_tower_alone(tiny_clap, train):
    before = weights(tiny_clap)
    how = {"epochs": 1, "tower_share": 0.0, "learning_rate": 1e-9}
    probed = differing(before, weights(train(**how, probe_steps=5)))
    assert "audio_projection.linear1.weight" in probed
    assert not any(name.startswith("audio_model.") for name in probed)
    moved = weights(train(**how, probe_steps=5))["audio_projection.linear1.weight"]
    still = weights(train(**how))["audio_projection.linear1.weight"]
    start = before["audio_projection.linear1.weight"]
    assert (moved - start).abs().max() > 100 * (still - start).abs().max()


@pytest.mark.parametrize("moves", [False, True])
def test_normalisation_follows_the_clips_only_if_asked_to(tiny_clap, train, moves):
    before = weights(tiny_clap)
    changed = differing(before, weights(train(probe_steps=2, norm_moves=moves)))
    statistics = {name for name in changed if "batch_norm.running" in name}
    assert bool(statistics) == moves


def test_the_tower_takes_smaller_steps_than_what_stands_above(tiny_clap, train):
    name = "audio_model.audio_encoder.layers.0.blocks.0.attention.self.query.weight"
    start = weights(tiny_clap)[name]
    small, large = (
        (weights(train(epochs=1, tower_share=share))[name] - start).norm()
        for share in (0.1, 1.0)
    )
    assert 0 < small < 0.5 * large


def test_a_judge_hears_the_averaged_model_after_every_epoch(train):
    heard = []

    def judge(model):
        heard.append(weights(model))
        assert not model.model.training
        return {"validation_uar": len(heard) / 10}

    tuned = train(judge=judge)
    assert list(tuned.history["validation_uar"]) == [0.1, 0.2]
    assert list(tuned.history.columns)[:2] == ["epoch", "loss"]
    assert differing(heard[1], weights(tuned)) == set()
    assert differing(heard[0], heard[1]) != set()


def test_a_tiny_corpus_is_learned_by_heart(tiny_clap, tones, train):
    mels, labels = tones
    prompts = [levels[0] for levels in FEELINGS]

    def margin(clap):
        audio = clap.embed_mels(torch.from_numpy(mels[:, :1]))
        scores = (audio @ clap.embed_text(prompts).T).numpy()
        rows = np.arange(len(labels))
        return (scores[rows, labels] - scores[rows, 1 - labels]).min()

    plain = {"gain_db": 0.0, "equaliser_db": 0.0, "masks": False, "averaging": 0.9}
    tuned = train(epochs=25, **plain)
    assert margin(tiny_clap) < 0 < margin(tuned)
    losses = tuned.history["loss"]
    assert losses.iloc[-3:].mean() < 0.5 * losses.iloc[:3].mean()


def test_without_epochs_the_history_is_of_the_layers_above(train):
    tuned = train(epochs=0, probe_steps=30)
    assert list(tuned.history["step"]) == list(range(1, 31))
    losses = tuned.history["loss"]
    assert losses.iloc[-5:].mean() < losses.iloc[:5].mean()


def test_measurements_are_predicted_beside(tiny_clap, tones):
    mels, labels = tones
    targets = np.stack([labels * 2.0 - 1, np.full(8, np.nan)], axis=1)
    unknown = Aspect("emotion", FEELINGS, np.where(np.arange(8) == 0, 0, -1))
    still = replace(RECIPE, gain_db=0.0, equaliser_db=0.0, masks=False, epochs=25)
    how = {"recipe": still, "progress": False}
    tuned = train_towers(
        tiny_clap, mels, [unknown], targets=targets.astype(np.float32), **how
    )
    audio = tuned.embed_mels(torch.from_numpy(mels[:, :1]))
    means = [audio[labels == k].mean(dim=0) for k in (0, 1)]
    before = tiny_clap.embed_mels(torch.from_numpy(mels[:, :1]))
    were = [before[labels == k].mean(dim=0) for k in (0, 1)]
    assert (means[0] - means[1]).norm() > (were[0] - were[1]).norm()
    assert weights(tuned).keys() == weights(tiny_clap).keys()  # the layer is dropped


def test_versions_may_have_labels_of_their_own(tiny_clap, tones):
    mels, labels = tones
    both = np.stack([labels, np.full(8, -1)], axis=1)
    aspects = [Aspect("room", FEELINGS, both), Aspect("emotion", FEELINGS, labels)]
    how = {"recipe": replace(RECIPE, epochs=1), "progress": False}
    assert np.isfinite(train_towers(tiny_clap, mels, aspects, **how).history["loss"][0])


def test_sampling_decides_who_is_heard(tiny_clap, tones, monkeypatch):
    mels, labels = tones
    heard = []

    def note(pictures, recipe, *, generator):
        heard.append(pictures)
        return augment(pictures, recipe, generator=generator)

    monkeypatch.setattr("clepdg_lib.contrast.augment", note)
    only = np.zeros(8)
    only[3] = 1.0
    aspect = Aspect("emotion", FEELINGS, labels)
    train_towers(
        tiny_clap,
        mels,
        [aspect],
        recipe=replace(RECIPE, epochs=1),
        sampling=only,
        progress=False,
    )
    expected = torch.from_numpy(mels[3, 0]).float()
    assert all(torch.equal(p, expected) for batch in heard for p in batch)


def test_a_tower_learns_to_follow_what_is_measured_moment_by_moment(tiny_clap, tones):
    """The level of each moment, which moves along when a clip begins elsewhere."""
    mels, _ = tones
    n_moments = count_moments(tiny_clap.model)
    rng = np.random.default_rng(0)
    level = rng.normal(size=(len(mels), n_moments, 1)).astype(np.float32)
    frames = np.repeat(level, -(-mels.shape[2] // n_moments), axis=1)
    loud = (mels[:, :1] + 20 * frames[:, None, : mels.shape[2]]).astype(np.float16)
    level[0, : n_moments // 2] = np.nan  # of which nothing is known
    silent = Aspect("sex", FEELINGS, np.arange(len(mels)) % 2, weight=0.0)
    recipe = replace(RECIPE, epochs=12, learning_rate=3e-3, tower_share=1.0)

    def train(**changes):
        asked = replace(recipe, gain_db=0.0, equaliser_db=0.0, masks=False, **changes)
        how = {"recipe": asked, "moments": level, "progress": False}
        return train_towers(tiny_clap, loud, [silent], **how).history["loss"]

    losses = train()
    assert losses.iloc[-1] < 0.6 * losses.iloc[0]
    assert (train(moment_weight=0.0) == 0).all()


def test_what_does_not_fit_is_refused(tiny_clap, tones):
    mels, labels = tones
    aspect = Aspect("emotion", FEELINGS, labels)
    unknown = Aspect("emotion", FEELINGS, np.full(8, -1))
    for wrong, says in (
        ({"mels": mels[:, 0]}, r"\(8, 251, 64\)"),
        ({"mels": mels[:0]}, r"at least one clip"),
        ({"aspects": [replace(aspect, labels=labels[:5])]}, "5 rows for 8 clips"),
        ({"aspects": [replace(aspect, labels=labels + 1)]}, "level 2.*2 levels"),
        ({"aspects": [unknown]}, "nothing to learn"),
        ({"targets": np.zeros((3, 1))}, "targets has 3 rows"),
        ({"moments": np.zeros((8, 3, 2))}, r"\(8, 3, 2\).*\(8, \d+, measurements\)"),
        ({"sampling": np.ones(9)}, "sampling has 9 rows"),
    ):
        given = {"mels": mels, "aspects": [aspect], "progress": False, **wrong}
        with pytest.raises(ValueError, match=says):
            train_towers(tiny_clap, **given)
