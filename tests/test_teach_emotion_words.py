"""Teaching words: ears stay, whoever shares the tower gets it, breaks cost nothing."""

import shutil
import sys

import pytest
import torch

from clepdg_lib.clap import load_clap
from clepdg_lib.files import PROJECT, refuse_changed


@pytest.fixture
def teach(monkeypatch, tiny_clap_folder, tmp_path):
    """The script with two steps an epoch, and two models that share a text tower."""
    monkeypatch.syspath_prepend(PROJECT / "data")
    import teach_emotion_words as script

    monkeypatch.setattr(script, "STEPS", 2)
    for name in ("FELT", "HELD"):
        monkeypatch.setattr(script, name, 8)
    monkeypatch.setattr(script, "fast_precision", lambda *_: False)
    monkeypatch.setattr(script, "ONE_GLOSS_IN", 1)
    monkeypatch.setattr(script, "read_wordnet", lambda _: ["a large room", "a voice"])
    monkeypatch.setattr(script, "sound_names", lambda: ["dog", "rain"])
    few = ["this person is speaking", "a voice in a large hall"]
    monkeypatch.setattr(script, "caption_corpus", lambda sounds: few)
    for name in ("one", "two"):
        shutil.copytree(tiny_clap_folder, tmp_path / name)
    ears = load_clap(tmp_path / "two")
    with torch.no_grad():
        ears.model.audio_projection.linear1.weight.mul_(2)
    ears.save(tmp_path / "two")

    def run(*more, work="work"):
        words = ["--model", tmp_path / "one", "--also", tmp_path / "two"]
        words += ["--work", tmp_path / work, "--threads", 1, "--epochs", 2, *more]
        monkeypatch.setattr(sys, "argv", ["teach", *map(str, words)])
        threads = torch.get_num_threads()
        try:
            script.main()
        finally:
            torch.set_num_threads(threads)

    yield script, run
    for name in ("teach_emotion_words", "emotion_sentences", "build_clap_mini_text"):
        sys.modules.pop(name, None)


def state(folder):
    return load_clap(folder).model.state_dict()


def test_words_are_taught_and_nothing_else_moves(teach, tmp_path, capsys):
    _, run = teach
    before = {name: state(tmp_path / name) for name in ("one", "two")}
    run()
    after = {name: state(tmp_path / name) for name in ("one", "two")}
    for name, found in after.items():
        refuse_changed(tmp_path / name)  # checksums fit
        moved = {k for k, v in found.items() if not torch.equal(v, before[name][k])}
        heard = {k for k in moved if not k.startswith("text_")}
        # Weights are stored in half precision, and rounded once on the way.
        for key in heard:
            torch.testing.assert_close(
                found[key], before[name][key].half().to(found[key].dtype)
            )
        assert any(k.startswith("text_") for k in moved)
    for key, value in after["one"].items():
        if key.startswith("text_"):
            assert torch.equal(value, after["two"][key]), key
    said = capsys.readouterr().out
    assert "mean cosine" in said and "two has the new text tower" in said
    log = (tmp_path / "one" / "words-log.csv").read_text().splitlines()
    assert log[0].startswith("epoch,emotions,captions") and len(log) == 3
    assert not (tmp_path / "two" / "words-log.csv").exists()


def test_an_interrupted_teaching_goes_on_where_it_was(teach, tmp_path, monkeypatch):
    script, run = teach
    out = ("--out", tmp_path / "whole")
    run(*out, work="unbroken")
    real = script.write_row

    def break_off(log, row, *, new):
        real(log, row, new=new)
        raise KeyboardInterrupt

    out = ("--out", tmp_path / "broken")
    with monkeypatch.context() as patch:
        patch.setattr(script, "write_row", break_off)
        with pytest.raises(KeyboardInterrupt):
            run(*out)
    assert not (tmp_path / "broken").exists()
    run(*out)
    whole, broken = state(tmp_path / "whole"), state(tmp_path / "broken")
    for key, value in whole.items():
        torch.testing.assert_close(broken[key], value, atol=1e-6, rtol=0)
    rows = (tmp_path / "broken" / "words-log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in rows] == ["epoch", "1", "2"]
    with pytest.raises(SystemExit, match="of other settings; delete it"):
        run(*out, "--learning-rate", 1e-3)


def test_phrases_kept_back_are_judged_and_not_taught(teach, tmp_path):
    script, run = teach
    taught, back = script.written(0.3, seed=1)
    assert back and not {s for s, _ in back} & {s for s, _ in taught}
    run("--out", tmp_path / "trial", "--keep-back", 0.3)
    last = (tmp_path / "trial" / "words-log.csv").read_text().splitlines()[-1]
    assert 0 <= float(last.split(",")[4]) <= 1


def test_another_text_tower_is_refused(teach, tmp_path):
    _, run = teach
    other = load_clap(tmp_path / "two")
    with torch.no_grad():
        other.model.text_projection.linear1.weight.add_(0.1)
    other.save(tmp_path / "two")
    with pytest.raises(SystemExit, match="two has another text tower than"):
        run()
