"""The benchmark: folds that leak nothing, chance where nothing can be learned, rows."""

import numpy as np
import pandas as pd
import pytest
import real_speech as build
from stand_ins import word_clap

from clepdg_lib.captions import EMOTIONS
from clepdg_lib.corpora import load_corpus
from clepdg_lib.evaluation import benchmark
from clepdg_lib.evaluation.benchmark import COMPARISONS, CONTROLS, METHODS, make_folds
from clepdg_lib.evaluation.real_speech import CORPORA
from clepdg_lib.files import write_checksums

WIDTH, PLACES = 32, ("telephone", "chapel")
COMPARISON = {"mean_difference", "ci_low", "ci_high", "wide_low", "wide_high"}


@pytest.fixture(scope="module")
def clips():
    """48 clips a corpus, of two speakers who speak every emotion six times."""
    rows = [
        (corpus, f"c{i}", EMOTIONS[i % 4], f"{corpus}-{i // 24}", "female", "English")
        for corpus in CORPORA
        for i in range(48)
    ]
    return pd.DataFrame(rows, columns=build.TABLE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, clips):
    """Features in which each corpus codes emotions in six columns of its own.

    Who has seen nothing of a corpus predicts it at chance; any leak lifts the UAR.
    """
    draw, out = np.random.default_rng(0), tmp_path_factory.mktemp("features")
    code, clean = 2 * draw.standard_normal((4, 6)), draw.standard_normal((240, WIDTH))
    for row, (corpus, emotion) in enumerate(clips[["corpus", "emotion"]].to_numpy()):
        first = 6 * CORPORA.index(corpus)
        clean[row, first : first + 6] += code[EMOTIONS.index(emotion)]
    pairs = pd.DataFrame({"row": np.arange(240), "severity": 1.0})
    pairs["caption"] = np.where(pairs["row"] % 3, "with rain", "in a quiet studio")
    for i in range(16):  # enough captions for sixteen contexts
        pairs.loc[i, "caption"] = " ".join(["heard from a large hall"] + ["rain"] * i)
    shift = pd.DataFrame([(r, p, 1) for r in range(240) for p in PLACES])
    shift.columns = ["row", "place", "severity"]
    placed = [clean[t["row"]] + draw.standard_normal(WIDTH) / 4 for t in (pairs, shift)]
    build.write(
        out, clips, np.ones(240, bool), clean, pairs, placed[0], shift, placed[1]
    )
    build.write_rounded(out / "egemaps.npz", clean, 0.02, rows=np.arange(240))
    (out / "tower.txt").write_text(word_clap().fingerprint())
    write_checksums(out)
    return out


@pytest.mark.parametrize("setting", ["loco", "supervised"])
def test_nothing_of_what_is_left_out_is_trained_on(clips, setting):
    pairs, judged = clips.iloc[::2], np.zeros(len(clips), int)
    for name, train, test, known in make_folds(setting, clips, pairs, seed=0):
        assert set(clips["corpus"][test]) == {name} and train.any() and known.any()
        left_out = "corpus" if setting == "loco" else "speaker"
        unseen = set(clips[left_out][test])
        assert unseen.isdisjoint({*clips[left_out][train], *pairs[left_out][known]})
        judged += test
    assert (judged == 1).all()


def test_a_domain_left_out_shares_no_speaker_either():
    clips = load_corpus("emosynth").clips
    folds = list(make_folds("lodo", clips, clips, seed=0))
    assert [name for name, *_ in folds] == sorted(set(clips["domain"]))
    for name, train, test, _ in folds:
        assert set(clips["domain"][test]) == {name} and train.any()
        for column in ("domain", "speaker"):
            assert set(clips[column][test]).isdisjoint(clips[column][train])


@pytest.fixture(scope="module")
def result(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "load_clap", lambda _: word_clap())
        settings = ("loco", "shift", "supervised")
        options = {"seeds": [0], "folder": folder, "jobs": 1, "progress": False}
        return benchmark.run_benchmark(settings=settings, **options)


def test_canary_every_method_is_at_chance_on_corpora_left_out(result):
    rows = pd.DataFrame(result["rows"])
    mean = rows.groupby(["setting", "method", "transductive"])["uar"].mean()
    assert mean[["loco", "shift"]].between(0.15, 0.37).all(), mean
    assert mean["supervised"]["clep-dg"].min() > 0.5  # the corpus is known there


def test_rows_and_comparisons_are_complete(result):
    rows = pd.DataFrame(result["rows"])
    assert set(rows) >= {"test", "seed", "n"} and "torch" in result["made_with"]
    assert rows[["uar", "war", "largest_share"]].stack().between(0, 1).all()
    loco, shift = (rows[rows["setting"] == s] for s in ("loco", "shift"))
    assert set(loco["method"]) >= {*METHODS["loco"], *CONTROLS, "chance", "egemaps-lr"}
    assert set(loco["test"]) == set(CORPORA) and (loco["n"] == 48).all()
    assert set(shift["place"]) == set(PLACES) and not shift["transductive"].any()
    assert {"described", "described-wrong"} <= set(shift["method"])
    comparisons = pd.DataFrame(result["comparisons"])
    assert set(comparisons) == COMPARISON | {"a", "b", "setting"}
    assert set(comparisons["setting"]) == set(rows["setting"])
    for setting, found in comparisons.groupby("setting"):
        wanted = {(a, b) for a, others in COMPARISONS[setting].items() for b in others}
        wanted -= {("text-classifier", "audioset-lr")}  # the folder has no such file
        assert set(found[["a", "b"]].itertuples(index=False, name=None)) == wanted


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"settings are \['losso'\]; valid are"):
        benchmark.run_benchmark(settings=["loco", "losso"])
    with pytest.raises(ValueError, match="there are no seeds"):
        benchmark.run_benchmark(seeds=[])
