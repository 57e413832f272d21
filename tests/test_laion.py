"""LAION's checkpoints are pinned, and their shape goes through the whole chain.

The slow tests build models of full size with random weights: run them with
`python -m pytest -m slow tests/test_laion.py`.
"""

import re

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from torch.nn import functional as F

from clepdg_lib import clap as clap_module
from clepdg_lib.acpt import tune_contexts
from clepdg_lib.captions import CANONICAL
from clepdg_lib.clap import embed_corpus, load_clap
from clepdg_lib.clep import finetune_clep
from clepdg_lib.contrast import Recipe
from clepdg_lib.laion import SHAPES, full_size
from clepdg_lib.pretrained import REVISIONS
from clepdg_lib.tower import choose_way, hear, plain_features
from clepdg_lib.transfer import fit_text_classifier


@pytest.mark.parametrize("name", REVISIONS)
def test_a_name_means_one_commit(monkeypatch, name, tiny_clap):
    asked = []

    def read(source, *, revision, ships):
        assert not ships
        asked.append((source, revision))
        return tiny_clap.model, tiny_clap.tokenizer, tiny_clap.extractor

    monkeypatch.setattr(clap_module, "read_parts", read)
    assert re.fullmatch("[0-9a-f]{40}", REVISIONS[name])
    load_clap(name)
    load_clap(name, revision="main")
    load_clap("somebody/else")
    assert asked == [(name, REVISIONS[name]), (name, "main"), ("somebody/else", None)]


def test_without_a_network_the_message_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    name = "laion/larger_clap_music_and_speech"
    with pytest.raises(FileNotFoundError) as failure:
        load_clap(name)
    said = str(failure.value)
    assert f"hf download {name} --revision {REVISIONS[name]}" in said
    assert "clap-mini" in said and "safetensors" in said


def test_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="'laion/none'.*clap-htsat-unfused"):
        full_size("laion/none")


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_full_size_model_is_heard_as_transformers_hears_it(name):
    clap = full_size(name)
    assert clap.log_mel.sample_rate == 48_000 and clap.dim == 512
    generator = torch.Generator().manual_seed(0)
    waves = [0.1 * torch.randn(n, generator=generator) for n in (30_000, 480_000)]
    waves.append(torch.zeros(48_000))
    with torch.no_grad():
        wanted = plain_features(clap.model, clap.log_mel(waves))
    found = clap.embed_audio(waves, sample_rate=48_000)
    assert F.cosine_similarity(found, wanted).min() >= 0.9999
    exact = clap.project(hear(clap.model, clap.log_mel(waves)))
    torch.testing.assert_close(exact, wanted, atol=1e-5, rtol=0)
    assert choose_way(clap.model, n_frames=1001) is not None


@pytest.mark.slow
def test_parameters_are_as_many_as_published():
    # the count that MTEB's register of models gives for this checkpoint
    large = full_size("laion/larger_clap_music_and_speech").model
    assert sum(p.numel() for p in large.parameters()) == 193_913_882


@pytest.mark.slow
@pytest.mark.usefixtures("private_cache")
def test_the_whole_chain_runs_at_full_size(feeling_corpus, tmp_path):
    clap = full_size()
    corpus = feeling_corpus(n_each=2)
    emotions = corpus.emotions
    recipe = Recipe(
        epochs=2,
        batch_size=4,
        probe_steps=2,
        pieces=2,
        gradient_checkpointing=True,
        frozen_stages=(4, 3),
        text_learning_rate=1e-5,
        precision="bfloat16",
    )
    how = {"n_places": 0, "progress": False, "recipe": recipe}
    file = tmp_path / "checkpoint.safetensors"
    clep = finetune_clep(clap, corpus, checkpoint=file, **how)
    again = finetune_clep(clap, corpus, checkpoint=file, **how)  # nothing is left
    name = "audio_projection.linear1.weight"
    moved = clep.model.state_dict()[name]
    assert torch.equal(moved, again.model.state_dict()[name])
    assert not torch.equal(moved, clap.model.state_dict()[name])
    contexts = tune_contexts(
        clep, emotions, n_contexts=2, n_tokens=2, steps=2, progress=False
    )
    classifier = fit_text_classifier(clep, emotions, contexts=contexts)
    heard = embed_corpus(clep, corpus)
    assert heard.embeddings.shape == (8, 512)
    chances = np.asarray(classifier.predict_proba(heard.embeddings))
    assert chances.shape == (8, 4)
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-4)
    loaded = load_clap(clep.save(tmp_path / "clep"))
    said = [CANONICAL.format(emotion=e) for e in emotions]
    torch.testing.assert_close(loaded.embed_text(said), clep.embed_text(said))
