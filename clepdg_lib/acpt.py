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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from clepdg_lib.arrays import read_arrays, write_arrays
from clepdg_lib.captions import CANONICAL
from clepdg_lib.clap import Clap
from clepdg_lib.trainer import fast_precision

BARE = "this person is speaking"  # the sentence without a feeling in it
SCHEDULES = ("joint", "sequential")
PART = 64  # contexts that are embedded at once


@dataclass(frozen=True)
class AcousticContexts:
    """Learned (or random) contexts.

    Attributes:
        vectors: (K, M, D) float32 token vectors.
        template: The sentence with ``{emotion}`` that contexts are appended to.
        history: One row per step: step, diversity, consistency, loss.
    """

    vectors: torch.Tensor
    template: str = CANONICAL
    history: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __len__(self) -> int:
        return len(self.vectors)

    def save(self, path: str | Path) -> None:
        """Write the vectors as an npz without pickles, whole or not at all.

        Raises:
            WriteError: Disk full, folder read-only, or the like.
        """
        path = Path(path)
        if path.suffix != ".npz":  # as np.savez names it
            path = path.with_name(f"{path.name}.npz")
        vectors = self.vectors.detach().cpu().numpy()
        write_arrays(path, vectors=vectors, template=np.array(self.template))

    @classmethod
    def load(cls, path: str | Path) -> AcousticContexts:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is none of those, damaged, or not finite.
        """
        arrays = read_arrays(path, names=("vectors", "template"))
        vectors = torch.from_numpy(arrays["vectors"])
        if vectors.ndim != 3 or not vectors.is_floating_point():
            raise ValueError(
                f"{path} holds vectors of shape {tuple(vectors.shape)} and type "
                f"{vectors.dtype}; contexts are floats (K, M, D)"
            )
        if not torch.isfinite(vectors).all():
            raise ValueError(f"{path} holds NaN or infinite vectors; tune them again")
        return cls(vectors.float(), str(arrays["template"]))


def random_contexts(
    clap: Clap,
    *,
    n_contexts: int = 16,
    n_tokens: int = 4,
    scale: float = 1.0,
    template: str = CANONICAL,
    seed: int = 0,
) -> AcousticContexts:
    """Draw contexts and leave them untrained: the control for every claim on ACPT.

    Args:
        clap: Whose token table gives the spread.
        n_contexts: K.
        n_tokens: M.
        scale: Standard deviation of a vector's entries, in those of the token table.
            PromptStyler draws at 0.02, about half the spread of its table.
        template: Sentence that contexts are appended to.
        seed: Of the draw.
    """
    if n_contexts < 1 or n_tokens < 1:
        raise ValueError(
            f"n_contexts is {n_contexts} and n_tokens {n_tokens}; both must be 1 or "
            "more"
        )
    table = clap.model.text_model.get_input_embeddings().weight.detach().float().cpu()
    generator = torch.Generator().manual_seed(seed)
    shape = (n_contexts, n_tokens, table.shape[1])
    vectors = table.std() * scale * torch.randn(shape, generator=generator)
    return AcousticContexts(vectors, template)


def contexts_from_words(
    clap: Clap, phrases: Sequence[str], *, n_tokens: int = 4, template: str = CANONICAL
) -> AcousticContexts:
    """Start contexts from phrases: their first M tokens, repeated if they are fewer."""
    rows = []
    for phrase in phrases:
        words, mask = clap.token_embeddings([phrase])
        inside = words[0, 1 : int(mask[0].sum()) - 1].detach().cpu()  # no markers
        rows.append(inside[torch.arange(n_tokens) % len(inside)])
    return AcousticContexts(torch.stack(rows), template)


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
    start = init or random_contexts(
        clap, n_contexts=n_contexts, n_tokens=n_tokens, template=template, seed=seed
    )
    spread = clap.model.text_model.get_input_embeddings().weight.detach().float().std()
    plain = clap.embed_text([template.format(emotion=e) for e in emotions])
    bare = clap.embed_text([BARE])
    tuner = _Tuner(clap, emotions, template, plain, bare, temperature, consistency)
    # In units of the table's spread, so that one learning rate suits every model.
    free = (start.vectors / spread.cpu()).clone()
    groups = [range(len(free))]
    if schedule == "sequential":
        groups = [range(k, k + 1) for k in range(len(free))]
    history: list[dict[str, float]] = []
    bar = tqdm(
        total=steps * len(groups), desc="tuning", unit="step", disable=not progress
    )
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
                    f"learning_rate {learning_rate}: raise the one or lower the other"
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


def embed_contexts(
    clap: Clap, contexts: AcousticContexts, emotions: Sequence[str]
) -> torch.Tensor:
    """Embed every emotion in every context: (K, E, dim) unit rows, no gradients."""
    sentences = [contexts.template.format(emotion=e) for e in emotions]
    with torch.no_grad():
        # In parts: a thousand contexts at once would want gigabytes.
        parts = contexts.vectors.split(PART)
        return torch.cat([append_contexts(clap, sentences, p).cpu() for p in parts])


def append_contexts(
    clap: Clap,
    sentences: Sequence[str],
    vectors: torch.Tensor,
    *,
    precision: str = "float32",
) -> torch.Tensor:
    """Put each context behind each sentence and embed: (K, S, dim), with gradients.

    Args:
        clap: The model.
        sentences: S sentences.
        vectors: (K, M, D).
        precision: As in `trainer.Recipe`; less is enough for tuning.
    """
    words, mask = clap.token_embeddings(list(sentences))  # (S, L, D), (S, L)
    vectors = vectors.to(words)
    n_contexts, n_tokens, width = vectors.shape
    rows, masks = [], []
    for s in range(len(sentences)):
        n = int(mask[s].sum())
        # (1, n-1, D) start and words | (K, M, D) context | (1, 1, D) end
        head = words[s, : n - 1].expand(n_contexts, -1, -1)
        end = words[s, n - 1 : n].expand(n_contexts, -1, -1)
        rest = words[s, n:].expand(n_contexts, -1, -1)  # padding
        rows.append(torch.cat([head, vectors, end, rest], dim=1))
        ones = torch.ones(n + n_tokens, dtype=mask.dtype, device=mask.device)
        masks.append(torch.cat([ones, mask[s, n:]]).expand(n_contexts, -1))
    tokens = torch.stack(rows, dim=1).flatten(0, 1)  # (K * S, L + M, D)
    fast = fast_precision(clap.device, precision)
    with torch.autocast(clap.device.type, torch.bfloat16, enabled=fast):
        found = clap.embed_tokens(tokens, torch.stack(masks, dim=1).flatten(0, 1))
    return found.float().view(n_contexts, len(sentences), -1)


@dataclass
class _Tuner:
    clap: Clap
    emotions: list[str]
    template: str
    plain: torch.Tensor  # (E, dim)
    bare: torch.Tensor  # (1, dim)
    temperature: float
    consistency: float

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
        sentences = [self.template.format(emotion=e) for e in self.emotions]
        found = append_contexts(
            self.clap, [BARE, *sentences], vectors, precision="auto"
        ).cpu()
        shift = F.normalize(found[:, 0] - self.bare, dim=-1)  # (k, dim)
        within = (shift @ shift.T).abs()
        pairs = within.sum() - within.diagonal().sum()
        count = len(shift) * (len(shift) - 1)
        across = (shift @ earlier.T).abs()
        diversity = (pairs + across.sum()) / max(1, count + across.numel())
        logits = found[:, 1:].flatten(0, 1) @ self.plain.T / self.temperature
        labels = torch.arange(len(self.emotions)).repeat(len(vectors))
        return diversity, F.cross_entropy(logits, labels)
