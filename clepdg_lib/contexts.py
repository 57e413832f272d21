"""Acoustic contexts: vectors that stand where the words of a place would stand.

They are drawn at random, taken from words or learned (`acpt`), kept in files, put
behind sentences and embedded with them.

Lesson: notebooks/03_tune_acoustic_contexts.ipynb
Shapes: S sentences, E emotions, K contexts, M tokens each, L words, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clepdg_lib.arrays import read_arrays, write_arrays
from clepdg_lib.captions import CANONICAL
from clepdg_lib.clap import Clap
from clepdg_lib.recipe import fast_precision

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
        precision: As in `recipe.Recipe`; less is enough for tuning.
    """
    words, mask = clap.token_embeddings(list(sentences))  # (S, L, D), (S, L)
    pairs = torch.cartesian_prod(torch.arange(len(vectors)), torch.arange(len(words)))
    which, behind = pairs.T
    found = embed_behind(clap, words[behind], mask[behind], vectors[which], precision)
    return found.view(len(vectors), len(words), -1)


def embed_behind(
    clap: Clap,
    words: torch.Tensor,
    mask: torch.Tensor,
    vectors: torch.Tensor,
    precision: str,
) -> torch.Tensor:
    """Embed n sentences, each with a context: (n, L, D), (n, L), (n, M, D) -> (n, dim).

    A context stands behind the last word and before the end token; padding goes on.
    """
    vectors = vectors.to(words)
    n_places, n_tokens = words.shape[1], vectors.shape[1]
    end = mask.sum(dim=1, keepdim=True) - 1  # (n, 1), where the end token was
    place = torch.arange(n_places + n_tokens, device=words.device)
    inside = place - end + n_places  # among the words, then the context's tokens
    source = torch.where(place < end + n_tokens, inside, place - n_tokens)
    source = torch.where(place < end, place, source)
    both = torch.cat([words, vectors], dim=1)  # (n, L + M, D)
    tokens = both.gather(1, source[:, :, None].expand_as(both))
    longer = (place <= end + n_tokens).to(mask.dtype)
    fast = fast_precision(clap.device, precision)
    with torch.autocast(clap.device.type, torch.bfloat16, enabled=fast):
        return clap.embed_tokens(tokens, longer).float()
