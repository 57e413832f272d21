"""CLAP to CLEP: contrastive fine-tuning on emotional speech.

Both towers stay frozen; a linear map from the audio tower's features learns to match
sentences. Shapes: n clips, B batch, A levels of an attribute, D width of the tower.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from clepdg_lib.captions import check_emotions, emotion_sentences
from clepdg_lib.clap import Clap, check_range, check_rows, pin_defaults, refuse_alike
from clepdg_lib.corpora import Corpus
from clepdg_lib.embeddings import EmbeddedCorpus, embed_corpus

CURVATURE = 0.03  # about that of the loss, by its scale squared: for speed alone
# Bends features (n, D), drawing from a generator: see `acpt.ContextAugmentation`.
Augmentation = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class TrainConfig:
    """How the projection is trained; chosen by data/build/choose_settings.py."""

    max_iterations: int = 25  # of L-BFGS, in whole rounds of five
    l2: float = 5.0  # weight of half the squared norm of the map
    scale: float = 10.0  # what inner products are multiplied by in the loss
    augment_weight: float = 1.0  # of the loss on augmented features, beside 1
    consistency: float = 0.0  # of KL(prediction on clean || on augmented features)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = {"max_iterations": 1, "scale": 1e-3, "l2": 1e-3}.get(name, 0)
            whole = name == "max_iterations"
            check_range(least=least, most=1e4, whole=whole, **{name: value})


@dataclass(frozen=True)
class CaptionAttribute:
    """What captions say of clips ("emotion", "room"), and what holds for each clip."""

    name: str
    sentences: Sequence[Sequence[str] | Tensor]  # of A levels; or (m, dim) embeddings
    labels: np.ndarray  # (n,) level of each clip, -1 if unknown
    weights: Tensor | None = None  # (n,) of the clips; default all alike
    share: float = 1.0  # of the attribute in the loss


def label_aware_loss(
    audio: Tensor,
    text: Tensor,
    labels: Tensor,
    scale: float,
    *,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Contrast clips with one text embedding per level, in both directions.

    With logits :math:`\ell_{ia} = s\, x_i \cdot t_a` of clip i and level a, label
    :math:`y_i`, weights :math:`w_i` (1/B) and :math:`W_a = \sum_{i: y_i = a} w_i`,

    .. math::
        L = -\frac12 \sum_i w_i \log\frac{e^{\ell_{i y_i}}}
            {\sum_a e^{\ell_{ia}}} \; - \; \frac{1}{2A} \sum_a
            \sum_{i: y_i = a} \frac{w_i}{W_a} \log\frac{W_a\, e^{\ell_{ia}}}
            {\sum_j w_j e^{\ell_{ja}}}.

    All clips of a level are positives of its text (Khosla et al. 2020, eq. 2; UniCL,
    Yang et al. 2022, eq. 3-5); W_a removes the entropy of the targets. `audio` is
    (B, dim), `text` (A, dim), `labels` (B,), -1 where unknown, and `weights` (B,).
    """
    return loss_of_logits(scale * audio @ text.T, labels, weights=weights)


def loss_of_logits(
    logits: Tensor, labels: Tensor, *, weights: Tensor | None = None
) -> Tensor:
    """`label_aware_loss` of (B, A) logits."""
    known = labels >= 0
    if not known.any():
        return logits.sum() * 0.0
    weights = known if weights is None else weights * known
    weights = (weights / weights.sum()).to(logits)
    shares = F.one_hot(labels.clamp_min(0), logits.shape[1]) * weights[:, None]
    totals, pulled = shares.sum(dim=0), (shares * logits).sum(dim=0)  # W_a, (A,) each
    to_text = (weights * logits.logsumexp(dim=1)).sum() - pulled.sum()
    there = totals > 0
    spread = (logits + weights.log()[:, None]).logsumexp(dim=0) - totals.log()
    to_audio = (spread[there] - pulled[there] / totals[there]).mean()
    return 0.5 * (to_text + to_audio)


@pin_defaults
def finetune_clep(
    clap: Clap,
    data: Corpus | EmbeddedCorpus | Any,
    *,
    emotions: Sequence[str] | None = None,
    config: TrainConfig | None = None,
    augment: Augmentation | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Clap:
    """Fine-tune a CLAP on emotional speech, contrasting labels and not clips.

    Args:
        clap: Where to start; it is not changed, and the result shares its towers.
        data: A `Corpus`, what `embed_corpus` gives, or any table of `features` and
            `clips`. Of clips with splits, the train split alone is used.
        emotions: That captions speak of, default all; other clips are not used.
        augment: Bends features, once for every clip; the loss on them is added.
        seed: Of the augmentation; without it, training is deterministic.
    """
    is_corpus = isinstance(data, Corpus)
    present = sorted(set(data.clips["emotion"][_is_train(data.clips)]))
    emotions = check_emotions(present if emotions is None else emotions)
    if absent := sorted(set(emotions) - set(present)):
        raise ValueError(f"no clips to train on of {absent}; there are {present}")
    texts = [clap.embed_text(emotion_sentences(emotion)) for emotion in emotions]
    refuse_alike(torch.stack([text.mean(dim=0) for text in texts]), emotions)
    clap.refuse_other_tower(data)
    data = embed_corpus(clap, data, progress=progress) if is_corpus else data
    keep = data.clips["emotion"].isin(emotions).to_numpy() & _is_train(data.clips)
    clips = data.clips[keep]
    labels, weights = emotion_labels(clips, emotions), balanced_weights(clips)
    attribute = CaptionAttribute("emotion", texts, labels, weights)
    how = {"config": config or TrainConfig(), "augment": augment, "seed": seed}
    features = data.features[torch.tensor(keep)]
    clep = train_projection(clap, features, [attribute], progress=progress, **how)
    clep.name = f"clep({clap.name})"
    return clep


@torch.inference_mode(False)
@pin_defaults
def train_projection(
    clap: Clap,
    features: Tensor,
    attributes: Sequence[CaptionAttribute],
    *,
    config: TrainConfig,
    augment: Augmentation | None = None,
    start: Clap | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Clap:
    """Train a new linear audio projection against captions, by L-BFGS on all clips.

    The loss takes inner products: with cosines every clip would have to be equally
    certain, which generalises worse. It is convex: `start` only saves time. Features
    (n, D) are standardised by these clips; that is folded into the returned layer.
    """
    if not any((attribute.labels >= 0).any() for attribute in attributes):
        raise ValueError("no clip has a known level in any attribute: nothing to learn")
    features = check_rows(features, name="features", dim=clap.width)
    texts = []  # of each attribute, (A, dim): means of its levels' sentences
    for levels in (attribute.sentences for attribute in attributes):
        rows = [x if isinstance(x, Tensor) else clap.embed_text(x) for x in levels]
        texts.append(torch.stack([row.mean(dim=0) for row in rows]))
    # What is orthogonal to all texts changes no logit: W has rows in their span alone.
    basis = torch.linalg.qr(torch.cat(texts).T).Q.T  # (rank, dim)
    texts = [text @ basis.T for text in texts]
    labels = [torch.tensor(attribute.labels).long() for attribute in attributes]
    mean, covariance = features.mean(dim=0), features.T.cov()
    deviation = covariance.diagonal().sqrt() + 1e-6
    versions = [(1.0, (features - mean) / deviation)]
    if augment is not None:
        bent = augment(features, torch.Generator().manual_seed(seed))
        bent = check_rows(bent, name="augmented features", dim=clap.width)
        versions.append((config.augment_weight, (bent - mean) / deviation))
    total = sum(share for share, _ in versions)
    # W = V / roots U^T of principal axes U: as steep in all, half the steps suffice.
    values, axes = torch.linalg.eigh(covariance / deviation.outer(deviation))
    roots = (CURVATURE * config.scale**2 * values.clamp_min(0) + config.l2).sqrt()
    weight, bias = torch.zeros(len(basis), clap.width), torch.zeros(len(basis))
    if start is not None:
        weight, bias = (basis @ part for part in start.audio_projection.parameters())
        weight, bias = weight * deviation @ axes * roots, bias + weight @ mean
    weight, bias = weight.detach().requires_grad_(), bias.detach().requires_grad_()
    every = min(5, config.max_iterations)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=every, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 0.5 * config.l2 * (weight / roots).square().sum()
        for attribute, text, label in zip(attributes, texts, labels, strict=True):
            head = config.scale * (text @ weight / roots) @ axes.T
            offset = config.scale * text @ bias
            logits = [(head @ z.T + offset[:, None]).T for _, z in versions]
            for (share, _), each in zip(versions, logits, strict=True):
                part = loss_of_logits(each, label, weights=attribute.weights)
                loss = loss + attribute.share * share / total * part
            if config.consistency > 0 and len(logits) > 1:
                clean, bent = logits[0].detach().softmax(1), logits[1].log_softmax(1)
                divergence = F.kl_div(bent, clean, reduction="batchmean")
                loss = loss + attribute.share * config.consistency * divergence
        loss.backward()
        return loss

    history = []
    rounds = range(every, config.max_iterations + 1, every)
    for iteration in tqdm(rounds, desc="training", disable=not progress):
        loss = float(optimizer.step(closure).detach())
        history.append({"iteration": iteration, "loss": loss})
    if not weight.isfinite().all():
        raise ValueError(f"training diverged; raise l2 or lower scale in {config}")
    layer = nn.Linear(clap.width, clap.dim)
    with torch.no_grad():  # W (z - mean) / deviation + b, for raw features
        layer.weight.copy_(basis.T @ (weight / roots @ axes.T / deviation))
        layer.bias.copy_(basis.T @ bias - layer.weight @ mean)
    trained = clap.with_projection(layer, name=clap.name)
    trained.history = pd.DataFrame(history)
    return trained


def _is_train(clips: pd.DataFrame) -> np.ndarray:
    """Mask of the train split; of everything, if there is none: (n,)."""
    train = (clips.get("split", pd.Series("", clips.index)) == "train").to_numpy()
    return train if train.any() else ~train


def emotion_labels(clips: pd.DataFrame, emotions: Sequence[str]) -> np.ndarray:
    """Each clip's place in `emotions`, or -1: (n,) int64."""
    place = {emotion: i for i, emotion in enumerate(emotions)}
    return clips["emotion"].map(place).fillna(-1).to_numpy(np.int64)


def balanced_weights(clips: pd.DataFrame) -> Tensor:
    """Weights of clips such that every (corpus, emotion) counts alike: (n,)."""
    sizes = clips.groupby(["corpus", "emotion"])["emotion"].transform("size")
    return torch.tensor(1 / sizes.to_numpy(dtype=np.float32))
