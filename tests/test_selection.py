"""Rules of model selection: who was heard by what, who chose, and by which clips."""

from dataclasses import replace

import numpy as np
import pytest
from stand_ins import BRIEF

from clepdg_lib import ablation, benchmark, material, selection
from clepdg_lib.ablation import AS_IT_IS, NONE, UNTUNED, VARIANTS
from clepdg_lib.corpora import EMOTIONS, CorpusError
from clepdg_lib.selection import RULES, method_of, select_variants

pytestmark = pytest.mark.usefixtures("private_cache")
TESTS = ("emodb", "tess", "nemo")
SOME = {name: VARIANTS[name] for name in (AS_IT_IS, UNTUNED)}


@pytest.fixture
def corpora(monkeypatch, feeling_corpus, quick):
    """Three corpora of tones, two speakers each; the second one is for testing."""
    made = {}
    for i, name in enumerate(TESTS):
        corpus = feeling_corpus(name, n_each=2, seed=i)
        first = corpus.clips["clip"].str[-1].astype(int) % 2 == 0
        clips = corpus.clips.assign(
            speaker=np.where(first, f"{name}-a", f"{name}-b"),
            split=np.where(first, "train", "test"),
        )
        made[name] = replace(corpus, clips=clips)

    def load(name, **how):
        if name not in made:
            raise CorpusError(f"{name} is not here")
        return made[name]

    monkeypatch.setattr(material, "load_corpus", load)
    monkeypatch.setattr(material, "measuring_is_possible", lambda: False)
    real = ablation.tune_contexts
    monkeypatch.setattr(
        ablation,
        "tune_contexts",
        lambda *given, **how: real(*given, **{**how, "steps": 1}),
    )
    return made


@pytest.fixture
def trained(monkeypatch):
    """Speakers that every model was trained on, by the name of its run."""
    heard = {}
    real = selection.train_once

    def spy(clap, materials, *, name, **how):
        def told():
            found = materials()
            heard[name] = {s for m in found for s in m.corpus.clips["speaker"]}
            return found

        return real(clap, told, name=name, **how)

    monkeypatch.setattr(selection, "train_once", spy)
    return heard


def run(clap, **how):
    how = {"tests": TESTS, "recipe": BRIEF, "variants": SOME, "progress": False} | how
    return select_variants(clap, **how)


def speakers(*names, of="ab"):
    return {f"{name}-{letter}" for name in names for letter in of}


def test_each_rule_rehearses_without_whoever_judges(tiny_clap, corpora, trained):
    verdicts, choices = run(tiny_clap)
    assert trained == {
        **{f"loco-{test}": speakers(*set(TESTS) - {test}) for test in TESTS},
        **{f"speakers-{t}": speakers(*set(TESTS) - {t}, of="a") for t in TESTS},
        "pair-emodb-tess": speakers("nemo"),
        "pair-emodb-nemo": speakers("tess"),
        "pair-tess-nemo": speakers("emodb"),
    }
    fixed = [NONE, AS_IT_IS, UNTUNED]
    methods = [*fixed, *map(method_of, RULES)]
    assert [v.method for v in verdicts] == methods * len(TESTS)
    assert [v.selection for v in verdicts][: len(methods)] == ["none"] * 3 + [*RULES]
    assert [(c.test, c.rule) for c in choices] == [(t, r) for t in TESTS for r in RULES]
    by = {(v.test, v.method): v for v in verdicts}
    for choice in choices:
        assert choice.variant in SOME and 0 <= choice.validation_uar <= 1
        ruled = by[choice.test, method_of(choice.rule)]
        same = by[choice.test, choice.variant]
        np.testing.assert_array_equal(ruled.guess, same.guess)
        np.testing.assert_array_equal(
            ruled.truth, corpora[choice.test].clips["emotion"]
        )


class Says:
    """A judge that always hears one emotion."""

    def __init__(self, emotion):
        self.emotion = emotion

    def predict(self, embeddings):
        return np.full(len(embeddings), self.emotion)


def test_each_rule_asks_its_own_clips(tiny_clap, corpora, monkeypatch):
    """Speakers a are happy, speakers b angry; but all of TESS is neutral."""

    def felt(name, emotions):
        clips = corpora[name].clips
        clips = clips.assign(emotion=emotions(clips))
        corpora[name] = replace(corpora[name], clips=clips)

    monkeypatch.setattr(
        selection, "train_once", lambda clap, materials, **how: materials() and clap
    )
    felt("tess", lambda c: np.full(len(c), "neutral"))
    felt("nemo", lambda c: np.where(c["split"] == "test", "angry", "happy"))
    felt("emodb", lambda c: np.where(c["split"] == "test", "angry", "happy"))
    says = {f"always {emotion}": Says(emotion) for emotion in EMOTIONS}
    monkeypatch.setattr(selection, "fit_variants", lambda clap, variants, seed: says)
    _, choices = run(tiny_clap, variants=says)
    chosen = {(c.test, c.rule): c.variant for c in choices}
    assert chosen["tess", "training-domain"] == "always angry"
    assert chosen["tess", "oracle"] == "always neutral"
    scores = {(c.test, c.rule): c.validation_uar for c in choices}
    assert scores["tess", "training-domain"] == 1.0
    assert scores["tess", "leave-one-domain-out"] == 0.5
    assert scores["tess", "oracle"] == 1.0


def test_a_finished_rehearsal_is_not_held_again(
    tiny_clap, corpora, tmp_path, monkeypatch
):
    _, first = run(tiny_clap, work=tmp_path / "work")
    monkeypatch.setattr(
        benchmark, "train_on", lambda *_, **__: pytest.fail("trained again")
    )
    _, again = run(tiny_clap, work=tmp_path / "work")
    assert again == first


def test_two_corpora_are_not_enough(tiny_clap):
    with pytest.raises(ValueError, match="three corpora or more"):
        run(tiny_clap, tests=TESTS[:2])
