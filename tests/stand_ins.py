"""Stand-ins for a model and a corpus, whose answers can be worked out by hand."""

import pandas as pd
import torch
from torch.nn import functional

from clepdg_lib.audio import LogMel
from clepdg_lib.contrast import Recipe
from clepdg_lib.embedding import EmbeddedCorpus
from clepdg_lib.transfer import TextClassifier

WORDS = ("angry", "happy", "neutral", "sad", "telephone")
EMOTIONS = WORDS[:4]
# Long enough to change every weight, and no longer.
BRIEF = Recipe(
    epochs=1,
    batch_size=8,
    learning_rate=1e-3,
    tower_share=1.0,
    probe_steps=0,
    precision="float32",
)


class FakeClap:
    """Texts point along their known words; waves along their brightness."""

    dim = len(WORDS)
    log_mel = LogMel()

    def embed_text(self, texts):
        rows = [[float(word in text) + 0.01 for word in WORDS] for text in texts]
        return functional.normalize(torch.tensor(rows), dim=-1)

    def embed_audio(self, clips, *, sample_rate=16_000):
        rows = []
        for clip in clips:
            level = torch.as_tensor(clip).abs().diff().abs().mean()
            rows.append([1.0, float(level) * 50, 0.2, 0.1, 0.0])
        return functional.normalize(torch.tensor(rows), dim=-1)


class FakeCorpus:
    name = "fake"

    def __init__(self):
        emotions = [EMOTIONS[i % 4] for i in range(24)]
        domains = [("studio", "telephone")[i // 12] for i in range(24)]
        self.clips = pd.DataFrame(
            {
                "path": [f"/x/{i}.ogg" for i in range(24)],
                "clip": [f"clip{i}<b>" for i in range(24)],
                "emotion": emotions,
                "domain": domains,
                "speaker": "s1",
                "corpus": "fake",
                "sex": "",
            }
        )

    def read(self, index):
        return torch.full((800,), 0.01 * (index + 1))

    def embeddings(self):
        rows = torch.zeros(24, len(WORDS))
        for i, (e, d) in enumerate(
            zip(self.clips["emotion"], self.clips["domain"], strict=True)
        ):
            rows[i, WORDS.index(e)] = 1
            rows[i, 4] = 0.5 * (d == "telephone") + 0.001 * i
        return functional.normalize(rows, dim=-1)


def embedded():
    """The fake corpus with its embeddings."""
    corpus = FakeCorpus()
    return EmbeddedCorpus(corpus.embeddings(), corpus.clips, pd.DataFrame())


def voice(seconds: float = 0.5) -> torch.Tensor:
    time = torch.arange(int(16_000 * seconds)) / 16_000
    return 0.2 * torch.sin(2 * torch.pi * 220 * time) * (1 + torch.sin(20 * time))


CLASSIFIER = TextClassifier(EMOTIONS, torch.eye(4, 5))
