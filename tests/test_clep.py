"""Fine-tuning on feelings: who is trained on, what is said, what stays, what comes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clepdg_lib import clep as module
from clepdg_lib.captions import CANONICAL, PROPERTIES, emotion_sentences
from clepdg_lib.clep import balance, emotion_labels, finetune_clep
from clepdg_lib.contrast import Recipe
from clepdg_lib.corpora import join_corpora
from clepdg_lib.pictures import PLACES, draw_corpus

pytestmark = pytest.mark.usefixtures("private_cache")
RECIPE = Recipe(
    epochs=1,
    batch_size=8,
    learning_rate=3e-3,
    tower_share=1.0,
    probe_steps=0,
    precision="float32",
)
QUICK = {"recipe": RECIPE, "n_places": 0, "progress": False}


@pytest.fixture
def order(monkeypatch):
    """What `finetune_clep` asks `train_towers` for; nothing is trained."""
    seen = []

    def note(clap, mels, aspects, **options):
        seen.append({"mels": mels, "aspects": {a.name: a for a in aspects}, **options})
        return replace_name(clap)

    def replace_name(clap):
        return type(clap)(clap.model, clap.tokenizer, clap.extractor, name=clap.name)

    monkeypatch.setattr(module, "train_towers", note)
    return seen


def test_a_train_split_is_trained_on_and_nothing_else(tiny_clap, feeling_corpus, order):
    corpus = feeling_corpus(n_each=4)
    finetune_clep(tiny_clap, corpus, **QUICK)
    train = draw_corpus(corpus.select(splits="train"), tiny_clap.log_mel, n_places=0)
    np.testing.assert_array_equal(order[0]["mels"], train.mels)
    assert order[0]["aspects"]["emotion"].labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    finetune_clep(tiny_clap, corpus.select(splits="test"), **QUICK)
    assert len(order[1]["mels"]) == 8  # a corpus without a train split is meant whole


def test_sentences_are_those_of_the_emotions_in_their_order(
    tiny_clap, feeling_corpus, order
):
    corpus = feeling_corpus(n_each=1)
    finetune_clep(tiny_clap, corpus, emotions=["sad", "happy"], epochs=9, **QUICK)
    aspect = order[0]["aspects"]["emotion"]
    assert aspect.sentences == [emotion_sentences("sad"), emotion_sentences("happy")]
    assert aspect.labels.tolist() == [-1, 1, -1, 0]  # angry, happy, neutral, sad
    assert order[0]["recipe"] == replace(RECIPE, epochs=9)


def test_properties_and_places_are_said_too(tiny_clap, feeling_corpus, order):
    corpus = feeling_corpus(n_each=1)
    levels = {"pitch": np.array([0, 1, 2, -1])}
    targets = np.arange(8.0).reshape(4, 2)
    finetune_clep(
        tiny_clap,
        corpus,
        recipe=RECIPE,
        n_places=1,
        properties=levels,
        property_weight=0.5,
        targets=targets,
        progress=False,
    )
    aspects = order[0]["aspects"]
    assert list(aspects) == ["emotion", "pitch", *PLACES]
    assert aspects["pitch"].labels.tolist() == [0, 1, 2, -1]
    assert aspects["pitch"].weight == 0.5 and aspects["emotion"].weight == 1.0
    for place in PLACES:
        labels = aspects[place].labels
        assert labels.shape == (4, 2) and (labels[:, 0] == -1).all()
        assert (labels[:, 1] >= 0).all() and labels.max() < len(PROPERTIES[place])
    np.testing.assert_array_equal(order[0]["targets"], targets)


def test_rows_follow_the_pictures_that_are_left(tiny_clap, feeling_corpus, order):
    corpus = feeling_corpus(n_each=1)
    pictures = draw_corpus(corpus, tiny_clap.log_mel, n_places=0)
    keep = np.array([True, False, True, True])
    finetune_clep(
        tiny_clap,
        corpus,
        recipe=RECIPE,
        pictures=pictures.rows(keep),
        targets=np.arange(4.0)[:, None],
        progress=False,
    )
    assert order[0]["aspects"]["emotion"].labels.tolist() == [0, 2, 3]
    assert order[0]["targets"].ravel().tolist() == [0, 2, 3]
    assert len(order[0]["sampling"]) == 3


def test_measurements_of_several_splits_are_refused(tiny_clap, feeling_corpus):
    with pytest.raises(ValueError, match="several splits.*select"):
        finetune_clep(
            tiny_clap, feeling_corpus(), targets=np.zeros((8, 1)), progress=False
        )


@pytest.mark.parametrize("emotions", [["sad"], ["sad", "bored"]])
def test_emotions_that_cannot_be_learned_are_refused(
    tiny_clap, feeling_corpus, emotions
):
    with pytest.raises(ValueError, match=r"tones.*'angry', 'happy', 'neutral', 'sad'"):
        finetune_clep(tiny_clap, feeling_corpus(), emotions=emotions, **QUICK)


def test_rare_groups_are_heard_more_often(feeling_corpus):
    large, small = feeling_corpus("large", n_each=4), feeling_corpus("small", n_each=1)
    both = join_corpora(large, small)
    weights = balance(both)
    mass = {
        n: weights[(both.clips["corpus"] == n).to_numpy()] for n in both.clips.corpus
    }
    assert mass["large"].sum() / mass["small"].sum() == pytest.approx(2)  # 4 ** 0.5
    assert set(balance(both, power=0)) == {1.0}
    groups = balance(both, power=1)
    assert groups[:16].sum() == pytest.approx(groups[16:].sum())


def test_labels_are_places_in_the_list(feeling_corpus):
    corpus = feeling_corpus(n_each=1)
    assert emotion_labels(corpus, ("sad", "angry")).tolist() == [1, -1, -1, 0]


def test_a_clep_hears_what_the_clap_did_not(tiny_clap, feeling_corpus, monkeypatch):
    # Random towers know no synonyms: one sentence for each emotion.
    monkeypatch.setattr(
        module, "emotion_sentences", lambda e: [CANONICAL.format(emotion=e)]
    )
    corpus = feeling_corpus(n_each=4)
    before = {k: v.clone() for k, v in tiny_clap.model.state_dict().items()}
    plain = {"gain_db": 0.0, "equaliser_db": 0.0, "masks": False, "averaging": 0.9}
    tuned = finetune_clep(
        tiny_clap,
        corpus,
        recipe=replace(RECIPE, epochs=30, **plain),
        n_places=0,
        validation=corpus.select(splits="test"),
        progress=False,
    )
    assert tuned.name == "clep(tiny)"
    history = tuned.history
    assert set(history) == {"epoch", "loss", "seconds", "validation_uar"}
    assert list(history["epoch"]) == list(range(1, 31))
    assert history["loss"].iloc[-5:].mean() < 0.75 * history["loss"].iloc[:3].mean()
    assert history["validation_uar"].max() >= 0.75 > 0.25
    for name, tensor in tiny_clap.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    for name, tensor in tuned.model.state_dict().items():
        if name.startswith("text_"):
            assert torch.equal(tensor, before[name]), name


def test_a_seed_gives_the_same_clep(tiny_clap, feeling_corpus):
    corpus = feeling_corpus()
    models = [finetune_clep(tiny_clap, corpus, seed=s, **QUICK) for s in (0, 0, 1)]
    prints = [m.fingerprint() for m in models]
    assert prints[0] == prints[1] != prints[2]
