"""How much faster contexts are tuned all at once than as published.

PromptStyler (Cho et al. 2023, algorithm 1) learns one style after the other, each away
from those before it, with every class in every step. That schedule is written down
here in plain transformers, in float32 as they come, and timed beside `tune_contexts`
at the same number of contexts, tokens and steps for each context.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from clepdg_lib.acpt import BARE, AcousticContexts, random_contexts, tune_contexts
from clepdg_lib.captions import CANONICAL
from clepdg_lib.clap import Clap, embed_corpus, load_clap
from clepdg_lib.corpora import load_corpus
from clepdg_lib.evaluation import uar
from clepdg_lib.transfer import fit_text_classifier

REPEATS = 5


def tune_as_published(
    clap: Clap,
    emotions: Sequence[str],
    *,
    n_contexts: int = 16,
    n_tokens: int = 4,
    steps: int = 40,
    learning_rate: float = 0.02,
    temperature: float = 0.1,
    seed: int = 0,
) -> AcousticContexts:
    """Tune one context after the other, by transformers alone; see `tune_contexts`."""
    start = random_contexts(clap, n_contexts=n_contexts, n_tokens=n_tokens, seed=seed)
    spread = clap.model.text_model.get_input_embeddings().weight.detach().std()
    sentences = [BARE, *(CANONICAL.format(emotion=e) for e in emotions)]
    words, mask = clap.token_embeddings(sentences)
    ends = mask.sum(dim=1).tolist()
    filled = torch.cat([torch.ones(len(words), n_tokens), mask], dim=1)
    targets = clap.embed_text(sentences)
    labels = torch.arange(len(emotions))

    def embed(context: torch.Tensor) -> torch.Tensor:
        rows = [
            torch.cat([row[: end - 1], context, row[end - 1 :]])
            for row, end in zip(words, ends, strict=True)
        ]
        hidden = clap.model.text_model(
            inputs_embeds=torch.stack(rows), attention_mask=filled
        )
        return F.normalize(clap.model.text_projection(hidden.pooler_output), dim=-1)

    done, shifts = [], []
    for vectors in start.vectors:
        moving = (vectors / spread).clone().requires_grad_(True)
        optimiser = torch.optim.Adam([moving], lr=learning_rate)
        for _ in range(steps):
            found = embed(moving * spread)
            shift = F.normalize(found[0] - targets[0], dim=0)
            near = [(shift @ other).abs() for other in shifts]
            logits = found[1:] @ targets[1:].T / temperature
            loss = F.cross_entropy(logits, labels)
            if near:
                loss = loss + torch.stack(near).mean()
            (moving.grad,) = torch.autograd.grad(loss, [moving])
            optimiser.step()
        done.append(moving.detach() * spread)
        with torch.no_grad():
            shifts.append(F.normalize(embed(done[-1])[0] - targets[0], dim=0))
    return AcousticContexts(torch.stack(done))


def measure_contexts() -> dict[str, float]:
    """Time three ways in turn, one seed after the other, and compare what they give.

    Returns:
        ``contexts_ratio``, the published way's median seconds by those of
        `tune_contexts`; ``contexts_schedule_ratio``, where both schedules go through
        `tune_contexts` with all emotions in every step; and the gain of UAR of the
        first pair on emosynth's test speakers, with its standard error.
    """
    clap, corpus = load_clap("clep-mini"), load_corpus("emosynth")
    heard = embed_corpus(clap, corpus).select(split="test")
    emotions, truth = corpus.emotions, heard.clips["emotion"].tolist()
    quiet = {"progress": False}
    in_turn = {"schedule": "sequential", "n_drawn": None, **quiet}
    ways: dict[str, Callable[[int], AcousticContexts]] = {
        "published": lambda seed: tune_as_published(clap, emotions, seed=seed),
        "ours": lambda seed: tune_contexts(clap, emotions, seed=seed, **quiet),
        "in turn": lambda seed: tune_contexts(clap, emotions, seed=seed, **in_turn),
        "all at once": lambda seed: tune_contexts(
            clap, emotions, seed=seed, n_drawn=None, **quiet
        ),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(REPEATS):
        for name, way in ways.items():
            began = time.perf_counter()
            contexts = way(seed)
            took[name].append(time.perf_counter() - began)
            classifier = fit_text_classifier(clap, emotions, contexts=contexts)
            scores[name].append(uar(truth, classifier.predict(heard.embeddings)))
    seconds = {name: statistics.median(each) for name, each in took.items()}
    pairs = zip(scores["ours"], scores["published"], strict=True)
    gains = [ours - published for ours, published in pairs]
    return {
        "contexts_ratio": seconds["published"] / seconds["ours"],
        "contexts_schedule_ratio": seconds["in turn"] / seconds["all at once"],
        "contexts_uar_gain": statistics.mean(gains),
        "contexts_uar_error": statistics.stdev(gains) / len(gains) ** 0.5,
    }
