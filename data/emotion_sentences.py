"""Write emotional English for training the text tower of clap-mini.

A caption names an emotion; people describe it: by idioms, signs of the body, the
manner of a voice, situations, or by what is said. ``emotion_phrases.txt`` lists
such phrases by emotion, and this module puts them into sentences about different
people. Sentences that the tests keep back, or come close to, are left out, because
a student that was shown them would prove nothing.
"""

from __future__ import annotations

import csv
import random
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
HELD_OUT = HERE.parent / "tests" / "data" / "emotion_paraphrases.csv"
NEAR = 0.6  # share of content words in common from which a sentence is too close

# Subject, its past of "to be", its present, and his / him / he / himself.
PEOPLE = (
    ("he", "was", "is", "his", "him", "he", "himself"),
    ("she", "was", "is", "her", "her", "she", "herself"),
    ("I", "was", "am", "my", "me", "I", "myself"),
    ("they", "were", "are", "their", "them", "they", "themselves"),
    ("you", "were", "are", "your", "you", "you", "yourself"),
    ("the man", "was", "is", "his", "him", "he", "himself"),
    ("the woman", "was", "is", "her", "her", "she", "herself"),
    ("the speaker", "was", "is", "their", "them", "they", "themselves"),
    ("my friend", "was", "is", "his", "him", "he", "himself"),
    ("the girl", "was", "is", "her", "her", "she", "herself"),
    ("the old man", "was", "is", "his", "him", "he", "himself"),
    ("somebody", "was", "is", "their", "them", "they", "themselves"),
)
FRAMES = {
    "is": (
        "{he} {is} {x}",
        "{he} {was} {x}",
        "{he} {was} {x} when {he2} heard about it",
        "a person who is {x}",
        "{he} sounded {x}",
        "somebody who feels {x}",
        "{x}",
        "{he} {is} so {x} today",
    ),
    "noun": (
        "a voice full of {x}",
        "{x} in {his} voice",
        "{he} {was} overcome by {x}",
        "a feeling of {x}",
        "speaking with {x}",
        "{x}",
        "you can hear the {x}",
    ),
    "did": (
        "{he} {x}",
        "{he} {x}",
        "{he} {x} this morning",
        "a recording of how {he} {x}",
        "yesterday {he} {x}",
    ),
    "doing": (
        "{x}",
        "someone {x}",
        "{he} {is} {x}",
        "a man {x}",
        "a woman {x}",
        "the sound of somebody {x}",
        "people {x}",
    ),
    "voice": (
        "a {x} voice",
        "a {x} tone",
        "in a {x} tone of voice",
        "{his} voice {was} {x}",
        "a man's {x} voice",
        "a woman's {x} voice",
        "a {x} way of speaking",
        "{x} speech",
    ),
    "how": (
        "{he} spoke {x}",
        '"I see," {he} said {x}',
        "speaking {x}",
        "someone who talks {x}",
        "{he} answered {x}",
    ),
    "quote": ("{x}", "{x}", "{he} said: {x}", "a voice says: {x}"),
    "scene": ("{x}", "{x}", "a recording of {x}", "you hear {x}"),
}
# "No" is hard to learn from examples that never say it. What is denied is drawn from
# the other three; the emotion is what is left.
CONTRASTS = (
    "not {other} but {x}",
    "{he} {is} not {other}, {he2} {is} {x}",
    "this is no {other_noun}, it is {noun}",
    "{noun}, not {other_noun}",
    "{he} {was} {other} before, but now {he2} {is} {x}",
)
PLAIN = {"angry": "anger", "happy": "happiness", "sad": "sadness", "neutral": ""}
# Statements of fact, which are neutral because nothing in them is felt.
FACTS = (
    "the {thing} is {place}",
    "the {shop} opens at {hour}",
    "the {shop} closes at {hour} on {day}",
    "the {thing} is {place} and the {thing2} is {place2}",
    "{day}'s {meeting} is at {hour} in room {number}",
    "the {meeting} will take place on {day}",
    "the {vehicle} to {city} leaves at {hour} from platform {number}",
    "the next {vehicle} to {city} is at {hour}",
    "a {clerk} {reading} the {document}",
    "{reading} the {document} aloud",
    "the {clerk} reads out the {document}",
    "the {document} has {number} pages",
    "page {number} of the {document}",
    "the {thing} costs {number} euros",
    "please put the {thing} {place}",
    "it is {hour} on {day}",
    "the telephone number of the {shop} ends in {number}",
)
FILLERS = {
    "thing": "box|lamp|printer|folder|cup|plate|calendar|chair|bag|map|ladder|"
    "newspaper|bottle|ruler|envelope|umbrella|coat|bicycle|screwdriver|notebook",
    "place": "on the table|in the cupboard|next to the door|under the desk|upstairs|"
    "in the hallway|on the left|behind the counter|in the second drawer|at the back",
    "shop": "post office|bakery|museum|town hall|pharmacy|bank|swimming pool|station|"
    "ticket office|supermarket|reading room",
    "hour": "seven|eight thirty|noon|a quarter past two|four o'clock|half past six",
    "day": "Monday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "meeting": "seminar|committee meeting|lecture|course|interview|rehearsal",
    "vehicle": "train|tram|ferry|coach|flight",
    "city": "Berlin|London|Warsaw|Madrid|Chicago|the harbour|the city centre",
    "clerk": "clerk|lecturer|secretary|newsreader|guide|narrator|official|announcer",
    "reading": "reading|summarising|dictating|going through|presenting",
    "document": "timetable|contract|user manual|annual report|price list|statistics|"
    "regulations|list of participants|news|recipe|table of contents|forecast",
    "number": "two|three|five|seven|nine|eleven|fourteen|thirty",
}


def write_sentences(
    *,
    seed: int = 0,
    per_phrase: int = 4,
    phrases: Mapping[tuple[str, str], list[str]] | None = None,
) -> list[tuple[str, str]]:
    """Return ``(sentence, emotion)`` pairs, a few to a phrase, without repeats.

    Args:
        seed: Of the draws.
        per_phrase: Sentences to write of each phrase.
        phrases: From `read_phrases`, or a part of it; default all.
    """
    draw, written = random.Random(seed), []
    phrases = read_phrases() if phrases is None else phrases
    for (emotion, part), listed in phrases.items():
        frames = FRAMES[part]
        for phrase in listed:
            chosen = draw.sample(frames, min(per_phrase, len(frames)))
            written += [(_fill(f, phrase, draw), emotion) for f in chosen]
    known = {e: phrases[e, "is"] for e, noun in PLAIN.items() if noun}
    for _ in range(400):
        emotion, other = draw.sample(sorted(known), 2)
        frame = draw.choice(CONTRASTS)
        frame = frame.replace("{other_noun}", PLAIN[other])
        frame = frame.replace("{noun}", PLAIN[emotion])
        frame = frame.replace("{other}", other)
        words = [w for w in known[emotion] if " " not in w]
        written.append((_fill(frame, draw.choice(words), draw), emotion))
    for _ in range(900):
        written.append((_state(draw), "neutral"))
    return leave_out(list(dict.fromkeys(written)))


def read_phrases() -> dict[tuple[str, str], list[str]]:
    """Read ``emotion_phrases.txt`` -> phrases by ``(emotion, part)``."""
    phrases: dict[tuple[str, str], list[str]] = defaultdict(list)
    key = ("", "")
    text = (HERE / "emotion_phrases.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("["):
            emotion, part = line.strip("[]").split()
            key = (emotion, part)
        elif line and not line.startswith("#"):
            phrases[key].append(line.strip())
    return dict(phrases)


def leave_out(
    written: list[tuple[str, str]], *, held_out: Path = HELD_OUT
) -> list[tuple[str, str]]:
    """Drop sentences equal or close to one that the tests keep back.

    Close means that the two share :data:`NEAR` of their content words, or five.
    """
    kept_back = _kept_back(held_out)
    exact = set(map(_bare, kept_back))
    bags = [b for b in map(_content, kept_back) if len(b) > 1]

    def close(sentence: str) -> bool:
        mine = _content(sentence)
        if _bare(sentence) in exact:
            return True
        return any(len(mine & b) >= NEAR * min(len(mine | b), 8) for b in bags)

    return [pair for pair in written if not close(pair[0])]


def unseen(sentences: list[str], *, held_out: Path = HELD_OUT) -> list[str]:
    """Drop what the tests keep back, case and stops aside."""
    exact = set(map(_bare, _kept_back(held_out)))
    return [s for s in sentences if _bare(s) not in exact]


def check_unseen(sentences: list[str], *, held_out: Path = HELD_OUT) -> None:
    """Stop if a sentence is one that the tests keep back, case and stops aside."""
    exact = set(map(_bare, _kept_back(held_out)))
    if seen := sorted(exact.intersection(map(_bare, sentences))):
        raise SystemExit(
            f"{len(seen)} of the sentences to train on are kept back for testing in "
            f"{held_out.name}: {seen[:5]}; take them out of the training text"
        )


def _kept_back(held_out: Path) -> list[str]:
    with held_out.open(encoding="utf-8", newline="") as rows:
        return [row["sentence"] for row in csv.DictReader(rows)]


def _bare(sentence: str) -> str:
    return " ".join(re.findall(r"[a-z']+", sentence.lower()))


# Words that say nothing about a sentence's emotion.
SMALL = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at to and or with for is was are were am be it its his her "
        "my their your he she i they you him them me this that who so as by from about "
        "someone somebody person speaker man woman voice tone speech speaking sound "
        "recording how when not no has have had",
    )
)


def _content(sentence: str) -> frozenset[str]:
    return frozenset(_bare(sentence).split()) - SMALL


def _fill(frame: str, phrase: str, draw: random.Random) -> str:
    he, was, am, his, him, again, himself = draw.choice(PEOPLE)
    if frame.startswith("{his} voice"):
        was = "was"
    pronouns = {"his": his, "him": him, "he": again, "himself": himself}
    sentence = frame.replace("{x}", phrase.format(**pronouns))
    sentence = sentence.format(he=he, was=was, he2=again, his=his, **{"is": am})
    if again != he:  # "the man is not sad, he is furious"; "they" takes "are"
        sentence = sentence.replace(", they is ", ", they are ")
        sentence = sentence.replace(" now they is ", " now they are ")
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence)


def _state(draw: random.Random) -> str:
    def word(found: re.Match[str]) -> str:
        return draw.choice(FILLERS[found[1].rstrip("2")].split("|"))

    sentence = re.sub(r"{(\w+)}", word, draw.choice(FACTS))
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence)
