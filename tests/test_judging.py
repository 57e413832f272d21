"""Judging: verdicts on the same clips, plain rows, differences in pairs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from clepdg_lib import load_clap, load_corpus, methods, uar
from clepdg_lib.benchmark import LODO_RECIPE
from clepdg_lib.clep import finetune_clep
from clepdg_lib.embedding import embed_corpus
from clepdg_lib.judging import Judges, Training, judge_measurements
from clepdg_lib.pictures import draw_corpus

pytestmark = pytest.mark.usefixtures("private_cache")
ABOUT = {"setting": "loco", "test": "tess"}


@pytest.fixture
def heard(tiny_clap, feeling_corpus):
    return embed_corpus(tiny_clap, feeling_corpus(n_each=2))


def test_the_same_seed_gives_the_same_verdicts(tiny_clap, heard, quick):
    first, again = (
        Judges.fit(tiny_clap, tiny_clap).judge(heard, heard, **ABOUT) for _ in range(2)
    )
    for a, b in zip(first, again, strict=True):
        assert (a.method, a.transductive) == (b.method, b.transductive)
        np.testing.assert_array_equal(a.guess, b.guess)
    plain = {v.method: v.guess for v in first if not v.transductive}
    same = plain["clap-zero-shot"] == plain["clep-zero-shot"]
    assert same.all()  # the same model


def test_without_training_audio_nothing_of_it_is_judged(tiny_clap, heard, quick):
    verdicts = Judges.fit(tiny_clap, tiny_clap).judge(heard, heard, **ABOUT)
    assert {v.gap_correction for v in verdicts} == {"none"}
    assert "audio-probe" not in {v.method for v in verdicts}
    assert {v.transductive for v in verdicts} == {False, True}


def test_every_method_has_its_ways(tiny_clap, heard, quick):
    judges = Judges.fit(tiny_clap, tiny_clap, training=Training.of(heard))
    verdicts = judges.judge(heard, heard, **ABOUT)
    ways = {}
    for v in verdicts:
        ways.setdefault(v.method, []).append((v.gap_correction, v.transductive))
    assert list(ways) == [m for m in methods.METHODS if m in ways]
    assert set(methods.METHODS) - set(ways) == {
        *("chance", "egemaps-lr", "audioset-lr")
    }
    plain, shifted, own = ("none", False), ("mean-shift", False), ("none", True)
    assert ways.pop("clap-zero-shot") == ways.pop("audio-probe") == [plain, own]
    assert all(found == [plain, shifted, own] for found in ways.values())


def test_the_gap_is_closed_by_the_training_mean_and_not_by_the_tests(
    tiny_clap, heard, quick
):
    how = {"gap_correction": "mean-shift", "transductive": False}

    def guesses(mean):
        judges = Judges.fit(tiny_clap, tiny_clap, training=Training(mean))
        verdicts = judges.judge(heard, heard, **ABOUT)
        return np.stack(
            [
                v.guess
                for v in verdicts
                if all(getattr(v, key) == value for key, value in how.items())
            ]
        )

    own = heard.embeddings.mean(dim=0)
    zero = guesses(torch.zeros_like(own))
    assert (zero != guesses(100 * own)).any()  # the given mean is what counts


def test_measurements_are_judged_by_the_other_corpora_alone():
    labels = np.array(["sad", "angry"] * 6)
    clips = pd.DataFrame({"corpus": ["a"] * 4 + ["b"] * 4 + ["c"] * 4})
    clips["emotion"] = labels
    measured = np.where(labels == "sad", 1.0, -1.0)[:, None]
    measured[8:] *= -1  # in the corpus that is judged all is the other way
    plain, centred = judge_measurements(measured, clips, test="c")
    assert (plain.method, plain.test) == ("egemaps-lr", "c")
    assert not (plain.guess == plain.truth).any() and len(plain.truth) == 4
    measured[8:] = -measured[8:] + 50  # right, but for where its microphone stood
    plain, centred = judge_measurements(measured, clips, test="c")
    assert plain.row()["collapsed"] and not plain.transductive
    assert (centred.guess == centred.truth).all() and centred.transductive


def test_shuffled_emotions_bring_every_method_to_chance(quick):
    """The whole chain on labels that say nothing: whoever still scores has peeked."""
    clap, corpus = load_clap("clap-mini"), load_corpus("emosynth")
    train, test = corpus.select(splits="train"), corpus.select(splits="test")
    pictures = draw_corpus(train, clap.log_mel, n_places=0)
    recipe = replace(LODO_RECIPE, probe_steps=200)
    true = train.clips["emotion"].to_numpy()
    draws = [np.random.default_rng(seed) for seed in (0, 1)]
    scores = []
    for labels in (true, *(draw.permutation(true) for draw in draws)):
        known = replace(train, clips=train.clips.assign(emotion=labels))
        how = {"recipe": recipe, "pictures": pictures, "progress": False}
        clep = finetune_clep(clap, known, **how)
        training = Training.of(embed_corpus(clep, known))
        judges = Judges.fit(clap, clep, training=training)
        heard = embed_corpus(clap, test), embed_corpus(clep, test)
        verdicts = judges.judge(*heard, **ABOUT)
        scores.append([uar(v.truth, v.guess) for v in verdicts])
    by_clep = np.array([v.method != "clap-zero-shot" for v in verdicts])
    told, *shuffled = np.array(scores)[:, by_clep]
    assert told.min() > 0.6
    # Guesses are much alike for all methods, so a single draw may lie far off.
    assert np.abs(np.mean(shuffled, axis=0) - 0.25).max() < 0.1
