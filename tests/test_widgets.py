"""Widgets: every option of the render functions, and the controls over them."""

import base64
import inspect
import io
import itertools
import re
from html.parser import HTMLParser

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import soundfile
import stand_ins
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch.nn import functional as F

from clepdg_lib import acpt, audio, widgets
from clepdg_lib.acpt import AcousticContexts, random_contexts
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.embeddings import EmbeddedCorpus
from clepdg_lib.evaluation.real_speech import RealSpeech
from clepdg_lib.transfer import TextClassifier, zero_shot
from clepdg_lib.widgets import parts
from clepdg_lib.widgets.contexts import NAMED, PHRASES
from clepdg_lib.widgets.maps import COLUMNS
from clepdg_lib.widgets.places import OWN, mix_place
from clepdg_lib.widgets.prompts import PROMPTS
from clepdg_lib.widgets.voice import MAX_SECONDS

RT60 = {0.0: "none", 0.3: "small", 0.9: "medium", 3.0: "large"}


def voice(seconds=0.5, *, hertz=220.0, rate=16_000):
    time = torch.arange(int(rate * seconds)) / rate
    return 0.2 * torch.sin(2 * torch.pi * hertz * time) * (1 + torch.sin(20 * time))


@pytest.fixture(scope="module")
def clap():
    """A model of few random weights that knows the words of prompts and phrases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stand_ins, "PLACES", " ".join([*PROMPTS, *PHRASES]))
        return stand_ins.word_clap()


@pytest.fixture(scope="module")
def classifier(clap):
    return zero_shot(clap)


@pytest.fixture(scope="module")
def embedded(clap, tmp_path_factory):
    """Six speakers in four emotions, each near the sentence of its emotion."""
    folder = tmp_path_factory.mktemp("clips")
    texts = F.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(1)))
    paths = [folder / f"{i}.wav" for i in range(24)]
    for i, path in enumerate(paths):
        soundfile.write(path, voice(hertz=200 + 10 * i).numpy(), 16_000)
    i = np.arange(24)
    columns = {
        "path": [str(path) for path in paths],
        "clip": [f"clip{k}<b>" for k in i],
        "corpus": "tones",
        "emotion": np.array(EMOTIONS)[i % 4],
        "speaker": [f"s{k // 4}" for k in i],
        "sex": np.array(["female", "male"])[i // 12],
        "language": "en",
        "domain": np.array(["studio", "telephone"])[i // 4 % 2],
        "place": "chapel",
    }
    vectors = texts[i % 4] + 0.02 * torch.outer(torch.tensor(i // 4), torch.arange(16))
    features = torch.zeros(24, 32)
    return EmbeddedCorpus(F.normalize(vectors, dim=-1), features, pd.DataFrame(columns))


class Page(HTMLParser):
    """Tags of HTML with their attributes, and the text between them."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def check_accessible(html):
    """Images have alternative texts, players names, header cells a scope."""
    page = Page(html)
    for image in page.all("img"):
        assert len(image["alt"]) > 20
        data = image["src"].removeprefix("data:image/png;base64,")
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert all(player["aria-label"] for player in page.all("audio"))
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert not page.all("script") and "Traceback" not in page.text
    return page


def played(html):
    """The waves of all players."""
    sources = [attrs["src"] for attrs in Page(html).all("source")]
    contents = [base64.b64decode(s.split("base64,")[1]) for s in sources]
    return [soundfile.read(io.BytesIO(content)) for content in contents]


def controls_of(box):
    """Controls by their label; every one has a label that is not cut off."""
    controls = box.children[0].children
    assert all(item.description for item in controls)
    for item in controls:
        style = getattr(item, "style", None)
        assert getattr(style, "description_width", "initial") == "initial"
        assert not getattr(item, "continuous_update", False)
    return {item.description: item for item in controls}


# ----------------------------------------------------------------------- parts
def test_a_table_escapes_and_has_scopes_and_a_dash_for_what_is_missing():
    index = pd.Index(["angry", "<i>sad"], name="emotion")
    table = pd.DataFrame({"a<b": [0.5, np.nan], "n": ["<script>", "x"]}, index=index)
    html = parts.table_html(table, caption="c<d")
    page = check_accessible(html)
    assert "<i>" not in html and "0.50 █████" in page.text and "–" in page.text
    assert page.text.split()[0] == "c<d"
    assert [cell["scope"] for cell in page.all("th")] == ["col"] * 3 + ["row"] * 2


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_player_holds_the_wave_under_its_name(rate):
    html = parts.player(2 * voice(), name='<b>"me"', sample_rate=rate)
    assert Page(html).all("audio")[0]["aria-label"] == '<b>"me"'
    assert "<b>" not in html
    ((wave, found),) = played(html)
    assert found == rate
    assert np.allclose(wave, (2 * voice()).clamp(-1, 1), atol=1e-3)


def test_a_clip_is_played_as_models_get_it_or_not_at_all(embedded):
    clips = embedded.clips[["clip", "path"]]
    html = parts.clips_html(clips.iloc[[3]], clips, caption="c")
    ((wave, _),) = played(html)
    assert audio.rms_db(torch.from_numpy(wave)) == pytest.approx(-26, abs=0.1)
    assert Page(html).all("audio")[0]["aria-label"] == "clip 3"
    for other in (clips[["clip"]], clips.assign(path="/x/y.wav")):
        assert played(parts.clips_html(other.iloc[[3]], other, caption="c")) == []


def test_probabilities_are_joined_by_name_whatever_the_order(clap):
    """Classifiers with another order of emotions were once mixed up."""
    whole = zero_shot(clap)
    order = [2, 0, 3, 1]
    emotions = tuple(EMOTIONS[i] for i in order)
    turned = TextClassifier(emotions, whole.weight[order], whole.scale)
    few = zero_shot(clap, ["sad", "bored"])
    waves = {"a": voice(), "b": voice(hertz=900)}
    classifiers = {"one": whole, "turned": turned, "few": few}
    view = parts.render_waves(waves, title="2", clap=clap, classifiers=classifiers)
    table = view.probabilities
    assert table.index.name == "emotion" and table.index[:4].tolist() == list(EMOTIONS)
    assert np.allclose(table["a, one"], table["a, turned"], equal_nan=True)
    assert np.allclose(table.sum(), 1)
    assert table["b, few"].notna().sum() == 2 and table["b, few"].notna()["bored"]
    page = check_accessible(view.html)
    assert all(emotion in page.text for emotion in (*EMOTIONS, "bored"))


def test_a_shell_answers_bad_input_and_each_widget_has_a_still_version():
    def render(number: int = 1):
        if number > 2:
            raise ValueError(f"{number} is <too> large")
        return parts.View(html=f"<p>{number}</p>")

    assert repr(render(1)) == "View(html)" and render(1)._repr_html_() == "<p>1</p>"
    box = parts.shell(render, number=(1, 5))
    number, view = controls_of(box)["number"], box.children[1]
    assert isinstance(box, ipywidgets.VBox) and view.value == "<p>1</p>"
    number.value = 4
    assert 'role="alert"' in view.value and "4 is &lt;too&gt; large" in view.value
    number.value = 2
    assert view.value == "<p>2</p>"
    # Each widget has a still version.
    names = [n for n in dir(widgets) if inspect.isfunction(getattr(widgets, n))]
    assert sum(name.startswith("render_") for name in names) == 5 == len(names) / 2


# --------------------------------------------------------------------- prompts
def ask(clap, embedded, prompt, **options):
    return widgets.render_prompt_results(clap, embedded, prompt=prompt, **options)


@pytest.mark.parametrize("prompt", PROMPTS[::5])
def test_every_suggested_prompt_is_answered(clap, embedded, prompt):
    view = ask(clap, embedded, f"  {prompt} ")
    expected = embedded.embeddings @ clap.embed_text(prompt)[0]
    assert view.table["cosine"].is_monotonic_decreasing
    best = expected.topk(3)
    assert view.table["cosine"].tolist() == pytest.approx(best.values.tolist())
    assert view.table.index.tolist() == best.indices.tolist()
    assert view.shares.columns.tolist() == [prompt]
    assert view.shares[prompt].sum() == pytest.approx(1)
    assert len(check_accessible(view.html).all("audio")) == 3


def test_a_prompt_finds_the_clips_that_lie_near_it(clap, embedded):
    sentence = clap.embed_text("this person is feeling sad")
    sad = torch.tensor(embedded.clips["emotion"] == "sad")[:, None]
    near = torch.where(sad, sentence, -sentence)
    moved = EmbeddedCorpus(near, embedded.features, embedded.clips)
    view = ask(clap, moved, "this person is feeling sad", n=6)
    assert set(view.table["emotion"]) == {"sad"} and len(view.table) == 6
    assert view.table.index.tolist() == [3, 7, 11, 15, 19, 23]  # ties in their order


def test_two_prompts_stand_side_by_side(clap, embedded):
    first, second = PROMPTS[:2]
    view = ask(clap, embedded, first, other=second, n=2)
    assert view.shares.columns.tolist() == [first, second]
    assert view.shares.index.name == "emotion"
    page = check_accessible(view.html)
    assert len(page.all("audio")) == 4
    assert f"Nearest to: {second}" in page.text
    both = view.table["cosine to the other"]
    assert both[view.table.index[0]] < view.table["cosine"].max()


def test_one_more_emotion_takes_clips_from_the_four(clap, embedded):
    view = ask(clap, embedded, PROMPTS[0], emotion=" Laughs ")
    guess = zero_shot(clap, [*EMOTIONS, "laughs"]).predict(embedded.embeddings)
    assert view.taken["laughs"].mean() == pytest.approx((guess == "laughs").mean())
    assert "Clips nearer to laughs than to angry" in check_accessible(view.html).text
    with pytest.raises(ValueError, match="different words"):
        ask(clap, embedded, PROMPTS[0], emotion="sad")


def test_prompts_and_names_are_escaped_and_an_empty_one_asks_for_words(clap, embedded):
    html = ask(clap, embedded, "angry <script>alert(1)</script>").html
    check_accessible(html)
    assert "&lt;script&gt;" in html and "clip" in html and "<b>" not in html
    for prompt in ("", "   ", "\n"):
        view = ask(clap, embedded, prompt, other="sad")
        assert view.table.empty and "Type a prompt" in view.html


def test_clips_may_be_few_or_none_and_need_no_file(clap, embedded):
    assert "0 clips" in ask(clap, embedded.take(np.array([], dtype=int)), "sad").html
    clips = embedded.clips[["emotion"]].iloc[:2]
    bare = EmbeddedCorpus(embedded.embeddings[:2], embedded.features[:2], clips)
    view = ask(clap, bare, "sad")
    assert len(view.table) == 2 and "<audio" not in view.html


# ---------------------------------------------------------------------- places
@pytest.mark.parametrize("severity", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("name", audio.ENVIRONMENTS)
def test_every_place_at_every_severity(clap, classifier, embedded, name, severity):
    how = {"clap": clap, "classifiers": classifier, "background": embedded}
    view = widgets.render_environment(voice(0.3), name, severity=severity, **how)
    assert list(view.probabilities.columns) == ["original", "placed"]
    assert list(view.probabilities.index) == list(EMOTIONS)
    assert np.allclose(view.probabilities.sum(), 1)
    page = check_accessible(view.html)
    assert [p["aria-label"] for p in page.all("audio")] == ["original", "placed"]
    (original, _), (placed, _) = played(view.html)
    assert np.allclose(original, audio.prepare(voice(0.3)), atol=1e-3)
    if severity == 0:
        assert np.allclose(placed, original, atol=1e-3)
        assert view.cosine == pytest.approx(1, abs=1e-5)
    spectrogram, moved = page.all("img")
    assert audio.ENVIRONMENTS[name].caption in spectrogram["alt"]
    assert f"severity {severity:g}" in view.figure.get_suptitle().replace("\n", " ")
    assert f"{view.cosine:.2f}" in moved["alt"]
    assert f"{view.cosine:.2f}" in view.map.get_suptitle()


def test_a_place_is_repeatable_keeps_its_rate_and_is_named_if_bad(clap, classifier):
    how = {"clap": clap, "classifiers": classifier, "sample_rate": 48_000}
    wave = voice(0.3, rate=48_000)
    first, again = (widgets.render_environment(wave, "street", **how) for _ in "ab")
    assert first.html == again.html
    assert first.map is None and len(Page(first.html).all("img")) == 1
    assert {rate for _, rate in played(first.html)} == {48_000}
    how = {"clap": clap, "classifiers": classifier}
    with pytest.raises(ValueError, match="street"):
        widgets.render_environment(voice(), "moon", **how)
    with pytest.raises(ValueError, match="severity"):
        widgets.render_environment(voice(), "street", severity=9, **how)
    with pytest.raises(audio.AudioError, match="silent"):
        widgets.render_environment(torch.zeros(8_000), "street", **how)


@pytest.mark.parametrize("noise", ["none", *audio.NOISES])
def test_every_mix_is_a_place_with_a_caption(noise):
    for (echo, room), channel in itertools.product(RT60.items(), audio.CHANNELS):
        mixed = mix_place(echo=echo, noise=noise, snr_db=-5.0, channel=channel)
        assert mixed.room == room
        assert (channel in mixed.caption) == (channel != "full")
        generator = torch.Generator().manual_seed(0)
        assert torch.isfinite(audio.place(voice(0.1), mixed, generator=generator)).all()
    with pytest.raises(ValueError, match="'whales'.*traffic"):
        mix_place(echo=0.0, noise="whales", snr_db=0.0, channel="full")


def test_the_mixer_follows_every_control(clap, classifier):
    voices = {"anna": voice(0.3), "bert": voice(0.4)}
    box = widgets.mix_environments(voices, clap=clap, classifiers=classifier)
    controls, view = controls_of(box), box.children[1]
    assert controls["place"].options == (*audio.ENVIRONMENTS, OWN)
    assert controls["severity"].value == 1.0
    box.value = {"place": OWN, "echo": 0.5, "noise": "rain", "snr_db": 0.0}
    box.value = {"voice": "bert", "channel": "telephone", "severity": 2.0}
    assert "in a medium room, with loud rain, over the telephone" in view.value
    assert len(played(view.value)[0][0]) == len(audio.prepare(voices["bert"]))


def test_models_stand_side_by_side_and_one_is_made_from_a_sentence(clap, classifier):
    other = clap.with_projection(torch.nn.Linear(32, 16), name="other")
    how = {"clap": {"plain": clap, "bent": other}, "classifiers": classifier}
    made = {"in a hall": other}.get
    described = {"describe": made, "sentence": " in a hall "}
    view = widgets.render_environment(voice(), "hall", **described, **how)
    models = ("plain", "bent", "described: in a hall")
    columns = [f"{wave}, {m}" for wave in ("original", "placed") for m in models]
    table = view.probabilities
    assert list(table.columns) == columns
    assert table["placed, bent"].tolist() == table[columns[-1]].tolist()
    assert table["placed, bent"].tolist() != table["placed, plain"].tolist()


# -------------------------------------------------------------------- contexts
@pytest.fixture(scope="module")
def contexts(clap):
    return random_contexts(clap, n_contexts=3, n_tokens=2)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_context_is_shown_and_no_other(clap, contexts, number):
    view = widgets.render_context(clap, contexts, number=number)
    assert sorted(view.phrases.index) == sorted(PHRASES)
    assert view.phrases["cosine"].is_monotonic_decreasing
    assert list(view.kept.index) == list(EMOTIONS)
    point = acpt.embed_contexts(clap, contexts, EMOTIONS)[number - 1, 0]
    plain = clap.embed_text("this person is feeling angry")[0]
    assert view.kept["cosine"]["angry"] == pytest.approx(float(point @ plain), abs=1e-5)
    assert f"Context {number}" in view.figure.get_suptitle()
    assert len(check_accessible(view.html).all("table")) == 2
    for absent in (0, 4, -1):
        with pytest.raises(ValueError, match=f"context {absent}; give 1 to 3"):
            widgets.render_context(clap, contexts, number=absent)


@pytest.mark.parametrize("phrase", NAMED)
def test_words_put_in_as_vectors_are_near_their_own_phrase(clap, phrase):
    vectors, _ = clap.token_embeddings([phrase])
    same = AcousticContexts(vectors[:, 1:-1])
    view = widgets.render_context(clap, same)
    assert view.phrases.index[0] == phrase
    assert view.phrases["cosine"].iloc[0] == pytest.approx(1, abs=1e-3)


def test_the_viewer_steps_and_changes_sets(clap, contexts):
    few = random_contexts(clap, n_contexts=2, seed=7)
    box = widgets.view_contexts(clap, {"three": contexts, "two": few})
    controls, view = controls_of(box), box.children[1]
    assert view.value.count("<h4>") == 2 and "<img" not in view.value
    box.value = {"contexts": "three", "number": 3}
    assert "Context 3 keeps" in view.value and controls["number"].max == 3
    box.value = {"contexts": "two"}
    assert 'role="alert"' in view.value and "give 1 to 2" in view.value
    single = widgets.view_contexts(clap, contexts)
    assert "Context 1 keeps" in single.children[1].value


@pytest.fixture(scope="module")
def places(clap):
    """Clips in places with captions, a map from words to what these do to features."""
    features = torch.randn(2, 30, 32, generator=torch.Generator().manual_seed(0))
    table = pd.DataFrame({"caption": np.resize(NAMED, 30), "emotion": "sad"})
    table["room"], table["noise"], table["channel"] = "large", "rain", "radio"
    clips = RealSpeech(features[0], table.assign(severity=1.5), features[1])
    shifts = acpt.text_shifts(clap, table["caption"])
    return clips, acpt.fit_place_map(shifts, clips.clean, clips.features, steps=100)


def test_clips_that_changed_alike_are_found_and_one_is_bent(clap, places, classifier):
    clips, place_map = places
    vectors, _ = clap.token_embeddings([NAMED[2]])
    how = {"clips": clips, "place_map": place_map, "classifier": classifier}
    same = AcousticContexts(vectors[:, 1:-1])
    view = widgets.render_context(clap, same, **how, clip=4, voice=voice())
    assert NAMED[2] in view.alike["caption"].tolist()
    assert view.alike["cosine"].is_monotonic_decreasing
    expected = classifier.predict_proba(clap.project(clips.clean[[4]]))[0]
    assert np.allclose(view.probabilities["as recorded"], expected)
    assert np.allclose(view.probabilities.sum(), 1)
    assert len(check_accessible(view.html).all("audio")) == 1


# ------------------------------------------------------------------------ maps
@pytest.mark.parametrize("pick", [None, 0, 23])
@pytest.mark.parametrize("colour", COLUMNS)
def test_every_colour_and_pick(embedded, colour, pick):
    view = widgets.render_embedding_map(embedded, colour=colour, pick=pick)
    assert 0 <= view.chance <= 1 and 0 <= view.agreement <= 1
    assert f"{view.agreement:.0%}" in view.figure.get_suptitle()
    page = check_accessible(view.html)
    assert page.all("img")[0]["alt"] == view.alt and colour in view.alt
    assert len(view.neighbours) == len(page.all("audio")) == (0 if pick is None else 2)
    assert "path" not in view.neighbours and "<b>" not in view.html


def test_only_neighbours_of_other_speakers_count(embedded):
    """A speaker's own clips agree because of the voice, not of the emotion."""
    labels = embedded.clips["emotion"].to_numpy()
    speakers = embedded.clips["speaker"].to_numpy()
    # Each clip's nearest one is its speaker's next; further away, another's.
    own = F.one_hot(torch.arange(24) // 4, 6).float()
    feeling = F.one_hot(torch.arange(24) % 4, 4).float()
    vectors = F.normalize(torch.cat([3 * own, feeling], dim=1), dim=-1)
    moved = EmbeddedCorpus(vectors, embedded.features, embedded.clips)
    view = widgets.render_embedding_map(moved, pick=5)
    assert view.agreement == 1.0
    assert view.chance == pytest.approx(1 / 4)
    picked, near = view.neighbours.index
    assert speakers[picked] != speakers[near] and labels[picked] == labels[near]


@pytest.mark.parametrize("speaker", ["s0", ""])
def test_without_other_speakers_there_is_no_number(embedded, speaker):
    for columns in (["emotion"], list(embedded.clips)):
        clips = embedded.clips.assign(speaker=speaker)[columns]
        alone = EmbeddedCorpus(embedded.embeddings, embedded.features, clips)
        view = widgets.render_embedding_map(alone, pick=2)
        assert np.isnan(view.agreement) and np.isnan(view.chance)
        assert view.neighbours.index.tolist() == [2]
        assert len(Page(view.html).all("audio")) == ("path" in columns)


def test_what_is_not_there_is_named(embedded):
    with pytest.raises(ValueError, match="'mood'.*emotion"):
        widgets.render_embedding_map(embedded, colour="mood")
    for pick in (24, -1):
        with pytest.raises(ValueError, match=f"pick {pick}.*0 to 23"):
            widgets.render_embedding_map(embedded, pick=pick)


def test_the_explorer_follows_its_controls(embedded):
    few = embedded.select(emotion=["sad", "happy"])
    box = widgets.explore_embeddings({"CLAP": embedded, "CLEP": few}, n_points=20)
    controls, view = controls_of(box), box.children[1]
    scatter = controls["lasso"]
    assert controls["pick"].max == 19 and len(scatter.panels[0]["xy"]) == 8 * 20
    seen = [view.value]
    for name, value in (("pick", 15), ("lasso", [1, 2, 13]), ("colour", "domain")):
        controls[name].value = value
        seen.append(view.value)
    assert len({*seen}) == 4 and "3 clips in the lasso" in view.value
    assert [look["name"] for look in scatter.looks] == ["studio", "telephone"]
    assert set(scatter.codes) == {0, 1} and len(scatter.codes) == 20
    controls["clips"].value = "CLEP"  # has twelve
    assert (controls["pick"].value, scatter.pick, scatter.value) == (11, 11, [1, 2])
    controls["beside"].value = "CLAP"
    assert "not the same clips" in view.value


# ----------------------------------------------------------------------- voice
def recording(kind="WAV", *, seconds=1.0, rate=16_000, channels=1, gain=1.0):
    samples = gain * voice(seconds, rate=rate).numpy()
    file = io.BytesIO()
    soundfile.write(file, np.stack([samples] * channels, axis=1), rate, format=kind)
    return file.getvalue()


BAD = {
    "empty": (b"", "is empty"),
    "text": (b"this is not a sound", "cannot be read as audio"),
    "cut": (recording()[:9_000], "is truncated"),
    "silent": (recording(gain=0.0), "silent; see whether the microphone"),
    "video": (b"\0\0\0\x18ftypmp42" + bytes(900), "ffmpeg -i FILE voice.wav"),
    "no samples": (recording(seconds=0.0), "holds no samples"),
}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_every_format_is_embedded(clap, classifier, kind, rate, channels):
    content = recording(kind, rate=rate, channels=channels, seconds=0.5)
    view = widgets.render_voice(content, clap=clap, classifiers=classifier)
    assert view.problem == "" and view.map is None
    ((wave, _),) = played(view.html)
    level = audio.rms_db(torch.from_numpy(wave))
    assert level == pytest.approx(audio.LEVEL_DB, abs=0.1)
    assert view.probabilities["your voice"].sum() == pytest.approx(1)
    page = check_accessible(view.html)
    assert all(emotion in page.text for emotion in EMOTIONS)


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_a_wrong_file_gets_a_sentence(clap, classifier, content, words):
    how = {"clap": clap, "classifiers": classifier, "name": "me<b>"}
    view = widgets.render_voice(content, **how)
    assert words in view.problem
    assert 'role="alert"' in view.html and "<b>me" not in view.html
    assert view.probabilities is view.figure is view.map is None


def test_a_long_recording_is_cut(clap, classifier):
    content = recording("FLAC", seconds=2_400)
    view = widgets.render_voice(content, clap=clap, classifiers=classifier)
    ((wave, _),) = played(view.html)
    assert 0 < len(wave) <= MAX_SECONDS * 16_000
    assert view.takes["recorded"].tolist() == ["2400.0 s"]


def test_two_classifiers_and_a_map(clap, classifier, embedded):
    two = {"without contexts": classifier, "with contexts": classifier}
    how = {"classifiers": two, "background": embedded, "name": "take 1"}
    view = widgets.render_voice(recording(), clap=clap, **how)
    columns = [f"your voice, {name}" for name in two]
    assert list(view.probabilities.columns) == columns
    assert view.map is not None
    alts = [image["alt"] for image in check_accessible(view.html).all("img")]
    assert "take 1" in alts[0] and re.match("PCA.*your voice", alts[1])


def test_two_takes_are_compared_and_their_level_is_shown(clap, classifier):
    takes = {"loud": recording(gain=3.0), "soft": recording(gain=0.1)}
    view = widgets.render_voice(takes, clap=clap, classifiers=classifier)
    assert list(view.probabilities.columns) == list(view.takes.index) == [*takes]
    assert view.takes["peak"].tolist() == ["1.00 (clipped)", "0.04"]
    assert "loud: 1.0 s against soft: 1.0 s" in view.figure.get_suptitle()


def test_the_recorder_keeps_two_good_takes(clap, classifier):
    box = widgets.try_your_voice(clap, classifier)
    recorder, view = controls_of(box)["recording"], box.children[1]
    assert "stays in this kernel" in view.value
    for name, content, names in (
        ("me.wav", recording(), ["me.wav"]),
        ("notes.wav", b"words", ["me.wav"]),
        ("", recording(seconds=0.5), ["me.wav", "take 1"]),
        ("", recording(), ["take 1", "take 2"]),
    ):
        recorder.add(recorder, {"name": name}, [memoryview(content)])
        assert list(box.value["recording"]) == names
        assert ("Not usable" in view.value) == (name == "notes.wav")
        assert len(played(view.value)) == len(names)


# ------------------------------------------------------------- state and code
ASK = "clap=clap, classifiers=classifier, describe=describe"
SPEECH = "clips=clips, place_map=place_map, classifier=classifier"
STATES = {
    "explore_prompts(clap, embedded)": {"other": "rain", "emotion": "laughs"},
    f"mix_environments(voices, {ASK})": {"place": OWN, "sentence": "in a hall"},
    f"view_contexts(clap, sets, {SPEECH})": {"number": 2, "clip": 3},
    "explore_embeddings(spaces)": {"beside": "CLEP", "pick": 5, "lasso": [1, 2]},
    "try_your_voice(clap, classifier)": {"recording": {"a": recording()}},
}


@pytest.mark.parametrize("call", STATES)
def test_a_state_is_set_read_and_copied_as_code(
    clap, classifier, embedded, contexts, places, call
):
    """In a notebook, whose names the copied call uses."""
    shell = InteractiveShell.instance()
    names = {"clap": clap, "classifier": classifier, "embedded": embedded}
    names |= {"voices": {"anna": voice(0.3), "bert": voice(0.4)}}
    names |= {"clips": places[0], "place_map": places[1], "sets": {"a": contexts}}
    names |= {"spaces": {"CLAP": embedded, "CLEP": embedded}}
    names |= {"widgets": widgets, "describe": {"in a hall": clap}.get}
    shell.user_ns |= names
    try:
        box = shell.run_cell(f"box = widgets.{call}; box").result
        controls_of(box)
        box.value = STATES[call]
        assert STATES[call].items() <= box.value.items()
        still = shell.run_cell(box.children[2].code).result
    finally:
        InteractiveShell.clear_instance()
    assert still.html.endswith(box.children[1].value[-500:])
    with pytest.raises(KeyError):
        box.value = {"mood": 1}
