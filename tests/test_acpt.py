"""Contexts: vectors behind words, tuned by a frozen tower, the same for a seed."""

import numpy as np
import pytest
import torch

from clepdg_lib.acpt import (
    BARE,
    AcousticContexts,
    append_contexts,
    contexts_from_words,
    embed_contexts,
    random_contexts,
    tune_contexts,
)
from clepdg_lib.captions import CANONICAL
from clepdg_lib.corpora import EMOTIONS

SIZE = {"n_contexts": 3, "n_tokens": 2}
QUICK = {**SIZE, "steps": 8, "progress": False}


def by_hand(clap, sentence, context):
    """Start, words, context, end; one sentence alone, so there is no padding."""
    words, _ = clap.token_embeddings([sentence])
    tokens = torch.cat([words[0, :-1], context, words[0, -1:]])[None]
    return clap.embed_tokens(tokens, torch.ones(1, tokens.shape[1]))[0].detach()


def test_a_context_stands_between_the_words_and_the_end(tiny_clap):
    contexts = random_contexts(tiny_clap, **SIZE)
    emotions = ("sad", "matter-of-fact", "unspeakably sad")  # of different lengths
    found = embed_contexts(tiny_clap, contexts, emotions)
    assert found.shape == (3, 3, 16) and not found.requires_grad
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3, 3))
    for k in range(3):
        for e, emotion in enumerate(emotions):
            expected = by_hand(
                tiny_clap, CANONICAL.format(emotion=emotion), contexts.vectors[k]
            )
            torch.testing.assert_close(found[k, e], expected, atol=1e-5, rtol=0)


def test_words_of_the_vocabulary_as_a_context_are_those_words(tiny_clap):
    place = "in a large hall"
    words, mask = tiny_clap.token_embeddings([place])
    vectors = words[:, 1:-1]
    assert int(mask.sum()) == 6
    found = append_contexts(tiny_clap, ["this person is feeling sad"], vectors)
    expected = tiny_clap.embed_text([f"this person is feeling sad {place}"])
    torch.testing.assert_close(found[0].detach(), expected, atol=1e-5, rtol=0)


def test_gradients_reach_every_context_and_only_contexts(tiny_clap):
    vectors = random_contexts(tiny_clap, **SIZE).vectors.requires_grad_(True)
    found = append_contexts(tiny_clap, [BARE, "sad"], vectors)
    (grad,) = torch.autograd.grad(found[..., 0].sum(), [vectors])
    assert (grad.abs().sum(dim=(1, 2)) > 0).all()


def test_a_context_that_leaves_no_room_is_refused(tiny_clap):
    contexts = random_contexts(tiny_clap, n_contexts=1, n_tokens=60)
    with pytest.raises(ValueError, match="67 tokens.*takes 62.*fewer context tokens"):
        embed_contexts(tiny_clap, contexts, ["sad"])


def test_random_contexts_are_spread_like_words(tiny_clap):
    contexts = random_contexts(tiny_clap, n_contexts=40, n_tokens=8, seed=1)
    assert contexts.vectors.shape == (40, 8, 32) and len(contexts) == 40
    assert contexts.vectors.dtype == torch.float32
    table = tiny_clap.model.text_model.get_input_embeddings().weight
    assert contexts.vectors.std().item() == pytest.approx(table.std().item(), rel=0.05)
    small = random_contexts(tiny_clap, n_contexts=40, n_tokens=8, scale=0.5, seed=1)
    torch.testing.assert_close(small.vectors, contexts.vectors / 2)
    other = random_contexts(tiny_clap, n_contexts=40, n_tokens=8, seed=2)
    assert not torch.equal(other.vectors, contexts.vectors)
    for wrong in ({"n_contexts": 0}, {"n_tokens": 0}):
        with pytest.raises(ValueError, match="must be 1 or more"):
            random_contexts(tiny_clap, **wrong)


@pytest.mark.parametrize("schedule", ["joint", "sequential"])
def test_tuning_leaves_the_model_alone_and_repeats_itself(tiny_clap, schedule):
    before = {k: v.clone() for k, v in tiny_clap.model.state_dict().items()}
    tuned = tune_contexts(tiny_clap, EMOTIONS, schedule=schedule, **QUICK)
    assert tuned.vectors.shape == (3, 2, 32) and not tuned.vectors.requires_grad
    for name, tensor in tiny_clap.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(p.grad is None for p in tiny_clap.model.parameters())
    torch.manual_seed(99)  # the global source has no say
    again = tune_contexts(tiny_clap, EMOTIONS, schedule=schedule, **QUICK)
    assert torch.equal(tuned.vectors, again.vectors)
    other = tune_contexts(tiny_clap, EMOTIONS, schedule=schedule, seed=1, **QUICK)
    assert not torch.equal(tuned.vectors, other.vectors)
    n_steps = 8 if schedule == "joint" else 24
    assert list(tuned.history["step"]) == list(range(1, n_steps + 1))
    assert set(tuned.history) == {"step", "diversity", "consistency", "loss"}


def similarity(clap, contexts):
    """Mean |cosine| between what different contexts do to the bare sentence."""
    shift = append_contexts(clap, [BARE], contexts.vectors)[:, 0].detach()
    shift = torch.nn.functional.normalize(shift - clap.embed_text([BARE]), dim=-1)
    cosines = (shift @ shift.T).abs()
    n = len(shift)
    return float((cosines.sum() - n) / (n * (n - 1)))


@pytest.mark.parametrize("schedule", ["joint", "sequential"])
def test_contexts_grow_apart_while_emotions_stay_themselves(tiny_clap, schedule):
    how = {**QUICK, "steps": 40, "n_contexts": 4}
    start = random_contexts(tiny_clap, n_contexts=4, n_tokens=2)
    tuned = tune_contexts(tiny_clap, EMOTIONS, schedule=schedule, **how)
    assert similarity(tiny_clap, tuned) < 0.7 * similarity(tiny_clap, start)
    if schedule == "joint":
        assert tuned.history["loss"].iloc[-1] < tuned.history["loss"].iloc[0]
        # the first step is taken from the start itself
        first = tuned.history["diversity"].iloc[0]
        assert first == pytest.approx(similarity(tiny_clap, start), abs=0.02)
    plain = tiny_clap.embed_text([CANONICAL.format(emotion=e) for e in EMOTIONS])
    found = embed_contexts(tiny_clap, tuned, EMOTIONS)
    guesses = (found @ plain.T).argmax(dim=-1)
    right = (guesses == torch.arange(len(EMOTIONS))).float().mean()
    assert right >= 0.75


def test_in_turn_an_earlier_context_is_not_moved_by_a_later_one(tiny_clap):
    how = {"steps": 5, "n_tokens": 2, "schedule": "sequential", "progress": False}
    start = random_contexts(tiny_clap, n_contexts=3, n_tokens=2)
    two = AcousticContexts(start.vectors[:2])
    of_three = tune_contexts(tiny_clap, EMOTIONS, init=start, **how)
    of_two = tune_contexts(tiny_clap, EMOTIONS, init=two, **how)
    torch.testing.assert_close(of_three.vectors[:2], of_two.vectors)
    joint = tune_contexts(
        tiny_clap, EMOTIONS, init=start, **{**how, "schedule": "joint"}
    )
    assert not torch.allclose(joint.vectors, of_three.vectors)


def test_one_context_alone_has_nothing_to_differ_from(tiny_clap):
    tuned = tune_contexts(
        tiny_clap, EMOTIONS, n_contexts=1, n_tokens=2, steps=3, progress=False
    )
    assert (tuned.history["diversity"] == 0).all()
    assert torch.isfinite(tuned.vectors).all()


def test_weights_and_templates_are_heeded(tiny_clap):
    only_diverse = tune_contexts(tiny_clap, EMOTIONS, consistency=0.0, **QUICK)
    assert torch.equal(
        torch.tensor(only_diverse.history["loss"].to_numpy()),
        torch.tensor(only_diverse.history["diversity"].to_numpy()),
    )
    template = "a voice that sounds {emotion}"
    other = tune_contexts(tiny_clap, EMOTIONS, template=template, **QUICK)
    assert other.template == template
    found = embed_contexts(tiny_clap, other, ["sad"])[0, 0]
    expected = by_hand(tiny_clap, "a voice that sounds sad", other.vectors[0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"emotions": ["sad"]}, "two or more"),
        ({"schedule": "both"}, "'both'.*joint.*sequential"),
        ({"temperature": 0.0}, "above 0"),
    ],
)
def test_what_cannot_be_tuned_is_refused(tiny_clap, wrong, says):
    given = {"emotions": EMOTIONS, **wrong}
    with pytest.raises(ValueError, match=says):
        tune_contexts(tiny_clap, given.pop("emotions"), progress=False, **given)


def test_saved_contexts_come_back_without_pickles(tiny_clap, tmp_path):
    contexts = random_contexts(tiny_clap, template="{emotion}, recorded", **SIZE)
    contexts.save(tmp_path / "contexts.npz")
    with np.load(tmp_path / "contexts.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {"vectors", "template"}
    loaded = AcousticContexts.load(tmp_path / "contexts.npz")
    assert torch.equal(loaded.vectors, contexts.vectors)
    assert loaded.template == "{emotion}, recorded"


def test_contexts_from_words_begin_with_their_tokens_and_repeat_them(tiny_clap):
    long, short = "in a very large hall indeed", "street"
    found = contexts_from_words(tiny_clap, [long, short])
    assert found.vectors.shape[:2] == (2, 4)
    words, mask = tiny_clap.token_embeddings([long])
    assert torch.equal(found.vectors[0], words[0, 1:5])
    words, mask = tiny_clap.token_embeddings([short])
    inside = words[0, 1 : int(mask[0].sum()) - 1]
    many = contexts_from_words(tiny_clap, [short], n_tokens=2 * len(inside) + 1)
    repeated = torch.cat([inside, inside, inside[:1]])
    assert torch.equal(many.vectors[0], repeated)


def test_a_file_of_contexts_is_named_once(tiny_clap, tmp_path):
    contexts = random_contexts(tiny_clap, **SIZE)
    contexts.save(tmp_path / "bare")
    contexts.save(tmp_path / "named.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bare.npz", "named.npz"]
