"""The text-trained classifier: shapes, losses, seeds, and crossing the gap."""

import math

import numpy as np
import pytest
import torch
from stand_ins import DIM, odd_torch
from torch.nn import functional as F

from clepdg_lib import transfer
from clepdg_lib.acpt import embed_contexts, random_contexts
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.transfer import TextPoints, fit_on_points, text_points, zero_shot


@pytest.fixture(scope="module")
def words(clap):
    """(E, dim) mean direction of each emotion's sentences, apart from each other."""
    return transfer.class_means(text_points(clap, EMOTIONS), 4)


def clips(words, n=200, *, spread=0.1):
    """Unit vectors around the emotions' sentences, and their labels."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(4, (n,), generator=generator)
    vectors = words[y] + spread * torch.randn(n, DIM, generator=generator)
    return F.normalize(vectors, dim=-1), np.array(EMOTIONS)[y.numpy()]


def accuracy(classifier, audio, truth):
    return float((classifier.predict(audio) == truth).mean())


# --------------------------------------------------------------- classifiers
def test_columns_are_named_by_emotions(clap, words):
    audio, truth = clips(words)
    for emotions in (EMOTIONS, EMOTIONS[::-1]):
        classifier = transfer.fit_text_classifier(clap, emotions)
        assert classifier.emotions == emotions
        assert classifier.weight.shape == (4, DIM)
        torch.testing.assert_close(classifier.weight.norm(dim=1), torch.ones(4))
        proba = classifier.predict_proba(audio)
        assert proba.shape == (200, 4)
        torch.testing.assert_close(proba.sum(dim=1), torch.ones(200))
        best = np.array(emotions)[proba.argmax(dim=1).numpy()]
        assert (best == classifier.predict(audio)).all()
        assert accuracy(classifier, audio, truth) > 0.8


def test_zero_shot_is_the_prompts_themselves(clap):
    classifier = zero_shot(clap, EMOTIONS)
    prompts = clap.embed_text([f"this person is feeling {e}" for e in EMOTIONS])
    torch.testing.assert_close(classifier.weight, prompts, atol=1e-6, rtol=0)
    assert classifier.scale == clap.logit_scale
    templates = ("a {emotion} voice", "feeling {emotion}")
    rows = [clap.embed_text([t.format(emotion=e) for e in EMOTIONS]) for t in templates]
    ensemble = zero_shot(clap, EMOTIONS, templates=templates)
    expected = F.normalize(rows[0] + rows[1], dim=-1)
    torch.testing.assert_close(ensemble.weight, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [zero_shot, transfer.fit_text_classifier])
def test_words_that_the_tower_cannot_tell_apart_are_refused(clap, make):
    with pytest.raises(ValueError, match="cannot tell 'frölich' from 'traurig'"):
        make(clap, ("sad", "frölich", "traurig"))  # both are the unknown word


def test_no_column_gets_the_name_of_another(clap, words):
    turned = EMOTIONS[::-1]
    points = text_points(clap, turned)
    fitted = fit_on_points(points)  # labels mean what the points say
    assert fitted.emotions == turned and fitted.predict(words).tolist() == [*EMOTIONS]
    with pytest.raises(ValueError, match="the points' labels mean .'sad', 'neutral'"):
        fit_on_points(points, emotions=EMOTIONS)
    with pytest.raises(ValueError, match="4 rows of weights for .'angry', 'sad'"):
        transfer.TextClassifier(("angry", "sad"), words)
    for make in (zero_shot, transfer.fit_text_classifier):
        assert make(clap, ("Anger", "SAD")).predict(words[:1]).tolist() == ["angry"]


def test_what_are_no_embeddings_or_points_is_refused(words):
    for audio, message in (
        (torch.ones(3, DIM + 1), rf"\(3, {DIM + 1}\).*\(n, {DIM}\)"),
        (torch.ones(DIM), rf"\({DIM},\)"),
        (torch.ones(0, DIM), rf"\(0, {DIM}\)"),
        (torch.full((3, DIM), torch.nan), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            transfer.TextClassifier(EMOTIONS, words).predict(audio)
    for points, labels, message in (
        (torch.ones(4), [0, 1, 0, 1], "points of shape"),
        (torch.ones(4, 3), [0, 1], r"\(2,\).*give 4"),
        (torch.ones(4, 3), [0, 1, 2, 1], r"\[0, 1, 2\].*each of \[0, 1\]"),
        (torch.ones(4, 3), [0, 0, 0, 0], r"\[0\].*each of \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_on_points((points, labels), emotions=("angry", "sad"))


# -------------------------------------------------------------------- points
def test_contexts_join_the_plain_sentences(clap):
    contexts = random_contexts(clap, n_contexts=5, n_tokens=2)
    plain = text_points(clap, EMOTIONS, templates=("feeling {emotion}",))
    assert plain.vectors.shape == (4, DIM)
    both = text_points(clap, EMOTIONS, contexts=contexts)
    n_plain = len(both.vectors) - 20
    assert n_plain > 16
    expected = embed_contexts(clap, contexts, EMOTIONS)  # (K, E, dim)
    assert both.labels[n_plain + 13] == 1
    assert torch.equal(both.vectors[n_plain + 13], expected[3, 1])
    # Both sources and all emotions weigh the same.
    assert float(both.weights.sum()) == pytest.approx(1.0)
    assert float(both.weights[:n_plain].sum()) == pytest.approx(0.5)
    for label in range(4):
        assert float(both.weights[both.labels == label].sum()) == pytest.approx(0.25)
    within = transfer.fit_text_classifier(clap, EMOTIONS, contexts=contexts)
    assert not torch.equal(within.weight, transfer.fit_text_classifier(clap).weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(emotions=("sad", "sad")), "two or more"),
        (dict(emotions="sad"), "two or more"),
        (dict(templates="a {emotion} voice"), "lack"),
        (dict(templates=()), "one or more sentences"),
        (dict(templates=("no placeholder",)), "emotion"),
        (dict(loss="hinge"), "'hinge'.*cross-entropy"),
        (dict(scale=0), "scale is 0; .* from 1e-06"),
        (dict(margin=2.0), "margin is 2.0; .* to 1.57"),
        (dict(learning_rate=math.nan), "learning_rate is nan"),
        (dict(learning_rate=1e6), "learning_rate is 1000000.0.* to 1000"),
        (dict(epochs=2.5), "epochs is 2.5; it must be a whole number"),
    ],
)
def test_bad_settings_are_named(clap, arguments, message):
    with pytest.raises(ValueError, match=message):
        transfer.fit_text_classifier(clap, **arguments)


# ------------------------------------------------------------------ training
def test_fit_converges_and_follows_its_seed(clap):
    points = text_points(clap, EMOTIONS)
    points = TextPoints(*(x.repeat(3, *[1] * (x.ndim - 1)) for x in points), EMOTIONS)
    assert len(points.vectors) > 128  # or the order would not matter
    first, again, other = (fit_on_points(points, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize(("loss", "margin"), [("arcface", 0.5), ("cross-entropy", 0)])
def test_a_step_follows_the_gradient_of_the_weighted_loss(words, loss, margin):
    audio, truth = clips(words, 40)
    y = torch.tensor([EMOTIONS.index(emotion) for emotion in truth])
    points = TextPoints(audio, y, torch.arange(1, 41.0), EMOTIONS)
    found = fit_on_points(points, loss=loss, epochs=1, learning_rate=0.1)
    means = [(audio * points.weights[:, None])[y == k].sum(dim=0) for k in range(4)]
    start = F.normalize(torch.stack(means), dim=1).requires_grad_()
    angles = (audio @ F.normalize(start, dim=1).T).acos()
    logits = 5 * (angles + margin * F.one_hot(y, 4)).cos()
    losses = F.cross_entropy(logits, y, reduction="none") * points.weights
    (slope,) = torch.autograd.grad(losses.sum() / points.weights.sum(), start)
    expected = F.normalize(start.detach() - 0.1 * slope, dim=1)
    torch.testing.assert_close(found.weight, expected, atol=1e-5, rtol=0)
    assert (found.predict(audio) == truth).mean() > 0.9


def test_margin_is_added_to_the_angle():
    angles = torch.tensor([[0.2, 1.0], [1.4, 3.0]])  # of the right class, and another
    wider = transfer.add_margin(angles.cos(), torch.tensor([0, 0]), margin=0.5)
    assert torch.equal(wider[:, 1], angles.cos()[:, 1])
    torch.testing.assert_close(wider[:, 0], (angles[:, 0] + 0.5).cos())
    steep = torch.tensor([[-0.99, 0.0], [-0.999, 0.0]])  # where a + margin is over pi
    harder = transfer.add_margin(steep, torch.tensor([0, 0]), margin=0.5)[:, 0]
    assert (harder < steep[:, 0]).all() and harder[1] < harder[0]


def test_training_is_possible_where_gradients_are_off(clap):
    with torch.no_grad():
        expected = transfer.fit_text_classifier(clap, EMOTIONS).weight
    with odd_torch():
        points = clap.embed_text(list(EMOTIONS))
        fitted = fit_on_points((points, range(4)))
        assert torch.equal(transfer.fit_text_classifier(clap).weight, expected)
        assert fitted.predict(points).tolist() == list(EMOTIONS)
    assert fitted.predict(points).tolist() == list(EMOTIONS)
    assert not fitted.weight.requires_grad


# ----------------------------------------------------------------------- gap
def test_gap_is_the_difference_of_means(words):
    audio, _ = clips(words + 1.0)
    text = F.normalize(words, dim=-1)
    gap = transfer.modality_gap(audio, text)
    difference = text.mean(0) - audio.mean(0)
    assert gap.distance == pytest.approx(float(difference.norm()), rel=1e-5)
    pairs, n = audio @ audio.T, len(audio)
    within = float((pairs.sum() - pairs.trace()) / (n * (n - 1)))
    assert gap.cosine_within_audio == pytest.approx(within, abs=1e-4)
    assert gap.cosine_between == pytest.approx(float((audio @ text.T).mean()), abs=1e-5)
    assert math.isnan(transfer.modality_gap(audio[:1], text).cosine_within_audio)


def test_closing_the_gap_repairs_a_shifted_corpus(words):
    # The shift points at one emotion, so that a plain classifier prefers it.
    centred = F.normalize(words - words.mean(0), dim=-1)
    audio, truth = clips(centred, 400)
    classifier = transfer.TextClassifier(EMOTIONS, centred)
    shifted = F.normalize(audio + 1.5 * centred[3], dim=-1)
    before = accuracy(classifier, shifted, truth)
    means = {"mean_audio": shifted[:200].mean(0), "mean_text": centred.mean(0)}
    closed = transfer.close_gap(shifted, **means)
    torch.testing.assert_close(closed.norm(dim=1), torch.ones(400))
    assert before < 0.6 and accuracy(classifier, closed, truth) > before + 0.2
    centre, home = transfer.transductive_centre(shifted), words[0]
    at_home = transfer.transductive_centre(shifted, home=home)
    torch.testing.assert_close(at_home.mean(dim=0), home)
    assert accuracy(classifier, centre, truth) > before + 0.2
