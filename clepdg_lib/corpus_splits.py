"""Keep training and test apart: splits by speaker, and clips that are there twice.

A recogniser that has heard a voice in training does better on it in test, and so
does one that has heard the very recording. Both leaks are closed here.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pandas as pd

from clepdg_lib.corpus_findings import CorpusError
from clepdg_lib.files import sha256

SPLITS = ("train", "validation", "test")


def split_speakers(
    clips: pd.DataFrame,
    *,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> pd.DataFrame:
    """Assign train, validation and test by speaker.

    Speakers are drawn in an order that alternates between the sexes. The first fill
    the test split up to its share of the clips, the next validation, the rest is
    training. One speaker is all training; of two, one trains and one tests.

    Args:
        clips: Table with `speaker`, and perhaps `sex`.
        fractions: Shares of train, validation, test.
        seed: Seed of the draw.

    Returns:
        A copy with a new `split` column; no speaker is in two splits.

    Raises:
        CorpusError: Fractions that are negative or do not add up to one.

    Example:
        >>> table = pd.DataFrame({"speaker": ["anna", "anna", "bert"]})
        >>> sorted(set(split_speakers(table)["split"]))
        ['test', 'train']
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise CorpusError(
            f"fractions {fractions} are not three shares (train, validation, test) "
            f"of at least 0 that add up to 1; the usual ones are (0.6, 0.2, 0.2)"
        )
    train, validation, test = fractions
    share = clips.groupby("speaker").size() / max(len(clips), 1)
    order = _speakers(clips, draw=random.Random(seed))
    parts = {"train": train, "test": test, "validation": validation}
    wanted = [name for name, part in parts.items() if part > 0]
    if len(order) <= len(wanted):
        split = dict(zip(order, wanted, strict=False))
        return clips.assign(split=clips["speaker"].map(split))
    split, done = {}, 0.0
    for speaker in order:
        middle = done + share[speaker] / 2
        done += share[speaker]
        if middle < test:
            split[speaker] = "test"
        else:
            split[speaker] = "validation" if middle < test + validation else "train"
    # One speaker with most of the clips can leave a split empty: it then takes the
    # speaker who comes nearest to its share from a split that has two or more.
    for name in wanted:
        if name not in split.values():
            given = list(split.values())
            spare = [s for s in order if given.count(split[s]) > 1]
            nearest = min(spare, key=lambda s: abs(share[s] - parts[name]))
            split[nearest] = name
    return clips.assign(split=clips["speaker"].map(split))


def _speakers(clips: pd.DataFrame, *, draw: random.Random) -> list[str]:
    groups = defaultdict(list)
    sexes = clips.get("sex", pd.Series("", index=clips.index))
    pairs = sorted(zip(clips["speaker"], sexes, strict=True))
    for speaker, sex in dict(pairs).items():
        groups[sex].append(speaker)
    ranked = []
    for sex, speakers in sorted(groups.items()):
        draw.shuffle(speakers)
        n = len(speakers)
        ranked += [((i + 0.5) / n, sex, s) for i, s in enumerate(speakers)]
    return [speaker for *_, speaker in sorted(ranked)]


def identical_clips(paths: pd.Series) -> list[list[int]]:
    """Group files with the same bytes: lists of index labels, each two or longer.

    Cheap tests come first: few files share a size, fewer their middle, so that hardly
    any is read whole. Empty files, and files that cannot be read, are in no group;
    reading them as audio will say what is wrong.
    """
    groups = [list(paths.index)]
    for key in (_size, _middle, sha256):
        finer = defaultdict(list)
        for number, group in enumerate(groups):
            for index in group:
                try:
                    value = key(paths[index])
                except OSError:
                    continue
                if value:
                    finer[number, value].append(index)
        groups = [group for group in finer.values() if len(group) > 1]
    return groups


def _size(path: str) -> int:
    return Path(path).stat().st_size


def _middle(path: str) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(_size(path) // 2)
        return stream.read(256)
