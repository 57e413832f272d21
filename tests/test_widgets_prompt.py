"""Prompts find their clips, are composed, and tell what one word changed."""

import io
import re

import pytest
import soundfile
import torch
from stand_ins import EMOTIONS, FakeClap, FakeCorpus

from clepdg_lib.widgets_prompt import (
    PLACES,
    SPEAKERS,
    START,
    compose_prompt,
    explore_prompts,
    render_prompt_results,
)


@pytest.fixture
def corpus():
    return FakeCorpus()


@pytest.fixture
def search(corpus):
    def ask(prompt, **options):
        return render_prompt_results(
            FakeClap(),
            corpus.embeddings(),
            clips=corpus.clips,
            prompt=prompt,
            **options,
        )

    return ask


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_prompt_finds_its_clips_best_first(search, emotion):
    found = search(f"  this person is feeling {emotion} ")
    assert found.prompt == f"this person is feeling {emotion}"
    assert len(found.table) == 5
    assert set(found.table["emotion"]) == {emotion}
    assert found.table["score"].is_monotonic_decreasing
    assert found.html in found._repr_html_()
    few = search(emotion, n=2, n_counted=6)
    assert len(few.table) == 2
    assert few.shares[emotion] == 1.0
    assert "Among the best 6" in few.html


def test_prompt_table_points_back_to_the_clips(search, corpus):
    found = search("heard over the telephone", n=3)
    assert set(found.table["domain"]) == {"telephone"}
    rows = found.table["row"]
    assert corpus.clips["clip"].iloc[rows].tolist() == found.table["clip"].tolist()
    expected = corpus.embeddings()[rows[0]] @ FakeClap().embed_text(["telephone"])[0]
    assert found.table["score"][0] == pytest.approx(expected.item())


def test_prompts_and_names_are_escaped(search):
    html = search("angry <script>alert(1)</script>").html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;b&gt;" in html
    assert 'scope="col"' in html and "<caption" in html


@pytest.mark.parametrize("prompt", ["", "   ", "\n"])
def test_an_empty_prompt_gets_a_sentence(search, prompt):
    found = search(prompt)
    assert found.table.empty
    assert "Type a prompt" in found.html


def test_no_clips_and_wrong_embeddings(corpus):
    nothing = render_prompt_results(
        FakeClap(), torch.zeros(0, 5), clips=corpus.clips.iloc[:0], prompt="sad"
    )
    assert "No clip" in nothing.html
    with pytest.raises(ValueError, match="3 rows and clips 24"):
        render_prompt_results(
            FakeClap(), torch.zeros(3, 5), clips=corpus.clips, prompt="sad"
        )


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("speaker", SPEAKERS)
@pytest.mark.parametrize("emotion", ["", *EMOTIONS])
def test_every_prompt_that_can_be_composed_is_a_sentence(emotion, speaker, place):
    prompt = compose_prompt(emotion=emotion, speaker=speaker, place=place)
    assert prompt.startswith(SPEAKERS[speaker])
    assert (emotion or "speaking") in prompt
    assert prompt.endswith(PLACES[place])
    assert "  " not in prompt


def test_an_unknown_part_of_a_prompt_is_named():
    with pytest.raises(ValueError, match="'moon'.*'studio'"):
        compose_prompt(place="moon")
    with pytest.raises(ValueError, match="'a cat'.*'a man'"):
        compose_prompt(speaker="a cat")


def test_one_changed_word_is_told_with_what_it_changed(search):
    found = search("this person is feeling sad", before="this person is feeling angry")
    assert "<i>angry</i> → <i>sad</i>" in found.html
    assert found.change.loc["sad", "now"] >= found.change.loc["sad", "before"]
    few = search("feeling sad", before="feeling angry", n_counted=6)
    assert few.change["before"]["angry"] == few.change["now"]["sad"] == 1.0
    assert "0 of the best 6" in few.html
    added = search("feeling sad", before="sad <b>")
    assert "<i>nothing</i> → <i>feeling</i>" in added.html
    assert "&lt;b&gt;" in added.html


@pytest.mark.parametrize("before", ["", "  ", "sad"])
def test_nothing_to_compare_with_changes_nothing(search, before):
    found = search("sad", before=before)
    assert found.change is None
    assert "→" not in found.html


@pytest.fixture
def box(corpus):
    return explore_prompts(FakeClap(), corpus.embeddings(), corpus=corpus, n=2)


def test_explorer_shows_results_before_anything_is_touched(box):
    text, _row, domain, results, players = box.children
    assert text.value == START
    assert domain.options == ("all", "studio", "telephone")
    assert "feeling angry" in results.value
    assert len(players.children) == 2


def test_explorer_follows_what_is_typed_and_says_what_changed(box):
    text, _row, _domain, results, players = box.children
    text.value = "this person is feeling sad"
    assert "<b>this person is feeling sad</b>" in results.value
    assert results.value.count("<td>sad</td>") == 2
    assert "<i>angry</i> → <i>sad</i>" in results.value
    text.value = ""
    assert "Type a prompt" in results.value
    assert players.children == ()


def test_explorer_composes_prompts(box):
    text, row, _domain, results, _players = box.children
    emotion, speaker, place = row.children
    emotion.value = "happy"
    assert text.value == "this person is feeling happy"
    speaker.value = "a woman"
    place.value = "telephone"
    assert text.value == "this woman is feeling happy over the telephone"
    assert "over the telephone" in results.value


def test_explorer_searches_one_domain(box):
    _text, _row, domain, results, _players = box.children
    domain.value = "telephone"
    assert results.value.count("<td>telephone</td>") == 2
    assert "of 12 clips" in results.value


def test_explorer_plays_the_clip_that_is_listed(box, corpus):
    _text, _row, domain, results, players = box.children
    domain.value = "telephone"
    listed = int(re.search(r"clip(\d+)&lt;", results.value).group(1))
    label, audio = players.children[0].children
    assert label.value == "clip 1"
    wave, rate = soundfile.read(io.BytesIO(bytes(audio.value)))
    assert rate == 16_000
    assert wave[0] == pytest.approx(corpus.read(listed)[0].item(), abs=1e-3)
    assert not audio.autoplay
