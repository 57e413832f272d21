"""Sentences for the text tower: emotions, properties of a voice, environments.

The words, in captions.json, are ours. Several templates for one label are prompt
ensembling (Radford et al. 2021, section 3.1.4).
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

_TEXTS = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))

EMOTIONS = ("angry", "happy", "neutral", "sad")  # the four that the corpora share
SPELLINGS = {name: e for e, names in _TEXTS["spellings"].items() for name in names}
BARE = "this person is speaking"  # a sentence without an emotion
TEMPLATES: tuple[str, ...] = tuple(_TEXTS["templates"])  # with an {emotion}
CANONICAL = TEMPLATES[0]

# Emotion -> synonyms that fit every template (the first is the label itself), and
# whole sentences, for training and for the text-trained classifier.
WORDS: dict[str, list[str]] = _TEXTS["words"]
PARAPHRASES: dict[str, list[str]] = _TEXTS["paraphrases"]

# Aspect -> level -> what a voice or a recording is like, and words for an environment.
PROPERTIES: dict[str, dict[str, list[str]]] = _TEXTS["properties"]
ENVIRONMENT_WORDS: dict[str, dict[str, list[str]]] = _TEXTS["environment_words"]
# Aspect -> severity -> "with faint {}".
ENVIRONMENT_FORMS: dict[str, dict[str, list[str]]] = _TEXTS["environment_forms"]
# One plain phrase for each environment: a control for the learned contexts.
ENVIRONMENT_PHRASES = ["in a quiet studio"]
for _aspect, _levels in ENVIRONMENT_WORDS.items():
    for _level, _words in _levels.items():
        _forms = ENVIRONMENT_FORMS[_aspect]["medium"]
        _phrases = [form.format(word) for form in _forms for word in _words]
        PROPERTIES[_aspect][_level] = _phrases
        ENVIRONMENT_PHRASES.append(_phrases[0])


def normalise_emotion(label: object, *, spelled: bool = False) -> str:
    """Return this project's name of an emotion: "Pleasant_Surprise" is "surprised".

    With `spelled`, "pleasant surprise": only case, blanks and accents are made alike.
    """
    text = unicodedata.normalize("NFC", str(label)).lower()
    words = " ".join(re.split(r"[\s_-]+", text)).strip()
    return words if spelled else SPELLINGS.get(words, words)


def check_emotions(emotions: Iterable[str]) -> tuple[str, ...]:
    """Return two or more different labels, normalised, or say what is wrong."""
    named = (emotions,) if isinstance(emotions, str) else tuple(emotions)
    plain = tuple(map(normalise_emotion, named))
    if len({*plain} - {""}) < max(2, len(plain)):
        example = f"two or more different words, for example {EMOTIONS}"
        raise ValueError(f"emotions is {named!r}, but must be {example}")
    return plain


def emotion_prompts(
    emotions: Sequence[str], *, templates: Sequence[str] = (CANONICAL,)
) -> list[list[str]]:
    """Write one sentence per template for each emotion; any word is allowed."""
    emotions = [emotions] if isinstance(emotions, str) else emotions  # no letters
    if wrong := [t for t in templates if "{emotion}" not in t]:
        raise ValueError(f"templates {wrong} lack {{emotion}}; write {CANONICAL!r}")
    rows = [[t.format(emotion=emotion) for t in templates] for emotion in emotions]
    return [[re.sub(r"^an (?![aeiou])", "a ", text) for text in row] for row in rows]


def emotion_sentences(emotion: str) -> tuple[str, ...]:
    """Return an emotion's prompts and paraphrases; of an unlisted one, the prompts."""
    emotion = normalise_emotion(emotion)
    rows = emotion_prompts(WORDS.get(emotion, [emotion]), templates=TEMPLATES)
    rows.append(PARAPHRASES.get(emotion, []))
    return tuple(dict.fromkeys(sentence for row in rows for sentence in row))
