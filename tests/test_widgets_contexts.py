"""Contexts are read once and shown one by one; a real (tiny) CLAP embeds them."""

import pytest
import torch

from clepdg_lib.acpt import AcousticContexts, embed_contexts, random_contexts
from clepdg_lib.widgets_contexts import read_contexts, render_context, view_contexts

EMOTIONS = ("angry", "happy", "neutral", "sad")
PHRASES = ("in a large hall", "over the telephone")


@pytest.fixture(scope="module")
def contexts(tiny_clap):
    return random_contexts(tiny_clap, n_contexts=5, n_tokens=3)


@pytest.fixture(scope="module")
def read(tiny_clap, contexts):
    return read_contexts(tiny_clap, contexts, phrases=PHRASES)


def test_reading_embeds_every_emotion_in_every_context(tiny_clap, contexts, read):
    assert len(read) == 5
    assert torch.allclose(read.points, embed_contexts(tiny_clap, contexts, EMOTIONS))
    assert read.words.shape == read.word_cosines.shape == (5, 3)
    assert read.phrase_cosines.shape == (5, 2)
    assert read.flat.shape == (6, 4, 2)


@pytest.mark.parametrize("number", range(1, 6))
def test_every_context_is_shown(read, number):
    view = render_context(read, number, n_phrases=2)
    assert list(view.places["score"]) == sorted(view.places["score"], reverse=True)
    assert set(view.places["place"]) == set(PHRASES)
    assert len(view.words) == 3
    assert list(view.kept.index) == list(EMOTIONS)
    assert f"Context {number}" in view.figure.get_suptitle()
    assert f"context {number}" in view.html and 'alt="PCA' in view.html
    assert view._repr_html_() == view.html


def test_words_put_in_as_vectors_are_found_again(tiny_clap):
    vectors, _ = tiny_clap.token_embeddings(["in a large hall"])
    same = AcousticContexts(vectors[:, 1:-1].detach())
    view = render_context(read_contexts(tiny_clap, same, phrases=PHRASES), 1)
    assert view.words["word"].tolist() == ["in", "a", "large", "hall"]
    assert view.words["score"].min() == pytest.approx(1, abs=1e-4)
    assert view.places["place"][0] == "in a large hall"
    assert view.places["score"][0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("number", [0, 6])
def test_a_context_that_is_not_there_is_named(read, number):
    with pytest.raises(ValueError, match=f"context {number} .*1 to 5"):
        render_context(read, number)


def test_viewer_steps_and_changes_sets(tiny_clap, contexts):
    few = random_contexts(tiny_clap, n_contexts=2, seed=7)
    box = view_contexts(tiny_clap, {"five": contexts, "two": few})
    which, number, view = box.children
    seen = [view.value]
    number.value = 5
    seen.append(view.value)
    which.value = "two"
    assert (number.max, number.value) == (2, 2)
    seen.append(view.value)
    assert len(set(seen)) == 3
    assert "Context <b>2</b> of 2" in seen[-1]
