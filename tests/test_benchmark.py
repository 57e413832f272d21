"""The protocol: what is left out stays out, and every method gives a row."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from stand_ins import BRIEF

from clepdg_lib import benchmark, material, methods, references
from clepdg_lib.benchmark import (
    leave_corpora_out,
    leave_domains_out,
    replay_embeddings,
    train_on,
)
from clepdg_lib.corpora import EMOTIONS, CorpusError, join_corpora
from clepdg_lib.embedding import embed_corpus
from clepdg_lib.judging import Judges, Training
from clepdg_lib.material import REAL
from clepdg_lib.pictures import draw_corpus
from clepdg_lib.properties import MEASURED
from clepdg_lib.real_speech import write_embeddings
from clepdg_lib.verdicts import rows_of

pytestmark = pytest.mark.usefixtures("private_cache")
METHODS = [m for m in methods.METHODS if m != "chance" and not m.endswith("-lr")]
KEYS = {"method", "setting", "test", "seed", "uar", "war", "n", "ci_low", "ci_high"}
KEYS |= {"recall", "collapsed", "selection", "gap_correction", "transductive"}


def plain(verdicts):
    """The headline's verdicts: no gap closed, nothing transductive."""
    return [v for v in verdicts if v.gap_correction == "none" and not v.transductive]


@pytest.fixture
def corpora(monkeypatch, feeling_corpus, quick):
    """The four corpora, made of tones; openSMILE and EmoGator are not there."""
    made = {name: feeling_corpus(name, n_each=1, seed=i) for i, name in enumerate(REAL)}

    def load(name, **how):
        if name not in made:
            raise CorpusError(f"{name} is not here")
        return made[name]

    monkeypatch.setattr(material, "load_corpus", load)
    for module in (material, references):
        monkeypatch.setattr(module, "measuring_is_possible", lambda: False)
    return made


@pytest.fixture
def trained(monkeypatch):
    """Spy on every fine-tuning: what went in, what came out."""
    calls = []
    real = benchmark.finetune_clep

    def spy(clap, corpus, **options):
        model = real(clap, corpus, **options)
        calls.append({"corpus": corpus, "model": model, **options})
        return model

    monkeypatch.setattr(benchmark, "finetune_clep", spy)
    return calls


# ---------------------------------------------------------------- one corpus out
def test_every_method_gives_a_row_for_every_corpus_and_seed(tiny_clap, corpora):
    verdicts = leave_corpora_out(
        tiny_clap, tests=["tess", "nemo"], seeds=[0, 1], recipe=BRIEF, progress=False
    )
    headline = plain(verdicts)
    assert [v.method for v in headline] == METHODS * 4
    assert [(v.test, v.seed) for v in headline[:: len(METHODS)]] == [
        *(("tess", 0), ("tess", 1), ("nemo", 0), ("nemo", 1))
    ]
    rows = rows_of(verdicts)
    assert all(set(row) == KEYS for row in rows)
    assert {row["setting"] for row in rows} == {"loco"}
    assert {row["n"] for row in rows} == {4}
    for row in rows:
        assert 0 <= row["uar"] <= 1 and 0 <= row["war"] <= 1
        if row["method"] == "chance":
            assert row["uar"] == row["war"] == 0.25
    json.dumps(rows)  # plain numbers and words


def test_a_canary_in_the_test_corpus_never_reaches_training(
    tiny_clap, corpora, trained
):
    canary = corpora["tess"]
    leave_corpora_out(
        tiny_clap, tests=["tess"], recipe=BRIEF, progress=False, seeds=[0]
    )
    (call,) = trained
    assert set(call["corpus"].clips["corpus"]) == set(REAL) - {"tess"}
    assert not set(call["corpus"].clips["path"]) & set(canary.clips["path"])
    sung = draw_corpus(canary, tiny_clap.log_mel).mels[:, 0]
    for picture in call["pictures"].mels[:, 0]:
        assert all((picture != song).any() for song in sung)
    assert len(call["pictures"]) == 12 and call.get("validation") is None


def test_another_test_corpus_changes_no_weight(
    tiny_clap, corpora, trained, feeling_corpus, monkeypatch
):
    tuned, fitted = [], []
    for name, seen in (("tune_contexts", tuned), ("fit_on_points", fitted)):
        real = getattr(methods, name)

        def spy(*given, real=real, seen=seen, **options):
            result = real(*given, **options)
            seen.append(getattr(result, "vectors", getattr(result, "weight", None)))
            return result

        monkeypatch.setattr(methods, name, spy)
    how = {"tests": ["tess"], "recipe": BRIEF, "progress": False}
    leave_corpora_out(tiny_clap, **how)
    # other sounds, other labels, more of them
    corpora["tess"] = feeling_corpus("canary", n_each=3, seed=99)
    methods._fitted.clear()  # nothing is remembered, all is fitted again
    leave_corpora_out(tiny_clap, **how)
    first, second = (call["model"].model.state_dict() for call in trained)
    for name in first:
        assert torch.equal(first[name], second[name]), name
    assert len(tuned) == 2 and torch.equal(tuned[0], tuned[1])
    assert len(fitted) == 12
    for before, after in zip(fitted[:6], fitted[6:], strict=True):
        assert torch.equal(before, after)


def test_the_start_is_the_same_for_every_corpus(tiny_clap, corpora, trained):
    before = {k: v.clone() for k, v in tiny_clap.model.state_dict().items()}
    leave_corpora_out(tiny_clap, tests=["tess", "emodb"], recipe=BRIEF, progress=False)
    for name, tensor in tiny_clap.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    prints = {call["model"].fingerprint() for call in trained}
    assert len(prints) == 2  # other corpora, other models


def test_a_finished_run_is_kept_and_found_again(tiny_clap, corpora, trained, tmp_path):
    how = {"tests": ["tess"], "progress": False, "work": tmp_path / "work"}
    first = leave_corpora_out(tiny_clap, recipe=BRIEF, **how)
    again = leave_corpora_out(tiny_clap, recipe=BRIEF, **how)
    assert len(trained) == 1
    for before, after in zip(first, again, strict=True):
        assert before.method == after.method
        np.testing.assert_array_equal(before.guess, after.guess)
    other = replace(BRIEF, learning_rate=2e-3)
    leave_corpora_out(tiny_clap, recipe=other, **how)
    leave_corpora_out(tiny_clap, recipe=BRIEF, seeds=[1], **how)
    assert len(trained) == 3  # another recipe, another seed: not that model


def test_a_missing_corpus_is_an_error_and_missing_bursts_a_remark(
    tiny_clap, corpora, capsys
):
    leave_corpora_out(tiny_clap, tests=[], progress=False)
    assert "without its bursts" in capsys.readouterr().err
    del corpora["nemo"]
    with pytest.raises(CorpusError, match="nemo"):
        leave_corpora_out(tiny_clap, tests=["tess"], progress=False)


# ---------------------------------------------------------------- one domain out
def test_a_left_out_domain_and_the_test_speakers_stay_out(
    tiny_clap, feeling_corpus, trained, quick
):
    corpus = feeling_corpus("rooms", n_each=2, domains=("hall", "studio", "street"))
    verdicts = leave_domains_out(tiny_clap, corpus, recipe=BRIEF, progress=False)
    headline = plain(verdicts)
    assert [v.method for v in headline] == METHODS * 3
    places = [v.test for v in headline[:: len(METHODS)]]
    assert places == ["hall", "street", "studio"]
    assert {v.setting for v in verdicts} == {"lodo"} and {
        len(v.truth) for v in verdicts
    } == {8}  # train and test split of the place; nobody of it was trained on
    for call, domain in zip(trained, ("hall", "street", "studio"), strict=True):
        clips = call["corpus"].clips
        assert set(clips["domain"]) == {"hall", "street", "studio"} - {domain}
        assert set(clips["split"]) == {"train"} and len(clips) == 8
        drawn = call["pictures"]
        for place, row in enumerate(drawn.kept):
            wave = call["corpus"].read(int(row))
            expected = tiny_clap.log_mel([wave])[0, 0].half().numpy()
            np.testing.assert_array_equal(drawn.mels[place, 0], expected)


def test_someone_who_is_judged_is_trained_on_in_no_other_domain(
    tiny_clap, feeling_corpus, trained, quick
):
    corpus = feeling_corpus("rooms", n_each=2, domains=("hall", "studio", "street"))
    both = corpus.clips["speaker"].isin(["rooms-hall-train", "rooms-studio-train"])
    clips = corpus.clips.assign(
        speaker=corpus.clips["speaker"].mask(both, "somebody in two places")
    )
    corpus = replace(corpus, clips=clips)
    leave_domains_out(tiny_clap, corpus, recipe=BRIEF, progress=False)
    hall, street, studio = (set(c["corpus"].clips["speaker"]) for c in trained)
    assert hall == {"rooms-street-train"}  # the studio's is judged in the hall
    assert street == {"somebody in two places"}
    assert studio == {"rooms-street-train"}


# ------------------------------------------------------------------------ pieces
def test_emotions_are_named_where_shared_and_all_clips_are_measured(
    tiny_clap, feeling_corpus, monkeypatch
):
    asked = []

    def note(clap, corpus, **options):
        asked.append({"corpus": corpus, **options})
        return clap

    monkeypatch.setattr(benchmark, "finetune_clep", note)
    monkeypatch.setattr(benchmark, "feature_names", lambda: list(MEASURED.values()))
    parts = []
    for i, name in enumerate(("a", "b")):
        corpus = feeling_corpus(name, n_each=2)
        # the second clip of each emotion is of one that other corpora lack
        odd = corpus.clips["clip"].str.endswith("-1")
        clips = corpus.clips.assign(emotion=corpus.clips["emotion"].mask(odd, "bored"))
        corpus = replace(corpus, clips=clips)
        measured = np.random.default_rng(i).normal(10 * i, 1, (8, len(MEASURED)))
        pictures = draw_corpus(corpus, tiny_clap.log_mel, n_places=0)
        parts.append(material.Material(corpus, pictures, measured))
    train_on(tiny_clap, parts, recipe=BRIEF, progress=False)
    (how,) = asked
    assert how["emotions"] == list(EMOTIONS)
    assert "bored" in how["corpus"].emotions
    assert len(how["corpus"]) == len(how["pictures"]) == len(how["targets"]) == 16
    np.testing.assert_allclose(how["targets"].mean(axis=0), 0, atol=1e-5)
    assert set(how["properties"]) == set(MEASURED)
    for level in how["properties"].values():  # thirds of both corpora together
        assert level[:8].max() <= 1 <= level[8:].min()
    bare = [replace(part, measured=None) for part in parts]
    train_on(tiny_clap, bare, recipe=BRIEF, progress=False)
    assert asked[1]["targets"] is asked[1]["properties"] is None


# ------------------------------------------------------------- from what ships
@pytest.fixture
def shipped(tiny_clap, corpora, monkeypatch, tmp_path):
    """The four corpora embedded by the tiny CLAP, and by it shuffled as `clep-0`."""
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(benchmark, "load_clap", lambda name: tiny_clap)
    heard = [embed_corpus(tiny_clap, corpora[name]) for name in REAL]
    clips = pd.concat([h.clips for h in heard], ignore_index=True)
    rows = torch.cat([h.embeddings for h in heard])
    place = clips["emotion"].map({e: i for i, e in enumerate(EMOTIONS)})
    arrays = {
        "clap-mini": rows,
        "clep-0": rows.flip(dims=(1,)),
        "egemaps": np.eye(4)[place.to_numpy()],
    }
    known = Training.of(embed_corpus(tiny_clap, join_corpora(*corpora.values())))
    training = {0: {name: (known.mean, known.probe) for name in REAL}}
    folder = tmp_path / "data" / "real_speech"
    write_embeddings(folder, clips, arrays, training=training)
    return known


def test_what_ships_gives_the_verdicts_that_audio_gives(tiny_clap, corpora, shipped):
    verdicts = replay_embeddings()
    assert [v.method for v in plain(verdicts)] == ["egemaps-lr", *METHODS] * 4
    assert {v.seed for v in verdicts} == {0}
    rows = rows_of(v for v in verdicts if v.method == "egemaps-lr")
    assert {r["uar"] for r in rows if not r["transductive"]} == {0.25, 1.0}  # chance
    for name in REAL:
        heard = embed_corpus(tiny_clap, corpora[name])
        other = replace(heard, embeddings=heard.embeddings.flip(dims=(1,)))
        judges = Judges.fit(tiny_clap, tiny_clap, training=shipped)
        expected = judges.judge(heard, other, setting="loco", test=name)
        found = [v for v in verdicts if v.test == name and v.method != "egemaps-lr"]
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.method == theirs.method
            assert (mine.guess == theirs.guess).mean() >= 0.75  # 8 bits
