"""A clip may get another speaker's voice, and keeps what it says and where."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stand_ins import BRIEF

from clepdg_lib import contrast
from clepdg_lib.clep import finetune_clep
from clepdg_lib.voices import Voices

N, VERSIONS, WIDTH = 12, 2, 3


@pytest.fixture
def said():
    """Clips of three speakers: a voice, a place, and something that each clip says."""
    generator = torch.Generator().manual_seed(0)
    speakers = np.array(["a", "b", "c"] * (N // 3))
    voices = torch.tensor([[10.0, 0, 0], [0, 10, 0], [0, 0, 10]]).repeat(N // 3, 1)
    feelings = torch.randn(N, WIDTH, generator=generator)
    for k in range(3):  # what a speaker says is nothing on the mean
        feelings[k::3] -= feelings[k::3].mean(dim=0)
    places = torch.tensor([[0.0, 0, 0], [100, 0, 0]])
    found = (voices + feelings).unsqueeze(1) + places
    return found, speakers, voices, feelings, places


def test_what_is_constant_in_a_speaker_goes_and_the_rest_stays(said):
    found, speakers, voices, feelings, places = said
    exchange = Voices(found, speakers)
    rows = np.arange(N).repeat(4)
    versions = np.tile([0, 1], 2 * N)
    heard = found[rows, versions]
    generator = torch.Generator().manual_seed(0)
    moved = exchange.exchange(heard, rows, versions, share=1.0, generator=generator)
    rest = moved - feelings[rows] - places[versions]
    whose = torch.cdist(rest, voices[:3])  # now somebody's voice and nothing else
    torch.testing.assert_close(
        whose.min(dim=1).values, torch.zeros(len(rows)), atol=1e-4, rtol=0
    )
    got = whose.argmin(dim=1).numpy()
    assert sorted(got) == sorted(rows % 3), "voices are dealt out, none is doubled"
    assert 0.4 < (got != rows % 3).mean() < 0.9


def test_only_a_share_of_the_clips_is_touched(said):
    found, speakers, *_ = said
    exchange = Voices(found, speakers)
    rows, versions = np.arange(N).repeat(50), np.zeros(50 * N, int)
    heard = found[rows, versions]
    counts = {}
    for share in (0.0, 0.5, 1.0):
        how = {"share": share, "generator": torch.Generator().manual_seed(0)}
        moved = exchange.exchange(heard, rows, versions, **how)
        counts[share] = int((moved != heard).any(dim=1).sum())
    assert counts[0.0] == 0
    assert 0.4 * counts[1.0] < counts[0.5] < 0.6 * counts[1.0]


def test_a_single_speaker_keeps_the_voice(said):
    found, *_ = said
    exchange = Voices(found, np.full(N, "a"))
    rows, versions = np.arange(N), np.ones(N, int)
    how = {"share": 1.0, "generator": torch.Generator().manual_seed(0)}
    heard = found[rows, versions]
    torch.testing.assert_close(exchange.exchange(heard, rows, versions, **how), heard)


def test_speakers_of_two_corpora_are_told_apart(
    tiny_clap, feeling_corpus, monkeypatch, private_cache
):
    from clepdg_lib.corpora import join_corpora

    told = []

    class Spy(Voices):
        def __init__(self, found, speakers):
            told.append(list(speakers))
            super().__init__(found, speakers)

    monkeypatch.setattr(contrast, "Voices", Spy)
    parts = [feeling_corpus(name, n_each=2, seed=i) for i, name in enumerate("ab")]
    corpus = join_corpora(*parts)
    clips = corpus.clips.assign(speaker="s1", split="train")
    recipe = replace(BRIEF, epochs=0, probe_steps=2)
    finetune_clep(
        tiny_clap, replace(corpus, clips=clips), recipe=recipe, progress=False
    )
    assert told == [], "nobody asked for other voices"
    recipe = replace(recipe, other_voices=0.5)
    finetune_clep(
        tiny_clap, replace(corpus, clips=clips), recipe=recipe, progress=False
    )
    assert len(told) == 1 and len(set(told[0])) == 2
    assert len(told[0]) == len(corpus)


def test_other_voices_make_another_model(tiny_clap, feeling_corpus, private_cache):
    corpus = feeling_corpus(n_each=3)
    corpus = replace(corpus, clips=corpus.clips.assign(split="train"))
    recipe = replace(BRIEF, epochs=0, probe_steps=4)
    plain, voiced = (
        finetune_clep(
            tiny_clap, corpus, recipe=replace(recipe, other_voices=p), progress=False
        ).model.audio_projection.linear1.weight
        for p in (0.0, 1.0)
    )
    assert not torch.allclose(plain, voiced)


def test_as_many_speakers_as_clips_are_needed(tiny_clap):
    mels = np.zeros((4, 1, tiny_clap.log_mel.n_frames, tiny_clap.log_mel.n_mels))
    aspect = contrast.Aspect("emotion", [["a"], ["b"]], np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="speakers has 3 rows for 4 clips"):
        contrast.train_towers(
            tiny_clap, mels, [aspect], speakers=np.array(["a", "b", "a"])
        )
