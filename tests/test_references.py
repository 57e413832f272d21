"""References: trained on the other corpora alone, and only where they can be made."""

import os

import numpy as np
import pytest

from clepdg_lib import references
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.material import REAL
from clepdg_lib.references import TEACHER, audioset_reference, measured_reference

pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture
def corpora(feeling_corpus):
    return {name: feeling_corpus(name, n_each=1, seed=i) for i, name in enumerate(REAL)}


def seen(corpus, rng=None):
    """Features that tell emotions apart, but in TESS the wrong way round."""
    rng = rng or np.random.default_rng(0)
    place = {e: i for i, e in enumerate(EMOTIONS)}
    labels = corpus.clips["emotion"].map(place).to_numpy()
    found = rng.normal(0, 0.05, (len(corpus), 4)) + np.eye(4)[labels]
    return np.roll(found, int(corpus.name == "tess"), axis=1).astype(np.float32)


def check(reference, method):
    """Right where the other corpora are right, wrong where they mislead."""
    hit, centred = reference(test="nemo")
    assert (hit.method, hit.test, len(hit.truth)) == (method, "nemo", 4)
    assert (hit.guess == hit.truth).all()
    assert (hit.transductive, centred.transductive) == (False, True)
    miss, _ = reference(test="tess")
    assert len(miss.truth) == 3 and not (miss.guess == miss.truth).any()


def test_the_classical_reference_learns_from_the_other_corpora_alone(
    corpora, monkeypatch
):
    def measure(corpus, progress=False):
        found = seen(corpus)
        if corpus.name == "tess":
            found[0] = np.nan  # a clip that could not be measured
        return found

    monkeypatch.setattr(references, "measure_corpus", measure)
    monkeypatch.setattr(references, "measuring_is_possible", lambda: True)

    def reference(test):
        return measured_reference(corpora, test=test, progress=False)

    check(reference, "egemaps-lr")
    monkeypatch.setattr(references, "measuring_is_possible", lambda: False)
    assert reference("tess") == []


def test_the_audioset_reference_finds_its_clips_by_path(corpora, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    paths, rows = ["elsewhere/of-no-use.wav"], [np.full((1, 4), 9.0)]
    for name, corpus in corpora.items():
        found = [os.path.relpath(p, tmp_path) for p in corpus.clips["path"]]
        known = slice(1 if name == "tess" else 0, None)  # one clip has no features
        paths += found[known]
        rows.append(seen(corpus, rng)[known])
    order = rng.permutation(len(paths))
    file = tmp_path / TEACHER
    file.parent.mkdir()
    embedding = np.concatenate(rows).astype(np.float16)
    np.savez(file, path=np.array(paths)[order], embedding=embedding[order])

    def reference(test):
        return audioset_reference(corpora, test=test, file=file)

    check(reference, "audioset-lr")
    monkeypatch.setenv("CLEPDG_CORPORA", str(tmp_path / "corpora"))
    found = audioset_reference(corpora, test="nemo")
    np.testing.assert_array_equal(found[0].guess, reference("nemo")[0].guess)
    file.unlink()
    assert audioset_reference(corpora, test="nemo") == []
    monkeypatch.delenv("CLEPDG_CORPORA")
    assert audioset_reference(corpora, test="nemo") == []
