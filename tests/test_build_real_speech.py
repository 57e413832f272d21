"""The embeddings that ship are those of the models that the benchmark kept."""

import sys

import numpy as np
import pytest
from stand_ins import BRIEF

from clepdg_lib import material, references
from clepdg_lib.benchmark import leave_corpora_out
from clepdg_lib.corpora import CorpusError
from clepdg_lib.embedding import embed_corpus
from clepdg_lib.files import PROJECT
from clepdg_lib.material import REAL
from clepdg_lib.real_speech import load_embeddings, load_training, shipped_seeds

pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture
def script(monkeypatch, tiny_clap, feeling_corpus, quick):
    """The build script, in a world of four corpora made of tones."""
    monkeypatch.syspath_prepend(PROJECT / "data")
    import build_real_speech

    made = {name: feeling_corpus(name, n_each=1, seed=i) for i, name in enumerate(REAL)}

    def load(name, **how):
        if name not in made:
            raise CorpusError(f"{name} is not here")
        return made[name]

    for module in (material, build_real_speech):
        monkeypatch.setattr(module, "load_corpus", load)
    for module in (material, references):
        monkeypatch.setattr(module, "measuring_is_possible", lambda: False)
    monkeypatch.setattr(build_real_speech, "load_clap", _loads(tiny_clap))
    monkeypatch.setattr(build_real_speech, "LOCO_RECIPE", BRIEF)
    monkeypatch.setattr(
        build_real_speech,
        "measure_corpus",
        lambda corpus, progress: np.arange(len(corpus) * 2.0).reshape(-1, 2),
    )
    yield build_real_speech, made
    sys.modules.pop("build_real_speech")


def _loads(tiny_clap):
    from clepdg_lib.clap import load_clap

    return lambda name: tiny_clap if name == "clap-mini" else load_clap(name)


def test_what_the_benchmark_kept_is_embedded(
    script, tiny_clap, tmp_path, monkeypatch, capsys
):
    build, made = script
    work, out = tmp_path / "work", tmp_path / "out"
    monkeypatch.setattr(
        sys,
        "argv",
        ["build", "--work", str(work), "--out", str(out), "--seeds", "1"],
    )
    with pytest.raises(SystemExit, match="no finished model"):
        build.main()
    assert not out.exists()
    leave_corpora_out(tiny_clap, seeds=[1], recipe=BRIEF, work=work, progress=False)
    build.main()
    assert shipped_seeds(out) == [1]
    (folder,) = (p for p in work.glob("loco-tess-1-*") if p.is_dir())
    clep = _loads(tiny_clap)(folder)
    expected = embed_corpus(clep, made["tess"]).embeddings
    found = load_embeddings("clep-1", corpora="tess", folder=out).embeddings
    assert (found * expected).sum(dim=1).min() > 0.999
    mean, probe = load_training(1, "tess", folder=out)
    assert mean.shape == (16,) and len(probe.labels) == 4
    assert "clep-1.npz" in capsys.readouterr().out


def test_a_missing_corpus_stops_the_build(script, monkeypatch):
    build, made = script
    del made["nemo"]
    monkeypatch.setattr(sys, "argv", ["build"])
    with pytest.raises(SystemExit, match="all four corpora are needed: nemo"):
        build.main()
