"""LAION's CLAP by name: which commit of it, and its shape without its weights.

A name alone would give whatever the hub holds that day; a commit gives one model. All
three hear 48 kHz in windows of ten seconds. `full_size` builds the same shape with
random weights and a tokenizer made on the spot: it understands nothing, and costs
what the real one costs, so that everything can be tried at full size without a network.

Source: Wu et al. 2023; configurations as published with the checkpoints.
Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

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
from clepdg_lib.pretrained import REVISIONS

_TINY = {
    "patch_embeds_hidden_size": 96,
    "depths": [2, 2, 6, 2],
    "num_attention_heads": [4, 8, 16, 32],
    "hidden_size": 768,
}
_BASE = {
    "patch_embeds_hidden_size": 128,
    "depths": [2, 2, 12, 2],
    "num_attention_heads": [4, 8, 16, 32],
    "hidden_size": 1024,
}
SHAPES = {
    "laion/clap-htsat-unfused": {**_TINY, "enable_fusion": False},
    "laion/clap-htsat-fused": {**_TINY, "enable_fusion": True},
    "laion/larger_clap_music_and_speech": {**_BASE, "enable_fusion": False},
}
assert SHAPES.keys() == REVISIONS.keys()


def full_size(name: str = "laion/clap-htsat-unfused", *, seed: int = 0) -> Clap:
    """Build a checkpoint's shape with random weights.

    Args:
        name: One of :data:`SHAPES`.
        seed: Of the weights.

    Raises:
        ValueError: An unknown name.
    """
    if name not in SHAPES:
        raise ValueError(f"unknown shape {name!r}; valid are {list(SHAPES)}")
    sound = {"num_hidden_layers": 4, "window_size": 8, "spec_size": 256, **SHAPES[name]}
    config = ClapConfig(audio_config=sound)  # RoBERTa's text tower is the default
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ClapModel(config)
    fused = sound["enable_fusion"]
    extractor = ClapFeatureExtractor(
        frequency_min=50,
        frequency_max=14_000,
        truncation="fusion" if fused else "rand_trunc",
        padding="repeatpad",
    )
    label = f"random {name.split('/')[-1]}"
    return Clap(model, word_tokenizer(), extractor, name=label)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the captions' own words, with RoBERTa's special tokens."""
    words = {w for s in caption_corpus(n_mixed=0) for w in s.replace(",", " ,").split()}
    names = ["<s>", "<pad>", "</s>", "<unk>", *sorted(words)]
    vocabulary = {name: i for i, name in enumerate(names)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=512,
        **{"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>"},
        **{"sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
    )
