"""Contexts: joined as words are, tuned alone, and what words say of a place."""

import math

import pytest
import torch
from stand_ins import DIM, tiny_clap, word_clap
from torch.nn import functional as F

from clepdg_lib.acpt import (
    AcousticContexts,
    ContextAugmentation,
    PlaceMap,
    append_contexts,
    contexts_from_words,
    cover_loss,
    diversity_loss,
    embed_contexts,
    fit_place_map,
    random_contexts,
    text_shifts,
    tune_contexts,
)
from clepdg_lib.captions import BARE, EMOTIONS

CAPTIONS = ["in a quiet studio", "with rain", "heard from a large hall", "in the rain"]
SENTENCES = ["a sad voice", "this person is feeling angry"]  # of different lengths
SMALL = {"n_contexts": 3, "n_tokens": 2, "progress": False}


@pytest.fixture(scope="module")
def clap():
    return word_clap()


# ------------------------------------------------------------------ contexts
@pytest.mark.parametrize("make", [tiny_clap, word_clap])
def test_the_tokens_of_words_give_what_the_words_give(make):
    clap, places = make(), ["with rain", "large hall"]
    vectors = contexts_from_words(clap, places, n_tokens=2).vectors
    joined = append_contexts(clap, SENTENCES, vectors)
    assert joined.shape == (2, 2, DIM)
    for row, place in zip(joined, places, strict=True):
        words = clap.embed_text([f"{sentence} {place}" for sentence in SENTENCES])
        torch.testing.assert_close(row, words, atol=1e-5, rtol=0)
    named = AcousticContexts(vectors, "a {emotion} voice")
    torch.testing.assert_close(embed_contexts(clap, named, ["sad"])[:, 0], joined[:, 0])
    torch.testing.assert_close(
        text_shifts(clap, named), text_shifts(clap, places), atol=1e-5, rtol=0
    )


def test_a_place_of_one_string_is_one_place(clap):
    assert text_shifts(clap, "with rain").shape == (1, DIM)
    short = contexts_from_words(clap, "with rain", n_tokens=3).vectors
    assert short.shape == (1, 3, 32) and torch.equal(short[0, 0], short[0, 2])


def test_gradients_reach_the_contexts_alone(clap):
    vectors = random_contexts(clap, n_contexts=2).vectors.requires_grad_()
    append_contexts(clap, SENTENCES, vectors)[..., 0].sum().backward()
    assert (vectors.grad.abs().sum(dim=-1) > 0).all()
    tune_contexts(clap, EMOTIONS, steps=2, **SMALL)
    assert not any(p.requires_grad or p.grad is not None for p in clap.parameters())


def test_random_contexts_follow_their_seed(clap):
    first, again, other = (random_contexts(clap, seed=seed) for seed in (1, 1, 2))
    assert first.vectors.shape == (16, 4, 32) and len(first) == 16
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, other.vectors)
    spread = random_contexts(clap, n_contexts=200, scale=2.0).vectors.std()
    assert float(spread / clap.text_tower.table.std()) == pytest.approx(2, rel=0.05)
    with pytest.raises(ValueError, match="n_contexts is 0"):
        random_contexts(clap, n_contexts=0)
    with pytest.raises(ValueError, match=r"76 tokens is too long: this tower takes 62"):
        embed_contexts(clap, random_contexts(clap, n_tokens=69), ["sad"])


def test_contexts_are_saved_and_damage_is_noticed(clap, tmp_path):
    tuned = random_contexts(clap, template="a {emotion} voice")
    tuned.save(tmp_path / "tuned")
    file = tmp_path / "tuned.npz"
    found = AcousticContexts.load(file)
    assert (
        torch.equal(found.vectors, tuned.vectors) and found.template == tuned.template
    )
    for vectors in (torch.full((2, 3, 4), math.nan), torch.ones(3, 4)):
        AcousticContexts(vectors).save(tmp_path / "bad")
        with pytest.raises(ValueError, match=r"contexts are finite floats \(K, M, D\)"):
            AcousticContexts.load(tmp_path / "bad.npz")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match="cannot be read as arrays"):
        AcousticContexts.load(file)
    with pytest.raises(FileNotFoundError):
        AcousticContexts.load(tmp_path / "none.npz")


# -------------------------------------------------------------------- tuning
def test_tuning_follows_its_seed_and_covers_the_captions(clap):
    start = random_contexts(clap, n_contexts=3, n_tokens=2)
    options = {"captions": CAPTIONS, "init": start, "steps": 40, **SMALL}
    first, again, other = (
        tune_contexts(clap, EMOTIONS, seed=seed, **options) for seed in (0, 0, 1)
    )
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, other.vectors)
    history = first.history
    assert list(history) == ["step", "cover", "consistency", "diversity", "loss"]
    assert (
        len(history) == 40 and history["loss"].iloc[-1] < history["loss"].iloc[0] - 0.1
    )
    assert history["cover"].iloc[-1] < history["cover"].iloc[0]

    def nearest(contexts):  # mean over captions of the best cosine
        targets = F.normalize(text_shifts(clap, CAPTIONS), dim=1)
        return float(
            (targets @ F.normalize(text_shifts(clap, contexts), dim=1).T).amax(1).mean()
        )

    assert nearest(first) > nearest(start) + 0.1
    uncovered = tune_contexts(clap, EMOTIONS, **{**options, "captions": None})
    assert (uncovered.history["cover"] == 0).all() and nearest(first) > nearest(
        uncovered
    )


def test_emotions_stay_in_contexts(clap):
    """Consistency alone pulls every sentence in a context back to its own emotion."""
    start = random_contexts(clap, n_contexts=3, scale=3.0)
    parts = {"cover": 0, "diversity": 0, "consistency": 1, "init": start, **SMALL}
    tuned = tune_contexts(clap, EMOTIONS, steps=60, learning_rate=0.1, **parts)
    plain = clap.embed_text([f"this person is feeling {e}" for e in EMOTIONS])

    def own(contexts):
        cosines = embed_contexts(clap, contexts, EMOTIONS) @ plain.T  # (K, E, E)
        return float(cosines.softmax(-1).diagonal(dim1=1, dim2=2).mean())

    assert own(tuned) > own(start)


def test_losses_are_what_they_say():
    east, north = torch.tensor([1.0, 0]), torch.tensor([0.0, 1])
    assert float(diversity_loss(torch.stack([east, north]))) == 0
    assert float(
        diversity_loss(torch.stack([east, -2 * east, north]))
    ) == pytest.approx(1 / 3)
    assert float(diversity_loss(east[None])) == 0
    tau = torch.stack([east, 3 * north])
    expected = -math.log((math.exp(7) + 1) / 2) / 7
    assert float(cover_loss(tau, tau, kappa=7)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(captions=CAPTIONS, n_contexts=5), "n_contexts is 5.* 4 different"),
        (dict(captions=CAPTIONS[:1] * 9, n_contexts=2), "there are 1 different"),
        (dict(captions="with rain", n_contexts=2), "there are 1 different"),
        (dict(emotions=("sad",)), "two or more"),
        (dict(temperature=0.0), "temperature is 0.0"),
        (dict(learning_rate=math.nan), "learning_rate is nan"),
        (dict(kappa=math.inf), "kappa is inf"),
        (dict(steps=-1), "steps is"),
        (dict(cover=math.nan), "diverged in step 1"),
    ],
)
def test_bad_settings_are_named(clap, arguments, message):
    arguments = {"emotions": EMOTIONS, "n_tokens": 2, "progress": False, **arguments}
    with pytest.raises(ValueError, match=message):
        tune_contexts(clap, **arguments)


# ----------------------------------------------------------- words to places
@pytest.fixture(scope="module")
def pairs():
    """Words (n, 6) that tell along which of 12 features a place shifts a clip."""
    draw = torch.Generator().manual_seed(0)
    tau = torch.eye(6)[torch.randint(6, (600,), generator=draw)]
    clean = 3 + 2 * torch.randn(600, 12, generator=draw)
    drift = 4 * torch.randn(6, 12, generator=draw)
    return tau, clean, clean + tau @ drift


def error(place_map, tau, clean, placed):
    return float((place_map(clean, tau) - placed).square().mean())


def test_a_drift_that_words_name_is_learned(pairs):
    tau, clean, placed = pairs
    train, test = [x[:400] for x in pairs], [x[400:] for x in pairs]
    place_map = fit_place_map(*train)
    mixed = tau[torch.randperm(400, generator=torch.Generator().manual_seed(1))]
    shuffled = fit_place_map(mixed, *train[1:])
    unmoved = float((test[2] - test[1]).square().mean())
    assert error(place_map, *test) < 0.1 * unmoved < 0.4 * error(shuffled, *test)
    assert not any(p.requires_grad for p in place_map.parameters())
    assert place_map.residuals.shape == (400, 12)
    again = fit_place_map(*train)
    assert torch.equal(again.film.weight, place_map.film.weight)


def test_before_training_a_map_changes_nothing(pairs):
    tau, clean, _ = pairs
    torch.testing.assert_close(PlaceMap(12, 6)(clean, tau), clean)
    torch.testing.assert_close(fit_place_map(tau, clean, clean)(clean, tau), clean)
    for rows in (slice(5), slice(0)):
        with pytest.raises(ValueError, match="give one of each for every pair"):
            fit_place_map(tau[rows], clean[rows], clean[:0])


def test_features_are_bent_as_contexts_say(pairs):
    tau, clean, _ = pairs
    place_map = fit_place_map(*pairs)

    def bend(seed=0, **options):
        draw = torch.Generator().manual_seed(seed)
        return ContextAugmentation(place_map, tau[:1], **options)(clean, draw)

    assert torch.equal(bend(amplitude=0.0), clean)
    assert torch.equal(bend(), bend()) and not torch.equal(bend(), bend(seed=1))
    amount = (bend() - clean) / (place_map(clean, tau[:1].expand(600, -1)) - clean)
    torch.testing.assert_close(amount[:, 0], amount[:, 1], atol=1e-2, rtol=1e-2)
    assert float(amount.median()) == pytest.approx(0.75, abs=0.1)  # uniform, 0 to 1.5
    with_bank = bend(residual_bank=True)
    assert with_bank.isfinite().all() and not torch.equal(with_bank, bend())


def test_the_bare_sentence_is_where_shifts_start(clap):
    expected = clap.embed_text([f"{BARE} with rain"]) - clap.embed_text([BARE])
    torch.testing.assert_close(text_shifts(clap, ["with rain"]), expected)
