"""Tuning: a frozen tower, contexts that grow apart, the same ones for a seed."""

import itertools

import pytest
import torch

from clepdg_lib import contexts
from clepdg_lib.acpt import (
    BARE,
    AcousticContexts,
    append_contexts,
    embed_contexts,
    random_contexts,
    tune_contexts,
)
from clepdg_lib.captions import CANONICAL
from clepdg_lib.corpora import EMOTIONS

SIZE = {"n_contexts": 3, "n_tokens": 2}
QUICK = {**SIZE, "steps": 8, "progress": False}


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


@pytest.mark.parametrize("n_drawn", [1, 3, None])
def test_the_losses_are_those_of_the_sentences_drawn(tiny_clap, n_drawn, monkeypatch):
    monkeypatch.setattr(contexts, "fast_precision", lambda *_: False)
    start = random_contexts(tiny_clap, **SIZE)
    how = {**QUICK, "steps": 1, "temperature": 0.2, "n_drawn": n_drawn}
    first = tune_contexts(tiny_clap, EMOTIONS, init=start, **how).history.iloc[0]
    plain = tiny_clap.embed_text([CANONICAL.format(emotion=e) for e in EMOTIONS])
    logits = embed_contexts(tiny_clap, start, EMOTIONS) @ plain.T / 0.2  # (K, E, E)
    told = -logits.log_softmax(dim=-1).diagonal(dim1=1, dim2=2)  # (K, E)
    n = n_drawn or len(EMOTIONS)
    picks = itertools.product(itertools.combinations(range(4), n), repeat=3)
    possible = [
        torch.stack([told[k, list(pick)].mean() for k, pick in enumerate(three)]).mean()
        for three in picks
    ]
    nearest = (torch.stack(possible) - first["consistency"]).abs().min()
    assert nearest < 1e-5
    assert first["diversity"] == pytest.approx(similarity(tiny_clap, start), abs=1e-5)


def test_a_step_embeds_what_it_draws_and_no_more(tiny_clap, monkeypatch):
    sizes = []
    real = type(tiny_clap).embed_tokens

    def note(clap, vectors, mask):
        if vectors.requires_grad:
            sizes.append(len(vectors))
        return real(clap, vectors, mask)

    monkeypatch.setattr(type(tiny_clap), "embed_tokens", note)
    how = {**QUICK, "steps": 2, "n_contexts": 3}
    for n_drawn, rows in ((1, 2), (2, 3), (None, 5)):
        sizes.clear()
        tune_contexts(tiny_clap, EMOTIONS, n_drawn=n_drawn, **how)
        assert sizes == [3 * rows] * 2, n_drawn  # each with the bare sentence


def test_over_the_steps_every_emotion_is_drawn_for_every_context(tiny_clap):
    """Then few emotions a step cost no more in the end than all of them."""
    how = {**QUICK, "steps": 40, "n_contexts": 4}
    plain = tiny_clap.embed_text([CANONICAL.format(emotion=e) for e in EMOTIONS])
    for n_drawn in (1, 3, None):
        tuned = tune_contexts(tiny_clap, EMOTIONS, n_drawn=n_drawn, **how)
        found = embed_contexts(tiny_clap, tuned, EMOTIONS)
        right = (found @ plain.T).argmax(dim=-1) == torch.arange(len(EMOTIONS))
        assert right.float().mean() >= 0.75, n_drawn
    for wrong in (0, 5):
        with pytest.raises(ValueError, match="None or from 1 to 4"):
            tune_contexts(tiny_clap, EMOTIONS, n_drawn=wrong, **how)


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
    expected = append_contexts(tiny_clap, ["a voice that sounds sad"], other.vectors)
    torch.testing.assert_close(found, expected[0, 0], atol=1e-5, rtol=0)


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
