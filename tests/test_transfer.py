"""The text-trained classifier: shapes, losses, seeds, and crossing the gap."""

import math
import sys
import types

import numpy as np
import pytest
import torch
from torch.nn import functional

from clepdg_lib.captions import TEMPLATES
from clepdg_lib.transfer import (
    TextClassifier,
    TextPoints,
    close_gap,
    fit_on_points,
    fit_text_classifier,
    jitter_points,
    modality_gap,
    text_points,
    transductive_centre,
    zero_shot,
)

DIM = 24
EMOTIONS = ("angry", "happy", "neutral", "sad")


def direction(word: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(map(ord, word)) * 7919)
    return torch.randn(DIM, generator=generator)


class FakeClap:
    """A sentence is the sum of its words; emotion words are as long as the rest."""

    dim = DIM

    def embed_text(self, texts):
        rows = []
        for text in texts:
            words = [word.strip(",.") for word in text.split()]
            rows.append(sum(direction(w) * (4 if w in EMOTIONS else 1) for w in words))
        return functional.normalize(torch.stack(rows), dim=-1)


class FakeContexts:
    vectors = torch.zeros(5, 2, DIM)


@pytest.fixture
def clap():
    return FakeClap()


@pytest.fixture
def acpt(monkeypatch):
    """Stand in for acpt: context k is a place named k."""
    module = types.ModuleType("clepdg_lib.acpt")

    def embed_contexts(clap, contexts, emotions):
        return torch.stack(
            [
                clap.embed_text([f"feeling {e} in place{k}" for e in emotions])
                for k in range(len(contexts.vectors))
            ]
        )

    module.embed_contexts = embed_contexts
    monkeypatch.setitem(sys.modules, "clepdg_lib.acpt", module)
    return module


def test_a_model_that_learned_no_scale_is_given_that_of_clip(clap):
    assert zero_shot(clap, EMOTIONS).scale == pytest.approx(1 / 0.07)


def voices(n: int = 200, *, seed: int = 0, offset: float = 0.0):
    """Clips around the emotion words, all moved the same way by ``offset``."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (n,), generator=generator)
    words = torch.stack([direction(e) for e in EMOTIONS])
    noise = torch.randn(n, DIM, generator=generator)
    clips = words[y] + 0.5 * noise + offset * direction("corpus")
    return functional.normalize(clips, dim=-1), np.array(EMOTIONS)[y.numpy()]


def accuracy(classifier, audio, truth):
    return float((classifier.predict(audio) == truth).mean())


def test_text_classifier_shapes_and_probabilities(clap):
    audio, truth = voices()
    classifier = fit_text_classifier(clap, EMOTIONS)
    assert classifier.weight.shape == (4, DIM)
    assert torch.allclose(classifier.weight.norm(dim=1), torch.ones(4), atol=1e-5)
    proba = classifier.predict_proba(audio)
    assert proba.shape == (200, 4)
    assert torch.allclose(proba.sum(dim=1), torch.ones(200), atol=1e-5)
    predicted = classifier.predict(audio)
    assert predicted.shape == (200,)
    best = np.array(EMOTIONS)[proba.argmax(dim=1).numpy()]
    assert (best == predicted).all()
    assert accuracy(classifier, audio, truth) > 0.9


def test_text_classifier_order_of_emotions_is_kept(clap):
    audio, truth = voices()
    backwards = EMOTIONS[::-1]
    classifier = fit_text_classifier(clap, backwards)
    assert classifier.emotions == backwards
    assert accuracy(classifier, audio, truth) > 0.9


def test_fit_converges_and_follows_its_seed(clap):
    points = text_points(clap, EMOTIONS)
    small = dict(emotions=EMOTIONS, batch_size=16)
    first = fit_on_points(points.vectors, points.labels, seed=3, **small)
    again = fit_on_points(points.vectors, points.labels, seed=3, **small)
    other = fit_on_points(points.vectors, points.labels, seed=4, **small)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert list(first.history.columns) == ["epoch", "loss", "accuracy"]
    assert len(first.history) == 50
    assert first.history["loss"].iloc[-1] < first.history["loss"].iloc[0]


def test_fifty_epochs_are_enough_from_the_class_means(clap, acpt):
    points = text_points(clap, EMOTIONS, contexts=FakeContexts(), include_plain=False)
    losses = {
        (start, epochs): fit_on_points(
            points.vectors, points.labels, emotions=EMOTIONS, start=start, epochs=epochs
        )
        .history["loss"]
        .iloc[-1]
        for start in ("means", "random")
        for epochs in (50, 1000)
    }
    rest = losses["means", 50] - losses["means", 1000]
    assert 0 <= rest < 0.1
    assert losses["random", 50] - losses["random", 1000] > 2 * rest


@pytest.mark.parametrize("start", ["means", "centred", "random"])
@pytest.mark.parametrize("loss", ["arcface", "cross-entropy"])
def test_every_loss_and_start_separates_the_points(clap, loss, start):
    points = text_points(clap, EMOTIONS, templates=TEMPLATES)
    classifier = fit_on_points(
        points.vectors, points.labels, emotions=EMOTIONS, loss=loss, start=start
    )
    assert classifier.history["accuracy"].iloc[-1] > 0.95
    hits = classifier.predict(points.vectors) == np.array(EMOTIONS)[points.labels]
    last = classifier.history["accuracy"].iloc[-1]  # before the last step
    assert last == pytest.approx(hits.mean(), abs=0.5 / len(hits))


def test_arcface_without_margin_is_cross_entropy(clap):
    points = text_points(clap, EMOTIONS)
    both = [
        fit_on_points(points.vectors, points.labels, emotions=EMOTIONS, **setting)
        for setting in (dict(margin=0.0), dict(loss="cross-entropy"))
    ]
    assert torch.equal(both[0].weight, both[1].weight)


def test_margin_is_added_to_the_angle():
    # One step from known weights: the first loss is that of cos(angle + margin).
    angles = torch.tensor([0.2, 1.0, 1.4])
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([0, 0, 1])
    classifier = fit_on_points(
        points, labels, emotions=("sad", "angry"), epochs=1, scale=5.0, margin=0.5
    )
    w0 = functional.normalize(points[:2].mean(0), dim=0)
    own = torch.atan2(w0[1], w0[0])
    logits = 5 * torch.stack([(angles - own).cos(), (angles - 1.4).cos()], dim=1)
    logits[0, 0] = 5 * ((angles[0] - own).abs() + 0.5).cos()
    logits[1, 0] = 5 * ((angles[1] - own).abs() + 0.5).cos()
    logits[2, 1] = 5 * torch.tensor(0.5).cos()
    each = functional.cross_entropy(logits, labels, reduction="none")
    expected = 0.25 * each[0] + 0.25 * each[1] + 0.5 * each[2]
    assert classifier.history["loss"].iloc[0] == pytest.approx(
        expected.item(), abs=2e-3
    )


def test_past_pi_the_margin_goes_on_falling_in_a_line():
    # The second point lies opposite to the mean of its class, which is the first.
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    how = {"emotions": ("sad", "angry"), "epochs": 1, "scale": 5.0, "margin": 0.5}
    weights = torch.tensor([0.6, 0.4, 1.0])
    found = fit_on_points(points, [0, 0, 1], weights=weights, **how)
    logits = 5 * torch.tensor(
        [[math.cos(0.5), 0.0], [-1 - 0.5 * math.sin(0.5), 0.0], [0.0, math.cos(0.5)]]
    )
    each = functional.cross_entropy(logits, torch.tensor([0, 0, 1]), reduction="none")
    share = weights / weights.sum()
    expected = (each * share).sum().item()
    assert found.history["loss"].iloc[0] == pytest.approx(expected, abs=2e-3)


def test_rare_emotions_count_as_much_as_frequent_ones():
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(2)
    many = centres[0] + 0.05 * torch.randn(300, 2, generator=generator)
    few = centres[1] + 0.05 * torch.randn(3, 2, generator=generator)
    classifier = fit_on_points(
        torch.cat([many, few]),
        [0] * 300 + [1] * 3,
        emotions=("neutral", "sad"),
        start="random",
        epochs=100,
    )
    middle = functional.normalize(torch.tensor([[1.0, 1.0]]), dim=-1)
    assert classifier.predict_proba(middle)[0, 0] == pytest.approx(0.5, abs=0.15)


def test_contexts_join_the_plain_sentences(clap, acpt):
    plain = text_points(clap, EMOTIONS, templates=("feeling {emotion}",))
    assert plain.vectors.shape == (4, DIM)
    placed = text_points(clap, EMOTIONS, contexts=FakeContexts(), include_plain=False)
    assert placed.vectors.shape == (20, DIM)
    expected = clap.embed_text(["feeling happy in place3"])[0]
    assert placed.labels[13] == 1
    assert torch.allclose(placed.vectors[13], expected)
    both = text_points(clap, EMOTIONS, contexts=FakeContexts())
    n_plain = len(both.vectors) - 20
    assert n_plain > 16
    # Both sources and all emotions weigh the same.
    assert both.weights.sum().item() == pytest.approx(1.0)
    assert both.weights[:n_plain].sum().item() == pytest.approx(0.5)
    for label in range(4):
        share = both.weights[both.labels == label].sum().item()
        assert share == pytest.approx(0.25)


def test_contexts_change_the_classifier_and_leave_the_model_alone(clap, acpt):
    audio, truth = voices()
    without = fit_text_classifier(clap, EMOTIONS)
    within = fit_text_classifier(clap, EMOTIONS, contexts=FakeContexts())
    assert not torch.allclose(without.weight, within.weight)
    assert accuracy(within, audio, truth) > 0.9


def test_zero_shot_is_the_prompts_themselves(clap):
    classifier = zero_shot(clap, EMOTIONS)
    prompts = clap.embed_text([f"this person is feeling {e}" for e in EMOTIONS])
    assert torch.allclose(classifier.weight, prompts, atol=1e-6)
    assert classifier.history.empty
    templates = ("a {emotion} voice", "feeling {emotion}")
    ensemble = zero_shot(clap, EMOTIONS, templates=templates)
    mean = sum(
        clap.embed_text([t.format(emotion=e) for e in EMOTIONS]) for t in templates
    )
    expected = functional.normalize(mean, dim=-1)
    assert torch.allclose(ensemble.weight, expected, atol=1e-2)


def test_training_is_possible_where_gradients_are_off(clap):
    with torch.no_grad():
        assert fit_text_classifier(clap, EMOTIONS).weight.shape == (4, DIM)
    with torch.inference_mode():  # as Clap embeds
        points = clap.embed_text(list(EMOTIONS))
    classifier = fit_on_points(points, range(4), emotions=EMOTIONS)
    assert classifier.predict(points).tolist() == list(EMOTIONS)


def test_jitter_has_the_stated_length_and_keeps_weights(clap):
    points = text_points(clap, EMOTIONS, templates=("feeling {emotion}",))
    noisy = jitter_points(points, noise_std=0.5, n_copies=50, seed=1)
    assert isinstance(noisy, TextPoints)
    assert len(noisy.vectors) == 4 * 51
    assert torch.equal(noisy.vectors[:4], points.vectors)
    assert noisy.weights.sum().item() == pytest.approx(1.0)
    cosine = (noisy.vectors[4:8] * points.vectors).sum(1).mean().item()
    assert 0.75 < cosine < 0.99
    none = jitter_points(points, noise_std=0.0, n_copies=1)
    assert torch.allclose(none.vectors[4:], points.vectors, atol=1e-6)


def test_gap_is_the_difference_of_means():
    audio, _ = voices(offset=3.0)
    text = functional.normalize(torch.randn(50, DIM), dim=-1)
    gap = modality_gap(audio, text)
    difference = text.mean(0) - audio.mean(0)
    assert gap.distance == pytest.approx(difference.norm().item(), rel=1e-5)
    assert torch.allclose(gap.direction * gap.distance, difference, atol=1e-5)
    pairs = audio @ audio.T
    n = len(audio)
    within = (pairs.sum() - pairs.trace()) / (n * (n - 1))
    assert gap.cosine_within_audio == pytest.approx(within.item(), abs=1e-4)
    between = (audio @ text.T).mean().item()
    assert gap.cosine_between == pytest.approx(between, abs=1e-5)


def test_closing_the_gap_repairs_a_shifted_corpus(clap):
    # The shift points at one emotion, so an uncorrected classifier falls for it.
    generator = torch.Generator().manual_seed(1)
    clips, truth = voices(400)
    shift = 1.5 * functional.normalize(direction("sad"), dim=0)
    shifted = functional.normalize(clips + shift, dim=-1)
    classifier = fit_text_classifier(clap, EMOTIONS, seed=0)
    before = accuracy(classifier, shifted, truth)
    points = text_points(clap, EMOTIONS)
    seen = shifted[torch.randperm(400, generator=generator)[:200]]
    mean_text = torch.stack(
        [points.vectors[points.labels == i].mean(0) for i in range(4)]
    ).mean(0)
    closed = close_gap(shifted, mean_audio=seen.mean(0), mean_text=mean_text)
    assert torch.allclose(closed.norm(dim=1), torch.ones(400), atol=1e-5)
    after = accuracy(classifier, closed, truth)
    assert before < 0.6
    assert after > before + 0.2
    centred = transductive_centre(shifted)
    assert accuracy(classifier, centred, truth) > before + 0.2
    nothing = close_gap(
        shifted, mean_audio=seen.mean(0), mean_text=mean_text, strength=0.0
    )
    assert torch.allclose(nothing, shifted, atol=1e-5)


def test_transductive_centre_can_move_anywhere():
    audio, _ = voices(offset=3.0)
    target = direction("target") / 4
    moved = transductive_centre(audio, home=target)
    expected = functional.normalize(audio - audio.mean(0) + target, dim=-1)
    assert torch.allclose(moved, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(emotions=("sad",)), "two or more"),
        (dict(emotions=("sad", "sad")), "two or more"),
        (dict(emotions="sad"), "two or more"),
        (dict(templates="a {emotion} voice"), "list of one or more"),
        (dict(templates=()), "list of one or more"),
        (dict(templates=("no placeholder",)), "emotion"),
        (dict(include_plain=False), "without contexts"),
        (dict(loss="hinge"), "cross-entropy"),
        (dict(start="nowhere"), "centred"),
    ],
)
def test_bad_settings_are_named(clap, arguments, words):
    with pytest.raises(ValueError, match=words):
        fit_text_classifier(clap, **arguments)


@pytest.mark.parametrize(
    ("points", "labels", "words"),
    [
        (torch.ones(4), [0, 1, 0, 1], "points has shape"),
        (torch.ones(4, 3), [0, 1], "one index per point"),
        (torch.ones(4, 3), [0, 1, 2, 1], "0 to 1"),
        (torch.ones(4, 3), [0, 0, 0, 0], "no points for \\['sad'\\]"),
    ],
)
def test_bad_points_are_named(points, labels, words):
    with pytest.raises(ValueError, match=words):
        fit_on_points(points, labels, emotions=("angry", "sad"))


def test_embeddings_of_another_width_are_refused():
    classifier = TextClassifier(("angry", "sad"), torch.eye(2))
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        classifier.predict(torch.ones(3, 5))
