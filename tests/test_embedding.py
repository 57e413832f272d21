"""A corpus is embedded once, bad files are left out, and the cache knows its model."""

import copy
import time
from pathlib import Path

import pytest
import torch

from clepdg_lib.audio import AudioError
from clepdg_lib.embedding import (
    AHEAD,
    embed_corpus,
    hear_waves,
    project_clips,
    read_ahead,
)

pytestmark = pytest.mark.usefixtures("private_cache")


class Listening:
    """A CLAP that counts the pictures its tower hears."""

    def __init__(self, clap):
        self.clap, self.log_mel, self.width = clap, clap.log_mel, clap.width
        self.project, self.n_heard = clap.project, 0

    def fingerprint(self):
        return self.clap.fingerprint()

    def hear_mels(self, mels, *, batch_size=64):
        self.n_heard += len(mels)
        return self.clap.hear_mels(mels, batch_size=batch_size)


def test_rows_belong_to_their_clips(tiny_clap, feeling_corpus):
    corpus = feeling_corpus(n_each=1)
    embedded = embed_corpus(tiny_clap, corpus, batch_size=3)
    assert len(embedded) == len(corpus) and len(embedded.problems) == 0
    assert embedded.embeddings.dtype == torch.float32
    waves = [corpus.read(i) for i in range(len(corpus))]
    expected = tiny_clap.embed_audio(waves)
    torch.testing.assert_close(embedded.embeddings, expected, atol=1e-5, rtol=0)
    assert list(embedded.clips["clip"]) == list(corpus.clips["clip"])


def test_a_second_time_the_model_is_not_asked(tiny_clap, feeling_corpus):
    corpus = feeling_corpus(n_each=1)
    first, second = Listening(tiny_clap), Listening(tiny_clap)
    a = embed_corpus(first, corpus)
    b = embed_corpus(second, corpus)
    assert (first.n_heard, second.n_heard) == (4, 0)
    assert torch.equal(a.embeddings, b.embeddings)
    uncached = Listening(tiny_clap)
    embed_corpus(uncached, corpus, cache=False)
    assert uncached.n_heard == 4


def test_a_new_clip_alone_is_heard_and_takes_its_place(tiny_clap, feeling_corpus):
    corpus = feeling_corpus(n_each=2)
    embed_corpus(tiny_clap, corpus.select(splits="test"))
    listening = Listening(tiny_clap)
    mixed = embed_corpus(listening, corpus)
    assert listening.n_heard == 4
    whole = embed_corpus(tiny_clap, corpus, cache=False)
    torch.testing.assert_close(mixed.embeddings, whole.embeddings, atol=1e-5, rtol=0)


def test_a_changed_file_is_heard_again(tiny_clap, feeling_corpus, write_wave):
    corpus = feeling_corpus(n_each=1)
    before = embed_corpus(tiny_clap, corpus)
    write_wave(corpus.clips["path"].iloc[0], seconds=1.0)
    listening = Listening(tiny_clap)
    after = embed_corpus(listening, corpus)
    assert listening.n_heard == 1
    assert not torch.equal(before.embeddings[0], after.embeddings[0])
    assert torch.equal(before.embeddings[1:], after.embeddings[1:])


def test_a_cache_that_cannot_be_used_does_no_harm(
    tiny_clap, feeling_corpus, private_cache
):
    corpus = feeling_corpus(n_each=1)
    private_cache.write_text("a file where the folder should be")
    assert len(embed_corpus(tiny_clap, corpus)) == 4
    private_cache.unlink()
    private_cache.mkdir()
    (private_cache / "embeddings.sqlite").write_bytes(b"broken" * 100)
    assert len(embed_corpus(tiny_clap, corpus)) == 4


def test_bad_files_among_many_are_listed_and_counted(tiny_clap, feeling_corpus):
    corpus = feeling_corpus(n_each=2)
    Path(corpus.clips["path"].iloc[1]).write_bytes(b"")
    Path(corpus.clips["path"].iloc[4]).unlink()
    with pytest.warns(UserWarning, match=r"tones: 2 of 8 clips left out.*angry-1"):
        embedded = embed_corpus(tiny_clap, corpus, batch_size=2)
    assert len(embedded) == len(embedded.embeddings) == 6
    assert list(embedded.problems["path"]) == list(corpus.clips["path"].iloc[[1, 4]])
    assert "0 bytes" in embedded.problems["problem"].iloc[0]
    kept = corpus.clips["clip"].drop(index=[1, 4])
    assert list(embedded.clips["clip"]) == list(kept)
    # the rows have not slipped: the last is still the last clip's
    last = tiny_clap.embed_audio([corpus.read(7)])
    torch.testing.assert_close(embedded.embeddings[5:], last, atol=1e-5, rtol=0)


def test_a_corpus_of_bad_files_alone_is_an_error(tiny_clap, feeling_corpus):
    corpus = feeling_corpus(n_each=1)
    for path in corpus.clips["path"]:
        Path(path).write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="4 of 4"),
        pytest.raises(AudioError, match="tones: none of its 4 clips"),
    ):
        embed_corpus(tiny_clap, corpus)


def test_rows_are_chosen_by_columns(tiny_clap, feeling_corpus):
    embedded = embed_corpus(tiny_clap, feeling_corpus(n_each=2))
    chosen = embedded.select(split="test", emotion=["angry", "sad"])
    assert list(chosen.clips["emotion"]) == ["angry", "sad"]
    assert torch.equal(chosen.embeddings, embedded.embeddings[[1, 7]])
    with pytest.raises(ValueError, match=r"'mood'.*'emotion'"):
        embedded.select(mood="sad")


def test_waves_pass_through_in_batches(tiny_clap):
    generator = torch.Generator().manual_seed(0)
    lengths = (8_000, 100_000, 48_000, 16_000)  # the second has three windows
    waves = [0.1 * torch.randn(n, generator=generator) for n in lengths]
    listening = Listening(tiny_clap)
    heard = list(hear_waves(listening, iter(waves), batch_size=2))
    assert [len(windows) for windows in heard] == [1, 3, 1, 1]
    assert listening.n_heard == 6
    rows = project_clips(tiny_clap, heard)
    assert rows.shape == (4, tiny_clap.dim)
    torch.testing.assert_close(rows, tiny_clap.embed_audio(waves), atol=1e-5, rtol=0)
    draw = tiny_clap.log_mel
    windows = tiny_clap.embed_mels(draw(draw.windows(waves[1])))
    mean = torch.nn.functional.normalize(windows.mean(dim=0), dim=0)
    torch.testing.assert_close(rows[1], mean, atol=1e-5, rtol=0)
    assert list(hear_waves(listening, [])) == []


def test_models_that_share_a_tower_share_what_it_heard(tiny_clap, feeling_corpus):
    corpus = feeling_corpus(n_each=1)
    before = embed_corpus(tiny_clap, corpus)
    other = copy.deepcopy(tiny_clap)
    with torch.no_grad():
        other.model.audio_projection.linear1.weight.neg_()
    listening = Listening(other)
    after = embed_corpus(listening, corpus)
    assert listening.n_heard == 0
    assert not torch.allclose(before.embeddings, after.embeddings, atol=1e-2)
    waves = [corpus.read(i) for i in range(len(corpus))]
    own = other.embed_audio(waves, cache=False)
    torch.testing.assert_close(after.embeddings, own, atol=1e-5, rtol=0)


def test_reading_ahead_keeps_order_and_says_what_is_bad():
    begun = []

    def read(i):
        begun.append(i)
        time.sleep(0.002 * (i % 3))
        if i % 10 == 7:
            raise AudioError(f"clip {i} is bad")
        return torch.tensor([float(i)])

    stream = read_ahead(read, range(0, 300))
    first, wave = next(stream)
    assert (first, float(wave)) == (0, 0.0)
    time.sleep(0.2)
    assert len(begun) <= AHEAD + 1  # memory holds a few, however many there are
    told = [(first, wave), *stream]
    assert [number for number, _ in told] == list(range(300))
    bad = [number for number, wave in told if isinstance(wave, AudioError)]
    assert bad == list(range(7, 300, 10))
    with pytest.raises(ZeroDivisionError):  # what is no bad clip is not swallowed
        list(read_ahead(lambda i: 1 / i, range(2)))


def test_reading_stops_when_nobody_asks_for_more():
    begun = []
    stream = read_ahead(lambda i: begun.append(i) or torch.zeros(1), range(1000))
    next(stream)
    stream.close()
    n_begun = len(begun)
    time.sleep(0.05)
    assert len(begun) == n_begun <= AHEAD + 1


def test_an_interrupted_run_keeps_what_it_heard(tiny_clap, feeling_corpus):
    corpus = feeling_corpus(n_each=5)
    truly, n_calls = tiny_clap.hear_mels, []

    class Interrupted(Listening):
        def hear_mels(self, mels, *, batch_size=64):
            if n_calls:
                raise KeyboardInterrupt
            n_calls.append(1)
            return truly(mels, batch_size=batch_size)

    with pytest.raises(KeyboardInterrupt):
        embed_corpus(Interrupted(tiny_clap), corpus, batch_size=4)
    listening = Listening(tiny_clap)
    assert len(embed_corpus(listening, corpus, batch_size=4)) == 20
    assert listening.n_heard == 16


def test_waves_are_remembered_by_their_samples(tiny_clap):
    waves = [torch.sin(torch.arange(16_000) / (k + 5)) for k in range(9)]
    first = tiny_clap.embed_audio(waves)

    def deaf(mels, *, batch_size=64):
        raise AssertionError("asked again")

    again = copy.copy(tiny_clap)
    again.hear_mels = deaf
    assert torch.equal(again.embed_audio(waves), first)
    assert torch.equal(again.embed_audio([w.numpy() for w in waves]), first)
    for changed in (
        {"clips": [*waves[:-1], waves[-1] * 0.5]},
        {"clips": waves, "sample_rate": 8_000},
        {"clips": waves, "cache": False},
        {"clips": waves[:3]},  # too few to be looked up
    ):
        with pytest.raises(AssertionError, match="asked again"):
            again.embed_audio(**changed)
