"""Sentences for the text tower: emotions, properties of a voice, environments.

The words are in captions.json; none of them is taken from the paper. Several templates
for one label are prompt ensembling (Radford et al. 2021, section 3.1.4).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_TEXTS = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))

EMOTIONS = ("angry", "happy", "neutral", "sad")  # the four that the corpora share
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
_FORMS = _TEXTS["environment_forms"]  # aspect -> severity -> "with faint {}"
# One plain phrase for each environment: a control for the learned contexts.
ENVIRONMENT_PHRASES = ["in a quiet studio"]
for _aspect, _levels in ENVIRONMENT_WORDS.items():
    for _level, _words in _levels.items():
        _phrases = [f.format(w) for f in _FORMS[_aspect]["medium"] for w in _words]
        PROPERTIES[_aspect][_level] = _phrases
        ENVIRONMENT_PHRASES.append(_phrases[0])


def check_emotions(emotions: Sequence[str]) -> tuple[str, ...]:
    """Return two or more different labels in lower case, or say what is wrong."""
    named = (emotions,) if isinstance(emotions, str) else tuple(emotions)
    plain = tuple(str(name).strip().lower() for name in named)
    if len(plain) < 2 or len(set(plain)) < len(plain):
        example = f"two or more different words, for example {EMOTIONS}"
        raise ValueError(f"emotions is {named!r}, but must be {example}")
    return plain


def emotion_prompts(
    emotions: Sequence[str], *, templates: Sequence[str] = (CANONICAL,)
) -> list[list[str]]:
    """Write one sentence per template for each emotion; any word is allowed."""
    if wrong := [t for t in templates if "{emotion}" not in t]:
        raise ValueError(f"templates {wrong} lack {{emotion}}; write {CANONICAL!r}")
    return [
        [re.sub(r"^an (?![aeiou])", "a ", t.format(emotion=emotion)) for t in templates]
        for emotion in emotions
    ]


def emotion_sentences(emotion: str) -> tuple[str, ...]:
    """Return an emotion's prompts and paraphrases; of an unlisted one, the prompts."""
    rows = emotion_prompts(WORDS.get(emotion, [emotion]), templates=TEMPLATES)
    rows.append(PARAPHRASES.get(emotion, []))
    return tuple(dict.fromkeys(sentence for row in rows for sentence in row))


def describe(levels: Mapping[str, str], *, generator: random.Random) -> str:
    """Join levels of :data:`PROPERTIES` into a caption; wording and order are drawn."""
    parts = [generator.choice(_captions(*item)) for item in levels.items()]
    generator.shuffle(parts)
    return ", ".join(parts)


def environment_caption(
    *, generator: random.Random, severity: float = 1.0, **levels: str
) -> str:
    """Describe an environment in a phrase that follows :data:`BARE`.

    `levels` are a room, a noise and a channel; wording and order are drawn. Severity up
    to 0.75 is "with faint rain", up to 1.5 "with rain", and above "with loud rain".
    """
    step = "low" if severity <= 0.75 else "medium" if severity <= 1.5 else "high"
    parts = []
    for aspect, level in levels.items():
        if _captions(aspect, level) and level in ENVIRONMENT_WORDS[aspect]:
            word = generator.choice(ENVIRONMENT_WORDS[aspect][level])
            parts.append(generator.choice(_FORMS[aspect][step]).format(word))
    generator.shuffle(parts)
    return ", ".join(parts) or generator.choice(("in a quiet studio", "in silence"))


def _captions(aspect: str, level: str) -> list[str]:
    if level not in PROPERTIES.get(aspect, {}):
        valid = {name: list(options) for name, options in PROPERTIES.items()}
        raise ValueError(f"no caption for {aspect}={level!r}; known are {valid}")
    return PROPERTIES[aspect][level]
