"""The training text must not hold, or come close to, what the tests keep back."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pandas as pd
import pytest

from clepdg_lib.captions import CANONICAL, valid_emotions
from clepdg_lib.clap import BUNDLED, load_clap
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.files import PROJECT


@pytest.fixture(scope="module")
def emotional() -> ModuleType:
    path = PROJECT / "data" / "emotion_sentences.py"
    spec = importlib.util.spec_from_file_location("emotion_sentences", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kept_back() -> list[str]:
    table = PROJECT / "tests" / "data" / "emotion_paraphrases.csv"
    return pd.read_csv(table)["sentence"].tolist()


def test_thousands_of_sentences_for_every_emotion(emotional: ModuleType) -> None:
    written = emotional.write_sentences()
    assert len(written) == len(set(written)) > 4000
    counts = pd.Series([e for _, e in written]).value_counts()
    assert set(counts.index) == set(valid_emotions()) and counts.min() > 100
    assert not any("{" in sentence for sentence, _ in written)


def test_the_same_seed_writes_the_same(emotional: ModuleType) -> None:
    assert emotional.write_sentences(seed=3) == emotional.write_sentences(seed=3)
    assert emotional.write_sentences(seed=3) != emotional.write_sentences(seed=4)


def test_no_training_sentence_is_kept_back(
    emotional: ModuleType, kept_back: list[str]
) -> None:
    sentences = [s for s, _ in emotional.write_sentences()]
    emotional.check_unseen(sentences)
    assert not set(sentences) & set(kept_back)


def test_a_leak_stops_the_build(emotional: ModuleType, kept_back: list[str]) -> None:
    leak = kept_back[7].upper() + "."
    with pytest.raises(SystemExit, match="kept back"):
        emotional.check_unseen(["a harmless sentence", leak])
    assert emotional.unseen(["a harmless sentence", leak]) == ["a harmless sentence"]


def test_close_relatives_are_left_out(emotional: ModuleType) -> None:
    near = ("yesterday he slams the door and curses", "angry")  # one more word
    far = ("the door is open", "neutral")
    assert emotional.leave_out([near, far]) == [far]


@pytest.mark.parametrize("name", BUNDLED)
def test_nine_in_ten_paraphrases_are_understood(name: str) -> None:
    """Sentences that no training text has lie nearest to their own caption."""
    table = pd.read_csv(PROJECT / "tests" / "data" / "emotion_paraphrases.csv")
    clap = load_clap(name)
    captions = clap.embed_text([CANONICAL.format(emotion=e) for e in EMOTIONS])
    nearest = (clap.embed_text(list(table["sentence"])) @ captions.T).argmax(dim=1)
    right = [EMOTIONS[i] for i in nearest] == table["emotion"]
    assert len(table) == 200 and set(table["emotion"].value_counts()) == {50}
    assert right.mean() >= 0.9
