"""Small sounds for any test: nothing here needs a corpus or a network."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from clepdg_lib.files import PROJECT

EMOTIONS = ("angry", "happy", "neutral", "sad")


@pytest.fixture
def write_wave():
    """Write a short tone; every call makes another sound, so no two are duplicates."""
    n_written = 0

    def write(path, *, seconds=0.25, sample_rate=16_000):
        nonlocal n_written
        n_written += 1
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(int(seconds * sample_rate)) / sample_rate
        tone = 0.3 * np.sin(2 * np.pi * (150 + 7 * n_written) * time)
        soundfile.write(path, tone.astype(np.float32), sample_rate)
        return path

    return write


@pytest.fixture
def make_corpus(tmp_path, write_wave):
    """Lay out a corpus of short tones: names below a new folder, which is returned."""

    def make(*names, folder="corpus"):
        root = tmp_path / folder
        for name in names:
            write_wave(root / name)
        return root

    return make


@pytest.fixture(scope="session")
def real_corpora():
    """Folder of real recordings, or skip: they are never part of the project."""
    chosen = os.environ.get("CLEPDG_CORPORA")
    for folder in (chosen, PROJECT.parent / "shared/corpora"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("no real recordings here: set CLEPDG_CORPORA to their folder")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """Keep what tests embed out of the cache that people use."""
    before = os.environ.get("CLEPDG_CACHE")
    os.environ["CLEPDG_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("CLEPDG_CACHE")
    if before is not None:
        os.environ["CLEPDG_CACHE"] = before


@pytest.fixture
def private_cache(tmp_path, monkeypatch):
    """An empty cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CLEPDG_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_clap_folder(tmp_path_factory):
    """A whole CLAP in Hugging Face layout, with random weights and few of them."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        PreTrainedTokenizerFast,
    )

    from clepdg_lib.captions import caption_corpus
    from clepdg_lib.clap import Clap

    words = {w for s in caption_corpus(n_mixed=0) for w in s.replace(",", " ,").split()}
    names = ["<s>", "<pad>", "</s>", "<unk>", *sorted(words)]
    vocabulary = {name: i for i, name in enumerate(names)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=62,
        **{"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>"},
        **{"sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
    )
    text = {
        "vocab_size": len(names),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "projection_dim": 16,
    }
    sound = {
        "spec_size": 128,
        "num_mel_bins": 64,
        "patch_size": 8,
        "patch_stride": [8, 8],
        "patch_embeds_hidden_size": 16,
        "window_size": 4,
        "depths": [1, 1, 1],
        "num_attention_heads": [1, 2, 4],
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "projection_dim": 16,
        "enable_fusion": False,
    }
    config = ClapConfig(text_config=text, audio_config=sound, projection_dim=16)
    extractor = ClapFeatureExtractor(
        sampling_rate=16_000,
        hop_length=192,
        fft_window_size=1024,
        max_length_s=3,
        frequency_min=50,
        frequency_max=8000,
        truncation="rand_trunc",
        padding="repeatpad",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ClapModel(config)
        for weight in model.text_model.parameters():
            if weight.ndim == 2:  # or all sentences would come out alike
                weight.data *= 8
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return Clap(model, tokenizer, extractor).save(folder)


@pytest.fixture(scope="session")
def tiny_clap(tiny_clap_folder):
    """The tiny CLAP, loaded; shared by all tests, so none may change it."""
    from clepdg_lib.clap import load_clap

    return load_clap(tiny_clap_folder)


@pytest.fixture
def feeling_corpus(tmp_path):
    """Make a corpus in which emotions are pitches: easy even for tiny models."""
    from clepdg_lib.corpora import Corpus

    def make(name="tones", *, n_each=2, emotions=EMOTIONS, domains=("here",), seed=0):
        draw = np.random.default_rng(seed)
        rows = []
        for domain in domains:
            for emotion in emotions:
                for k in range(n_each):
                    clip = f"{domain}/{emotion}-{k}"
                    path = tmp_path / name / f"{clip}.wav"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    pitch = 200.0 * 2.0 ** list(EMOTIONS).index(emotion)
                    time = np.arange(16_000) / 16_000
                    wave = 0.3 * np.sin(
                        2 * np.pi * pitch * time * draw.uniform(0.9, 1.1)
                    )
                    wave += 0.003 * draw.standard_normal(len(time))
                    soundfile.write(path, wave.astype(np.float32), 16_000)
                    split = ("train", "test")[k % 2]
                    rows.append(
                        {
                            "path": str(path),
                            "clip": clip,
                            "corpus": name,
                            "emotion": emotion,
                            "speaker": f"{name}-{domain}-{split}",
                            "sex": "",
                            "language": "en",
                            "domain": domain,
                            "split": split,
                            "text": "",
                        }
                    )
        return Corpus(name, pd.DataFrame(rows))

    return make
