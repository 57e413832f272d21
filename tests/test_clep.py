"""CLEP: its loss by hand, no negatives inside an emotion, and what training leaves."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from stand_ins import tone_corpus, word_clap
from torch.nn import functional as F

from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clep import (
    CaptionAttribute,
    TrainConfig,
    balanced_weights,
    finetune_clep,
    label_aware_loss,
    train_projection,
)
from clepdg_lib.embeddings import EmbeddedCorpus
from clepdg_lib.evaluation.metrics import uar
from clepdg_lib.transfer import zero_shot

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def clap():
    return word_clap()


@pytest.fixture
def data(clap):
    """Eighty clips of each emotion around a direction, a quarter of them to test."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(320) % 4
    features = 2 * torch.randn(4, clap.width, generator=draw)[y]
    features = features + torch.randn(320, clap.width, generator=draw)
    clips = pd.DataFrame({"corpus": "made", "emotion": np.array(EMOTIONS)[y]})
    clips["split"] = np.where(np.arange(320) < 240, "train", "test")
    return EmbeddedCorpus(clap.project(features), features, clips)


def batch(n=7, n_levels=3, dim=5):
    draw = torch.Generator().manual_seed(1)
    audio = F.normalize(torch.randn(n, dim, generator=draw), dim=1)
    text = F.normalize(torch.randn(n_levels, dim, generator=draw), dim=1)
    return audio, text, torch.arange(n) % n_levels


# ---------------------------------------------------------------------- loss
def by_hand(audio, text, labels, scale, weights):
    """The docstring's equation, with loops."""
    logits = (scale * audio @ text.T).tolist()
    w = [float(x) / float(sum(weights)) for x in weights]
    n, levels = len(w), range(len(text))
    to_text = to_audio = 0.0
    for i in range(n):
        p = math.exp(logits[i][labels[i]]) / sum(math.exp(logits[i][a]) for a in levels)
        to_text -= w[i] * math.log(p)
    for a in levels:
        own = [i for i in range(n) if labels[i] == a]
        total = sum(w[i] for i in own)
        everyone = sum(w[j] * math.exp(logits[j][a]) for j in range(n))
        for i in own:
            p = total * math.exp(logits[i][a]) / everyone
            to_audio -= w[i] / total * math.log(p) / len(text)
    return 0.5 * (to_text + to_audio)


@pytest.mark.parametrize("weights", [[1] * 7, [1, 2, 0.5, 3, 1, 1, 4]])
def test_loss_is_the_equation(weights):
    audio, text, labels = batch()
    found = label_aware_loss(audio, text, labels, 4.0, weights=torch.tensor(weights))
    expected = by_hand(audio, text, labels.tolist(), 4.0, weights)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_one_clip_a_level_is_the_symmetric_loss_of_clap():
    audio, text, labels = batch(n=3)
    logits = 4 * audio @ text.T  # InfoNCE in both directions, less its least, log n - 0
    expected = F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)
    found = label_aware_loss(audio, text, labels, 4.0)
    least = math.log(3) / 2  # W_a = 1/3 is in the numerator, w_j = 1/3 in every term
    assert float(found) == pytest.approx(float(expected) / 2, rel=1e-5)
    aligned = label_aware_loss(torch.eye(3), torch.eye(3), labels, 50.0)
    assert float(aligned) == pytest.approx(0, abs=1e-5) and least > 0


def test_clips_of_one_emotion_are_no_negatives():
    """A clip and its twin gain by nearing their sentence; neither pays for the other."""
    text = torch.eye(3)[:2]
    for labels, signs in (([0, 0, 1], (-1, -1)), ([0, 1, 1], (-1, 1))):
        audio = torch.full((3, 3), 0.5).requires_grad_()
        label_aware_loss(audio, text, torch.tensor(labels), 1.0).backward()
        assert audio.grad[:2, 0].sign().tolist() == list(signs)
    # Two that are right already: the loss is 0, where InfoNCE of pairs would be log 2.
    twins = label_aware_loss(torch.eye(3)[[0, 0, 1]], text, torch.tensor([0, 0, 1]), 60)
    assert float(twins) == pytest.approx(0, abs=1e-5)


def test_weights_stand_for_copies_and_unknown_levels_for_nothing():
    audio, text, labels = batch()
    doubled = label_aware_loss(
        audio[[0, 0, *range(1, 7)]], text, labels[[0, *range(7)]], 4
    )
    weights = torch.tensor([2.0, 1, 1, 1, 1, 1, 1])
    torch.testing.assert_close(
        label_aware_loss(audio, text, labels, 4, weights=weights), doubled
    )
    without = label_aware_loss(audio[1:], text, labels[1:], 4)
    unknown = labels.clone()
    unknown[0] = -1
    torch.testing.assert_close(label_aware_loss(audio, text, unknown, 4), without)
    weights[0] = 0
    zero = label_aware_loss(audio, text, labels, 4, weights=weights)
    torch.testing.assert_close(zero, without)
    audio.requires_grad_()
    nothing = label_aware_loss(audio, text, torch.full((7,), -1), 4)
    nothing.backward()
    assert float(nothing) == 0 and float(audio.grad.abs().sum()) == 0


def test_every_corpus_and_emotion_weighs_the_same():
    clips = pd.DataFrame(
        {"corpus": list("aaab"), "emotion": ["sad", "sad", "angry", "sad"]}
    )
    assert balanced_weights(clips).tolist() == [0.5, 0.5, 1, 1]


# ------------------------------------------------------------------ training
def test_training_separates_emotions_and_leaves_the_start(clap, data):
    before = {key: value.clone() for key, value in clap.state_dict().items()}
    test = data.select(split="test")
    clep = finetune_clep(clap, data, validation=test, **QUIET)
    truth = test.clips["emotion"]
    predicted = zero_shot(clep, EMOTIONS).predict(clep.project(test.features))
    start = zero_shot(clap, EMOTIONS).predict(test.embeddings)
    assert uar(truth, start) < 0.6 and uar(truth, predicted) > 0.9
    assert clep.audio_tower is clap.audio_tower and clep.text_tower is clap.text_tower
    assert clep.text_projection is clap.text_projection
    assert clap.history is None and clap.name == "tiny" and clep.name == "clep(tiny)"
    for key, value in clap.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not any(p.requires_grad or p.grad is not None for p in clep.parameters())
    history = clep.history
    assert list(history.columns) == ["iteration", "loss", "validation_uar"]
    assert history["iteration"].tolist() == list(range(5, 61, 5))
    assert history["loss"].is_monotonic_decreasing
    assert history["validation_uar"].iloc[-1] == pytest.approx(uar(truth, predicted))


def test_training_is_deterministic_and_uses_the_train_split_alone(clap, data):
    noise = {"augment": lambda x, g: x + torch.randn(x.shape, generator=g)}
    first, again, other, blind = (
        finetune_clep(clap, clips, seed=seed, **noise, **QUIET).audio_projection.weight
        for clips, seed in (
            *((data, 3), (data, 3), (data, 4)),
            (replace(data, features=data.features.clone()), 3),
        )
    )
    assert torch.equal(first, again) and torch.equal(first, blind)
    assert not torch.equal(first, other)
    data.features[240:] = 99.0  # the test split may hold anything
    blind = finetune_clep(clap, data, seed=3, **noise, **QUIET)
    assert torch.equal(blind.audio_projection.weight, first)


def test_a_corpus_is_embedded_first(clap, tmp_path):
    clep = finetune_clep(
        clap, tone_corpus(tmp_path), emotions=("Sad", "angry"), **QUIET
    )
    assert (
        len(clep.history) == 12
        and clep.embed_audio([torch.rand(8000)]).isfinite().all()
    )


def test_a_known_solution_is_the_end_of_training(clap, data):
    labels = np.arange(320) % 4
    about = CaptionAttribute("emotion", [[e] for e in EMOTIONS], labels)
    options = {"config": TrainConfig(), **QUIET}
    first = train_projection(clap, data.features, [about], **options)
    again = train_projection(clap, data.features, [about], start=first, **options)
    assert again.history["loss"].iloc[0] < first.history["loss"].iloc[0]
    torch.testing.assert_close(
        again.project(data.features), first.project(data.features), atol=0.01, rtol=0
    )


@pytest.mark.parametrize(
    ("change", "emotions", "message"),
    [
        ({}, ("sad", "bored"), r"no clips of \['bored'\]; they have \['angry'"),
        ({}, ("sad",), "two or more different words"),
        ({"emotion": "sad"}, None, "two or more different words"),
    ],
)
def test_emotions_are_checked_before_anything_is_embedded(
    clap, tmp_path, monkeypatch, change, emotions, message
):
    corpus = tone_corpus(tmp_path)
    corpus = replace(corpus, clips=corpus.clips.assign(**change))
    monkeypatch.setattr("clepdg_lib.clep.embed_corpus", lambda *_, **__: pytest.fail())
    with pytest.raises(ValueError, match=message):
        finetune_clep(clap, corpus, emotions=emotions, **QUIET)


def test_features_that_are_none_are_refused(clap, data):
    data.features[5, 3] = math.nan
    with pytest.raises(ValueError, match=r"must be finite and \(n, 32\)"):
        finetune_clep(clap, data, **QUIET)
    narrow = replace(data, features=torch.ones(320, 7))
    with pytest.raises(ValueError, match=r"shape \(240, 7\)"):
        finetune_clep(clap, narrow, **QUIET)


@pytest.mark.parametrize("name", list(vars(TrainConfig())))
@pytest.mark.parametrize("value", [math.nan, -1.0, math.inf])
def test_settings_outside_their_limits_are_named(name, value):
    with pytest.raises(
        ValueError, match=rf"{name} is {value}; must be in .* to 10,000"
    ):
        TrainConfig(**{name: value})
