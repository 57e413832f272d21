"""One clip, one emotion, a thousand contexts: defined, or an error that says what."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clepdg_lib.acpt import (
    AcousticContexts,
    embed_contexts,
    random_contexts,
    tune_contexts,
)
from clepdg_lib.audio import AudioError
from clepdg_lib.clap import embed_corpus
from clepdg_lib.clep import finetune_clep
from clepdg_lib.contrast import Recipe
from clepdg_lib.corpora import Corpus, load_corpus
from clepdg_lib.evaluation import (
    bootstrap_interval,
    linear_probe,
    mean_discrepancy,
    proxy_a_distance,
    recall_per_class,
    uar,
)
from clepdg_lib.gap import check_embeddings, modality_gap, transductive_centre
from clepdg_lib.pictures import draw_corpus
from clepdg_lib.transfer import TextClassifier, fit_on_points, zero_shot

pytestmark = pytest.mark.usefixtures("private_cache")
EMOTIONS = ("angry", "happy", "neutral", "sad")


def sphere(n, *, seed=0, dim=16):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, dim, generator=generator)
    return torch.nn.functional.normalize(points, dim=-1)


# ------------------------------------------------------------------ few of anything
def test_one_clip_goes_through_the_whole_chain(tiny_clap, make_corpus):
    corpus = load_corpus(make_corpus("sad/a.wav"))
    heard = embed_corpus(tiny_clap, corpus)
    assert heard.embeddings.shape == (1, 16)
    torch.testing.assert_close(heard.embeddings.norm(dim=1), torch.ones(1))
    guess = zero_shot(tiny_clap, EMOTIONS).predict(heard.embeddings)
    assert uar(heard.clips["emotion"], guess) in (0.0, 1.0)
    found = bootstrap_interval(heard.clips["emotion"], guess, n_resamples=20)
    assert found.value == found.low == found.high
    gap = modality_gap(heard.embeddings, tiny_clap.embed_text(["sad"]))
    assert math.isnan(gap.cosine_within_audio) and math.isfinite(gap.distance)


def test_one_clip_or_one_emotion_cannot_be_fine_tuned_on(tiny_clap, make_corpus):
    corpus = load_corpus(make_corpus("sad/anna/a.wav", "sad/bert/b.wav"))
    with pytest.raises(ValueError, match="choose two or more of"):
        finetune_clep(tiny_clap, corpus, epochs=1, n_places=0, progress=False)


def test_one_speaker_is_all_training(tiny_clap, make_corpus):
    corpus = load_corpus(make_corpus("sad/anna/a.wav", "angry/anna/b.wav"))
    assert set(corpus.clips["split"]) == {"train"}
    empty = corpus.select(splits="test")
    assert len(empty) == 0 and empty.emotions == ()
    with pytest.raises(AudioError, match="none of its 0 clips"):
        embed_corpus(tiny_clap, empty)
    with pytest.raises(AudioError, match="none of its 0 clips"):
        draw_corpus(empty, tiny_clap.log_mel)


def test_a_batch_of_one_learns_and_stays_finite(tiny_clap, feeling_corpus):
    recipe = Recipe(epochs=1, batch_size=1, probe_steps=1, precision="float32")
    clep = finetune_clep(
        tiny_clap, feeling_corpus(), recipe=recipe, n_places=0, progress=False
    )
    for name, tensor in clep.model.state_dict().items():
        assert torch.isfinite(tensor.float()).all(), name
    one = clep.embed_audio([torch.ones(16_000) * 0.1], batch_size=1)
    assert torch.isfinite(one).all()


def test_an_emotion_that_training_lacks_is_named_or_never_predicted(
    tiny_clap, feeling_corpus
):
    corpus = feeling_corpus(emotions=("angry", "happy"))
    with pytest.raises(ValueError, match=r"lacks \['sad'\]"):
        finetune_clep(tiny_clap, corpus, emotions=["angry", "sad"], progress=False)
    x = sphere(6).numpy()
    guess = linear_probe(x[:4], ["a", "a", "b", "b"], x)
    truth = np.array(["a", "a", "b", "b", "c", "c"])
    assert set(guess) <= {"a", "b"}
    assert recall_per_class(truth, guess)["c"] == 0  # it is there, and never found
    assert math.isnan(recall_per_class(truth[:4], guess[:4], labels=["c"])["c"])


# ------------------------------------------------------------------ all alike
def test_identical_embeddings_are_no_division_by_zero():
    same = sphere(1).repeat(10, 1)
    assert proxy_a_distance(same, same) == 0
    assert mean_discrepancy(same, same) == pytest.approx(0, abs=1e-12)
    gap = modality_gap(same, same)
    assert gap.distance == 0 and gap.direction.norm() == 0
    assert gap.cosine_within_audio == pytest.approx(1, abs=1e-5)
    centred = transductive_centre(same)
    assert torch.isfinite(centred).all()
    fitted = fit_on_points(same[:4], [0, 1, 2, 3], emotions=EMOTIONS, epochs=3)
    shares = fitted.predict_proba(centred)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(10))
    assert torch.isfinite(fitted.weight).all()


def test_silence_and_single_samples_have_an_embedding(tiny_clap):
    clips = [torch.zeros(16_000), torch.zeros(1), torch.full((1,), 0.5)]
    found = tiny_clap.embed_audio(clips)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


# ------------------------------------------------------------------ many
def test_a_thousand_contexts_are_embedded_in_parts(tiny_clap):
    contexts = random_contexts(tiny_clap, n_contexts=1_000, n_tokens=2, seed=1)
    found = embed_contexts(tiny_clap, contexts, EMOTIONS)
    assert found.shape == (1_000, 4, 16) and torch.isfinite(found).all()
    few = AcousticContexts(contexts.vectors[[0, 63, 64, 999]])
    again = embed_contexts(tiny_clap, few, EMOTIONS)
    torch.testing.assert_close(found[[0, 63, 64, 999]], again)
    tuned = tune_contexts(
        tiny_clap, EMOTIONS, init=contexts, steps=1, progress=False, n_contexts=1_000
    )
    assert len(tuned) == 1_000 and torch.isfinite(tuned.vectors).all()


def test_more_tokens_than_the_tower_has_places_for_is_an_error(tiny_clap):
    long = random_contexts(tiny_clap, n_contexts=1, n_tokens=80)
    with pytest.raises(ValueError, match="too long: this tower takes 62"):
        embed_contexts(tiny_clap, long, EMOTIONS)


# ------------------------------------------------------------------ limits of knobs
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(tiny_clap, temperature):
    with pytest.raises(ValueError, match="temperature is .* above 0"):
        tune_contexts(tiny_clap, EMOTIONS, temperature=temperature, progress=False)


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e6])
def test_a_temperature_at_its_limits_stays_finite(tiny_clap, temperature):
    tuned = tune_contexts(
        tiny_clap,
        EMOTIONS,
        temperature=temperature,
        **{"n_contexts": 2, "n_tokens": 1, "steps": 3, "progress": False},
    )
    assert torch.isfinite(tuned.vectors).all()
    assert np.isfinite(tuned.history.to_numpy()).all()


def test_a_tuning_that_runs_away_is_told(tiny_clap):
    small = {"n_contexts": 2, "n_tokens": 1, "progress": False}
    with pytest.raises(ValueError, match="ran away in step .* temperature 1e-44"):
        tune_contexts(tiny_clap, EMOTIONS, temperature=1e-44, steps=3, **small)
    for learning_rate, steps in ((0.0, 1), (-0.1, 1), (math.nan, 1), (0.1, -1)):
        with pytest.raises(ValueError, match="learning_rate is"):
            tune_contexts(
                tiny_clap,
                EMOTIONS,
                **{"learning_rate": learning_rate, "steps": steps, **small},
            )


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"scale": 0.0}, "scale is 0.0, but must be above 0"),
        ({"scale": math.nan}, "scale is nan"),
        ({"scale": math.inf}, "scale is inf"),
        ({"margin": -0.1}, "margin is -0.1, but must be from 0 to pi / 2"),
        ({"margin": 2.0}, "margin is 2.0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, but must be above 0"),
        ({"momentum": 1.0}, "momentum is 1.0, but must be from 0 to below 1"),
        ({"epochs": -1}, "epochs is -1, but must be 0 or more"),
        ({"batch_size": 0}, "batch_size is 0, but must be 1 or more"),
        ({"scale": math.inf}, "scale is inf, but must be above 0"),
        ({"scale": 1e30, "learning_rate": 1e30, "start": "random"}, "ran away"),
    ],
)
def test_a_classifier_outside_its_limits_is_refused(setting, told):
    with pytest.raises(ValueError, match=told):
        fit_on_points(sphere(8), [0, 1, 2, 3] * 2, emotions=EMOTIONS, **setting)


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"margin": math.pi / 2}])
def test_a_classifier_at_its_limits_is_fitted(setting):
    fitted = fit_on_points(sphere(8), [0, 1, 2, 3] * 2, emotions=EMOTIONS, **setting)
    assert torch.isfinite(fitted.weight).all() and len(fitted.weight) == 4


@pytest.mark.parametrize("scale", [1e-6, 100.0, 1e30])
def test_probabilities_sum_to_one_at_any_scale(scale):
    judge = TextClassifier(EMOTIONS, sphere(4), scale)
    shares = judge.predict_proba(sphere(5, seed=1))
    assert torch.isfinite(shares).all()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(5))


def test_rows_that_are_not_numbers_are_counted():
    rows = sphere(4)
    rows[1, 2], rows[3, 0] = math.nan, math.inf
    with pytest.raises(ValueError, match="audio has 2 of 4 rows with NaN"):
        check_embeddings(rows, name="audio")


@pytest.mark.parametrize("how", [{"level": 1.0}, {"level": 0.0}, {"n_resamples": 0}])
def test_an_interval_outside_its_limits_is_refused(how):
    with pytest.raises(ValueError, match="between 0 and 1, and 1 or more"):
        bootstrap_interval(["a", "b"], ["a", "b"], **how)


def test_a_corpus_without_clips_has_no_emotions(feeling_corpus):
    corpus = feeling_corpus()
    empty = Corpus("empty", corpus.clips.iloc[:0])
    assert len(empty) == 0 and "0 clips" in repr(empty)
