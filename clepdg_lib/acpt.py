"""Acoustic context prompt tuning: contexts that stand for places, learned from words.

A context is M token vectors behind a sentence, where "in a noisy café" would stand.
`PlaceMap` learns what words say of a place does to features; `tune_contexts` tunes
contexts on text and that map; `ContextAugmentation` bends features while CLEP learns.
Shapes: E emotions, K contexts, M tokens each, C captions, P pairs, D features' width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from clepdg_lib.captions import BARE, CANONICAL, check_emotions
from clepdg_lib.clap import Clap
from clepdg_lib.files import read_arrays, write_arrays

PART = 64  # contexts that are embedded at once


@dataclass(frozen=True)
class AcousticContexts:
    """Learned (or random) contexts."""

    vectors: Tensor  # (K, M, D) float32 token vectors
    template: str = CANONICAL  # the sentence that they are appended to
    history: pd.DataFrame = field(default_factory=pd.DataFrame)  # a row a step

    def __len__(self) -> int:
        return len(self.vectors)

    def save(self, path: str | Path) -> None:
        """Write the vectors as an npz without pickles, whole or not at all."""
        path = Path(path).expanduser()
        if path.suffix != ".npz":  # as np.savez names it
            path = path.with_name(f"{path.name}.npz")
        vectors = self.vectors.detach().cpu().numpy()
        write_arrays(path, vectors=vectors, template=np.array(self.template))

    @classmethod
    def load(cls, path: str | Path) -> AcousticContexts:
        """Read what `save` wrote; a `ValueError` says what is wrong with another."""
        arrays = read_arrays(path, names=("vectors", "template"))
        vectors = torch.from_numpy(arrays["vectors"])
        floats = vectors.ndim == 3 and vectors.is_floating_point()
        if not floats or not vectors.isfinite().all():
            kind = f"{vectors.dtype} of shape {tuple(vectors.shape)}"
            raise ValueError(f"{path} holds {kind}; contexts are finite (K, M, D)")
        return cls(vectors.float(), str(arrays["template"]))


def random_contexts(
    clap: Clap,
    *,
    n_contexts: int = 16,
    n_tokens: int = 8,
    scale: float = 1.0,
    template: str = CANONICAL,
    seed: int = 0,
) -> AcousticContexts:
    """Draw contexts and leave them untrained: the control for every claim on ACPT.

    Their entries vary as the token table's do, times `scale`.
    """
    if n_contexts < 1 or n_tokens < 1:
        raise ValueError(f"{n_contexts=} and {n_tokens=} must both be 1 or more")
    table = clap.text_tower.table.detach().float().cpu()
    generator = torch.Generator().manual_seed(seed)
    shape = (n_contexts, n_tokens, table.shape[1])
    vectors = table.std() * scale * torch.randn(shape, generator=generator)
    return AcousticContexts(vectors, template)


def contexts_from_words(
    clap: Clap, phrases: Sequence[str], *, n_tokens: int = 8, template: str = CANONICAL
) -> AcousticContexts:
    """Start contexts from phrases: their first M tokens, repeated if they are fewer."""
    rows = []
    for phrase in [phrases] if isinstance(phrases, str) else phrases:
        words, mask = clap.token_embeddings([phrase])
        inside = words[0, 1 : int(mask[0].sum()) - 1].cpu()  # no start, no end
        rows.append(inside[torch.arange(n_tokens) % len(inside)])
    return AcousticContexts(torch.stack(rows), template)


def append_contexts(clap: Clap, sentences: Sequence[str], vectors: Tensor) -> Tensor:
    """Put each context behind each sentence and embed, with gradients.

    For S sentences and vectors (K, M, D), returns unit rows (K, S, dim). A context
    stands behind the last word and before the end token; padding goes on.
    """
    words, mask = clap.token_embeddings(list(sentences))  # (S, L, D), (S, L)
    n_contexts, n_tokens = vectors.shape[:2]
    which = torch.arange(n_contexts).repeat_interleave(len(words))
    words, mask = words.repeat(n_contexts, 1, 1), mask.repeat(n_contexts, 1)
    end = mask.sum(dim=1, keepdim=True) - 1  # (KS, 1), where the end token was
    place = torch.arange(words.shape[1] + n_tokens, device=words.device)
    inside = place - end + words.shape[1]  # among the words, then the context's tokens
    source = torch.where(place < end + n_tokens, inside, place - n_tokens)
    source = torch.where(place < end, place, source)
    both = torch.cat([words, vectors.to(words)[which]], dim=1)  # (KS, L + M, D)
    tokens = both.gather(1, source[:, :, None].expand_as(both))
    longer = (place <= end + n_tokens).to(mask.dtype)
    return clap.embed_tokens(tokens, longer).view(n_contexts, -1, clap.dim)


def embed_contexts(
    clap: Clap, contexts: AcousticContexts, emotions: Sequence[str]
) -> Tensor:
    """Embed every emotion in every context: (K, E, dim) unit rows, no gradients."""
    sentences = [contexts.template.format(emotion=e) for e in emotions]
    with torch.no_grad():  # in parts: a thousand contexts at once would want gigabytes
        parts = contexts.vectors.split(PART)
        return torch.cat([append_contexts(clap, sentences, p).cpu() for p in parts])


def text_shifts(clap: Clap, places: AcousticContexts | Sequence[str]) -> Tensor:
    """What contexts or phrases add to the bare sentence: tau, (K, dim)."""
    if isinstance(places, AcousticContexts):
        moved = embed_contexts(clap, AcousticContexts(places.vectors, BARE), [""])[:, 0]
    else:
        places = [places] if isinstance(places, str) else places
        moved = clap.embed_text([f"{BARE} {phrase}" for phrase in places])
    return moved - clap.embed_text([BARE])


class PlaceMap(nn.Module):
    r"""G(z, tau): what a place, named by a text shift, does to features.

    In features standardised by the clean clips, with s and b linear,
    :math:`G(z, \tau) = z + s(\tau) \odot z + b(\tau) + \mathrm{MLP}([z, \tau])`.
    """

    def __init__(self, width: int, dim: int, *, hidden: int = 128) -> None:
        super().__init__()
        self.film = nn.Linear(dim, 2 * width)
        self.hidden = nn.Linear(width + dim, hidden)
        self.out = nn.Linear(hidden, width)
        for layer in (self.film, self.out):  # at its start, G changes nothing
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.mean, self.deviation = torch.zeros(width), torch.ones(width)
        self.residuals = torch.zeros(1, width)  # of the pairs, standardised

    def move(self, z: Tensor, tau: Tensor) -> Tensor:
        """G(z, tau) - z for standardised features: (n, D), (n, dim) -> (n, D)."""
        tau = tau * tau.shape[1] ** 0.5  # entries of about 1
        scale, shift = self.film(tau).chunk(2, dim=-1)
        mixed = self.out(F.gelu(self.hidden(torch.cat([z, tau], dim=-1))))
        return scale * z + shift + mixed

    def forward(self, features: Tensor, tau: Tensor) -> Tensor:
        """G for features in the tower's units: (n, D), (n, dim) -> (n, D)."""
        z = (features - self.mean) / self.deviation
        return features + self.move(z, tau) * self.deviation


def fit_place_map(
    tau: Tensor,
    clean: Tensor,
    placed: Tensor,
    *,
    steps: int = 100,
    learning_rate: float = 4e-3,
    seed: int = 0,
) -> PlaceMap:
    """Learn G by least squares from unlabelled pairs of features.

    Args:
        tau: (P, dim) `text_shifts` of the pairs' captions.
        clean: (P, D) features of clips as recorded.
        placed: (P, D) features of the same clips in the places of the captions.
        steps: Updates, on 256 pairs each.
        learning_rate: AdamW's, falling to zero by a cosine.
        seed: Of weights and batches.
    """
    sizes = [len(tau), len(clean), len(placed)]
    if len(set(sizes)) > 1 or not sizes[0]:
        given = "{} captions, {} clean and {} placed clips".format(*sizes)
        raise ValueError(f"{given}; give one of each for every pair, at least one")
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        place_map = PlaceMap(clean.shape[1], tau.shape[1])
    place_map.mean = clean.mean(dim=0)
    place_map.deviation = clean.std(dim=0, correction=0) + 1e-6
    z = (clean - place_map.mean) / place_map.deviation
    moves = (placed - clean) / place_map.deviation
    optimizer = torch.optim.AdamW(
        place_map.parameters(), lr=learning_rate, weight_decay=0.05, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    with torch.enable_grad():
        for _ in range(steps):
            rows = torch.randint(len(tau), (256,), generator=draw)
            loss = F.mse_loss(place_map.move(z[rows], tau[rows]), moves[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    place_map.requires_grad_(False).eval()
    place_map.residuals = moves - place_map.move(z, tau)
    return place_map


@dataclass(frozen=True)
class ContextAugmentation:
    """Bend clean features as contexts say: z + a (G(z, tau_k) - z)."""

    place_map: PlaceMap  # G
    tau: Tensor  # (K, dim) text shifts of the contexts; one is drawn for each clip
    amplitude: float = 1.5  # a is uniform from 0 to this
    residual_bank: bool = False  # add real residuals of G's pairs: audio at work

    def __call__(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Bend features: (n, D) -> (n, D)."""
        n = len(features)
        which = torch.randint(len(self.tau), (n,), generator=generator)
        move = self.place_map(features, self.tau[which]) - features
        if self.residual_bank:
            bank = self.place_map.residuals
            rows = torch.randint(len(bank), (n,), generator=generator)
            move = move + bank[rows] * self.place_map.deviation
        return features + self.amplitude * torch.rand(n, 1, generator=generator) * move


def tune_contexts(
    clap: Clap,
    emotions: Sequence[str],
    *,
    captions: Sequence[str] | None = None,
    caption_shifts: Tensor | None = None,
    place_map: PlaceMap | None = None,
    n_contexts: int = 16,
    n_tokens: int = 8,
    steps: int = 25,
    learning_rate: float = 0.05,
    cover: float = 1.0,
    consistency: float = 0.1,
    diversity: float = 0.02,
    kappa: float = 100.0,
    temperature: float = 0.1,
    init: AcousticContexts | None = None,
    template: str = CANONICAL,
    seed: int = 0,
    progress: bool = True,
) -> AcousticContexts:
    r"""Tune contexts on text alone: cover places, keep emotions, differ in sound.

    With T the text embedding, B the sentence "this person is speaking" and
    tau(x) = T(B + x) - T(B), for contexts v_k, captions c and emotions e:

    .. math::
        L_{cover} &= -\frac{1}{C \kappa} \sum_c \log \frac1K \sum_k
            e^{\kappa \cos(\tau(v_k), \tau(c))} \\
        L_{consistency} &= -\frac1{KE} \sum_{k,e} \log
            \frac{e^{\cos(T(e + v_k), T(e)) / t}}
                 {\sum_{e'} e^{\cos(T(e + v_k), T(e')) / t}} \\
        L_{diversity} &= \frac{2}{K(K-1)} \sum_{k<l} |\cos(D_k, D_l)|, \quad
            D_k = G(\bar z, \tau(v_k)) - \bar z

    The idea is the paper's, known to us from its abstract; diversity and consistency
    follow PromptStyler (Cho et al. 2023, eq. 1-3). The settings are ours. Without
    captions there is no cover loss: contexts are then tuned as published.

    Args:
        clap: A CLAP or CLEP; its text tower is used and not changed.
        emotions: E labels; each step draws one.
        captions: C phrases for places.
        caption_shifts: Their (C, dim) `text_shifts`, if they are known.
        place_map: G; without it, D_k is tau(v_k) itself.
        n_contexts: K, at most C.
        n_tokens: M tokens each.
        steps: Updates.
        learning_rate: Adam's, in units of the token table's spread.
        cover, consistency, diversity: Weights of the losses.
        kappa: Sharpness of the cover loss: large counts the nearest context alone.
        temperature: t.
        init: Where to start; default the phrases nearest to K cluster centres of the
            captions, or `random_contexts`.
        template: Sentence that contexts are appended to.
        seed: Of the start and of the emotions drawn.
        progress: Show a bar.

    Returns:
        Contexts whose history has step, cover, consistency, diversity and loss.
    """
    emotions = check_emotions(emotions)
    settings = {"kappa": kappa, "temperature": temperature, "steps": steps + 1}
    for name, value in {**settings, "learning_rate": learning_rate}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; it must be finite and positive")
    targets = None
    if captions is not None:
        captions = [captions] if isinstance(captions, str) else list(captions)
        if caption_shifts is None:
            captions = list(dict.fromkeys(captions))
            caption_shifts = text_shifts(clap, captions)
        targets = caption_shifts
        if n_contexts > len(captions):
            few = f"only {len(captions)} different captions to cover"
            raise ValueError(f"{n_contexts=}, but {few}; tune fewer or give more")
        if init is None:
            phrases = central_captions(captions, targets, n_contexts, seed=seed)
            init = contexts_from_words(clap, phrases, n_tokens=n_tokens)
    if init is None:
        init = random_contexts(
            clap, n_contexts=n_contexts, n_tokens=n_tokens, seed=seed
        )
    # In units of the table's spread, so that one learning rate suits every model.
    spread = clap.text_tower.table.detach().float().std().cpu()
    plain = clap.embed_text([template.format(emotion=e) for e in emotions])
    bare = clap.embed_text([BARE])
    draw = torch.Generator().manual_seed(seed)
    moving = (init.vectors / spread).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([moving], lr=learning_rate)
    history: list[dict[str, float]] = []
    with torch.enable_grad():
        for step in tqdm(range(steps), desc="tuning", disable=not progress):
            drawn = int(torch.randint(len(emotions), (), generator=draw))
            sentences = [BARE, template.format(emotion=emotions[drawn])]
            embedded = append_contexts(clap, sentences, moving * spread).cpu()
            tau = moves = embedded[:, 0] - bare  # (K, dim)
            if place_map is not None:  # what contexts do to the mean clip
                moves = place_map.move(torch.zeros(len(tau), clap.width), tau)
            logits = embedded[:, 1] @ plain.T / temperature
            losses = {
                "cover": torch.zeros(()),
                "consistency": F.cross_entropy(logits, torch.full((len(tau),), drawn)),
                "diversity": diversity_loss(moves),
            }
            if targets is not None:
                losses["cover"] = cover_loss(tau, targets, kappa=kappa)
            weights = zip((cover, consistency, diversity), losses.values(), strict=True)
            loss = sum(weight * each for weight, each in weights)
            if not torch.isfinite(loss):
                cure = f"raise {temperature=} or lower {learning_rate=}"
                raise ValueError(f"tuning diverged in step {step + 1}; {cure}")
            # Not loss.backward(): that would leave gradients in the frozen tower.
            (moving.grad,) = torch.autograd.grad(loss, [moving])
            optimizer.step()
            values = {name: part.item() for name, part in losses.items()}
            history.append({"step": step + 1, **values, "loss": loss.item()})
    return AcousticContexts(moving.detach() * spread, template, pd.DataFrame(history))


def cover_loss(tau: Tensor, targets: Tensor, *, kappa: float) -> Tensor:
    """Every caption's shift (C, dim) has a context's shift (K, dim) near it."""
    cosines = F.normalize(targets, dim=-1) @ F.normalize(tau, dim=-1).T  # (C, K)
    soft = (kappa * cosines).logsumexp(dim=1) - math.log(len(tau))
    return -soft.mean() / kappa


def diversity_loss(moves: Tensor) -> Tensor:
    """Mean |cosine| between different rows of (K, D)."""
    unit, n = F.normalize(moves, dim=-1), len(moves)
    cosines = (unit @ unit.T).abs()
    return (cosines.sum() - cosines.diagonal().sum()) / max(1, n * (n - 1))


def central_captions(
    captions: Sequence[str], shifts: Tensor, n: int, *, seed: int = 0
) -> list[str]:
    """The captions nearest to n cluster centres of all captions' shifts (C, dim)."""
    points = F.normalize(shifts, dim=-1).numpy()
    kmeans = KMeans(n, n_init=1, random_state=seed).fit(points)
    return [captions[i] for i in kmeans.transform(points).argmin(axis=0)]
