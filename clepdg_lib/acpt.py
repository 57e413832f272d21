"""Acoustic context prompt tuning: contexts that stand for places, learned from words.

A context is M token vectors behind a sentence, where "in a noisy café" would stand.
Shapes: E emotions, K contexts, M tokens each, C captions, P pairs, D features' width.
"""

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

from clepdg_lib.captions import BARE, CANONICAL, check_emotions, emotion_prompts
from clepdg_lib.clap import Clap, check_range, check_rows, pin_defaults, refuse_alike
from clepdg_lib.files import read_arrays, write_arrays

PART = 64  # sentences in contexts that are embedded at once


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
        vectors = self.vectors.detach().cpu().numpy()
        write_arrays(path, vectors=vectors, template=np.array(self.template))

    @classmethod
    def load(cls, path: str | Path) -> "AcousticContexts":
        """Read what `save` wrote; a `ValueError` says what is wrong with another."""
        arrays = read_arrays(path, names=("vectors", "template"))
        vectors = torch.from_numpy(arrays["vectors"]).float()
        if vectors.ndim != 3 or not vectors.isfinite().all():
            shape = f"vectors of shape {tuple(vectors.shape)}"
            raise ValueError(f"{path} holds {shape}; contexts are finite (K, M, D)")
        return cls(vectors, str(arrays["template"]))


@pin_defaults
def random_contexts(
    clap: Clap,
    *,
    n_contexts: int = 16,
    n_tokens: int = 8,
    template: str = CANONICAL,
    seed: int = 0,
) -> AcousticContexts:
    """Draw untrained contexts, a control; entries vary as the token table's do."""
    check_range(least=1, whole=True, n_contexts=n_contexts, n_tokens=n_tokens)
    table = clap.text_tower.table.detach().float().cpu()
    shape, draw = (n_contexts, n_tokens, table.shape[1]), torch.Generator()
    drawn = torch.randn(shape, generator=draw.manual_seed(seed))
    return AcousticContexts(table.std() * drawn, template)


@pin_defaults
def contexts_from_words(
    clap: Clap, phrases: Sequence[str], *, n_tokens: int = 8, template: str = CANONICAL
) -> AcousticContexts:
    """Start contexts from phrases: their first M tokens, repeated if they are fewer."""
    check_range(least=1, whole=True, n_tokens=n_tokens)
    rows = []
    for phrase in [phrases] if isinstance(phrases, str) else phrases:
        words, mask = clap.token_embeddings([phrase])
        inside = words[0, 1 : int(mask[0].sum()) - 1].cpu()  # no start, no end
        rows.append(inside[torch.arange(n_tokens) % len(inside)])
    return AcousticContexts(torch.stack(rows), template)


@pin_defaults
def append_contexts(clap: Clap, sentences: Sequence[str], vectors: Tensor) -> Tensor:
    """Put each context behind each sentence, before its end token, and embed, with
    gradients: S sentences and vectors (K, M, D) give unit rows (K, S, dim).
    """
    sentences = [sentences] if isinstance(sentences, str) else list(sentences)
    words, mask = clap.token_embeddings(sentences)  # (S, L, D), (S, L)
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
    sentences = emotion_prompts(emotions, templates=[contexts.template])
    return _embed_in_parts(clap, [row[0] for row in sentences], contexts.vectors)


def _embed_in_parts(clap: Clap, sentences: Sequence[str], vectors: Tensor) -> Tensor:
    with torch.no_grad():  # a thousand contexts at once would want gigabytes
        parts = vectors.split(max(1, PART // len(sentences)))
        return torch.cat([append_contexts(clap, sentences, p).cpu() for p in parts])


def text_shifts(clap: Clap, places: AcousticContexts | Sequence[str]) -> Tensor:
    """What contexts or phrases add to the bare sentence: tau, (K, dim)."""
    if isinstance(places, AcousticContexts):
        moved = _embed_in_parts(clap, [BARE], places.vectors)[:, 0]
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

    def move(
        self, z: Tensor, tau: Tensor, which: Tensor | slice = slice(None)
    ) -> Tensor:
        """G(z, tau[which]) - z for standardised features: (n, D), (K, dim) -> (n, D).

        `which` (n,) says which place each clip is in; by default, K is n.
        """
        tau = tau * tau.shape[1] ** 0.5  # entries of about 1
        scale, shift = self.film(tau)[which].chunk(2, dim=-1)
        sound, words = self.hidden.weight.split([z.shape[1], tau.shape[1]], dim=1)
        hidden = F.linear(z, sound, self.hidden.bias) + F.linear(tau, words)[which]
        return scale * z + shift + self.out(F.gelu(hidden))

    def forward(self, features: Tensor, tau: Tensor) -> Tensor:
        """G for features in the tower's units: (n, D), (n, dim) -> (n, D)."""
        z = (features - self.mean) / self.deviation
        return features + self.move(z, tau) * self.deviation


@torch.inference_mode(False)
@pin_defaults
def fit_place_map(
    tau: Tensor,
    clean: Tensor,
    placed: Tensor,
    *,
    steps: int = 100,
    learning_rate: float = 4e-3,
    seed: int = 0,
) -> PlaceMap:
    """Learn G by least squares from unlabelled pairs, 256 a step.

    These are (P, dim) `text_shifts` of captions, and (P, D) features of clips as
    recorded, and in the places of the captions.
    """
    check_range(least=0, whole=True, steps=steps)
    check_range(least=1e-9, most=1, learning_rate=learning_rate)
    sizes = [len(tau), len(clean), len(placed)]
    if len(set(sizes)) > 1 or not sizes[0]:
        given = "{} captions, {} clean and {} placed clips".format(*sizes)
        raise ValueError(f"{given}; give one of each for every pair, at least one")
    tau, clean = (check_rows(x, name=n) for x, n in ((tau, "tau"), (clean, "clean")))
    placed = check_rows(placed, name="placed", dim=clean.shape[1])
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        place_map = PlaceMap(clean.shape[1], tau.shape[1])
    place_map.mean = clean.mean(dim=0)
    place_map.deviation = clean.std(dim=0, correction=0) + 1e-6
    z = (clean - place_map.mean) / place_map.deviation
    moves = (placed - clean) / place_map.deviation
    how = {"lr": learning_rate, "weight_decay": 0.05, "fused": True}
    optimizer = torch.optim.AdamW(place_map.parameters(), **how)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
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

    def __post_init__(self) -> None:
        check_range(least=0, most=100, amplitude=self.amplitude)

    @pin_defaults
    def __call__(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Bend features: (n, D) -> (n, D)."""
        n, G = len(features), self.place_map
        which = torch.randint(len(self.tau), (n,), generator=generator)
        move = G.move((features - G.mean) / G.deviation, self.tau, which)
        if self.residual_bank:
            rows = torch.randint(len(G.residuals), (n,), generator=generator)
            move += G.residuals[rows]
        amplitudes = self.amplitude * torch.rand(n, 1, generator=generator)
        return features + amplitudes * (move * G.deviation)


@torch.inference_mode(False)
@pin_defaults
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
        clap: Its text tower is used, and not changed.
        emotions: E labels; each step draws one.
        captions: C phrases for places; `caption_shifts` are their `text_shifts`.
            Contexts start at those near K cluster centres; without any, at random.
        place_map: G; without it, D_k is tau(v_k) itself.
        n_contexts: K, at most C, of M = `n_tokens`.
        learning_rate: Adam's, in units of the token table's spread.
        kappa: Sharpness of the cover loss: large counts the nearest context alone.
        temperature: t.
    """
    emotions = check_emotions(emotions)
    check_range(least=0, whole=True, steps=steps)
    check_range(least=1, whole=True, n_contexts=n_contexts, n_tokens=n_tokens)
    check_range(least=1e-6, kappa=kappa, temperature=temperature)
    check_range(least=1e-9, most=1e3, learning_rate=learning_rate)
    check_range(least=0, cover=cover, consistency=consistency, diversity=diversity)
    sizes, targets = {"n_tokens": n_tokens}, None
    init = random_contexts(clap, n_contexts=n_contexts, seed=seed, **sizes)
    if captions is not None:
        captions = [captions] if isinstance(captions, str) else list(captions)
        if caption_shifts is None:
            captions = list(dict.fromkeys(captions))
            caption_shifts = text_shifts(clap, captions)
        targets = check_rows(caption_shifts, name="caption_shifts", dim=clap.dim)
        if n_contexts > len(captions):
            few = f"only {len(captions)} different captions to cover"
            raise ValueError(f"{n_contexts=}, but {few}; tune fewer or give more")
        phrases = central_captions(captions, targets, n_contexts, seed=seed)
        init = contexts_from_words(clap, phrases, **sizes)
    # In units of the table's spread, so that one learning rate suits every model.
    spread = clap.text_tower.table.detach().float().std().cpu()
    prompts = [row[0] for row in emotion_prompts(emotions, templates=[template])]
    plain = clap.embed_text(prompts)
    refuse_alike(plain, emotions)
    bare = clap.embed_text([BARE])
    draw = torch.Generator().manual_seed(seed)
    moving = (init.vectors / spread).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([moving], lr=learning_rate)
    history: list[dict[str, float]] = []
    for step in tqdm(range(steps), desc="tuning", disable=not progress):
        drawn = int(torch.randint(len(emotions), (), generator=draw))
        vectors = moving * spread
        embedded = append_contexts(clap, [BARE, prompts[drawn]], vectors).cpu()
        tau = moves = embedded[:, 0] - bare  # (K, dim)
        if place_map is not None:  # what contexts do to the mean clip
            moves = place_map.move(torch.zeros(len(tau), clap.width), tau)
        logits = embedded[:, 1] @ plain.T / temperature
        losses = {"cover": torch.zeros(())}
        if targets is not None:
            losses["cover"] = cover_loss(tau, targets, kappa=kappa)
        wanted = torch.full((len(tau),), drawn)
        losses["consistency"] = F.cross_entropy(logits, wanted)
        losses["diversity"] = diversity_loss(moves)
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
    """Mean absolute cosine between different rows of (K, D)."""
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
