"""Bring sounds and sentences together: label-aware contrastive training.

Ordinary InfoNCE takes every other clip of a batch for a negative, also those of the
same emotion. Here a clip's positives are all sentences for its level of an aspect
("emotion": "sad"; "room": "large"), as in supervised contrastive learning (Khosla
et al. 2020, eq. 2) and UniCL (Yang et al. 2022, eq. 3-5). One engine serves CLAP's
pre-training (many aspects, no emotion) and CLEP's fine-tuning.

Shapes: n clips, V versions of each, B batch, A levels of an aspect, F frames, M mels.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from clepdg_lib.clap import Clap

FLOOR_DB = -100.0


@dataclass(frozen=True)
class Aspect:
    """Something about a clip that sentences can say.

    Attributes:
        name: For the log.
        sentences: For each of ``A`` levels, the sentences that say it.
        labels: (n,) or (n, V) level of every clip (and version), -1 if unknown.
        weight: Share in the loss.
    """

    name: str
    sentences: Sequence[Sequence[str]]
    labels: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults suit a few thousand clips on a laptop.

    Attributes:
        epochs: Times through ``n`` draws.
        batch_size: Clips in a step.
        learning_rate: Peak; warm-up over the first tenth, then a cosine to zero.
        text_learning_rate: For the text tower, 0 to leave it frozen.
        weight_decay: AdamW's.
        averaging: Decay of the moving average of the weights that is returned.
        gain_db: Standard deviation of a random gain.
        equaliser_db: Standard deviation of a random smooth gain over the bands:
            another microphone for every clip.
        masks: Time and frequency masks (SpecAugment, Park et al. 2019), 2 of each.
        target_weight: Share of the auxiliary targets in the loss.
        precision: "float32", "bfloat16", or "auto": bfloat16 where the processor
            has matrix units for it.
    """

    epochs: int = 6
    batch_size: int = 64
    learning_rate: float = 5e-4
    text_learning_rate: float = 0.0
    weight_decay: float = 0.05
    averaging: float = 0.99
    gain_db: float = 6.0
    equaliser_db: float = 4.0
    masks: bool = True
    target_weight: float = 1.0
    precision: str = "auto"


def train_towers(
    clap: Clap,
    mels: np.ndarray,
    aspects: Sequence[Aspect],
    *,
    recipe: Recipe | None = None,
    targets: np.ndarray | None = None,
    sampling: np.ndarray | None = None,
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
        sampling: (n,) relative chance of each clip; default all alike.
        seed: Of weights, batches and augmentation.
        progress: Show a bar.
        checkpoint: File to resume from and to write after every epoch.
        judge: Called with the averaged model after every epoch; its figures go
            into the history.

    Returns:
        A new `Clap` whose ``history`` has a row per epoch.

    Raises:
        ValueError: No clip has a known level in any aspect, or sizes differ.
    """
    recipe = recipe or Recipe()
    _check(mels, aspects, targets)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout and new layers draw from the global source
    student = copy.deepcopy(clap.model)
    head = nn.Linear(
        student.config.audio_config.hidden_size,
        0 if targets is None else targets.shape[1],
    )
    trainer = _Trainer(clap, student, head, aspects, recipe)
    n_steps = max(1, math.ceil(len(mels) / recipe.batch_size))
    trainer.plan(recipe.epochs * n_steps)
    chances = torch.ones(len(mels)) if sampling is None else torch.tensor(sampling)
    first = trainer.resume(checkpoint, n_steps)
    generator.manual_seed(seed + 1000 * first)
    averaged = Clap(trainer.average, clap.tokenizer, clap.extractor, name=clap.name)
    bar = tqdm(
        total=recipe.epochs * n_steps,
        initial=first * n_steps,
        desc="training",
        unit="step",
        disable=not progress,
    )
    for epoch in range(first, recipe.epochs):
        generator.manual_seed(seed + 1000 * epoch)
        began, total = time.time(), 0.0
        for _ in range(n_steps):
            rows = torch.multinomial(
                chances.double(), recipe.batch_size, True, generator=generator
            )
            versions = torch.randint(mels.shape[1], (len(rows),), generator=generator)
            pictures = torch.from_numpy(mels[rows.numpy(), versions.numpy()]).float()
            pictures = augment(pictures, recipe, generator=generator)
            wanted = None if targets is None else targets[rows.numpy()]
            total += trainer.step(
                pictures, rows.numpy(), versions.numpy(), wanted, generator
            )
            bar.update()
            bar.set_postfix(loss=f"{total / (_ + 1):.3f}")
        row = {"epoch": epoch + 1, "loss": total / n_steps}
        if judge is not None:
            trainer.average.eval()
            row |= judge(averaged)
        row["seconds"] = time.time() - began
        trainer.history.append(row)
        trainer.save(checkpoint, epoch + 1)
    bar.close()
    averaged = Clap(
        trainer.average,
        clap.tokenizer,
        clap.extractor,
        name=clap.name,
        device=clap.device,
    )
    averaged.history = pd.DataFrame(trainer.history)
    return averaged


def augment(
    pictures: torch.Tensor, recipe: Recipe, *, generator: torch.Generator
) -> torch.Tensor:
    """Another level, microphone and start, parts hidden: (B, F, M) -> (B, 1, F, M)."""
    n, n_frames, n_mels = pictures.shape
    gain = recipe.gain_db * torch.randn(n, 1, 1, generator=generator)
    if recipe.equaliser_db > 0:
        knots = recipe.equaliser_db * torch.randn(n, 1, 6, generator=generator)
        gain = gain + F.interpolate(knots, n_mels, mode="linear", align_corners=True)
    pictures = (pictures + gain).clamp_min(FLOOR_DB)
    if recipe.masks:
        fill = pictures.mean(dim=(1, 2), keepdim=True)
        for size, length, axis in ((n_frames, 24, 1), (n_mels, 8, 2)) * 2:
            width = torch.randint(0, length, (n, 1, 1), generator=generator)
            start = torch.randint(0, size - length, (n, 1, 1), generator=generator)
            shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
            place = torch.arange(size).view(shape)
            hidden = (place >= start) & (place < start + width)
            pictures = torch.where(hidden, fill, pictures)
    shift = int(torch.randint(0, n_frames, (1,), generator=generator))
    return pictures.roll(shift, dims=1).unsqueeze(1)


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


def fast_precision(device: torch.device, precision: str) -> bool:
    """Decide whether to compute in bfloat16."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(
            f"precision is {precision!r}; it must be 'auto', 'float32' or 'bfloat16'"
        )
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported()
    return device.type == "cuda"


class _Trainer:
    """Model, optimiser, moving average; one step at a time."""

    def __init__(
        self,
        clap: Clap,
        student: nn.Module,
        head: nn.Module,
        aspects: Sequence[Aspect],
        recipe: Recipe,
    ) -> None:
        self.clap = Clap(
            student, clap.tokenizer, clap.extractor, name=clap.name, device=clap.device
        )
        self.student, self.head = student.train(), head.to(clap.device)
        self.average = copy.deepcopy(student).eval()
        self.aspects, self.recipe = aspects, recipe
        self.history: list[dict[str, float]] = []
        self.fast = fast_precision(clap.device, recipe.precision)
        tuned = recipe.text_learning_rate > 0
        text = [student.text_model, student.text_projection]
        sound = [student.audio_model, student.audio_projection, self.head]
        groups = [{"params": _parameters(sound), "lr": recipe.learning_rate}]
        groups[0]["params"].append(student.logit_scale_a)
        if tuned:
            groups.append(
                {"params": _parameters(text), "lr": recipe.text_learning_rate}
            )
        for part in text:
            part.requires_grad_(tuned)
        if not tuned:
            student.text_model.eval()
        self.optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        # A frozen text tower says the same every time: ask it once.
        self.bank = None if tuned else [self._embed(a.sentences) for a in aspects]

    @torch.no_grad()
    def _embed(self, levels: Sequence[Sequence[str]]) -> list[torch.Tensor]:
        return [
            self.clap.embed_text(list(s)).clone().to(self.clap.device) for s in levels
        ]

    def plan(self, n_steps: int) -> None:
        warm = max(1, n_steps // 10)

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (
                1 + math.cos(math.pi * (step - warm) / max(1, n_steps - warm))
            )

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, factor)

    def step(
        self,
        pictures: torch.Tensor,
        rows: np.ndarray,
        versions: np.ndarray,
        targets: np.ndarray | None,
        generator: torch.Generator,
    ) -> float:
        device = self.clap.device
        pictures = pictures.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.fast):
            longer = torch.zeros(len(rows), 1, dtype=torch.bool, device=device)
            found = self.student.audio_model(
                input_features=pictures, is_longer=longer
            ).pooler_output
            audio = self.student.audio_projection(found)
        audio = F.normalize(audio.float(), dim=-1)
        scale = self.student.logit_scale_a.exp().clamp(max=100.0)
        loss = audio.sum() * 0.0
        for k, aspect in enumerate(self.aspects):
            labels = aspect.labels[rows]
            if labels.ndim == 2:
                labels = labels[np.arange(len(rows)), versions]
            labels = torch.as_tensor(labels, dtype=torch.long, device=device)
            text = self._sentences(k, generator)
            loss = loss + aspect.weight * label_aware_loss(audio, text, labels, scale)
        if targets is not None and self.recipe.target_weight > 0:
            wanted = torch.as_tensor(targets, dtype=torch.float32, device=device)
            known = ~torch.isnan(wanted)
            said = self.head(found.float())
            if known.any():
                miss = F.smooth_l1_loss(said[known], wanted[known])
                loss = loss + self.recipe.target_weight * miss
        self.optimiser.zero_grad()
        loss.backward()
        for group in self.optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimiser.step()
        self.schedule.step()
        self._follow()
        return float(loss.detach())

    def _sentences(self, k: int, generator: torch.Generator) -> torch.Tensor:
        """One sentence for each level of aspect k: (A, dim)."""
        levels = self.aspects[k].sentences
        picks = [int(torch.randint(len(s), (1,), generator=generator)) for s in levels]
        if self.bank is not None:
            return torch.stack([self.bank[k][a][i] for a, i in enumerate(picks)])
        ids, mask = self.clap._tokenize([s[i] for s, i in zip(levels, picks)])
        found = self.student.get_text_features(input_ids=ids, attention_mask=mask)
        return found.pooler_output.float()

    @torch.no_grad()
    def _follow(self) -> None:
        step = self.schedule.last_epoch
        # Early on a long memory would remember the start: shorten it (as in Adam).
        decay = min(self.recipe.averaging, (1 + step) / (10 + step))
        own = self.student.state_dict()
        for name, slow in self.average.state_dict().items():
            if slow.is_floating_point():
                slow.lerp_(own[name], 1 - decay)
            else:
                slow.copy_(own[name])

    def save(self, file: Path | None, epoch: int) -> None:
        if file is None:
            return
        tensors = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        tensors |= {f"head.{k}": v for k, v in self.head.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"moment.{i}.{k}": v for k, v in state.items()}
        notes = {"epoch": str(epoch), "history": json.dumps(self.history)}
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        save_file(
            {k: v.clone().contiguous() for k, v in tensors.items()}, partial, notes
        )
        partial.replace(file)

    def resume(self, file: Path | None, n_steps: int) -> int:
        if file is None or not file.is_file():
            return 0
        from safetensors import safe_open

        with safe_open(file, "pt") as opened:
            notes = opened.metadata()
        tensors, parts = load_file(file), {}
        for name, tensor in tensors.items():
            part, rest = name.split(".", 1)
            parts.setdefault(part, {})[rest] = tensor
        self.student.load_state_dict(parts["student"])
        self.average.load_state_dict(parts["average"])
        self.head.load_state_dict(parts["head"])
        state = self.optimiser.state_dict()
        for name, tensor in parts.get("moment", {}).items():
            i, key = name.split(".", 1)
            state["state"].setdefault(int(i), {})[key] = tensor
        self.optimiser.load_state_dict(state)
        self.history = json.loads(notes["history"])
        epoch = int(notes["epoch"])
        for _ in range(epoch * n_steps):
            self.schedule.step()
        return epoch


def _parameters(parts: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [p for part in parts for p in part.parameters() if p.numel()]


def _check(
    mels: np.ndarray, aspects: Sequence[Aspect], targets: np.ndarray | None
) -> None:
    if mels.ndim != 4 or len(mels) == 0:
        raise ValueError(
            f"mels have shape {mels.shape}; they must be (clips, versions, frames, "
            "bands) with at least one clip"
        )
    for aspect in aspects:
        if len(aspect.labels) != len(mels):
            raise ValueError(
                f"aspect {aspect.name!r} has {len(aspect.labels)} labels for "
                f"{len(mels)} clips"
            )
    if not any((a.labels >= 0).any() for a in aspects):
        raise ValueError("no clip has a known level in any aspect: nothing to learn")
    if targets is not None and len(targets) != len(mels):
        raise ValueError(f"{len(targets)} rows of targets for {len(mels)} clips")
