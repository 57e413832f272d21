"""Contexts: vectors behind words, kept in files, taken from words or drawn."""

import numpy as np
import pytest
import torch

from clepdg_lib.acpt import BARE
from clepdg_lib.captions import CANONICAL
from clepdg_lib.contexts import (
    AcousticContexts,
    append_contexts,
    contexts_from_words,
    embed_contexts,
    random_contexts,
)

SIZE = {"n_contexts": 3, "n_tokens": 2}


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


def test_a_context_may_be_longer_than_its_sentence(tiny_clap):
    contexts = random_contexts(tiny_clap, n_contexts=2, n_tokens=12)
    for sentences in (["sad"], ["sad", BARE]):  # alone, and with padding
        found = append_contexts(tiny_clap, sentences, contexts.vectors).detach()
        expected = by_hand(tiny_clap, "sad", contexts.vectors[1])
        torch.testing.assert_close(found[1, 0], expected, atol=1e-5, rtol=0)


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


def test_saved_contexts_come_back_without_pickles(tiny_clap, tmp_path):
    contexts = random_contexts(tiny_clap, template="{emotion}, recorded", **SIZE)
    contexts.save(tmp_path / "contexts.npz")
    with np.load(tmp_path / "contexts.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {"vectors", "template"}
    loaded = AcousticContexts.load(tmp_path / "contexts.npz")
    assert torch.equal(loaded.vectors, contexts.vectors)
    assert loaded.template == "{emotion}, recorded"


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3, 4)])
def test_a_file_of_another_shape_is_refused(tmp_path, shape):
    file = tmp_path / "odd.npz"
    np.savez(
        file, vectors=np.zeros(shape, np.float32), template=np.array("a {emotion}")
    )
    with pytest.raises(ValueError, match="contexts are floats"):
        AcousticContexts.load(file)


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
