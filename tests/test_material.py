"""Materials keep clips, pictures and measurements in step when cut and joined."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clepdg_lib import material as module
from clepdg_lib.material import Material, join_material, load_bursts, prepare
from clepdg_lib.pictures import draw_corpus

pytestmark = pytest.mark.usefixtures("private_cache")


def numbered(corpus, clap):
    """A material whose measurements are row numbers."""
    rows = np.arange(len(corpus), dtype=np.float32)[:, None]
    return Material(corpus, draw_corpus(corpus, clap.log_mel, n_places=0), rows)


def test_what_is_left_out_is_gone_everywhere(tiny_clap, feeling_corpus):
    corpus = feeling_corpus(n_each=2)
    Path(corpus.clips["path"].iloc[3]).write_bytes(b"")  # row 3 has no picture
    whole = numbered(corpus, tiny_clap)
    assert list(whole.pictures.kept) == [0, 1, 2, 4, 5, 6, 7]
    part = whole.select((corpus.clips["emotion"] != "angry").to_numpy())
    assert len(part.corpus) == 6 and "angry" not in part.corpus.emotions
    assert list(part.pictures.kept) == [0, 2, 3, 4, 5]
    assert part.measured.ravel().tolist() == [2, 3, 4, 5, 6, 7]
    # each picture is still of the clip that it says
    for place, row in enumerate(part.pictures.kept):
        wave = part.corpus.read(int(row))
        expected = tiny_clap.log_mel([wave])[0, 0].half().numpy()
        np.testing.assert_array_equal(part.pictures.mels[place, 0], expected)


def test_joined_rows_follow_the_joined_table(tiny_clap, feeling_corpus):
    a = numbered(feeling_corpus("a", n_each=1), tiny_clap)
    b = numbered(feeling_corpus("b", n_each=1), tiny_clap)
    b = replace(b, pictures=b.pictures.rows(np.array([False, True, True, True])))
    both = join_material([a, b])
    assert list(both.corpus.clips["corpus"]) == ["a"] * 4 + ["b"] * 4
    assert list(both.pictures.kept) == [0, 1, 2, 3, 5, 6, 7]
    np.testing.assert_array_equal(both.pictures.mels[4:], b.pictures.mels)
    assert both.measured.ravel().tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert join_material([a, replace(b, measured=None)]).measured is None


@pytest.mark.parametrize("possible", [True, False])
def test_measurements_are_there_if_they_can_be(
    tiny_clap, feeling_corpus, monkeypatch, possible
):
    corpus = feeling_corpus(n_each=1)
    values = np.ones((4, 88), np.float32)
    monkeypatch.setattr(module, "measuring_is_possible", lambda: possible)
    monkeypatch.setattr(module, "measure_corpus", lambda corpus, progress: values)
    found = prepare(corpus, tiny_clap, progress=False)
    assert len(found.pictures) == 4
    assert found.measured is values if possible else found.measured is None


def test_bursts_are_the_first_two_takes_of_shared_emotions(monkeypatch, feeling_corpus):
    corpus = feeling_corpus(n_each=4)
    asked = []
    monkeypatch.setattr(
        module, "load_corpus", lambda name, **how: asked.append((name, how)) or corpus
    )
    bursts = load_bursts()
    assert asked[0][0] == "emogator"
    assert set(asked[0][1]["emotions"]) == {"angry", "happy", "neutral", "sad"}
    takes = bursts.clips["clip"].str[-1]
    assert set(takes) == {"0", "1", "2"} and len(bursts) == 12
