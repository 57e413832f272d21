"""A voice in every place at every severity; the mixer's dials turn what they say."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile
import torch
from stand_ins import CLASSIFIER, EMOTIONS, FakeClap, embedded, voice

from clepdg_lib.environments import ENVIRONMENTS, NOISES, place
from clepdg_lib.planes import fit_plane
from clepdg_lib.widgets_mixer import mix_environments, mix_place, render_environment


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


def test_a_plane_shows_the_move_and_its_cosine():
    result = render_environment(
        voice(), "street", clap=FakeClap(), plane=fit_plane(embedded())
    )
    assert -1 <= result.cosine < 1
    assert f"<b>{result.cosine:.2f}</b>" in result.html
    assert f"{result.cosine:.2f}" in result.map.get_suptitle()
    assert '<svg role="img" aria-label="PCA' in result.html
    still = render_environment(voice(), "street", severity=0, clap=FakeClap())
    assert still.cosine == pytest.approx(1, abs=1e-5)
    assert still.map is None


@pytest.mark.parametrize("telephone", [False, True])
@pytest.mark.parametrize("rt60", [0.0, 0.3, 0.8, 3.0])
@pytest.mark.parametrize("noise", ["none", *NOISES])
def test_every_mix_is_a_place_with_a_name(noise, rt60, telephone):
    mix = mix_place(rt60_seconds=rt60, noise=noise, snr_db=-5, telephone=telephone)
    assert (mix.room == "none") == (rt60 == 0)
    assert ("telephone" in mix.caption) == telephone
    heard = place(voice(0.3), mix, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(heard).all()


def test_a_mix_is_drawn_under_its_own_words():
    mix = mix_place(rt60_seconds=2.0, noise="rain", telephone=True)
    result = render_environment(voice(0.3), mix)
    assert mix.caption in result.figure.get_suptitle()
    assert mix.caption in result.html


def test_a_mix_with_an_unknown_noise_is_refused():
    with pytest.raises(ValueError, match="'whales'.*traffic"):
        mix_place(noise="whales")


@pytest.fixture
def box():
    voices = {"anna": voice(), "bert": voice(0.3)}
    return mix_environments(
        voices, clap=FakeClap(), classifier=CLASSIFIER, plane=fit_plane(embedded())
    )


def test_mixer_follows_voice_place_and_every_dial(box):
    who, place, echo, noise, snr, telephone, heard, picture = box.children
    assert place.options == ("my own mix", *ENVIRONMENTS)
    seen = [picture.value]
    for control, value in (
        *((place, "hall"), (echo, 0.5), (noise, "rain"), (snr, 0.0)),
        *((telephone, True), (who, "bert")),
    ):
        control.value = value
        seen.append(picture.value)
    assert len(set(seen)) == 7
    assert "with loud rain, over the telephone" in seen[-1]
    assert "Probability of each emotion" in seen[-1]
    wave, _ = soundfile.read(io.BytesIO(bytes(heard.children[0].value)))
    assert len(wave) == len(voice(0.3))


def test_a_ready_made_place_turns_the_dials_and_a_dial_makes_it_your_own(box):
    _who, place, echo, noise, snr, telephone, _heard, picture = box.children
    place.value = "hall"
    hall = ENVIRONMENTS["hall"]
    found = echo.value, noise.value, snr.value, telephone.value
    assert found == (hall.rt60_seconds, hall.noise, hall.snr_db, False)
    assert "the same voice hall" in picture.value
    snr.value = 3.0
    assert place.value == "my own mix"
    place.value = "telephone"
    assert telephone.value is True


def test_mixer_takes_a_single_voice_without_a_model():
    box = mix_environments(voice())
    assert box.children[0].options == ("voice",)
    assert "data:image/png" in box.children[-1].value
