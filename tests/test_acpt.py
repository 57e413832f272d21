"""Contexts: joined as words are, tuned alone, and what words say of a place."""

import math

import pytest
import torch
from stand_ins import DIM, odd_torch, tiny_clap, word_clap
from torch.nn import functional as F

from clepdg_lib import acpt
from clepdg_lib.acpt import embed_contexts, random_contexts, text_shifts, tune_contexts
from clepdg_lib.captions import EMOTIONS

CAPTIONS = ["in a quiet studio", "with rain", "heard from a large hall", "in the rain"]
SENTENCES = ["a sad voice", "this person is feeling angry"]  # of different lengths


@pytest.mark.parametrize("make", [tiny_clap, word_clap])
def test_the_tokens_of_words_give_what_the_words_give(make):
    clap, places = make(), ["with rain", "large hall"]
    contexts = acpt.contexts_from_words(clap, places, n_tokens=2)
    joined = acpt.append_contexts(clap, SENTENCES, contexts.vectors)  # (K, S, dim)
    words = [clap.embed_text([f"{s} {place}" for s in SENTENCES]) for place in places]
    torch.testing.assert_close(joined, torch.stack(words), atol=1e-5, rtol=0)
    tau = text_shifts(clap, contexts)
    torch.testing.assert_close(tau, text_shifts(clap, places), atol=1e-5, rtol=0)
    assert text_shifts(clap, "with rain").shape == (1, DIM)  # one string is one place


def test_gradients_reach_contexts_alone_and_random_ones_follow_their_seed(clap):
    first, again, other = (random_contexts(clap, seed=s).vectors for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    vectors = first.requires_grad_()
    acpt.append_contexts(clap, SENTENCES, vectors)[..., 0].sum().backward()
    assert (vectors.grad.abs().sum(dim=-1) > 0).all()
    tune_contexts(clap, EMOTIONS, steps=2, progress=False)
    assert not any(p.requires_grad or p.grad is not None for p in clap.parameters())
    with pytest.raises(ValueError, match="62.*use fewer context tokens"):
        embed_contexts(clap, random_contexts(clap, n_tokens=69), ["sad"])


def test_contexts_are_saved_and_damage_is_noticed(clap, tmp_path):
    file, saved = tmp_path / "a.npz", random_contexts(clap, template="so {emotion}")
    saved.save(tmp_path / "a")
    found = acpt.AcousticContexts.load(file)
    assert torch.equal(found.vectors, saved.vectors)
    assert found.template == saved.template and len(found) == 16
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match="cannot be read as arrays"):
        acpt.AcousticContexts.load(file)
    for vectors in (torch.full((2, 3, 4), math.nan), torch.ones(3, 4)):
        acpt.AcousticContexts(vectors).save(file)
        with pytest.raises(ValueError, match=r"contexts are finite \(K, M, D\)"):
            acpt.AcousticContexts.load(file)


def test_tuning_follows_its_seed_and_covers_the_captions(clap):
    start = random_contexts(clap, n_contexts=3)

    def tune(seed=0, captions=CAPTIONS):
        options = {"n_contexts": 3, "steps": 30, "progress": False}
        return tune_contexts(clap, EMOTIONS, captions=captions, seed=seed, **options)

    def nearness(contexts):  # mean over captions of the best cosine
        targets = F.normalize(text_shifts(clap, CAPTIONS), dim=1)
        cosines = targets @ F.normalize(text_shifts(clap, contexts), dim=1).T
        return float(cosines.amax(dim=1).mean())

    tuned, uncovered = tune(), tune(captions=None)
    with odd_torch():
        assert torch.equal(tuned.vectors, tune().vectors)
    assert not torch.equal(tuned.vectors, tune(seed=1).vectors)
    assert tuned.history["step"].tolist() == list(range(1, 31))
    assert tuned.vectors.shape[:2] == (3, 8)
    parts = tuned.history["cover"] + 0.02 * tuned.history["diversity"]
    parts = parts + 0.1 * tuned.history["consistency"]
    assert parts.to_numpy() == pytest.approx(tuned.history["loss"].to_numpy(), rel=1e-5)
    for loss in ("loss", "cover"):
        assert tuned.history[loss].iloc[-1] < tuned.history[loss].iloc[0]
    assert nearness(tuned) > max(nearness(start), nearness(uncovered)) + 0.05


def test_losses_are_the_equations():
    draw = torch.Generator().manual_seed(0)
    tau, targets = (torch.randn(n, 5, generator=draw) for n in (3, 4))
    cover = 0.0
    for target in targets:
        near = [math.exp(7 * F.cosine_similarity(x, target, dim=0)) for x in tau]
        cover -= math.log(sum(near) / 3) / (4 * 7)
    assert float(acpt.cover_loss(tau, targets, kappa=7.0)) == pytest.approx(cover)
    pairs = [(tau[k], tau[m]) for k in range(3) for m in range(k)]
    mean = sum(abs(float(F.cosine_similarity(*pair, dim=0))) for pair in pairs) / 3
    assert float(acpt.diversity_loss(tau)) == pytest.approx(mean)
    assert float(acpt.diversity_loss(tau[:1])) == pytest.approx(0, abs=1e-6)


def test_bad_settings_are_named(clap):
    for arguments, message in (
        ({"captions": CAPTIONS}, "n_contexts=16.* 4 different"),
        ({"captions": "with rain", "n_contexts": 2}, "only 1 different"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"steps": -1}, "steps is -1"),
        ({"cover": math.nan}, "cover is nan"),
        ({"n_tokens": 0}, "n_tokens is 0"),
        ({"emotions": "angry"}, "two or more"),
        ({"emotions": ("frölich", "traurig")}, "cannot tell 'frölich' from 'traurig'"),
        ({"template": "a voice"}, r"'a voice'.*lack \{emotion\}"),
    ):
        with pytest.raises(ValueError, match=message):
            tune_contexts(clap, **{"emotions": EMOTIONS, "progress": False} | arguments)
    with pytest.raises(ValueError, match="texts are"):
        acpt.contexts_from_words(clap, ["with rain", " "])
    contexts = random_contexts(clap, n_contexts=3)
    assert embed_contexts(clap, contexts, "angry").shape == (3, 1, DIM)  # no letters
    assert acpt.append_contexts(clap, "angry", contexts.vectors).shape == (3, 1, DIM)
    bare = acpt.AcousticContexts(contexts.vectors, "a voice")
    with pytest.raises(ValueError, match=r"'a voice'.*lack \{emotion\}"):
        embed_contexts(clap, bare, EMOTIONS)


@pytest.fixture(scope="module")
def pairs():
    """Words (n, 6) that tell along which of 12 features a place shifts a clip."""
    draw = torch.Generator().manual_seed(0)
    tau = torch.eye(6)[torch.randint(6, (600,), generator=draw)]
    clean, drift = (2 * torch.randn(n, 12, generator=draw) for n in (600, 6))
    return tau, clean, clean + tau @ (2 * drift)


def test_a_drift_that_words_name_is_learned(pairs):
    tau, clean, placed = pairs
    mixed = tau[torch.randperm(400, generator=torch.Generator().manual_seed(1))]
    place_map = acpt.fit_place_map(tau[:400], clean[:400], placed[:400])
    shuffled = acpt.fit_place_map(mixed, clean[:400], placed[:400])
    moved = [g(clean[400:], tau[400:]) for g in (place_map, shuffled)]
    good, bad, unmoved = (
        float((each - placed[400:]).square().mean()) for each in (*moved, clean[400:])
    )
    assert good < 0.1 * unmoved and bad > 0.4 * unmoved
    far = acpt.fit_place_map(tau[:400], clean[:400] + 9, placed[:400] + 9)
    torch.testing.assert_close(
        far(clean + 9, tau), place_map(clean, tau) + 9, atol=0.05, rtol=0
    )
    five = tau[:5], clean[:5], placed[:5]
    for arguments, options, message in (
        ((tau[:5], clean[:0], clean[:5]), {}, "5 captions, 0 clean"),
        ((tau[:5], clean[:5] * math.nan, clean[:5]), {}, "clean of shape .*finite"),
        (five, {"learning_rate": 1e6}, "learning_rate is 1000000.0"),
        (five, {"steps": -1}, "steps is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            acpt.fit_place_map(*arguments, **options)
    with pytest.raises(ValueError, match="amplitude is nan"):
        acpt.ContextAugmentation(place_map, tau[:1], amplitude=math.nan)


def test_features_are_bent_as_contexts_say(pairs):
    tau, clean, _ = pairs
    place_map = acpt.fit_place_map(*pairs, steps=50)
    with odd_torch():
        again = acpt.fit_place_map(*pairs, steps=50)
    assert torch.equal(again.film.weight, place_map.film.weight)

    def bend(seed=0, **options):
        draw = torch.Generator().manual_seed(seed)
        return acpt.ContextAugmentation(place_map, tau[:1], **options)(clean, draw)

    assert torch.equal(bend(amplitude=0.0), clean)
    assert torch.equal(bend(), bend()) and not torch.equal(bend(), bend(seed=1))
    move = place_map(clean, tau[:1].expand(600, -1)) - clean
    amount = ((bend() - clean) * move).sum(dim=1) / move.square().sum(dim=1)
    torch.testing.assert_close(bend() - clean, amount[:, None] * move)
    assert float(amount.mean()) == pytest.approx(0.75, abs=0.1)  # uniform, 0 to 1.5
    assert not torch.equal(bend(residual_bank=True), bend())
