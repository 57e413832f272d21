"""A CLAP of few random weights, and a corpus of tones: small enough for any test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import ClapTextConfig, ClapTextModel, PreTrainedTokenizerFast

from clepdg_lib.captions import BARE, EMOTIONS, TEMPLATES, WORDS
from clepdg_lib.clap import Clap
from clepdg_lib.corpora import Corpus
from clepdg_lib.towers import TextTower, WhisperTower

WIDTH, DIM = 32, 16


def make_clap() -> Clap:
    """Make a tiny CLAP; always the same one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = WhisperTower(n_blocks=1, n_positions=100, d_model=WIDTH, n_heads=2)
        tokenizer = _make_tokenizer()
        config = ClapTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            pad_token_id=tokenizer.pad_token_id,
        )
        text = ClapTextModel(config)
        for weight in text.parameters():
            if weight.ndim == 2:  # or all sentences would come out alike
                weight.data *= 8
        return Clap(
            tower,
            TextTower(text, tokenizer),
            audio_projection=torch.nn.Linear(WIDTH, DIM),
            text_projection=torch.nn.Linear(WIDTH, DIM),
            name="tiny",
        )


def make_corpus(folder: Path, *, name: str = "tones", n_each: int = 2) -> Corpus:
    """Write tones in which the pitch is the emotion, and their clips.csv."""
    draw, rows, time = np.random.default_rng(0), [], np.arange(16_000) / 16_000
    folder.mkdir(parents=True, exist_ok=True)
    for k, emotion in enumerate(EMOTIONS):
        for i in range(n_each):
            path, split = folder / f"{emotion}-{i}.wav", ("train", "test")[i % 2]
            pitch = 200.0 * 2.0**k * draw.uniform(0.9, 1.1)
            wave = 0.3 * np.sin(2 * np.pi * pitch * time)
            wave += 0.003 * draw.standard_normal(len(time))
            soundfile.write(path, wave.astype(np.float32), 16_000)
            row = {"path": str(path), "clip": path.stem, "emotion": emotion}
            rows.append(row | {"speaker": f"{name}-{split}", "split": split})
    clips = pd.DataFrame(rows).assign(corpus=name, domain=name, language="en")
    clips = clips.assign(sex="", text="")
    clips.to_csv(folder / "clips.csv", index=False)
    return Corpus(name, clips)


def _make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the words of the captions."""
    sentences = [BARE, *TEMPLATES, *(w for level in WORDS.values() for w in level)]
    words = sorted({word for s in sentences for word in s.replace(",", " ").split()})
    names = ["<s>", "<pad>", "</s>", "<unk>", *words]
    vocabulary = {name: i for i, name in enumerate(names)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=62,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
