"""Whole models of few random weights, and a corpus of tones, for tests."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from clepdg_lib import captions
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import Clap
from clepdg_lib.corpora import Corpus
from clepdg_lib.towers import HtsatTower, TextTower, WhisperTower

DIM, MAX_TOKENS = 16, 62
PLACES = "in a quiet studio with rain in the background heard from a large hall"


@contextmanager
def odd_torch():
    """Set torch to other numbers, to a device that holds none, and to inference."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        with torch.inference_mode():
            yield
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)


def word_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer of the captions' words; all others are the same unknown word."""
    sentences = [s for emotion in EMOTIONS for s in captions.emotion_sentences(emotion)]
    text = " ".join([*sentences, captions.BARE, PLACES]).replace(",", " ,")
    names = ["<s>", "<pad>", "</s>", "<unk>", *sorted(set(text.split()))]
    vocabulary = {name: i for i, name in enumerate(names)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=MAX_TOKENS,
        **{f"{name}_token": token for name, token in special.items()},
    )


def laion_parts(sample_rate: int = 48_000):
    """A tiny `transformers.ClapModel`, its tokenizer and its extractor."""
    tokenizer = word_tokenizer()
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "intermediate_size": 64}
    text |= {"max_position_embeddings": MAX_TOKENS + 2, "projection_dim": DIM}
    sound = {"spec_size": 128, "num_mel_bins": 64, "patch_size": 8, "window_size": 4}
    sound |= {"patch_stride": [8, 8], "patch_embeds_hidden_size": 16}
    sound |= {"depths": [1, 1, 1], "num_attention_heads": [1, 2, 4]}
    sound |= {"num_hidden_layers": 3, "hidden_size": 64, "projection_dim": DIM}
    sizes = {"text_config": text, "audio_config": sound, "projection_dim": DIM}
    extractor = transformers.ClapFeatureExtractor(
        sampling_rate=sample_rate,
        hop_length=sample_rate * 3 // 250,
        max_length_s=3,
        frequency_max=sample_rate // 2,
        truncation="rand_trunc",
        padding="repeatpad",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.ClapModel(transformers.ClapConfig(**sizes)).eval()
    for weight in model.text_model.parameters():
        if weight.ndim == 2:  # or all sentences would come out alike
            weight.data *= 8
    return model, tokenizer, extractor


def tiny_clap(kind: str = "whisper", *, sample_rate: int = 48_000) -> Clap:
    """A CLAP with random weights and a Whisper or an HTSAT tower; always the same."""
    model, tokenizer, extractor = laion_parts(sample_rate)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tower = HtsatTower(model.audio_model, extractor)
        if kind == "whisper":
            sizes = {"n_blocks": 1, "n_positions": 100, "d_model": 32, "n_heads": 2}
            tower = WhisperTower(**sizes)
        return Clap(
            tower,
            TextTower(model.text_model, tokenizer),
            audio_projection=torch.nn.Linear(tower.width, DIM),
            text_projection=model.text_projection,
            name="tiny",
        )


class BagOfWords(TextTower):
    """A sentence is the sum of its words."""

    def forward(self, vectors, mask):
        return (vectors * mask[..., None]).sum(dim=1)


def word_clap() -> Clap:
    """A CLAP whose text tower knows the words for emotions, and sums them up."""
    clap = tiny_clap()
    tower = BagOfWords(clap.text_tower.model, clap.text_tower.tokenizer)
    draw = torch.Generator().manual_seed(2)
    tower.table.copy_(torch.randn(tower.table.shape, generator=draw))
    for emotion in EMOTIONS:
        direction = 6 * torch.randn(tower.width, generator=draw)
        for word in " ".join([emotion, *captions.WORDS[emotion]]).split():
            tower.table[tower.tokenizer.convert_tokens_to_ids(word)] += direction
    clap.text_tower = tower
    clap.text_projection = torch.nn.Linear(tower.width, DIM, bias=False)
    torch.nn.init.orthogonal_(clap.text_projection.weight, generator=draw)
    return clap.requires_grad_(False)


def tone_corpus(
    folder: Path, *, name: str = "tones", n_each: int = 2, sample_rate: int = 16_000
):
    """Write a `Corpus` in which emotions are pitches: easy even for tiny models."""
    draw, rows = np.random.default_rng(0), []
    time = np.arange(sample_rate // 2) / sample_rate
    for i, emotion in enumerate(EMOTIONS):
        for k in range(n_each):
            path = folder / f"{emotion}-{k}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            wave = 0.3 * np.sin(2 * np.pi * 200 * 2**i * time * draw.uniform(0.9, 1.1))
            wave += 0.003 * draw.standard_normal(len(time))
            soundfile.write(path, wave.astype(np.float32), sample_rate)
            split = ("train", "test")[k % 2]
            row = {"path": str(path), "clip": path.stem, "emotion": emotion}
            row |= {"split": split, "speaker": f"{name}-{split}", "language": "en"}
            rows.append({"corpus": name, "domain": "", "sex": "", "text": "", **row})
    return Corpus(name, pd.DataFrame(rows))
