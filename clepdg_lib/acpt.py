"""Learn what a place sounds like from words alone.

An acoustic context is a few trainable token vectors standing where the words
"in a noisy café" would stand. Nothing here hears audio; the text tower is frozen.
The idea of acoustic context prompt tuning (ACPT) is the paper's, known to us from
its abstract; the losses are those of its closest published relative, PromptStyler
(Cho et al. 2023, eq. 1-3), with a temperature as a knob. The settings are ours.

Lesson: notebooks/03_tune_acoustic_contexts.ipynb
Shapes: E emotions, K contexts, M tokens per context, L words, D text width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from clepdg_lib.captions import CANONICAL
from clepdg_lib.clap import Clap
from clepdg_lib.contexts import (
    AcousticContexts,
    append_contexts,
    contexts_from_words,
    embed_behind,
    embed_contexts,
    random_contexts,
)

__all__ = [
    "BARE",
    "SCHEDULES",
    "AcousticContexts",
    "append_contexts",
    "contexts_from_words",
    "embed_contexts",
    "random_contexts",
    "tune_contexts",
]

BARE = "this person is speaking"  # the sentence without a feeling in it
SCHEDULES = ("joint", "sequential")


def tune_contexts(
    clap: Clap,
    emotions: Sequence[str],
    *,
    n_contexts: int = 16,
    n_tokens: int = 4,
    steps: int = 40,
    learning_rate: float = 0.02,
    temperature: float = 0.1,
    diversity: float = 1.0,
    consistency: float = 1.0,
    schedule: str = "joint",
    n_drawn: int | None = 1,
    init: AcousticContexts | None = None,
    template: str = CANONICAL,
    seed: int = 0,
    progress: bool = True,
) -> AcousticContexts:
    """Tune contexts to differ from each other while each emotion stays itself.

    Diversity (PromptStyler's style loss) is the mean |cosine| between what different
    contexts do to a sentence without feeling; consistency (its content loss) is the
    cross-entropy of recognising, from "emotion in context", the bare emotion.

    Args:
        clap: A CLEP, usually. Its text tower is used and not changed.
        emotions: E labels.
        n_contexts: K.
        n_tokens: M tokens each.
        steps: Updates (for each context in turn if the schedule is sequential).
        learning_rate: Adam's, in units of the token table's spread.
        temperature: Cosines are divided by it; 1 is PromptStyler's, nearly flat.
        diversity: Weight of the first loss.
        consistency: Weight of the second; below 0, contexts are to confuse.
        schedule: "joint" tunes all at once; "sequential" one after the other, each
            away from those before it, as published.
        n_drawn: Emotions that each context stands behind in a step, drawn anew; None
            takes all of them, as published, at several times the cost.
        init: Where to start; default `random_contexts` with this seed.
        template: Sentence that contexts are appended to.
        seed: Of the start.
        progress: Show a bar.

    Returns:
        (K, M, D) contexts with their history.

    Raises:
        ValueError: Fewer than two emotions, an unknown schedule, or sizes that do not
            fit.
    """
    emotions = list(emotions)
    if len(emotions) < 2:
        raise ValueError(f"emotions are {emotions}; there must be two or more")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}; valid are {SCHEDULES}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    if not 0 < learning_rate < math.inf or steps < 0:
        raise ValueError(
            f"learning_rate is {learning_rate} and steps {steps}; they must be above "
            "0, and 0 or more"
        )
    n_drawn = len(emotions) if n_drawn is None else n_drawn
    if not 1 <= n_drawn <= len(emotions):
        raise ValueError(
            f"n_drawn is {n_drawn}; it must be None or from 1 to {len(emotions)}, the "
            "number of emotions"
        )
    start = init or random_contexts(
        clap, n_contexts=n_contexts, n_tokens=n_tokens, template=template, seed=seed
    )
    spread = clap.model.text_model.get_input_embeddings().weight.detach().float().std()
    plain = clap.embed_text([template.format(emotion=e) for e in emotions])
    bare = clap.embed_text([BARE])
    sentences = [BARE, *(template.format(emotion=e) for e in emotions)]
    words, mask = clap.token_embeddings(sentences)
    draws = torch.Generator().manual_seed(seed)
    tuner = _Tuner(clap, words, mask, plain, bare, temperature, n_drawn, draws)
    # In units of the table's spread, so that one learning rate suits every model.
    free = (start.vectors / spread.cpu()).clone()
    groups = [range(len(free))]
    if schedule == "sequential":
        groups = [range(k, k + 1) for k in range(len(free))]
    history: list[dict[str, float]] = []
    bar = tqdm(
        total=steps * len(groups), desc="tuning", unit="step", disable=not progress
    )
    # An outer autocast, though it casts nothing, keeps what is cast inside: weights,
    # which nobody moves here, are brought to bfloat16 once and not in every step.
    with torch.autocast(clap.device.type, torch.bfloat16, enabled=False):
        for group in groups:
            moving = free[group.start : group.stop].clone().requires_grad_(True)
            optimiser = torch.optim.Adam([moving], lr=learning_rate)
            with torch.no_grad():
                earlier = tuner.shifts(free[: group.start] * spread.cpu())
            for _ in range(steps):
                unlike, agreement = tuner.losses(moving * spread.cpu(), earlier)
                loss = diversity * unlike + consistency * agreement
                if not torch.isfinite(loss):
                    raise ValueError(
                        f"the tuning ran away in step {len(history) + 1}: its loss is "
                        f"{float(loss.detach())} at temperature {temperature} and "
                        f"learning_rate {learning_rate}: raise the one or lower the "
                        "other"
                    )
                # Not loss.backward(): that would leave gradients in the frozen tower.
                (moving.grad,) = torch.autograd.grad(loss, [moving])
                optimiser.step()
                history.append(
                    {
                        "step": len(history) + 1,
                        "diversity": float(unlike.detach()),
                        "consistency": float(agreement.detach()),
                        "loss": float(loss.detach()),
                    }
                )
                bar.update()
            free[group.start : group.stop] = moving.detach()
    bar.close()
    return AcousticContexts(free * spread.cpu(), template, pd.DataFrame(history))


@dataclass
class _Tuner:
    clap: Clap
    words: torch.Tensor  # (1 + E, L, D) of the bare sentence, then of the emotions'
    mask: torch.Tensor  # (1 + E, L)
    plain: torch.Tensor  # (E, dim)
    bare: torch.Tensor  # (1, dim)
    temperature: float
    n_drawn: int
    draws: torch.Generator

    def shifts(self, vectors: torch.Tensor) -> torch.Tensor:
        """What contexts do to the bare sentence: (K, dim) unit directions."""
        if len(vectors) == 0:
            return torch.zeros(0, self.bare.shape[1])
        moved = append_contexts(self.clap, [BARE], vectors, precision="auto")
        moved = moved[:, 0].cpu()
        return F.normalize(moved - self.bare, dim=-1)

    def losses(
        self, vectors: torch.Tensor, earlier: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n_contexts, n_emotions = len(vectors), len(self.plain)
        # (K, n): without repetition, and in order where all are taken.
        order = torch.rand(n_contexts, n_emotions, generator=self.draws).argsort(dim=1)
        labels = order[:, : self.n_drawn].sort(dim=1).values
        behind = F.pad(labels + 1, (1, 0)).flatten()  # the bare sentence, then these
        which = torch.arange(n_contexts).repeat_interleave(1 + self.n_drawn)
        found = embed_behind(
            *(self.clap, self.words[behind], self.mask[behind], vectors[which], "auto")
        )
        found = found.cpu().view(n_contexts, 1 + self.n_drawn, -1)
        shift = F.normalize(found[:, 0] - self.bare, dim=-1)  # (k, dim)
        within = (shift @ shift.T).abs()
        pairs = within.sum() - within.diagonal().sum()
        count = len(shift) * (len(shift) - 1)
        across = (shift @ earlier.T).abs()
        diversity = (pairs + across.sum()) / max(1, count + across.numel())
        logits = found[:, 1:].flatten(0, 1) @ self.plain.T / self.temperature
        return diversity, F.cross_entropy(logits, labels.flatten())
