"""Bring sounds and sentences together: label-aware contrastive training.

Ordinary InfoNCE takes every other clip of a batch for a negative, also those of the
same emotion. Here a clip's positives are all sentences for its level of an aspect
("emotion": "sad"; "room": "large"), as in supervised contrastive learning (Khosla
et al. 2020, eq. 2) and UniCL (Yang et al. 2022, eq. 3-5). One engine serves CLAP's
pre-training (many aspects, no emotion) and CLEP's fine-tuning.

Shapes: n clips, V versions of each, B batch, A levels of an aspect, F frames, M mels,
T moments that the audio tower tells apart.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from clepdg_lib.aspects import Aspect, Sentences
from clepdg_lib.augmentation import augment, start_elsewhere
from clepdg_lib.clap import Clap
from clepdg_lib.frozen import hear_frozen
from clepdg_lib.measuring import check_moments, miss, miss_moments
from clepdg_lib.passes import freeze, listen
from clepdg_lib.processes import has_screen
from clepdg_lib.recipe import Recipe
from clepdg_lib.trainer import Trainer
from clepdg_lib.voices import Voices

__all__ = ["Aspect", "Recipe", "augment", "label_aware_loss", "train_towers"]

PROBE_BATCH, PROBE_LEARNING_RATE = 256, 2e-3


def train_towers(
    clap: Clap,
    mels: np.ndarray,
    aspects: Sequence[Aspect],
    *,
    recipe: Recipe | None = None,
    targets: np.ndarray | None = None,
    moments: np.ndarray | None = None,
    sampling: np.ndarray | None = None,
    speakers: np.ndarray | None = None,
    seed: int = 0,
    progress: bool = True,
    checkpoint: Path | None = None,
    judge: Callable[[Clap], dict[str, float]] | None = None,
) -> Clap:
    """Train a copy of a CLAP on clips and sentences about them.

    Args:
        clap: Where to start; not changed.
        mels: (n, V, F, M) log-mels; a version is drawn anew each time.
        aspects: What the sentences say.
        recipe: How to train.
        targets: (n, d) standardised measurements for the audio tower to predict
            beside, NaN where unknown; the layer that predicts them is dropped after.
        moments: (n, T, e) the same for each of the ``T`` moments of a clip.
        sampling: (n,) relative chance of each clip; default all alike.
        speakers: (n,) who speaks; a recipe with `other_voices` exchanges them.
        seed: Of weights, batches and augmentation.
        progress: Show a bar.
        checkpoint: File to resume from and to write after every epoch.
        judge: Called with the averaged model after every epoch; its figures go
            into the history.

    Returns:
        A new `Clap` whose ``history`` has a row per epoch; without epochs, one for
        each step in which the layers above the tower learned.

    Raises:
        ValueError: No clip has a known level in any aspect, sizes differ, or the
            checkpoint belongs to another training.
    """
    recipe = recipe or Recipe()
    _check(mels, aspects, targets, sampling, speakers)
    check_moments(moments, clap.model, n=len(mels))
    n_steps = max(1, math.ceil(len(mels) / recipe.batch_size))
    chances = torch.ones(len(mels)) if sampling is None else torch.tensor(sampling)
    n_targets = 0 if targets is None else targets.shape[1]
    n_of_moment = 0 if moments is None else moments.shape[2]
    plan = (
        f"{clap.name}, {len(mels)} clips, {n_targets} measurements and {n_of_moment} "
        f"of each moment, seed {seed}, {recipe}"
    )
    generator = torch.Generator()
    on_gpu = [clap.device] if clap.device.type == "cuda" else []
    # Dropout and new layers draw from torch's own source: leave it as it was found.
    with torch.random.fork_rng(devices=on_gpu):
        torch.manual_seed(seed)
        trainer = Trainer(
            clap,
            recipe,
            n_steps=recipe.epochs * n_steps,
            n_targets=n_targets,
            n_of_moment=n_of_moment,
        )
        sentences = Sentences(trainer, aspects)
        first = 0 if checkpoint is None else trainer.resume(checkpoint, plan=plan)
        if first == 0 and recipe.probe_steps > 0:
            generator.manual_seed(seed)
            _probe_first(
                trainer, sentences, mels, targets, chances, speakers, generator
            )
        bar = tqdm(
            total=recipe.epochs * n_steps,
            initial=first * n_steps,
            desc="training",
            unit="step",
            disable=not (progress and trainer.team.leads and has_screen()),
        )
        for epoch in range(first, recipe.epochs):
            # Both sources anew in every epoch: a resumed one draws the same.
            generator.manual_seed(seed + 1000 * epoch)
            torch.manual_seed(seed + 1000 * epoch)
            freeze(trainer, epoch)
            began, total = time.time(), 0.0
            for step in range(n_steps):
                rows = torch.multinomial(
                    chances.double(), recipe.batch_size, True, generator=generator
                ).numpy()
                versions = torch.randint(
                    mels.shape[1], (len(rows),), generator=generator
                ).numpy()
                pictures = torch.from_numpy(mels[rows, versions]).float()
                pictures = augment(pictures, recipe, generator=generator)
                wanted = None if moments is None else torch.from_numpy(moments[rows])
                pictures, wanted = start_elsewhere(
                    pictures, wanted, generator=generator
                )
                audio, said, told = listen(trainer, pictures.unsqueeze(1))
                loss = _contrast(trainer, sentences, audio, rows, versions, generator)
                if targets is not None and recipe.target_weight > 0:
                    loss = loss + recipe.target_weight * miss(said, targets[rows])
                if wanted is not None and recipe.moment_weight > 0:
                    loss = loss + recipe.moment_weight * miss_moments(told, wanted)
                total += trainer.update(loss)
                bar.update()
                bar.set_postfix(loss=f"{total / (step + 1):.3f}")
            row = {"epoch": epoch + 1, "loss": total / n_steps}
            if judge is not None:
                row |= judge(trainer.average)
            row["seconds"] = time.time() - began
            trainer.history.append(row)
            if progress and trainer.team.leads and not has_screen():
                told = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
                print(f"of {recipe.epochs} epochs: {told}", file=sys.stderr, flush=True)
            if checkpoint is not None and trainer.team.leads:
                trainer.save(checkpoint, epoch=epoch + 1, plan=plan)
        bar.close()
    trainer.average.history = pd.DataFrame(trainer.history or trainer.probing)
    return trainer.average


def _probe_first(
    trainer: Trainer,
    sentences: Sentences,
    mels: np.ndarray,
    targets: np.ndarray | None,
    chances: torch.Tensor,
    speakers: np.ndarray | None,
    generator: torch.Generator,
) -> None:
    """Train the layers above the audio tower on what the tower says untrained."""
    pictures = mels.reshape(-1, *mels.shape[2:])
    found = hear_frozen(trainer.average, pictures, team=trainer.team)
    found = found.view(*mels.shape[:2], -1)  # (n, V, width)
    steps, weight_decay = trainer.recipe.probe_steps, trainer.recipe.weight_decay
    share = 0.0 if speakers is None else trainer.recipe.other_voices
    voices = Voices(found, speakers) if share else None
    optimiser = torch.optim.AdamW(
        trainer.above, lr=PROBE_LEARNING_RATE, weight_decay=weight_decay
    )
    # To zero, by a cosine: at a constant rate the last step decides, and a rounding
    # error in one picture moved the recall of unseen speakers by several points.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        rows = torch.multinomial(
            chances.double(), PROBE_BATCH, True, generator=generator
        ).numpy()
        versions = torch.randint(
            mels.shape[1], (len(rows),), generator=generator
        ).numpy()
        heard = found[rows, versions]
        if voices is not None:
            heard = voices.exchange(
                heard, rows, versions, share=share, generator=generator
            )
        audio, said = trainer.project(heard)
        loss = _contrast(trainer, sentences, audio, rows, versions, generator)
        if targets is not None and trainer.recipe.target_weight > 0:
            loss = loss + trainer.recipe.target_weight * miss(said, targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        trainer.probing.append({"step": step + 1, "loss": float(loss.detach())})
    trainer.start_average()


def label_aware_loss(
    audio: torch.Tensor, text: torch.Tensor, labels: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Contrast clips with one sentence per level, in both directions.

    Clip to sentence: cross-entropy over the levels. Sentence to clip: every clip
    with the sentence's level is a positive of equal weight (Khosla et al. 2020,
    eq. 2, "outside").

    Args:
        audio: (B, dim) unit rows.
        text: (A, dim) unit rows, one for each level.
        labels: (B,) level of each clip, -1 if unknown (the clip is left out).
        scale: What cosines are multiplied by.

    Returns:
        Scalar; 0 if no label is known.
    """
    known = labels >= 0
    if not known.any():
        return audio.sum() * 0.0
    logits = scale * audio[known] @ text.T  # (B, A)
    to_text = F.cross_entropy(logits, labels[known])
    positive = F.one_hot(labels[known], len(text)).to(logits.dtype)
    count = positive.sum(dim=0)  # clips of each level
    per_level = (positive * logits.log_softmax(dim=0)).sum(dim=0)
    present = count > 0
    to_audio = -(per_level[present] / count[present]).mean()
    # The second term's floor is log(count): without it the two are comparable.
    to_audio = to_audio - count[present].log().mean()
    return 0.5 * (to_text + to_audio)


def _contrast(
    trainer: Trainer,
    sentences: Sentences,
    audio: torch.Tensor,
    rows: np.ndarray,
    versions: np.ndarray,
    generator: torch.Generator,
) -> torch.Tensor:
    """Weighted sum of the label-aware losses of all aspects on a batch."""
    loss = audio.sum() * 0.0
    for k, aspect in enumerate(sentences.aspects):
        labels = aspect.labels[rows]
        if labels.ndim == 2:  # (B, V): each version has its own
            labels = labels[np.arange(len(rows)), versions]
        labels = torch.as_tensor(labels, dtype=torch.long, device=audio.device)
        text = sentences.draw(k, generator)
        loss = loss + aspect.weight * label_aware_loss(
            audio, text, labels, trainer.scale
        )
    return loss


def _check(
    mels: np.ndarray,
    aspects: Sequence[Aspect],
    targets: np.ndarray | None,
    sampling: np.ndarray | None,
    speakers: np.ndarray | None,
) -> None:
    if mels.ndim != 4 or len(mels) == 0:
        raise ValueError(
            f"mels have shape {mels.shape}; they must be (clips, versions, frames, "
            "bands) with at least one clip"
        )
    given = {f"aspect {a.name!r}": a.labels for a in aspects}
    given |= {"targets": targets, "sampling": sampling, "speakers": speakers}
    for name, values in given.items():
        if values is not None and len(values) != len(mels):
            raise ValueError(f"{name} has {len(values)} rows for {len(mels)} clips")
    for aspect in aspects:
        if len(aspect.labels) and aspect.labels.max() >= len(aspect.sentences):
            raise ValueError(
                f"aspect {aspect.name!r} has the level {aspect.labels.max()}, but "
                f"sentences for {len(aspect.sentences)} levels, counted from 0"
            )
    if not any((a.labels >= 0).any() for a in aspects):
        raise ValueError("no clip has a known level in any aspect: nothing to learn")
