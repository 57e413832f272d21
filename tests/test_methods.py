"""The methods that are compared: each learns from text alone, each for a reason."""

import copy

import pytest
import torch

from clepdg_lib import methods
from clepdg_lib.captions import ENVIRONMENT_PHRASES
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.methods import CONTROLS, METHODS, text_drifts, text_judges


@pytest.fixture
def judges(tiny_clap, quick):
    return text_judges(tiny_clap, tiny_clap, seed=0)


def test_every_text_method_is_there_in_the_order_of_the_tables(judges):
    audio_trained = {"chance", "egemaps-lr", "audioset-lr", "audio-probe"}
    assert list(judges) == [m for m in METHODS if m not in audio_trained]
    assert set(CONTROLS) < set(judges)
    for judge in judges.values():
        assert judge.emotions == EMOTIONS and judge.weight.shape == (4, 16)


def test_no_two_methods_are_the_same_by_mistake(judges):
    fitted = {m: j.weight for m, j in judges.items() if m != "clap-zero-shot"}
    names = list(fitted)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not torch.allclose(fitted[a], fitted[b], atol=1e-5), (a, b)


def test_no_method_hears_anything(tiny_clap, monkeypatch, judges):
    def deaf(*_, **__):
        raise AssertionError("a text-trained method asked for audio")

    monkeypatch.setattr(type(tiny_clap), "hear_mels", deaf)
    monkeypatch.setattr(type(tiny_clap), "embed_audio", deaf)
    methods._fitted.clear()
    again = text_judges(tiny_clap, tiny_clap, seed=0)
    for method, judge in again.items():
        assert torch.equal(judge.weight, judges[method].weight), method


def test_a_drift_is_what_a_phrase_adds_to_a_sentence_without_feeling(tiny_clap):
    drifts = text_drifts(tiny_clap, ["in a large hall", "in the rain"], bare="a voice")
    texts = tiny_clap.embed_text(["a voice", "a voice in the rain"])
    torch.testing.assert_close(drifts[1], texts[1] - texts[0])
    assert text_drifts(tiny_clap).shape == (len(ENVIRONMENT_PHRASES), 16)


def test_what_reads_alike_is_fitted_once(tiny_clap, quick, monkeypatch):
    calls, tune = [], methods.tune_contexts

    def spy(clap, emotions, **how):
        calls.append((emotions, how["seed"]))
        return tune(clap, emotions, **how)

    monkeypatch.setattr(methods, "tune_contexts", spy)
    first = text_judges(tiny_clap, tiny_clap, seed=0)
    clep = copy.deepcopy(tiny_clap)  # hears otherwise, reads alike
    with torch.no_grad():
        clep.model.audio_projection.linear1.weight.neg_()
        clep.model.logit_scale_a.add_(1.0)
    again = text_judges(tiny_clap, clep, seed=0)
    assert len(calls) == 1 and list(again) == list(first)
    assert again["clep-dg"] is first["clep-dg"]
    assert again["clep-zero-shot"].scale > 2 * first["clep-zero-shot"].scale
    text_judges(tiny_clap, clep, ("happy", "sad"), seed=0)
    text_judges(tiny_clap, clep, seed=1)
    with torch.no_grad():
        clep.model.text_projection.linear1.weight.neg_()
    text_judges(tiny_clap, clep, seed=0)
    assert len(calls) == 4
    monkeypatch.setattr(methods, "MOST", 2)
    text_judges(tiny_clap, tiny_clap, seed=2)
    assert len(methods._fitted) == 2
