"""Widgets: their pure render functions over all options, then the shells."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch.nn import functional

from clepdg_lib.environments import ENVIRONMENTS
from clepdg_lib.transfer import TextClassifier
from clepdg_lib.widgets import (
    PROMPTS,
    explore_prompts,
    mix_environments,
    render_environment,
    render_prompt_results,
)

WORDS = ("angry", "happy", "neutral", "sad", "telephone")
EMOTIONS = WORDS[:4]


class FakeClap:
    """Texts point along their known words; waves along their brightness."""

    dim = len(WORDS)

    def embed_text(self, texts):
        rows = [[float(word in text) + 0.01 for word in WORDS] for text in texts]
        return functional.normalize(torch.tensor(rows), dim=-1)

    def embed_audio(self, clips, *, sample_rate=16_000):
        rows = []
        for clip in clips:
            level = torch.as_tensor(clip).abs().diff().abs().mean()
            rows.append([1.0, float(level) * 50, 0.2, 0.1, 0.0])
        return functional.normalize(torch.tensor(rows), dim=-1)


class FakeCorpus:
    def __init__(self):
        emotions = [EMOTIONS[i % 4] for i in range(24)]
        domains = [("studio", "telephone")[i // 12] for i in range(24)]
        self.clips = pd.DataFrame(
            {
                "path": [f"/x/{i}.ogg" for i in range(24)],
                "clip": [f"clip{i}<b>" for i in range(24)],
                "emotion": emotions,
                "domain": domains,
                "speaker": "s1",
            }
        )

    def read(self, index):
        return torch.full((800,), 0.01 * (index + 1))

    def embeddings(self):
        rows = torch.zeros(24, len(WORDS))
        for i, (e, d) in enumerate(
            zip(self.clips["emotion"], self.clips["domain"], strict=True)
        ):
            rows[i, WORDS.index(e)] = 1
            rows[i, 4] = 0.5 * (d == "telephone") + 0.001 * i
        return functional.normalize(rows, dim=-1)


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


def voice(seconds: float = 0.5) -> torch.Tensor:
    time = torch.arange(int(16_000 * seconds)) / 16_000
    return 0.2 * torch.sin(2 * torch.pi * 220 * time) * (1 + torch.sin(20 * time))


CLASSIFIER = TextClassifier(EMOTIONS, torch.eye(4, 5))


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
    assert 'scope="col"' in html and "<caption>" in html


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


def test_explorer_shows_results_before_anything_is_touched(corpus):
    box = explore_prompts(FakeClap(), corpus.embeddings(), corpus=corpus)
    text, _choice, domain, results, players = box.children
    assert text.value == PROMPTS[0]
    assert domain.options == ("all", "studio", "telephone")
    assert "feeling angry" in results.value
    assert len(players.children) == 3


def test_explorer_follows_text_choice_and_domain(corpus):
    box = explore_prompts(FakeClap(), corpus.embeddings(), corpus=corpus, n=2)
    text, choice, domain, results, players = box.children
    text.value = "this person is feeling sad"
    assert "<b>this person is feeling sad</b>" in results.value
    assert results.value.count("<td>sad</td>") == 2
    choice.value = PROMPTS[0]
    assert text.value == PROMPTS[0]
    assert results.value.count("<td>angry</td>") == 2
    domain.value = "telephone"
    assert results.value.count("<td>telephone</td>") == 2
    assert "of 12 clips" in results.value
    text.value = ""
    assert "Type a prompt" in results.value
    assert players.children == ()


def test_explorer_plays_the_clip_that_is_listed(corpus):
    box = explore_prompts(FakeClap(), corpus.embeddings(), corpus=corpus, n=1)
    _text, _choice, domain, results, players = box.children
    domain.value = "telephone"
    listed = int(re.search(r"clip(\d+)&lt;", results.value).group(1))
    label, audio = players.children[0].children
    assert label.value == "clip 1"
    wave, rate = soundfile.read(io.BytesIO(bytes(audio.value)))
    assert rate == 16_000
    assert wave[0] == pytest.approx(corpus.read(listed)[0].item(), abs=1e-3)
    assert not audio.autoplay


@pytest.mark.parametrize("severity", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_at_every_severity(name, severity):
    result = render_environment(
        voice(), name, severity=severity, clap=FakeClap(), classifier=CLASSIFIER
    )
    assert result.wave.shape == voice().shape
    assert torch.isfinite(result.wave).all()
    assert list(result.probabilities.index) == list(EMOTIONS)
    assert np.allclose(result.probabilities.sum(), 1, atol=1e-5)
    if severity == 0:
        before, after = result.probabilities.to_numpy().T
        assert np.array_equal(before, after)
    pattern = r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)"'
    alt = re.search(pattern, result.html)
    assert name in alt.group(1)
    assert base64.b64decode(alt.group(2)).startswith(b"\x89PNG")
    assert result.figure.get_suptitle().endswith(f"severity {severity:g}")


def test_environment_follows_its_seed_and_needs_no_classifier():
    first, again, other = (
        render_environment(voice(), "street", seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first.wave, again.wave)
    assert not torch.equal(first.wave, other.wave)
    assert first.probabilities is None
    assert "<table>" not in first._repr_html_()


def test_bad_environments_are_named():
    with pytest.raises(ValueError, match="street"):
        render_environment(voice(), "moon")
    with pytest.raises(ValueError, match="severity"):
        render_environment(voice(), "street", severity=9)
    with pytest.raises(ValueError, match="give clap"):
        render_environment(voice(), "street", classifier=CLASSIFIER)


def test_mixer_follows_voice_place_and_severity():
    voices = {"anna": voice(), "bert": voice(0.3)}
    box = mix_environments(voices, clap=FakeClap(), classifier=CLASSIFIER)
    who, where, severity, heard, picture = box.children
    assert where.options == tuple(ENVIRONMENTS)
    seen = [picture.value]
    for control, value in ((where, "hall"), (severity, 3.0), (who, "bert")):
        control.value = value
        seen.append(picture.value)
    assert len(set(seen)) == 4
    assert "hall at severity 3" in seen[-1]
    assert "Probability of each emotion" in seen[-1]
    wave, _ = soundfile.read(io.BytesIO(bytes(heard.children[0].value)))
    assert len(wave) == len(voices["bert"])


def test_mixer_takes_a_single_voice():
    box = mix_environments(voice(), environments=("street", "hall"))
    assert box.children[0].options == ("voice",)
    assert "data:image/png" in box.children[4].value
