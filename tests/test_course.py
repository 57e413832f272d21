"""What a lesson prints, seeds, shows and plays; grading; the doctor."""

import base64
import io
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from clepdg_lib.audio import AudioError
from clepdg_lib.course import doctor, lesson
from clepdg_lib.course.exercises import CHECKS, NOT_YET, WRONG, grade
from clepdg_lib.course.lesson import check, play, show, start_lesson
from clepdg_lib.files import PROJECT, write_checksums


# ---------------------------------------------------------------- lesson
def test_a_lesson_says_what_is_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path))
    monkeypatch.delenv("CLEPDG_CORPORA", raising=False)
    (tmp_path / "models" / "clap-mini").mkdir(parents=True)
    started = start_lesson("03")
    printed = capsys.readouterr().out
    assert str(started.device) in printed
    for word in ("03_tune_acoustic_contexts", "minutes", "torch 2.", "transformers 5."):
        assert word in printed
    assert "Models: clap-mini\n" in printed and "Corpora: none" in printed
    assert str(tmp_path) not in printed
    monkeypatch.delenv("CLEPDG_DATA")
    start_lesson("06")
    printed = capsys.readouterr().out
    assert "Models: clap-mini, clep-mini" in printed
    assert re.search("^Corpora: .*emosynth", printed, flags=re.M)


def test_a_lesson_seeds_every_source_of_randomness():
    def draw(seed=0):
        started = start_lesson("01", seed=seed)
        own = torch.rand(1, generator=started.generator).item()
        return random.random(), np.random.rand(), torch.rand(1).item(), own

    assert draw() == draw()
    assert not set(draw()) & set(draw(seed=1))


def test_unknown_lessons_and_exercises_list_the_known_ones():
    with pytest.raises(ValueError, match="'7'.*00, 01, 02, 03, 04, 05, 06"):
        start_lesson("7")
    with pytest.raises(ValueError, match=r"'99\.1'.*00\.1.*06\.2"):
        grade("99.1", ...)


def test_a_figure_is_shown_once_with_a_description_and_never_without(monkeypatch):
    from matplotlib import pyplot

    displayed = []
    monkeypatch.setattr(lesson, "display", lambda *a, **k: displayed.append((a, k)))
    figure, axes = pyplot.subplots(figsize=(3, 2))
    axes.plot([1, 2])
    show(figure, alt="A line that rises\n   from one to two.")
    assert not pyplot.fignum_exists(figure.number)
    (((data,), options),) = displayed
    alt = "A line that rises from one to two."
    assert options["metadata"]["image/png"]["alt"] == alt
    assert data["text/plain"] == f"[Figure: {alt}]"
    image = base64.b64decode(data["image/png"])
    assert image.startswith(b"\x89PNG")
    assert int.from_bytes(image[16:20], "big") == 300  # 3 inches at 100 dpi
    for alt in ("", "a figure", "   short   \n   text  "):
        with pytest.raises(ValueError, match="20 "):
            show(None, alt=alt)


def decoded(player):
    content = re.search(r"data:audio/mpeg;base64,([\w+/=]+)", player.data)[1]
    sound = base64.b64decode(content)
    return *soundfile.read(io.BytesIO(sound)), len(sound)


def test_a_player_holds_a_small_sound():
    time = torch.arange(2 * 22_050) / 22_050
    wave = 0.5 * torch.sin(2 * torch.pi * 440 * time)
    sound, sample_rate, n_bytes = decoded(play(wave, sample_rate=22_050))
    assert sample_rate == 16_000
    assert abs(len(sound) / sample_rate - 2.0) < 0.2  # MP3 pads its ends
    spectrum = np.abs(np.fft.rfft(sound[4000:20_000]))
    assert abs(int(spectrum.argmax()) - 440) <= 2  # one bin is one hertz here
    assert n_bytes < 2 * 16_000 * 2 / 2  # under half of 16-bit WAV


def test_a_player_escapes_its_label_and_scales_a_loud_wave_instead_of_clipping():
    loud = 4 * torch.sin(torch.arange(16_000) * 0.1)
    player = play(loud, label="angry & <loud>")
    assert "<figcaption>angry &amp; &lt;loud&gt;</figcaption>" in player.data
    assert "<loud>" not in player.data
    assert np.mean(np.abs(decoded(player)[0]) > 0.99) < 0.2
    for unusable in (torch.zeros(0), torch.full((9,), torch.nan)):
        with pytest.raises(AudioError):
            play(unusable)


# ---------------------------------------------------------------- exercises
def test_check_prints_mark_number_and_message(capsys):
    check("01.2", ...)
    check("06.1", lambda seconds, window: 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("⏳ Exercise 01.2: ")
    assert lines[1].startswith("❌ Exercise 06.1: ")


@pytest.mark.parametrize("stub", [..., lambda *_: ..., lambda *_: NotImplemented])
def test_an_untouched_stub_is_no_mistake(stub):
    for number in CHECKS:
        mark, message = grade(number, stub)
        assert (mark, "not attempted" in message) == (NOT_YET, True)
    mark, message = grade("00.1", lambda wave: None)
    assert (mark, "return" in message) == (NOT_YET, True)


@pytest.mark.parametrize("answer", [lambda wave: 1 / 0, 3.0, lambda: 1, lambda w: "x"])
def test_an_answer_that_raises_is_wrong_not_fatal(answer):
    mark, message = grade("00.1", answer)
    assert mark == WRONG
    assert message.startswith("your code stopped with ")


def test_an_assertion_of_the_student_is_no_hint_of_ours():
    def answer(wave):
        raise AssertionError("mine")

    message = "your code stopped with AssertionError: mine"
    assert grade("00.1", answer) == (WRONG, message)


def test_wrong_stays_wrong_without_asserts():
    """`python -O` removes asserts; no check, and nothing else here, rests on one."""
    answer = lambda *_: torch.full((3,), 0.123)  # noqa: E731
    assert {grade(number, answer)[0] for number in CHECKS} == {WRONG}
    for file in (PROJECT / "clepdg_lib").rglob("*.py"):
        assert not re.search(r"^\s*assert\b|__debug__", file.read_text("utf-8"), re.M)


# ---------------------------------------------------------------- doctor
@pytest.fixture
def data(tmp_path, monkeypatch):
    """A complete data folder, and a cache beside it that does not exist yet."""
    for name in doctor.FOLDERS:
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "file.bin").write_bytes(b"content")
        write_checksums(folder)
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CLEPDG_CACHE", str(tmp_path / "cache" / "not" / "yet"))
    monkeypatch.delenv("CLEPDG_CORPORA", raising=False)
    return tmp_path / "data"


def fixes():
    return [line for line in doctor.examine() if line.startswith("FIX ")]


def test_a_machine_in_order_is_ready_and_changed_data_has_a_remedy(data, capsys):
    assert doctor.main() == 0
    printed = capsys.readouterr().out
    assert "FIX" not in printed and "Ready" in printed
    for folder in doctor.FOLDERS:
        assert f"OK  data/{folder}: complete" in printed
    (data / "emosynth" / "file.bin").write_bytes(b"other")
    (data / "models" / "clap-mini" / "SHA256SUMS").unlink()
    assert doctor.main() == 1
    printed = capsys.readouterr().out
    assert re.search(r"FIX data/emosynth: file\.bin differs.*", printed)
    assert "git checkout -- data/emosynth" in printed
    assert "FIX data/models/clap-mini: " in printed
    assert "2 to fix" in printed


def test_wrong_packages_and_checks_that_fail_are_named(data, monkeypatch):
    needed = ["no-such-package-at-all>=1", "numpy<1", 'nbval<0; extra == "test"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: needed)
    first, second = fixes()
    assert first.startswith("FIX no-such-package-at-all is not installed, but ")
    assert re.match(r"FIX numpy [\d.]+, but numpy<1 is needed\n", second)

    def broken():  # one check that fails does not silence the others
        raise ImportError("no module")
        yield

    broken.__name__ = "_packages"
    monkeypatch.setattr(doctor, "_packages", broken)
    assert fixes() == [f"FIX packages: no module\n    -> {doctor.INSTALL}"]


def test_the_doctor_imports_nothing_heavy():
    code = (
        "import sys; from clepdg_lib.course.doctor import main; main(); "
        "print('HEAVY', *{'torch', 'transformers', 'sklearn'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1].strip() == "HEAVY", run.stdout + run.stderr
