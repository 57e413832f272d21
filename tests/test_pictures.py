"""Pictures of clips: the clean one first, the others in places, each clip its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clepdg_lib import pictures as module
from clepdg_lib.audio import AudioError, LogMel
from clepdg_lib.captions import PROPERTIES
from clepdg_lib.environments import random_environment
from clepdg_lib.pictures import PLACES, clip_generator, draw_clip, draw_corpus

LOG_MEL = LogMel()
pytestmark = pytest.mark.usefixtures("private_cache")


def wave(seconds, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(seconds * 16_000), generator=generator)


def test_the_first_picture_is_the_clip_itself_from_its_middle():
    long = wave(5)
    mels, places = draw_clip(
        long, LOG_MEL, n_places=2, generator=torch.Generator().manual_seed(1)
    )
    assert mels.shape == (3, 251, 64) and places.shape == (3, 3)
    torch.testing.assert_close(mels[0], LOG_MEL([long[16_000:64_000]])[0, 0])
    assert (mels[1] - mels[0]).abs().mean() > 1  # decibels
    assert (mels[2] - mels[1]).abs().mean() > 1


def test_places_are_levels_that_have_captions():
    _, places = draw_clip(
        wave(1), LOG_MEL, n_places=6, generator=torch.Generator().manual_seed(2)
    )
    assert (places[0] == -1).all()  # nobody knows where the clip was recorded
    for k, aspect in enumerate(PLACES):
        assert ((places[1:, k] >= 0) & (places[1:, k] < len(PROPERTIES[aspect]))).all()
    assert len({tuple(p) for p in places[1:]}) > 1


def test_every_random_environment_has_words(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        spot = random_environment(generator)
        for aspect in PLACES:
            assert getattr(spot, aspect) in PROPERTIES[aspect]


def test_a_corpus_is_drawn_row_by_row(feeling_corpus):
    corpus = feeling_corpus(n_each=1)
    drawn = draw_corpus(corpus, LOG_MEL, n_places=1)
    assert drawn.mels.shape == (4, 2, 251, 64) and drawn.mels.dtype == np.float16
    assert drawn.places.shape == (4, 2, 3) and drawn.places.dtype == np.int8
    assert list(drawn.kept) == [0, 1, 2, 3] and len(drawn) == 4
    clean = LOG_MEL([corpus.read(2)])[0, 0].half().numpy()
    np.testing.assert_array_equal(drawn.mels[2, 0], clean)
    part = drawn.rows(np.array([True, False, False, True]))
    assert list(part.kept) == [0, 3]
    np.testing.assert_array_equal(part.mels[1], drawn.mels[3])


def test_a_seed_draws_the_same_and_a_part_the_same_as_the_whole(feeling_corpus):
    corpus = feeling_corpus(n_each=2)
    test = corpus.select(splits="test")
    how = {"n_places": 1, "cache": False}
    whole = draw_corpus(corpus, LOG_MEL, **how)
    part = draw_corpus(test, LOG_MEL, **how)
    np.testing.assert_array_equal(part.mels, whole.mels[1::2])
    other = draw_corpus(test, LOG_MEL, seed=1, **how)
    np.testing.assert_array_equal(part.mels[:, 0], other.mels[:, 0])
    assert (part.mels[:, 1] != other.mels[:, 1]).any()


def test_a_clips_random_numbers_are_its_own():
    first = torch.rand(4, generator=clip_generator("a", seed=0))
    assert torch.equal(first, torch.rand(4, generator=clip_generator("a", seed=0)))
    for other in (clip_generator("b", seed=0), clip_generator("a", seed=1)):
        assert not torch.equal(first, torch.rand(4, generator=other))


def test_kept_pictures_are_used(feeling_corpus, monkeypatch, private_cache):
    corpus = feeling_corpus(n_each=1)
    first = draw_corpus(corpus, LOG_MEL, n_places=0)
    assert len(list((private_cache / "pictures").glob("*.npz"))) == 1

    def refuse(*args, **options):
        raise AssertionError("drawn again")

    monkeypatch.setattr(module, "draw_clip", refuse)
    again = draw_corpus(corpus, LOG_MEL, n_places=0)
    np.testing.assert_array_equal(first.mels, again.mels)
    for other in ({"n_places": 1}, {"n_places": 0, "seed": 1}):
        with pytest.raises(AssertionError, match="drawn again"):
            draw_corpus(corpus, LOG_MEL, **other)
    with pytest.raises(AssertionError, match="drawn again"):
        draw_corpus(corpus, replace(LOG_MEL, f_max=7000.0), n_places=0)


def test_a_broken_or_impossible_cache_does_no_harm(feeling_corpus, private_cache):
    corpus = feeling_corpus(n_each=1)
    first = draw_corpus(corpus, LOG_MEL, n_places=0)
    (file,) = (private_cache / "pictures").glob("*.npz")
    file.write_bytes(file.read_bytes()[:999])
    again = draw_corpus(corpus, LOG_MEL, n_places=0)
    np.testing.assert_array_equal(first.mels, again.mels)
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("a file where the folder should be")
    again = draw_corpus(corpus, LOG_MEL, n_places=0)
    np.testing.assert_array_equal(first.mels, again.mels)


def test_bad_files_are_left_out_and_counted(feeling_corpus, caplog):
    corpus = feeling_corpus(n_each=1)
    Path(corpus.clips["path"].iloc[1]).write_bytes(b"RIFF")
    drawn = draw_corpus(corpus, LOG_MEL, n_places=0)
    assert list(drawn.kept) == [0, 2, 3] and len(drawn.mels) == len(drawn.places) == 3
    assert "1 files could not be read" in caplog.text
    for path in corpus.clips["path"]:
        Path(path).write_bytes(b"")
    with pytest.raises(AudioError, match="none of its 4"):
        draw_corpus(corpus, LOG_MEL, n_places=0)
