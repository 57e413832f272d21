"""Read the corpora whose file names say everything, in their owners' own layouts.

The codes are the owners'; `corpus_findings` renames the emotions.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import re
from pathlib import Path

from clepdg_lib.corpus_findings import Findings, read_table, recordings

RAVDESS_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgusted",
    "08": "surprised",
}
RAVDESS_TEXTS = {
    "01": "Kids are talking by the door",
    "02": "Dogs are sitting by the door",
}
# The second take is the same recording as the first in the owners' release.
RAVDESS_DUPLICATE = "03-01-03-01-02-02-07"


def read_ravdess(root: Path) -> Findings:
    """Read ``Actor_NN/03-01-EE-II-SS-RR-AA``; odd actors are male, even ones female."""
    found = Findings(root)
    for path in recordings(root):
        parts = path.stem.split("-")
        if len(parts) != 7 or not all(re.fullmatch(r"\d\d", p) for p in parts):
            found.report(path, "name is not seven two-digit fields joined by hyphens")
            continue
        modality, channel, emotion, intensity, text, _, actor = parts
        if modality != "03" or channel != "01":
            continue  # video, or song: not this corpus of speech
        if emotion not in RAVDESS_EMOTIONS or text not in RAVDESS_TEXTS:
            found.report(path, f"unknown emotion {emotion} or statement {text}")
        elif path.stem == RAVDESS_DUPLICATE:
            found.report(path, "same recording as 03-01-03-01-02-01-07", known=True)
        else:
            found.add(
                path,
                emotion=RAVDESS_EMOTIONS[emotion],
                speaker=actor,
                sex="female" if int(actor) % 2 == 0 else "male",
                text=RAVDESS_TEXTS[text],
                intensity="strong" if intensity == "02" else "normal",
            )
    return found


TESS_EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")


def read_tess(root: Path) -> Findings:
    """Read ``OAF_angry/OAF_back_angry``; two women, "Say the word ..."."""
    found = Findings(root)
    for path in recordings(root):
        # One original file is called OA_bite_neutral.
        match = re.fullmatch(r"(OA|YA)F?_(.+)_([a-z]+)", path.stem)
        emotion = match and match[3]
        if emotion not in TESS_EMOTIONS:
            found.report(
                path,
                f"name is not OAF_word_emotion or YAF_... with one of {TESS_EMOTIONS}",
            )
            continue
        found.add(
            path,
            emotion=emotion,
            speaker=match[1] + "F",
            sex="female",
            text=match[2],
        )
    return found


EMODB_EMOTIONS = {  # first letters of the German words
    "W": "angry",
    "L": "bored",
    "E": "disgusted",
    "A": "fearful",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
EMODB_WOMEN = {"08", "09", "13", "14", "16"}
EMODB_TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren "
    "und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}


def read_emodb(root: Path) -> Findings:
    """Read ``wav/03a01Fa``: speaker, sentence, emotion letter (German), version."""
    found = Findings(root)
    for path in recordings(root):
        match = re.fullmatch(r"(\d\d)([ab]\d\d)([A-Z])[a-z]?", path.stem)
        if not match or match[3] not in EMODB_EMOTIONS:
            found.report(path, f"name is not like 03a01Fa with one of {EMODB_EMOTIONS}")
            continue
        found.add(
            path,
            emotion=EMODB_EMOTIONS[match[3]],
            speaker=match[1],
            sex="female" if match[1] in EMODB_WOMEN else "male",
            text=EMODB_TEXTS.get(match[2], ""),
        )
    return found


# Category numbers 01 to 30 in the owners' order, Surprise (Negative) and (Positive) as
# one says them. Nothing is merged.
EMOGATOR_EMOTIONS = """
adoration, amusement, anger, awe, confusion, contempt, contentment, desire,
disappointment, disgust, distress, ecstasy, elation, embarrassment, fear, guilt,
interest, neutral, pain, pride, realization, relief, romantic love, sadness,
serenity, shame, negative surprise, positive surprise, sympathy, triumph
""".replace("\n", " ").split(", ")


def read_emogator(root: Path) -> Findings:
    """Read ``data/mp3/NNNNNN-EE-I``: contributor, category, recording 1 to 3."""
    found = Findings(root)
    for path in recordings(root):
        match = re.fullmatch(r"(\d{6})-(\d\d)-(\d)", path.stem)
        if not match or not 1 <= int(match[2]) <= len(EMOGATOR_EMOTIONS):
            found.report(path, "name is not like 000001-03-1 with a category 01 to 30")
            continue
        emotion = EMOGATOR_EMOTIONS[int(match[2]) - 1]
        found.add(path, emotion=emotion, speaker=match[1])
    return found


CREMAD_EMOTIONS = {
    "ANG": "angry",
    "DIS": "disgusted",
    "FEA": "fearful",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
CREMAD_LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "", "X": ""}
CREMAD_TEXTS = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}


def read_cremad(root: Path) -> Findings:
    """Read ``AudioWAV/1001_DFA_ANG_XX`` and, for the sexes, the demographics table."""
    found = Findings(root)
    people = root / "VideoDemographics.csv"
    sexes = {}
    if people.exists():
        table = read_table(people, columns=("ActorID", "Sex"))
        sexes = dict(zip(table["ActorID"], table["Sex"].str.lower(), strict=True))
    # The owners ship every clip twice, as WAV and as MP3.
    folders = (root / "AudioWAV", root / "AudioMP3", root)
    for path in next(filter(None, map(recordings, folders)), []):
        match = re.fullmatch(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]+)", path.stem)
        if (
            not match
            or match[3] not in CREMAD_EMOTIONS
            or match[4] not in CREMAD_LEVELS
        ):
            found.report(path, "name is not like 1001_DFA_ANG_XX")
            continue
        found.add(
            path,
            emotion=CREMAD_EMOTIONS[match[3]],
            speaker=match[1],
            sex=sexes.get(match[1], ""),
            text=CREMAD_TEXTS.get(match[2], ""),
            intensity=CREMAD_LEVELS[match[4]],
        )
    return found


SAVEE_EMOTIONS = {
    "a": "angry",
    "d": "disgusted",
    "f": "fearful",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprised",
}


def read_savee(root: Path) -> Findings:
    """Read ``AudioData/DC/a01``, or the flat ``DC_a01``; four men."""
    found = Findings(root)
    for path in recordings(root):
        name = path.stem if "_" in path.stem else f"{path.parent.name}_{path.stem}"
        match = re.fullmatch(r"(DC|JE|JK|KL)_([a-z]+)\d\d", name)
        if not match or match[2] not in SAVEE_EMOTIONS:
            found.report(path, f"name is not DC/a01 with one of {SAVEE_EMOTIONS}")
            continue
        emotion = SAVEE_EMOTIONS[match[2]]
        found.add(path, emotion=emotion, speaker=match[1], sex="male")
    return found
