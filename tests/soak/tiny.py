"""A whole model of few random weights, and a corpus of tones, for tests and soak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

EMOTIONS = ("angry", "happy", "neutral", "sad")


def make_model(folder: Path) -> Path:
    """Write a tiny CLAP in Hugging Face layout; always the same one."""
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
    return Clap(model, tokenizer, extractor).save(folder)


def make_corpus(
    folder: Path,
    *,
    name="tones",
    n_each=2,
    emotions=EMOTIONS,
    domains=("here",),
    seed=0,
):
    """Write a corpus in which emotions are pitches: easy even for tiny models."""
    from clepdg_lib.corpora import Corpus

    draw = np.random.default_rng(seed)
    rows = []
    for domain in domains:
        for emotion in emotions:
            for k in range(n_each):
                clip = f"{domain}/{emotion}-{k}"
                path = folder / f"{clip}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                pitch = 200.0 * 2.0 ** list(EMOTIONS).index(emotion)
                time = np.arange(16_000) / 16_000
                wave = 0.3 * np.sin(2 * np.pi * pitch * time * draw.uniform(0.9, 1.1))
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
