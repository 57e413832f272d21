"""The text tower run for one token gives what transformers gives, and its gradients."""

import pytest
import torch

from clepdg_lib.text_tower import text_features

SENTENCES = ["sad", "this person is feeling sad in a large hall", "a voice"]


def by_transformers(model, vectors, mask):
    hidden = model.text_model(inputs_embeds=vectors, attention_mask=mask)
    return model.text_projection(hidden.pooler_output)


@pytest.fixture
def tokens(tiny_clap):
    vectors, mask = tiny_clap.token_embeddings(SENTENCES)
    assert len(set(mask.sum(dim=1).tolist())) == 3  # padding of several lengths
    return vectors.clone().requires_grad_(True), mask


@pytest.mark.parametrize("attention", ["eager", "sdpa", "something new"])
def test_features_and_gradients_are_those_of_transformers(
    tiny_clap, tokens, attention, monkeypatch
):
    model, (vectors, mask) = tiny_clap.model, tokens
    wanted = by_transformers(model, vectors, mask)
    if attention == "something new":
        calls = []
        monkeypatch.setattr(
            type(model.text_model),
            "forward",
            lambda tower, **given: calls.append(given) or _Output(len(vectors)),
        )
        monkeypatch.setattr(model.text_model.config, "_attn_implementation", attention)
        text_features(model, vectors, mask)
        assert len(calls) == 1  # left to transformers
        return
    monkeypatch.setattr(model.text_model.config, "_attn_implementation", attention)
    found = text_features(model, vectors, mask)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    ours, theirs = (
        torch.autograd.grad(features[:, 0].sum(), [vectors])[0]
        for features in (found, wanted)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    assert (ours[mask == 0] == 0).all()  # padding is not looked at


class _Output:
    def __init__(self, n):
        self.pooler_output = torch.zeros(n, 32)


def test_a_tower_in_training_keeps_its_dropout(tiny_clap, tokens):
    model, (vectors, mask) = tiny_clap.model, tokens
    model.text_model.train()
    try:
        torch.manual_seed(0)
        found = text_features(model, vectors, mask)
        torch.manual_seed(0)
        wanted = by_transformers(model, vectors, mask)
    finally:
        model.text_model.eval()
    torch.testing.assert_close(found, wanted)
