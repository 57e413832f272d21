"""Inside a corpus: nobody on both sides, each clip judged once and then moved."""

from dataclasses import replace

import numpy as np
import pytest
from stand_ins import BRIEF

from clepdg_lib import benchmark, material, methods, supervised
from clepdg_lib.environments import ENVIRONMENTS
from clepdg_lib.supervised import join_verdicts, shift_places, supervise
from clepdg_lib.verdicts import Verdict

pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture
def trained(monkeypatch, feeling_corpus, quick):
    """Two small corpora, quick contexts, no openSMILE, and a spy on every training."""
    monkeypatch.setattr(material, "measuring_is_possible", lambda: False)
    made = {}
    for i, name in enumerate(("emodb", "tess")):
        corpus = feeling_corpus(name, n_each=4, seed=i)
        clips = corpus.clips
        number = clips["clip"].str[-1].astype(int)
        clips = clips.assign(
            speaker=[f"{name}-s{n}" for n in number],
            split=np.where(number < 2, "train", "test"),
        )
        made[name] = replace(corpus, clips=clips)
    monkeypatch.setattr(supervised, "load_corpus", made.__getitem__)
    calls = []
    real = benchmark.train_on

    def spy(clap, materials, **options):
        calls.append({"materials": materials, **options})
        return real(clap, materials, **options)

    monkeypatch.setattr(benchmark, "train_on", spy)
    return calls, made


def test_every_clip_is_judged_once_by_a_model_that_never_heard_its_speaker(
    tiny_clap, trained
):
    calls, made = trained
    found = supervise(tiny_clap, names=["emodb"], recipe=BRIEF, progress=False)
    assert len(calls) == 4  # a fold for each speaker
    everybody = set(made["emodb"].clips["speaker"])
    out = [everybody - set(c["materials"][0].corpus.clips["speaker"]) for c in calls]
    assert sorted(map(len, out)) == [1] * 4 and set().union(*out) == everybody
    assert {c["recipe"] for c in calls} == {BRIEF}
    assert {v.setting for v in found} == {"supervised", "supervised-shared"}
    truth = sorted(made["emodb"].clips["emotion"])
    for verdict in found:
        assert sorted(verdict.truth) == truth and verdict.test == "emodb"


def test_the_shared_emotions_are_judged_apart_from_all(tiny_clap, trained, monkeypatch):
    _, made = trained
    clips = made["emodb"].clips
    bored = clips["emotion"].mask(clips["emotion"] == "sad", "bored")
    made["emodb"] = replace(made["emodb"], clips=clips.assign(emotion=bored))
    found = supervise(tiny_clap, names=["emodb"], recipe=BRIEF, progress=False)
    for verdict in found:
        said = set(verdict.truth) | set(verdict.guess)
        assert ("bored" in said) == (verdict.setting == "supervised")


def test_measurements_are_a_reference_where_they_were_made(
    tiny_clap, trained, monkeypatch
):
    _, made = trained
    values = np.random.default_rng(0).normal(size=(16, 88))
    real = supervised.prepare

    def prepare(*args, **options):
        return replace(real(*args, **options), measured=values)

    monkeypatch.setattr(supervised, "prepare", prepare)
    monkeypatch.setattr(benchmark, "train_on", lambda clap, _, **options: clap)
    found = supervise(tiny_clap, names=["emodb"], recipe=BRIEF, progress=False)
    by = [v for v in found if v.method == "egemaps-lr" and not v.transductive]
    assert {v.setting for v in by} == {"supervised", "supervised-shared"}
    assert all(len(v.truth) == 16 for v in by)


def test_shifted_clips_are_the_same_clips_and_training_hears_clean_ones(
    tiny_clap, trained
):
    calls, made = trained
    found = shift_places(
        tiny_clap,
        names=["emodb", "tess"],
        recipe=BRIEF,
        severities=(1.0, 3.0),
        n_shifted=5,
        progress=False,
    )
    for call, n_versions in zip(calls, (1, 3), strict=True):
        for part in call["materials"]:  # as recorded; then in two places as well
            assert set(part.corpus.clips["split"]) == {"train"}
            assert part.pictures.mels.shape[1] == n_versions
    assert {v.setting for v in found} == {"shift", "shift-heard"}
    tests = list(dict.fromkeys(v.test for v in found))
    placed = [f"{name} x{s}" for s in (1, 3) for name in ENVIRONMENTS]
    assert tests == ["clean", *placed]
    for verdict in found:
        assert len(verdict.truth) == 10
        np.testing.assert_array_equal(verdict.truth, found[0].truth)


def test_a_finished_model_is_not_trained_again(tiny_clap, trained, tmp_path):
    calls, _ = trained
    how = {"names": ["emodb"], "recipe": BRIEF, "progress": False, "work": tmp_path}
    first = supervise(tiny_clap, **how)
    n = len(calls)
    again = supervise(tiny_clap, **how)
    assert len(calls) == n
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.guess, b.guess)


def test_verdicts_of_different_methods_are_not_mixed():
    said = np.array(["sad"])
    one = Verdict("clep-dg", "supervised", "tess", 0, said, said)
    other = Verdict("text-classifier", "supervised", "tess", 0, said, said)
    assert len(join_verdicts([one, one]).truth) == 2
    with pytest.raises(ValueError, match="are mixed"):
        join_verdicts([one, other])


class Forgetful(dict):
    """Remembers nothing, so that whatever can be fitted is fitted each time."""

    def __contains__(self, key):
        return False


@pytest.fixture
def fitted(monkeypatch, trained):
    """Weights of every model trained and of every classifier fitted, in order."""
    seen = []
    monkeypatch.setattr(methods, "_fitted", Forgetful())

    def watch(module, name, weights):
        real = getattr(module, name)

        def spy(*given, **options):
            result = real(*given, **options)
            seen.append(weights(result))
            return result

        monkeypatch.setattr(module, name, spy)

    watch(benchmark, "train_on", lambda clep: [*clep.model.state_dict().values()])
    watch(methods, "tune_contexts", lambda contexts: [contexts.vectors])
    watch(methods, "fit_on_points", lambda classifier: [classifier.weight])
    watch(supervised.Training, "of", lambda known: [known.mean, known.probe.weight])
    return seen


def plant(corpus, canary, where):
    """Put other sounds, with other labels, in the place of some clips."""
    clips = corpus.clips.copy()
    clips.loc[where, "path"] = canary.clips.loc[where, "path"]
    clips.loc[where, "emotion"] = clips.loc[where, "emotion"].to_numpy()[::-1]
    return replace(corpus, clips=clips)


def same(one, other):
    return all(
        np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(one, other, strict=True)
    )


def test_a_canary_among_the_test_speakers_changes_nothing_that_is_fitted(
    tiny_clap, trained, fitted, feeling_corpus
):
    calls, made = trained
    how = {"names": ["emodb"], "recipe": BRIEF, "progress": False}
    supervise(tiny_clap, **how)
    before, n_calls = fitted.copy(), len(calls)
    fitted.clear()
    where = made["emodb"].clips["speaker"] == "emodb-s3"
    canary = feeling_corpus("canary", n_each=4, seed=99)
    made["emodb"] = plant(made["emodb"], canary, where)
    supervise(tiny_clap, **how)
    heard = [
        "emodb-s3" in set(c["materials"][0].corpus.clips["speaker"])
        for c in calls[:n_calls]
    ]
    n = len(before) // len(heard)  # fits of one fold
    folds = range(0, len(before), n)
    changed = [
        not same(sum(before[i : i + n], []), sum(fitted[i : i + n], [])) for i in folds
    ]
    assert changed == heard  # and where the canary was trained on, it is seen


def test_a_canary_among_shifted_clips_changes_nothing_that_is_fitted(
    tiny_clap, trained, fitted, feeling_corpus
):
    _, made = trained
    how = {"names": ["emodb", "tess"], "recipe": BRIEF, "progress": False}
    how |= {"severities": (1.0,), "n_shifted": 5}
    shift_places(tiny_clap, **how)
    before = sum(fitted, [])
    for split, unchanged in (("test", True), ("train", False)):
        fitted.clear()
        where = made["emodb"].clips["split"] == split
        canary = feeling_corpus("canary", n_each=4, seed=99)
        made["emodb"] = plant(made["emodb"], canary, where)
        shift_places(tiny_clap, **how)
        assert same(before, sum(fitted, [])) == unchanged
