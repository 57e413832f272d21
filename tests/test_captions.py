"""Captions: every label fits every template, and nothing unknown is accepted."""

import random
import re

import pytest
from random_places import describe, environment_caption

from clepdg_lib import captions
from clepdg_lib.captions import EMOTIONS, PARAPHRASES, PROPERTIES, WORDS, check_emotions


def test_prompts_have_a_row_per_emotion_and_a_sentence_per_template():
    prompts = captions.emotion_prompts(EMOTIONS, templates=captions.TEMPLATES)
    assert [len(row) for row in prompts] == [len(captions.TEMPLATES)] * len(EMOTIONS)
    for emotion, row in zip(EMOTIONS, prompts, strict=True):
        assert all(emotion in sentence and "{" not in sentence for sentence in row)
    assert len(captions.emotion_sentences("homesick")) == len(captions.TEMPLATES)
    (row,) = captions.emotion_prompts(["homesick"])
    assert row == ["this person is feeling homesick"]
    with pytest.raises(ValueError, match=r"'a voice'.*\{emotion\}"):
        captions.emotion_prompts(["sad"], templates=[captions.CANONICAL, "a voice"])


def test_one_emotion_has_one_name_however_it_is_written():
    for label in ("Pleasant_Surprise", " ps ", "surprise", "SURPRISED"):
        assert captions.normalise_emotion(label) == "surprised"
    assert captions.normalise_emotion("wu\u0308tend") == "w\u00fctend"
    assert captions.normalise_emotion("W\u00fctend") == "w\u00fctend"
    assert check_emotions(name for name in ("Anger", "SAD ")) == ("angry", "sad")
    assert captions.emotion_sentences("Anger") == captions.emotion_sentences("angry")
    for wrong in ("sad", ("sad",), ("Sad", "sad"), ("joy", "happy"), ("", "sad")):
        with pytest.raises(ValueError, match="two or more different words"):
            check_emotions(wrong)


@pytest.mark.parametrize("emotion", WORDS)
def test_sentences_of_an_emotion(emotion):
    sentences = captions.emotion_sentences(emotion)
    assert sentences[0] == captions.CANONICAL.format(emotion=emotion)
    assert WORDS[emotion][0] == emotion
    assert len(set(sentences)) == len(sentences)
    assert set(PARAPHRASES[emotion]) <= set(sentences)
    for sentence in sentences:
        first, second, *_ = sentence.split()
        if first in ("a", "an"):
            assert (first == "an") == (second[0] in "aeiou"), sentence


def test_no_sentence_stands_for_two_emotions_nor_caption_for_two_levels():
    phrases = [c for levels in PROPERTIES.values() for s in levels.values() for c in s]
    assert len(phrases) == len(set(phrases))
    assert len(set(captions.ENVIRONMENT_PHRASES)) == 16
    owners = {}
    for emotion in WORDS:
        for sentence in captions.emotion_sentences(emotion):
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
    with pytest.raises(ValueError, match=r"pitch.*low.*medium.*high"):
        describe({"mood": "sad"}, generator=random.Random(0))


def test_environment_captions_name_what_is_there_in_several_wordings():
    def captions_of(**levels):
        draws = [random.Random(i) for i in range(60)]
        return {environment_caption(generator=draw, **levels) for draw in draws}

    both = captions_of(room="large", noise="traffic")
    assert len(both) > 8
    for phrase in both:
        assert any(w in phrase for w in captions.ENVIRONMENT_WORDS["room"]["large"])
        assert any(w in phrase for w in captions.ENVIRONMENT_WORDS["noise"]["traffic"])
    faint = captions_of(noise="rain", severity=0.5)
    plain = captions_of(noise="rain")
    strong = captions_of(noise="rain", severity=2)
    assert not faint & plain and not plain & strong and not faint & strong
    assert any("drowning out" in p for p in strong)
    assert captions_of() <= {"in a quiet studio", "in silence"}
    assert f"{captions.BARE} {min(plain)}".startswith("this person is speaking with")
    for aspect in ("room", "noise", "channel"):
        with pytest.raises(ValueError, match=rf"{aspect}='cave'.*telephone"):
            captions_of(**{aspect: "cave"})
