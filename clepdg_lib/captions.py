"""Sentences for the text tower: emotions, properties of a voice, environments.

The words are in captions.json; none of them is taken from the paper. Several templates
for one label are prompt ensembling (Radford et al. 2021, section 3.1.4).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

EMOTIONS = ("angry", "happy", "neutral", "sad")  # the four that the corpora share
BARE = "this person is speaking"  # a sentence without an emotion
CANONICAL = "this person is feeling {emotion}"

TEMPLATES = (
    CANONICAL,
    "a person speaking in a tone that is {emotion}",
    "the speaker sounds {emotion}",
    "a voice that sounds {emotion}",
    "someone talking, and they are {emotion}",
    "speech of a person who feels {emotion}",
    "an {emotion} voice",
    "the feeling in this voice is {emotion}",
)


def _freeze(table: dict) -> dict:
    """Turn the lists of a nested table into tuples."""
    return {
        k: tuple(v) if isinstance(v, list) else _freeze(v) for k, v in table.items()
    }


_TEXTS = _freeze(json.loads(Path(__file__).with_suffix(".json").read_text("utf-8")))

# Emotion -> synonyms that fit every template (the first is the label itself), and
# whole sentences, for training and for the text-trained classifier.
WORDS: dict[str, tuple[str, ...]] = _TEXTS["words"]
PARAPHRASES: dict[str, tuple[str, ...]] = _TEXTS["paraphrases"]

# Aspect -> level -> what a voice or a recording is like, and words for an environment.
PROPERTIES: dict[str, dict[str, tuple[str, ...]]] = _TEXTS["properties"]
ENVIRONMENT_WORDS: dict[str, dict[str, tuple[str, ...]]] = _TEXTS["environment_words"]
_FORMS = _TEXTS["environment_forms"]  # aspect -> severity -> "with faint {}"
for _aspect, _levels in ENVIRONMENT_WORDS.items():
    for _level, _words in _levels.items():
        PROPERTIES[_aspect][_level] = tuple(
            form.format(word) for form in _FORMS[_aspect]["medium"] for word in _words
        )

# One plain phrase for each environment: a control for the learned contexts.
ENVIRONMENT_PHRASES = ("in a quiet studio",) + tuple(
    PROPERTIES[aspect][level][0]
    for aspect, levels in ENVIRONMENT_WORDS.items()
    for level in levels
)


def check_emotions(emotions: Sequence[str]) -> tuple[str, ...]:
    """Return two or more different labels in lower case, or say what is wrong.

    Example:
        >>> check_emotions(["Angry", "sad"])
        ('angry', 'sad')
    """
    named = (emotions,) if isinstance(emotions, str) else tuple(emotions)
    plain = tuple(str(name).strip().lower() for name in named)
    if len(plain) < 2 or len(set(plain)) < len(plain):
        raise ValueError(
            f"emotions is {named!r}, but must be two or more different words, for "
            f"example {EMOTIONS}"
        )
    return plain


def emotion_prompts(
    emotions: Sequence[str], *, templates: Sequence[str] = (CANONICAL,)
) -> list[list[str]]:
    """Write one sentence per template for each emotion; any word is allowed.

    Example:
        >>> emotion_prompts(["sad"])
        [['this person is feeling sad']]
    """
    if wrong := [t for t in templates if "{emotion}" not in t]:
        raise ValueError(f"templates {wrong} lack {{emotion}}; write {CANONICAL!r}")
    return [
        [re.sub(r"^an (?![aeiou])", "a ", t.format(emotion=emotion)) for t in templates]
        for emotion in emotions
    ]


def emotion_sentences(emotion: str) -> tuple[str, ...]:
    """Return an emotion's prompts and paraphrases; of an unlisted one, the prompts."""
    words = WORDS.get(emotion, (emotion,))
    filled = chain.from_iterable(emotion_prompts(words, templates=TEMPLATES))
    return tuple(dict.fromkeys((*filled, *PARAPHRASES.get(emotion, ()))))


def describe(levels: Mapping[str, str], *, generator: random.Random) -> str:
    """Join levels of :data:`PROPERTIES` into one caption; wording and order are drawn.

    Example:
        >>> describe({"sex": "male"}, generator=random.Random(0))
        'a male speaker'
    """
    parts = [generator.choice(_captions(*item)) for item in levels.items()]
    generator.shuffle(parts)
    return ", ".join(parts)


def environment_caption(
    *,
    room: str = "none",
    noise: str = "none",
    channel: str = "full",
    severity: float = 1.0,
    generator: random.Random,
) -> str:
    """Describe an environment in a phrase that follows :data:`BARE`.

    Wording and order are drawn. Severity chooses among three groups of wordings: up to
    0.75 ("with faint rain"), up to 1.5 ("with rain"), and above ("with loud rain").

    Example:
        >>> environment_caption(room="large", noise="rain", generator=random.Random(0))
        'heard in a church with a long echo, with rain in the background'
    """
    step = "low" if severity <= 0.75 else "medium" if severity <= 1.5 else "high"
    parts = []
    for aspect, level in {"room": room, "noise": noise, "channel": channel}.items():
        if _captions(aspect, level) and level in ENVIRONMENT_WORDS[aspect]:
            word = generator.choice(ENVIRONMENT_WORDS[aspect][level])
            parts.append(generator.choice(_FORMS[aspect][step]).format(word))
    generator.shuffle(parts)
    return ", ".join(parts) or generator.choice(("in a quiet studio", "in silence"))


def _captions(aspect: str, level: str) -> tuple[str, ...]:
    if level not in PROPERTIES.get(aspect, {}):
        valid = {name: list(options) for name, options in PROPERTIES.items()}
        raise ValueError(f"no caption for {aspect}={level!r}; known are {valid}")
    return PROPERTIES[aspect][level]
