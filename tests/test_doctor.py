"""The doctor says OK or FIX with a remedy, and never stops at the first problem."""

import pytest

from clepdg_lib import doctor
from clepdg_lib.doctor import Finding, examine, main
from clepdg_lib.files import write_checksums


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder that is whole, and a cache beside it."""
    for name in doctor.BUNDLED_FOLDERS:
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "file.bin").write_bytes(b"content")
        write_checksums(folder)
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CLEPDG_CACHE", str(tmp_path / "cache" / "not" / "yet"))
    monkeypatch.delenv("CLEPDG_CORPORA", raising=False)
    monkeypatch.setattr(doctor, "MIN_MEMORY_GB", 0.0)
    monkeypatch.setattr(doctor, "MIN_DISK_GB", 0.0)
    return tmp_path / "data"


def _fixes():
    return [finding for finding in examine() if finding.remedy]


def test_a_finding_is_ok_or_has_a_remedy():
    assert str(Finding("all well")) == "OK  all well"
    lines = str(Finding("broken", "mend it")).splitlines()
    assert lines[0] == "FIX broken"
    assert lines[1].strip() == "-> mend it"


def test_data_that_is_whole_is_ok(data):
    lines = [str(finding) for finding in doctor._data()]
    folders = ("emosynth", "models/clap-mini", "models/clep-mini")
    assert lines == [f"OK  data/{folder} is whole" for folder in folders]


def test_changed_data_is_found(data, capsys):
    (data / "emosynth" / "file.bin").write_bytes(b"other")
    (fix,) = [f for f in doctor._data() if f.remedy]
    assert "file.bin" in fix.text
    assert "git checkout -- data/emosynth" in fix.remedy
    assert main() == 1
    assert "FIX data/emosynth" in capsys.readouterr().out


def test_missing_data_is_found(data):
    (data / "models" / "clap-mini" / "SHA256SUMS").unlink()
    assert [f for f in doctor._data() if f.remedy]


def test_an_old_python_is_found(data, monkeypatch):
    monkeypatch.setattr(doctor, "MIN_PYTHON", (99, 0))
    assert any(f.text.startswith("Python") for f in _fixes())


def test_a_missing_or_wrong_package_is_found(data, monkeypatch):
    needed = ["no-such-package-at-all>=1", "numpy<1", 'nbval; extra == "test"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: needed)
    texts = [f.text for f in doctor._packages()]
    assert len(texts) == 2
    assert texts[0] == "no-such-package-at-all is not installed"
    assert texts[1].startswith("numpy ") and "<1 is needed" in texts[1]


def test_little_memory_or_disk_is_found(data, monkeypatch):
    monkeypatch.setattr(doctor, "MIN_MEMORY_GB", 1e9)
    monkeypatch.setattr(doctor, "MIN_DISK_GB", 1e9)
    texts = " ".join(f.text for f in [*doctor._memory(), *doctor._disk()] if f.remedy)
    assert "memory" in texts and "disk" in texts


def test_a_corpora_folder_that_is_none_is_found(data, monkeypatch):
    monkeypatch.setenv("CLEPDG_CORPORA", "nowhere/at/all")
    (fix,) = doctor._corpora()
    assert "nowhere/at/all" in fix.text and fix.remedy


@pytest.mark.parametrize("there", [True, False])
def test_a_browser_is_named_and_a_missing_one_mends_nothing(monkeypatch, there):
    path = "/usr/bin/chromium-browser"
    found = {"chromium-browser": path} if there else {}
    monkeypatch.setattr(doctor.shutil, "which", found.get)
    (finding,) = doctor._browser()
    assert finding.remedy == ""
    assert ("chromium-browser is here" in finding.text) == there
    assert ("apt-get install chromium" in finding.text) != there
    assert doctor.find_browser() == (path if there else "")


def test_one_question_that_cannot_be_asked_does_not_silence_the_others(
    data, monkeypatch
):
    def _broken():
        raise ImportError("no module")
        yield

    monkeypatch.setattr(doctor, "QUESTIONS", (_broken, doctor._network))
    first, second = examine()
    assert (first.text, first.remedy) == ("broken: no module", doctor.INSTALL)
    assert second.text == "network: not needed"


def test_a_machine_in_order_is_ready(data, monkeypatch, capsys):
    questions = (doctor._python, doctor._disk, doctor._memory, doctor._data)
    monkeypatch.setattr(doctor, "QUESTIONS", questions)
    assert main() == 0
    printed = capsys.readouterr().out
    assert "FIX" not in printed and "Ready" in printed
