"""Turn labels and measurements into sentences, the only thing a text tower hears.

Three kinds of sentence: how a person feels (CLEP), what a voice is like and
where it is heard (CLAP), and templates that join them ("prompt ensembling",
Radford et al. 2021, section 3.1.4). No sentence here was taken from the paper.

Lesson: notebooks/01_probe_clap.ipynb
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence

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

# Other words for an emotion. The first is the label itself; every one fits TEMPLATES.
WORDS: dict[str, tuple[str, ...]] = {
    "angry": ("angry", "furious", "enraged", "irritated", "hostile", "outraged"),
    "happy": ("happy", "joyful", "cheerful", "delighted", "elated", "amused"),
    "neutral": ("neutral", "unemotional", "matter-of-fact", "even", "plain"),
    "sad": ("sad", "sorrowful", "unhappy", "depressed", "gloomy", "heartbroken"),
    "fearful": ("fearful", "afraid", "terrified", "anxious", "scared"),
    "disgusted": ("disgusted", "repulsed", "revolted"),
    "surprised": ("surprised", "astonished", "amazed", "startled"),
    "calm": ("calm", "relaxed", "serene", "peaceful"),
    "bored": ("bored", "listless", "uninterested"),
}

# Whole sentences, for training and for the text-trained classifier.
PARAPHRASES: dict[str, tuple[str, ...]] = {
    "angry": (
        "a person shouting in anger",
        "she snaps at him with a hard, loud voice",
        "he is furious and raises his voice",
        "an irritated speaker with a sharp, tense tone",
        "someone who has lost their temper",
        "harsh, loud speech full of rage",
        "the voice of somebody who is very annoyed",
        "a heated argument, the voice pressed and hard",
    ),
    "happy": (
        "a person speaking with joy",
        "she laughs while she talks",
        "he is delighted and it can be heard",
        "a bright, lively voice with a smile in it",
        "someone telling wonderful news",
        "cheerful speech that moves up and down",
        "the voice of somebody who is having fun",
        "an excited and merry speaker",
    ),
    "neutral": (
        "a person speaking without emotion",
        "she reads the text in an even voice",
        "he states a fact, nothing more",
        "an ordinary speaking voice with no feeling in it",
        "someone reading out a list",
        "plain speech, neither glad nor upset",
        "the voice of a newsreader",
        "a level, businesslike tone",
    ),
    "sad": (
        "a person speaking with sorrow",
        "she is close to crying",
        "he mourns somebody he has lost",
        "a slow, quiet voice that falls at the end",
        "someone who has given up hope",
        "weak and hollow speech, full of grief",
        "the voice of somebody who is lonely",
        "a dejected and tearful speaker",
    ),
    "fearful": (
        "a person speaking in fear",
        "her voice trembles with fright",
        "someone who is scared of what is coming",
        "a breathless, frightened speaker",
    ),
    "disgusted": (
        "a person speaking with disgust",
        "she finds it revolting and says so",
        "someone who feels sick at the thought",
        "a voice full of contempt and distaste",
    ),
    "surprised": (
        "a person speaking in surprise",
        "he cannot believe what he has just heard",
        "someone caught off guard",
        "an astonished voice that jumps upwards",
    ),
    "calm": (
        "a person speaking calmly",
        "a soft and soothing voice",
        "someone who is at ease",
        "slow, peaceful speech",
    ),
    "bored": (
        "a person speaking with boredom",
        "a dull voice that drags along",
        "someone who would rather be elsewhere",
        "tired, listless speech",
    ),
}

# What a voice or a sound is like, by aspect and level: what CLAP learns.
PROPERTIES: dict[str, dict[str, tuple[str, ...]]] = {
    "sex": {
        "female": ("a woman's voice", "a female speaker", "a woman is speaking"),
        "male": ("a man's voice", "a male speaker", "a man is speaking"),
    },
    "pitch": {
        "low": ("a low-pitched voice", "a deep voice", "the pitch is low"),
        "medium": ("a voice of medium pitch", "the pitch is in the middle"),
        "high": ("a high-pitched voice", "a high voice", "the pitch is high"),
    },
    "melody": {
        "flat": ("a monotonous voice", "the pitch hardly moves"),
        "medium": ("a voice with some melody", "the pitch moves a little"),
        "lively": ("a voice that swings up and down", "the pitch moves a lot"),
    },
    "effort": {
        "soft": ("a soft voice", "spoken softly, with little effort"),
        "medium": ("a voice at conversational effort", "spoken at normal effort"),
        "loud": ("a loud voice", "spoken with great effort, almost shouted"),
    },
    "tempo": {
        "slow": ("slow speech", "spoken slowly"),
        "medium": ("speech at an ordinary pace", "spoken at a moderate tempo"),
        "fast": ("fast speech", "spoken quickly"),
    },
    "texture": {
        "breathy": ("a breathy, hoarse voice", "a rough and noisy voice"),
        "medium": ("an ordinary voice texture", "a voice neither clear nor rough"),
        "clear": ("a clear, ringing voice", "a clean and resonant voice"),
    },
    "room": {
        "none": ("recorded close to the microphone", "a dry recording with no echo"),
        "small": ("heard in a small room", "recorded in a living room"),
        "medium": ("heard in a medium-sized room", "recorded in a classroom"),
        "large": ("heard in a large hall", "recorded in a church with a long echo"),
    },
    "channel": {
        "full": ("a full-range recording", "recorded with a good microphone"),
        "telephone": ("heard over the telephone", "a narrow telephone line"),
        "radio": ("heard over a small radio", "a tinny loudspeaker"),
    },
    "noise": {
        "none": ("no background noise", "a quiet background"),
        "white": ("hiss in the background", "with loud static"),
        "pink": ("steady background noise", "the rush of air in the background"),
        "hum": ("an electric hum in the background", "a buzzing mains hum"),
        "traffic": ("street traffic in the background", "recorded beside a busy road"),
        "babble": ("people talking in the background", "recorded in a noisy café"),
        "fan": ("a fan running in the background", "an air conditioner blows"),
        "rain": ("rain in the background", "recorded while it rains"),
        "wind": ("wind in the background", "recorded outdoors in the wind"),
        "clicks": ("typing in the background", "somebody types on a keyboard"),
        "music": ("music in the background", "recorded where music plays"),
    },
}

# Places that the words alone can describe: controls for the learned contexts.
ENVIRONMENT_PHRASES = (
    "in a quiet studio",
    "over the telephone",
    "in a living room",
    "on a busy street",
    "in a large hall",
    "in a noisy café",
    "in a moving car",
    "in a church with a long echo",
    "over a crackling radio",
    "in a classroom",
    "in the rain",
    "in a train station",
    "beside a running fan",
    "in a small tiled bathroom",
    "with people talking in the background",
    "through a cheap microphone",
)


def valid_emotions() -> tuple[str, ...]:
    """Return the emotions that have words and sentences here, in their order."""
    return tuple(WORDS)


def emotion_prompts(
    emotions: Sequence[str], *, templates: Sequence[str] = (CANONICAL,)
) -> list[list[str]]:
    """Write one sentence per template for each emotion.

    Args:
        emotions: ``E`` labels; any word is allowed, known or not.
        templates: ``T`` format strings with ``{emotion}``.

    Returns:
        ``E`` lists of ``T`` sentences.

    Raises:
        ValueError: A template without ``{emotion}``.

    Example:
        >>> emotion_prompts(["sad"])
        [['this person is feeling sad']]
    """
    for template in templates:
        if "{emotion}" not in template:
            raise ValueError(
                f"template {template!r} lacks the placeholder {{emotion}}; "
                f"write it as {CANONICAL!r}"
            )
    return [[_write(t, emotion) for t in templates] for emotion in emotions]


def emotion_sentences(emotion: str) -> tuple[str, ...]:
    """Return every sentence that stands for an emotion: templates and paraphrases.

    A label without an entry (a corpus of one's own) gets the templates alone.

    Example:
        >>> emotion_sentences("sad")[0]
        'this person is feeling sad'
    """
    words = WORDS.get(emotion, (emotion,))
    filled = [_write(template, word) for word in words for template in TEMPLATES]
    return tuple(dict.fromkeys((*filled, *PARAPHRASES.get(emotion, ()))))


def describe(levels: Mapping[str, str], *, generator: random.Random) -> str:
    """Join property levels into one sentence, wording and order drawn at random.

    Args:
        levels: Aspect to level, both keys of :data:`PROPERTIES`.
        generator: Source of the draws.

    Raises:
        ValueError: An unknown aspect or level.

    Example:
        >>> describe({"sex": "male"}, generator=random.Random(0))
        'a male speaker'
    """
    parts = []
    for aspect, level in levels.items():
        if level not in PROPERTIES.get(aspect, {}):
            valid = {name: list(options) for name, options in PROPERTIES.items()}
            raise ValueError(f"no caption for {aspect}={level!r}; known are {valid}")
        parts.append(generator.choice(PROPERTIES[aspect][level]))
    generator.shuffle(parts)
    return ", ".join(parts)


def caption_corpus(
    *, sounds: Iterable[str] = (), n_mixed: int = 4000, seed: int = 0
) -> list[str]:
    """List the sentences of this module, and mixtures, for training a text tower.

    Args:
        sounds: Names of sounds ("dog bark"), each written in a few ways.
        n_mixed: How many joined property captions to draw.
        seed: Seed of the draws.
    """
    draw = random.Random(seed)
    known = [s for emotion in WORDS for s in emotion_sentences(emotion)]
    plain = [
        caption
        for options in PROPERTIES.values()
        for caption in itertools.chain.from_iterable(options.values())
    ]
    heard = [
        form.format(name)
        for name in sounds
        for form in ("the sound of {}", "{}", "this is a recording of {}")
    ]
    placed = [
        f"{sentence} {place}" for place in ENVIRONMENT_PHRASES for sentence in known
    ]
    mixed = []
    for _ in range(n_mixed):
        aspects = draw.sample(sorted(PROPERTIES), draw.randint(2, 5))
        levels = {a: draw.choice(sorted(PROPERTIES[a])) for a in aspects}
        mixed.append(describe(levels, generator=draw))
    return list(dict.fromkeys((*known, *plain, *heard, *placed, *mixed)))


def _write(template: str, word: str) -> str:
    sentence = template.format(emotion=word)
    if sentence.startswith("an ") and word[0] not in "aeiou":
        sentence = "a " + sentence.removeprefix("an ")
    return sentence
