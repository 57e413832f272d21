"""Captions: every label fits every template, and nothing unknown is accepted."""

import random
import re

import pytest
from random_places import describe, environment_caption

from clepdg_lib.captions import (
    BARE,
    CANONICAL,
    EMOTIONS,
    ENVIRONMENT_PHRASES,
    ENVIRONMENT_WORDS,
    PARAPHRASES,
    PROPERTIES,
    TEMPLATES,
    WORDS,
    check_emotions,
    emotion_prompts,
    emotion_sentences,
    normalise_emotion,
)


def test_prompts_have_a_row_per_emotion_and_a_sentence_per_template():
    prompts = emotion_prompts(EMOTIONS, templates=TEMPLATES)
    assert [len(row) for row in prompts] == [len(TEMPLATES)] * len(EMOTIONS)
    for emotion, row in zip(EMOTIONS, prompts, strict=True):
        assert all(emotion in sentence and "{" not in sentence for sentence in row)
    assert len(emotion_sentences("homesick")) == len(TEMPLATES)
    assert emotion_prompts(["homesick"]) == [["this person is feeling homesick"]]


def test_a_template_without_its_placeholder_is_refused():
    with pytest.raises(ValueError, match=r"'a voice'.*\{emotion\}"):
        emotion_prompts(["sad"], templates=[CANONICAL, "a voice"])


def test_one_emotion_has_one_name_however_it_is_written():
    for label in ("Pleasant_Surprise", " ps ", "surprise", "SURPRISED"):
        assert normalise_emotion(label) == "surprised"
    assert normalise_emotion("wu\u0308tend") == normalise_emotion("W\u00fctend")
    assert check_emotions(name for name in ("Anger", "SAD ")) == ("angry", "sad")
    assert emotion_sentences("Anger") == emotion_sentences("angry")
    for wrong in ("sad", ("sad",), ("Sad", "sad"), ("joy", "happy"), ("", "sad")):
        with pytest.raises(ValueError, match="two or more different words"):
            check_emotions(wrong)


@pytest.mark.parametrize("emotion", WORDS)
def test_sentences_of_an_emotion(emotion):
    sentences = emotion_sentences(emotion)
    assert sentences[0] == CANONICAL.format(emotion=emotion)
    assert WORDS[emotion][0] == emotion
    assert len(set(sentences)) == len(sentences)
    assert set(PARAPHRASES[emotion]) <= set(sentences)
    for sentence in sentences:
        first, second, *_ = sentence.split()
        if first in ("a", "an"):
            assert (first == "an") == (second[0] in "aeiou"), sentence


def test_no_sentence_stands_for_two_emotions():
    owners = {}
    for emotion in WORDS:
        for sentence in emotion_sentences(emotion):
            assert owners.setdefault(sentence, emotion) == emotion, sentence


def test_a_paraphrase_never_names_another_shared_emotion():
    assert [len(PARAPHRASES[e]) for e in WORDS] == [8] * 4 + [4] * 5
    assert tuple(WORDS)[:4] == EMOTIONS and set(PARAPHRASES) == set(WORDS)
    for emotion in EMOTIONS:
        others = {w for other in EMOTIONS if other != emotion for w in WORDS[other]}
        for sentence in PARAPHRASES[emotion]:
            named = set(re.findall(r"[\w-]+", sentence)) & others
            assert named <= {"even", "plain"}, (sentence, named)


def test_describe_names_each_level_and_is_repeatable():
    levels = {"sex": "female", "room": "large", "noise": "rain"}
    caption = describe(levels, generator=random.Random(3))
    assert caption == describe(levels, generator=random.Random(3))
    for aspect, level in levels.items():
        assert any(c in caption for c in PROPERTIES[aspect][level])
    assert len({describe(levels, generator=random.Random(i)) for i in range(40)}) > 5


def test_describe_refuses_what_has_no_caption():
    with pytest.raises(ValueError, match=r"pitch.*low.*medium.*high"):
        describe({"mood": "sad"}, generator=random.Random(0))


def test_no_property_caption_is_shared_by_two_levels():
    phrases = [c for levels in PROPERTIES.values() for s in levels.values() for c in s]
    assert len(phrases) == len(set(phrases))
    assert len(set(ENVIRONMENT_PHRASES)) == 16


def test_environment_captions_name_what_is_there_in_several_wordings():
    def captions_of(**levels):
        return {
            environment_caption(generator=random.Random(i), **levels) for i in range(60)
        }

    both = captions_of(room="large", noise="traffic")
    assert len(both) > 8
    for phrase in both:
        assert any(w in phrase for w in ENVIRONMENT_WORDS["room"]["large"])
        assert any(w in phrase for w in ENVIRONMENT_WORDS["noise"]["traffic"])
    faint = captions_of(noise="rain", severity=0.5)
    plain = captions_of(noise="rain")
    strong = captions_of(noise="rain", severity=2)
    assert not faint & plain and not plain & strong and not faint & strong
    assert any("drowning out" in p for p in strong)
    assert captions_of() <= {"in a quiet studio", "in silence"}
    assert f"{BARE} {min(plain)}".startswith("this person is speaking with")


@pytest.mark.parametrize("aspect", ["room", "noise", "channel"])
def test_environment_captions_refuse_unknown_levels(aspect):
    with pytest.raises(ValueError, match=rf"{aspect}='cave'.*telephone"):
        environment_caption(**{aspect: "cave"}, generator=random.Random(0))
