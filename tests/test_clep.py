"""CLEP: its loss by hand, no negatives inside an emotion, and what training leaves."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from stand_ins import odd_torch, tiny_clap, tone_corpus
from torch.nn import functional as F

from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clep import (
    CaptionAttribute,
    TrainConfig,
    finetune_clep,
    label_aware_loss,
    loss_of_logits,
    train_projection,
)
from clepdg_lib.embeddings import EmbeddedCorpus
from clepdg_lib.evaluation.metrics import uar
from clepdg_lib.transfer import zero_shot


@pytest.fixture
def data(clap):
    """Eighty clips of each emotion around a direction, a quarter of them to test."""
    draw, y = torch.Generator().manual_seed(0), torch.arange(320) % 4
    features = 2 * torch.randn(4, clap.width, generator=draw)[y]
    features = features + torch.randn(320, clap.width, generator=draw)
    clips = pd.DataFrame({"corpus": "made", "emotion": np.array(EMOTIONS)[y]})
    clips["split"] = np.where(np.arange(320) < 240, "train", "test")
    return EmbeddedCorpus(clap.project(features), features, clips)


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(1)
    audio, text = (torch.randn(n, 5, generator=draw) for n in (7, 3))
    return F.normalize(audio, dim=1), F.normalize(text, dim=1), torch.arange(7) % 3


@pytest.mark.parametrize("weights", [[1] * 7, [1, 2, 0.5, 3, 1, 1, 4]])
def test_loss_is_the_equation(batch, weights):
    audio, text, labels = batch
    e = (4.0 * audio @ text.T).exp().tolist()
    w = [x / sum(weights) for x in weights]
    to_text = to_audio = 0.0
    for i, y in enumerate(labels.tolist()):
        own = sum(w[j] for j in range(7) if labels[j] == y)  # W_a
        share = own * e[i][y] / sum(w[j] * e[j][y] for j in range(7))
        to_text -= w[i] * math.log(e[i][y] / sum(e[i]))
        to_audio -= w[i] / own * math.log(share) / 3
    found = label_aware_loss(audio, text, labels, 4.0, weights=torch.tensor(weights))
    assert float(found) == pytest.approx((to_text + to_audio) / 2, rel=1e-5)
    logits, one_each = 4.0 * audio[:3] @ text.T, torch.arange(3)  # then it is CLAP's
    info_nce = F.cross_entropy(logits, one_each) + F.cross_entropy(logits.T, one_each)
    found = label_aware_loss(audio[:3], text, one_each, 4.0)
    torch.testing.assert_close(found, info_nce / 2)


def test_clips_of_one_emotion_are_no_negatives():
    text = torch.eye(3)[:2]
    for other, sign in ((0, -1), (1, 1)):  # a twin nears the first's text, others flee
        audio = torch.full((3, 3), 0.5, requires_grad=True)
        label_aware_loss(audio, text, torch.tensor([0, other, 1]), 1.0).backward()
        assert audio.grad[:2, 0].sign().tolist() == [-1, sign]


def test_weights_stand_for_copies_and_unknown_levels_for_nothing(batch):
    (audio, text, labels), weights = batch, torch.ones(7)
    rows, unknown = [0, *range(7)], torch.cat([torch.tensor([-1]), labels[1:]])
    twice = label_aware_loss(audio[rows], text, labels[rows], 4)
    never = label_aware_loss(audio[1:], text, labels[1:], 4)
    for weight, expected in ((2, twice), (0, never)):
        weights[0] = weight
        found = label_aware_loss(audio, text, labels, 4, weights=weights)
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(label_aware_loss(audio, text, unknown, 4), never)
    assert float(label_aware_loss(audio, text, -torch.ones(7).long(), 4)) == 0


def test_training_separates_emotions_and_leaves_the_start(clap, data):
    before = {key: value.clone() for key, value in clap.state_dict().items()}
    test = data.select(split="test")
    clep = finetune_clep(clap, data, progress=False)
    truth = test.clips["emotion"]
    start = zero_shot(clap, EMOTIONS).predict(test.embeddings)
    trained = zero_shot(clep, EMOTIONS).predict(clep.project(test.features))
    assert uar(truth, start) < 0.6 and uar(truth, trained) > 0.9
    assert clep.audio_tower is clap.audio_tower and clep.text_tower is clap.text_tower
    assert clap.history is None and clap.name == "tiny" and clep.name == "clep(tiny)"
    assert all(torch.equal(x, before[key]) for key, x in clap.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in clep.parameters())
    assert clep.history["iteration"].tolist() == [5, 10, 15, 20, 25]
    assert clep.history["loss"].is_monotonic_decreasing


@pytest.mark.parametrize("consistency", [0.0, 2.0])
def test_training_minimises_the_stated_loss(clap, data, consistency):
    config = TrainConfig(max_iterations=200, consistency=consistency, augment_weight=3)
    x, draw = data.features[:240], torch.Generator().manual_seed(2)
    bent = x + torch.randn(x.shape, generator=draw)
    spoken, said = [[f"a {e} voice"] for e in EMOTIONS], [["a man"], ["a woman"]]
    attributes = [CaptionAttribute("emotion", spoken, np.arange(240) % 4)]
    attributes += [CaptionAttribute("sex", said, np.arange(240) % 3 - 1, share=0.5)]
    how = {"config": config, "augment": lambda *_: bent, "progress": False}
    trained = train_projection(clap, x, attributes, **how)

    def loss(weight, bias):
        total = 2.5 * (weight * x.std(dim=0)).square().sum()
        for attribute in attributes:
            text = torch.cat([clap.embed_text(words) for words in attribute.sentences])
            clean, other = (10 * F.linear(z, weight, bias) @ text.T for z in (x, bent))
            labels, target = torch.tensor(attribute.labels), clean.detach().softmax(1)
            part = loss_of_logits(clean, labels) + 3 * loss_of_logits(other, labels)
            apart = F.kl_div(other.log_softmax(1), target, reduction="batchmean")
            total = total + attribute.share * (part / 4 + consistency * apart)
        return total

    def steepness(at):
        at = [each.detach().clone().requires_grad_() for each in at]
        return float(sum(g.norm() for g in torch.autograd.grad(loss(*at), at)))

    found = [*trained.audio_projection.parameters()]
    assert steepness(found) < 0.01 * steepness([0 * each for each in found])
    least = trained.history["loss"].iloc[-1]
    assert float(loss(*found)) == pytest.approx(least, rel=0.01)
    again = train_projection(clap, x, attributes, start=trained, **how)
    assert again.history["loss"].iloc[0] == pytest.approx(least, rel=0.01)


def test_training_is_deterministic_and_uses_the_train_split_alone(clap, data):
    def train(seed):
        options = {"config": TrainConfig(max_iterations=10), "progress": False}
        options["augment"] = lambda x, draw: x + torch.randn(x.shape, generator=draw)
        return finetune_clep(clap, data, seed=seed, **options).audio_projection.weight

    first = train(3)
    assert torch.equal(train(3), first) and not torch.equal(train(4), first)
    data.features[240:] = math.nan  # the test split may hold anything
    assert torch.equal(train(3), first)
    data.features[5, 3] = math.nan
    with pytest.raises(ValueError, match=r"features of shape \(240, 32\) .* finite"):
        train(3)


def test_emotions_are_checked_before_a_corpus_is_read(clap, tmp_path, private_cache):
    corpus, few = tone_corpus(tmp_path / "tones"), TrainConfig(max_iterations=3)
    wrong = {("sad", "bored"): r"\['bored'\]; there", "sad": "two"}
    for emotions, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            finetune_clep(clap, corpus, emotions=emotions, progress=False)
    assert not private_cache.exists()
    clep = finetune_clep(clap, corpus, config=few, progress=False)
    assert clep.history["iteration"].tolist() == [3] and private_cache.exists()


@pytest.mark.parametrize("name", list(vars(TrainConfig())))
def test_settings_outside_their_limits_are_named(name):
    for value in (math.nan, -1.0, math.inf):
        with pytest.raises(ValueError, match=rf"{name} is {value}; it must be a"):
            TrainConfig(**{name: value})


def test_what_would_train_another_model_in_silence_is_refused(clap, data):
    def train(data, **how):
        return finetune_clep(clap, data, progress=False, **how)

    alike = data.clips.replace({"sad": "frölich", "angry": "traurig"})
    with pytest.raises(ValueError, match="cannot tell 'frölich' from 'traurig'"):
        train(replace(data, clips=alike))  # both are the unknown word
    other = tiny_clap()
    with pytest.raises(ValueError, match="not of tiny's tower; use that model"):
        train(replace(data, tower=f"{other.fingerprint()} of yesterday"))
    for bend in (lambda x, _: x * math.nan, lambda x, _: x[:, :5]):
        with pytest.raises(ValueError, match=r"augmented .*finite numbers, \(n, 32\)"):
            train(data, augment=bend)
    expected = train(data, emotions=("Anger", "sadness")).audio_projection.weight
    kinds = (data.features.double(), data.features.numpy(), data.features.clone())
    kinds = [replace(data, features=x) for x in kinds]
    with odd_torch():
        found = [train(x, emotions=("angry", "sad")) for x in kinds]
    assert all(torch.equal(c.audio_projection.weight, expected) for c in found)
