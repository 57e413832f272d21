"""What a lesson prints, seeds, shows and plays."""

import base64
import io
import random

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from clepdg_lib import lesson
from clepdg_lib.audio import AudioError
from clepdg_lib.lesson import LESSONS, check, play, show, start_lesson


@pytest.fixture(autouse=True)
def _one_corpus(monkeypatch):
    """Looking for corpora is tested in test_corpora."""
    table = pd.DataFrame({"name": ["emosynth", "tess"], "found": [True, False]})
    monkeypatch.setattr(lesson, "list_corpora", lambda: table)
    monkeypatch.setattr(lesson, "set_style", lambda: None)


@pytest.fixture
def displayed(monkeypatch):
    """What `display` was given, instead of showing it."""
    from IPython import display

    calls = []
    monkeypatch.setattr(display, "display", lambda *a, **k: calls.append((a, k)))
    return calls


def test_a_lesson_says_what_is_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path))
    (tmp_path / "models" / "clap-mini").mkdir(parents=True)
    started = start_lesson("03")
    printed = capsys.readouterr().out
    assert started.name == "03_tune_acoustic_contexts"
    assert started.models == ("clap-mini",)
    assert started.corpora == ("emosynth",)
    for word in ("03_tune", "minutes", str(started.device), torch.__version__):
        assert word in printed
    assert "clap-mini" in printed and "emosynth" in printed and "tess" not in printed
    assert str(tmp_path) not in printed


def test_a_lesson_without_models_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path))
    assert start_lesson("00").models == ()
    assert "Models: none" in capsys.readouterr().out


def test_a_lesson_seeds_every_source_of_randomness():
    def draw():
        started = start_lesson("01")
        own = torch.rand(1, generator=started.generator).item()
        return random.random(), np.random.rand(), torch.rand(1).item(), own

    assert draw() == draw()
    other = start_lesson("01", seed=1)
    assert torch.rand(1, generator=other.generator).item() != draw()[3]


def test_a_lesson_may_be_named_in_full():
    assert start_lesson("06_scale_up").name == "06_scale_up"


def test_an_unknown_lesson_lists_the_known_ones():
    with pytest.raises(ValueError, match="'7'.*00, 01, 02, 03, 04, 05, 06"):
        start_lesson("7")


def test_there_are_seven_lessons():
    assert [name[:2] for name in LESSONS] == [f"{i:02}" for i in range(7)]
    assert all(5 <= minutes <= 60 for minutes in LESSONS.values())


def test_a_figure_is_shown_once_with_its_description(displayed):
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(3, 2))
    axes.plot([1, 2])
    show(figure, alt="A line that rises\n   from one to two.")
    assert not pyplot.fignum_exists(figure.number)
    ((data,), options) = displayed[0]
    alt = "A line that rises from one to two."
    assert options["metadata"]["image/png"]["alt"] == alt
    assert data["text/plain"] == f"[Figure: {alt}]"
    picture = base64.b64decode(data["image/png"])
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20], "big") == 300  # 3 inches at 100 dpi


@pytest.mark.parametrize("alt", ["", "a figure", "   short   \n   text  "])
def test_a_figure_without_a_description_is_refused(displayed, alt):
    from matplotlib.figure import Figure

    with pytest.raises(ValueError, match="20 or more"):
        show(Figure(), alt=alt)
    assert displayed == []


def test_a_player_holds_the_sound_small():
    time = torch.arange(2 * 22_050) / 22_050
    wave = 0.5 * torch.sin(2 * torch.pi * 440 * time)
    player = play(wave, sample_rate=22_050)
    sound, sample_rate = soundfile.read(io.BytesIO(player.data))
    assert sample_rate == 16_000
    assert abs(len(sound) / sample_rate - 2.0) < 0.2  # MP3 pads its ends
    spectrum = np.abs(np.fft.rfft(sound[4000:20_000]))
    assert abs(int(spectrum.argmax()) - 440) <= 2  # one bin is one hertz here
    assert len(player.data) < 2 * 2 * 16_000 / 2  # under half of 16-bit WAV
    assert 'type="audio/mpeg"' in player._repr_html_()


def test_a_label_is_written_safely():
    page = play(torch.zeros(1600), label="angry & <loud>")._repr_html_()
    assert "<figcaption>angry &amp; &lt;loud&gt;</figcaption>" in page
    assert "<loud>" not in page


def test_a_player_scales_what_is_too_loud_instead_of_clipping():
    wave = 4 * torch.sin(torch.arange(16_000) * 0.1)
    sound, _ = soundfile.read(io.BytesIO(play(wave).data))
    assert np.mean(np.abs(sound) > 0.99) < 0.2


@pytest.mark.parametrize(
    "wave", [torch.zeros(0), torch.zeros(2, 5), torch.full((9,), torch.nan)]
)
def test_what_is_no_wave_is_not_played(wave):
    with pytest.raises(AudioError):
        play(wave)


def test_check_prints_the_verdict(capsys):
    check("01.2", ...)
    check("06.1", lambda seconds, window: 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("⏳ Exercise 01.2: ")
    assert lines[1].startswith("❌ Exercise 06.1: ")
