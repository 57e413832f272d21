"""Ablation: one thing changed at a time, the same clips for all, ends included."""

import numpy as np
import pytest
import torch

from clepdg_lib import ablation
from clepdg_lib.ablation import ALONE, AS_IT_IS, NONE, VARIANTS, ablate
from clepdg_lib.acpt import contexts_from_words, tune_contexts
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.embedding import embed_corpus
from clepdg_lib.material import REAL

pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture
def shipped(monkeypatch, tiny_clap, feeling_corpus):
    """Embeddings of four corpora made of tones, for two seeds."""
    made = {
        name: embed_corpus(tiny_clap, feeling_corpus(name, n_each=2, seed=i))
        for i, name in enumerate(REAL)
    }
    monkeypatch.setattr(ablation, "load_clap", lambda name: tiny_clap)
    monkeypatch.setattr(
        ablation, "load_embeddings", lambda model, *, corpora: made[corpora]
    )
    monkeypatch.setattr(ablation, "shipped_seeds", lambda: [0, 1])
    return made


def test_every_variant_judges_every_corpus_with_every_seed(shipped, monkeypatch):
    tuned = []
    real = ablation.tune_contexts

    def note(clap, emotions, **how):
        tuned.append(how)
        return real(clap, emotions, **{**how, "steps": 1})

    monkeypatch.setattr(ablation, "tune_contexts", note)
    some = {name: VARIANTS[name] for name in (AS_IT_IS, "untuned", "4 contexts")}
    verdicts = ablate(variants=some)
    order = list(dict.fromkeys(v.method for v in verdicts))
    assert order == [NONE, *some, ALONE]
    assert len(verdicts) == len(order) * len(REAL) * 2
    assert [how.get("n_contexts") for how in tuned] == [None, 4] * 2
    assert [how["seed"] for how in tuned] == [0, 0, 1, 1]
    for verdict in verdicts:
        assert verdict.setting == "ablation"
        truth = shipped[verdict.test].clips["emotion"]
        np.testing.assert_array_equal(verdict.truth, truth)


def test_what_is_changed_arrives_in_the_contexts(tiny_clap):
    for name, how in VARIANTS.items():
        if isinstance(how, dict):
            contexts = ablation._make(tiny_clap, {**how, "steps": 1}, 0)
            shape = how.get("n_contexts", 16), how.get("n_tokens", 4)
            assert contexts.vectors.shape[:2] == shape, name
            assert torch.isfinite(contexts.vectors).all(), name


def test_contexts_from_words_are_their_tokens(tiny_clap):
    found = contexts_from_words(tiny_clap, ["rain", "rain rain"], n_tokens=3)
    words, mask = tiny_clap.token_embeddings(["rain"])
    inside = words[0, 1 : int(mask[0].sum()) - 1]
    assert found.vectors.shape[:2] == (2, 3)
    torch.testing.assert_close(found.vectors[0, 0], inside[0].float())


def test_a_weight_turns_a_loss_off(tiny_clap):
    how = {"n_contexts": 3, "n_tokens": 2, "steps": 8, "progress": False}
    both = tune_contexts(tiny_clap, EMOTIONS, **how)
    calm = tune_contexts(tiny_clap, EMOTIONS, diversity=0.0, **how)
    assert both.history["diversity"].iloc[-1] < calm.history["diversity"].iloc[-1]
    last = calm.history.iloc[-1]
    assert last["loss"] == pytest.approx(last["consistency"])
