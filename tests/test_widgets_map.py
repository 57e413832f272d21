"""Maps of embeddings: every method and colour, and numbers that no map can bend."""

import io
import re

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from stand_ins import EMOTIONS, FakeCorpus, embedded

from clepdg_lib.embedding import EmbeddedCorpus
from clepdg_lib.widgets_map import (
    METHODS,
    colour_columns,
    explore_embeddings,
    prepare_map,
    render_embedding_map,
    thin_out,
)


@pytest.fixture(scope="module")
def maps():
    return {method: prepare_map(embedded(), method=method) for method in METHODS}


@pytest.mark.parametrize("pick", [None, 0, 23])
@pytest.mark.parametrize("colour", ["emotion", "domain", "speaker", "sex", "corpus"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_colour_and_pick(maps, method, colour, pick):
    view = render_embedding_map(maps[method], colour=colour, pick=pick)
    assert 0 <= view.agreement <= 1 and 0 <= view.chance <= 1
    assert method.upper() in view.alt and colour in view.alt
    assert f"{view.agreement:.0%}" in view.figure.get_suptitle()
    assert f'aria-label="{view.alt}"' in view.html
    assert view.html.count("<title>") == 24
    assert (view.picked is None) == (pick is None)
    assert ("UMAP keeps neighbours" in view.html) == (method == "umap")


def test_the_number_is_of_the_original_space(maps):
    clips = embedded()
    cosines = clips.embeddings @ clips.embeddings.T
    cosines.fill_diagonal_(-9)
    labels = clips.clips["emotion"].to_numpy()
    by_hand = np.mean(labels == labels[cosines.argmax(dim=1)])
    views = [render_embedding_map(maps[m]) for m in METHODS]
    assert [v.agreement for v in views] == [by_hand, by_hand]
    assert views[0].chance == pytest.approx(4 * 6 * 5 / (24 * 23))


def test_a_picked_clip_is_described_with_its_neighbour(maps):
    view = render_embedding_map(maps["pca"], pick=3)
    assert view.picked["clip"] == "clip3<b>"
    assert "clip3&lt;b&gt;" in view.html and "Clip 3, and its neighbour" in view.html
    assert "<b>" not in re.sub(r"<b>\d", "", view.html)


def test_tips_say_what_a_point_is(maps):
    view = render_embedding_map(maps["pca"])
    assert "<title>0: angry, fake, s1, studio</title>" in view.html


def test_what_is_not_there_is_named(maps):
    with pytest.raises(ValueError, match="'mood'.*emotion"):
        render_embedding_map(maps["pca"], colour="mood")
    with pytest.raises(ValueError, match="clip 24 .*0 to 23"):
        render_embedding_map(maps["pca"], pick=24)
    with pytest.raises(ValueError, match="'tsne'.*pca"):
        prepare_map(embedded(), method="tsne")


def test_only_columns_that_divide_are_offered():
    assert colour_columns(embedded().clips) == ["emotion", "domain"]
    assert colour_columns(pd.DataFrame({"emotion": ["sad", "sad"]})) == []


def test_thinning_keeps_rows_together():
    few = thin_out(embedded(), n=7)
    assert len(few) == 7 and few.embeddings.shape == (7, 5)
    full = embedded()
    for row, name in zip(few.embeddings, few.clips["clip"], strict=True):
        (index,) = full.clips.index[full.clips["clip"] == name]
        assert torch.equal(row, full.embeddings[index])
    assert thin_out(full, n=24) is full


def test_explorer_follows_its_controls_and_plays_the_picked_clip():
    corpus = FakeCorpus()
    box = explore_embeddings(embedded(), corpus=corpus)
    method, colour, pick, view, heard = box.children
    assert colour.options == ("emotion", "domain")
    seen = [view.value]
    for control, value in ((colour, "domain"), (pick, 5), (method, "umap")):
        control.value = value
        seen.append(view.value)
    assert len(set(seen)) == 4
    _label, audio = heard.children[0].children
    wave, _ = soundfile.read(io.BytesIO(bytes(audio.value)))
    assert wave[0] == pytest.approx(corpus.read(5)[0].item(), abs=1e-3)


def test_explorer_of_two_embeddings_and_of_clips_that_cannot_be_heard():
    real = embedded()
    real = EmbeddedCorpus(
        real.embeddings,
        real.clips.assign(corpus="ravdess", sex="female"),
        real.problems,
    )
    few = real.select(emotion=list(EMOTIONS[:2]))
    box = explore_embeddings({"CLAP": real, "CLEP": few}, corpus=FakeCorpus())
    which, _method, _colour, pick, view, heard = box.children
    assert heard.children == ()  # RAVDESS is not the corpus at hand
    pick.value = 23
    before = view.value
    which.value = "CLEP"
    assert pick.value == pick.max == len(few) - 1
    assert view.value != before


def test_explorer_offers_the_columns_of_the_chosen_clips():
    people = embedded()
    clips = people.clips.drop(columns="domain")
    clips = clips.assign(language=["de", "pl", "pl"] * 8)
    people = EmbeddedCorpus(people.embeddings, clips, people.problems)
    box = explore_embeddings({"machines": embedded(), "people": people})
    which, _method, colour, _pick, view, _heard = box.children
    colour.value = "domain"
    which.value = "people"
    assert colour.options == ("emotion", "language") and colour.value == "emotion"
    colour.value = "language"
    assert "same language" in view.value
    which.value = "machines"
    assert colour.options == ("emotion", "domain") and colour.value == "emotion"
    colour.value = "emotion"
    which.value = "people"
    assert colour.value == "emotion"  # what divides both stays
