"""Sentences: every label fits every template, and nothing unknown slips through."""

import random
import re

import pytest

from clepdg_lib import captions
from clepdg_lib.captions import (
    CANONICAL,
    ENVIRONMENT_PHRASES,
    PARAPHRASES,
    PROPERTIES,
    TEMPLATES,
    WORDS,
    caption_corpus,
    describe,
    emotion_prompts,
    emotion_sentences,
    valid_emotions,
)
from clepdg_lib.corpora import EMOTIONS


def test_prompts_have_a_row_for_each_emotion_and_a_sentence_for_each_template():
    prompts = emotion_prompts(EMOTIONS, templates=TEMPLATES)
    assert [len(row) for row in prompts] == [len(TEMPLATES)] * len(EMOTIONS)
    for emotion, row in zip(EMOTIONS, prompts, strict=True):
        assert all(emotion in sentence for sentence in row)
        assert not any("{" in sentence for sentence in row)
    assert emotion_prompts(["homesick"]) == [["this person is feeling homesick"]]


def test_a_template_without_its_placeholder_is_refused():
    with pytest.raises(ValueError, match=r"'a voice'.*\{emotion\}"):
        emotion_prompts(["sad"], templates=[CANONICAL, "a voice"])


@pytest.mark.parametrize("emotion", valid_emotions())
def test_articles_fit_what_follows(emotion):
    for sentence in emotion_sentences(emotion):
        first, *rest = sentence.split()
        if first in ("a", "an"):
            assert (first == "an") == (rest[0][0] in "aeiou"), sentence


@pytest.mark.parametrize("emotion", valid_emotions())
def test_an_emotions_sentences_begin_with_its_own_prompt(emotion):
    sentences = emotion_sentences(emotion)
    assert sentences[0] == CANONICAL.format(emotion=emotion)
    assert WORDS[emotion][0] == emotion
    assert len(set(sentences)) == len(sentences)
    assert set(PARAPHRASES[emotion]) <= set(sentences)


def test_no_sentence_stands_for_two_emotions():
    owners = {}
    for emotion in valid_emotions():
        for sentence in emotion_sentences(emotion):
            assert owners.setdefault(sentence, emotion) == emotion, sentence


def test_a_paraphrase_never_names_another_shared_emotion():
    for emotion in EMOTIONS:
        others = {w for other in EMOTIONS if other != emotion for w in WORDS[other]}
        for sentence in PARAPHRASES[emotion]:
            named = set(re.findall(r"[\w-]+", sentence)) & others
            assert named <= {"even", "plain"}, (sentence, named)


def test_an_unlisted_emotion_gets_the_templates_alone():
    assert len(emotion_sentences("homesick")) == len(TEMPLATES)


def test_describe_says_each_level_once_and_is_repeatable():
    levels = {"sex": "female", "room": "large", "noise": "rain"}
    said = describe(levels, generator=random.Random(3))
    assert said == describe(levels, generator=random.Random(3))
    for aspect, level in levels.items():
        assert sum(c in said for c in PROPERTIES[aspect][level]) >= 1
    wordings = {describe(levels, generator=random.Random(i)) for i in range(40)}
    assert len(wordings) > 5


@pytest.mark.parametrize("levels", [{"mood": "sad"}, {"pitch": "shrill"}])
def test_describe_refuses_what_has_no_caption(levels):
    with pytest.raises(ValueError, match=r"pitch.*low.*medium.*high"):
        describe(levels, generator=random.Random(0))


def test_no_property_caption_is_shared_by_two_levels():
    said = [c for options in PROPERTIES.values() for s in options.values() for c in s]
    assert len(said) == len(set(said))


def test_the_training_text_holds_everything_once_and_follows_its_seed():
    made = caption_corpus(sounds=["dog bark"], n_mixed=50, seed=1)
    assert made == caption_corpus(sounds=["dog bark"], n_mixed=50, seed=1)
    assert made != caption_corpus(sounds=["dog bark"], n_mixed=50, seed=2)
    assert len(made) == len(set(made))
    assert {"the sound of dog bark", "a deep voice"} <= set(made)
    assert f"{CANONICAL.format(emotion='sad')} {ENVIRONMENT_PHRASES[0]}" in made


def test_places_are_told_apart_by_more_than_one_name():
    assert len(set(ENVIRONMENT_PHRASES)) == len(ENVIRONMENT_PHRASES) >= 16
    assert captions.PROPERTIES.keys() >= {"room", "channel", "noise"}
