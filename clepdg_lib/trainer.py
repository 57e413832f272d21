"""The machinery of a fine-tuning: optimiser, averaged weights, checkpoints.

What is learned stands elsewhere (`contrast`); here is how: AdamW with a warm-up and
a cosine, clipped gradients, a moving average of the weights (the model that is kept),
and a file from which an interrupted training goes on to the very same weights.

Shapes: B batch, F frames, M mel bands, T moments that the audio tower tells apart.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from clepdg_lib.checkpoints import read_checkpoint, write_checkpoint
from clepdg_lib.clap import Clap
from clepdg_lib.processes import Team
from clepdg_lib.recipe import Recipe, fast_precision

MAX_NORM = 1.0  # of the gradient of a tower
MAX_SCALE = 100.0  # as in CLIP


class Trainer:
    """A copy of a CLAP that learns, and its moving average.

    Args:
        clap: Where to start; not changed.
        recipe: How to train.
        n_steps: Steps in all, for the learning rate.
        n_targets: Measurements that a layer on the audio tower predicts beside.
        n_of_moment: The same for each moment that the tower tells apart.
        team: The processes that train together; default those that were launched.

    Attributes:
        clap: The learning copy.
        average: A `Clap` of the averaged weights.
        head: The layer that predicts measurements.
        tracker: The layer that predicts those of a moment.
        history: A row for each epoch.
        probing: A row for each step before the first.
    """

    def __init__(
        self,
        clap: Clap,
        recipe: Recipe,
        *,
        n_steps: int,
        n_targets: int = 0,
        n_of_moment: int = 0,
        team: Team | None = None,
    ) -> None:
        def another() -> Clap:
            return Clap(
                copy.deepcopy(clap.model),
                clap.tokenizer,
                clap.extractor,
                name=clap.name,
                device=clap.device,
            )

        self.clap, self.average = another(), another()
        self.recipe, self.n_steps = recipe, n_steps
        self.team = team or Team()
        self.n_done = 0
        self.history: list[dict[str, float]] = []
        self.probing: list[dict[str, float]] = []
        self.fast = fast_precision(clap.device, recipe.precision)
        student = self.clap.model.train()
        if recipe.gradient_checkpointing:
            for stage in student.audio_model.audio_encoder.layers:
                # transformers has no such switch for CLAP
                stage.forward = partial(checkpoint, stage.forward, use_reentrant=False)
        self.wake_tower()
        width = student.config.audio_config.hidden_size

        def layer(n: int) -> nn.Module:
            return (nn.Linear(width, n) if n else nn.Identity()).to(clap.device)

        self.head, self.tracker = layer(n_targets), layer(n_of_moment)
        self.tunes_text = recipe.text_learning_rate > 0
        text = [student.text_model, student.text_projection]
        above = _parameters([student.audio_projection, self.head, self.tracker])
        self.above = [*above, student.logit_scale_a]
        groups = [
            {"params": self.above, "peak": recipe.learning_rate},
            {
                "params": _parameters([student.audio_model]),
                "peak": recipe.learning_rate * recipe.tower_share,
            },
        ]
        if self.tunes_text:
            groups.append(
                {"params": _parameters(text), "peak": recipe.text_learning_rate}
            )
        else:
            student.text_model.eval()
        for part in text:
            part.requires_grad_(self.tunes_text)
        self.optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)

    def wake_tower(self, *, awake: bool = True) -> None:
        """Put the audio tower into training mode, its normalisation by the recipe."""
        tower = self.clap.model.audio_model.train(awake)
        for module in tower.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(awake and self.recipe.norm_moves)

    def hear(self, pictures: torch.Tensor) -> torch.Tensor:
        """Run the learning audio tower: (B, 1, F, M) log-mels -> (B, T, width).

        The mean over the moments is what the layers above it get.
        """
        device = self.clap.device
        longer = torch.zeros(len(pictures), 1, dtype=torch.bool, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.fast):
            found = self.clap.model.audio_model(
                input_features=pictures.to(device), is_longer=longer
            ).last_hidden_state  # (B, width, bands, T)
        return found.float().mean(dim=2).transpose(1, 2)

    def project(self, found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the layers above the tower.

        Args:
            found: (B, width), the mean over what `hear` gives.

        Returns:
            (B, dim) unit rows, and (B, d) predicted measurements (without any, what
            they would be predicted from).
        """
        found = F.dropout(found, self.recipe.dropout)
        audio = self.clap.model.audio_projection(found)
        return F.normalize(audio, dim=-1), self.head(found)

    def follow(self, heard: torch.Tensor) -> torch.Tensor:
        """Predict what is measured in each moment: (B, T, width) -> (B, T, e)."""
        return self.tracker(heard)

    def read(self, sentences: Sequence[str]) -> torch.Tensor:
        """Run the learning text tower, with gradients: (n, dim)."""
        ids, mask = self.clap._tokenize(list(sentences))
        found = self.clap.model.get_text_features(input_ids=ids, attention_mask=mask)
        return found.pooler_output.float()

    @property
    def scale(self) -> torch.Tensor:
        """What cosines are multiplied by; it is learned too."""
        return self.clap.model.logit_scale_a.exp().clamp(max=MAX_SCALE)

    def update(self, loss: torch.Tensor) -> float:
        """Take one step down a loss, which is returned as a number."""
        self.optimiser.zero_grad()
        loss.backward()
        groups = self.optimiser.param_groups
        self.team.average_gradients(p for group in groups for p in group["params"])
        for group in groups:
            nn.utils.clip_grad_norm_(group["params"], MAX_NORM)
            group["lr"] = group["peak"] * self._share()
        self.optimiser.step()
        self.n_done += 1
        self._follow()
        return float(loss.detach())

    def start_average(self) -> None:
        """Forget the moving average so far: begin it at the present weights."""
        self.average.model.load_state_dict(self.clap.model.state_dict())

    def _share(self) -> float:
        """Part of the peak learning rate that the coming step takes."""
        warm = max(1, self.n_steps // 10)
        if self.n_done < warm:
            return (self.n_done + 1) / warm
        done = (self.n_done - warm) / max(1, self.n_steps - warm)
        return 0.5 * (1 + math.cos(math.pi * done))

    @torch.no_grad()
    def _follow(self) -> None:
        # Early on a long memory would remember the start: shorten it (as in Adam).
        decay = min(self.recipe.averaging, (1 + self.n_done) / (10 + self.n_done))
        own = self.clap.model.state_dict()
        for name, slow in self.average.model.state_dict().items():
            if slow.is_floating_point():
                slow.lerp_(own[name], 1 - decay)
            else:
                slow.copy_(own[name])

    def save(self, file: Path, *, epoch: int, plan: str) -> None:
        """Write all that going on after an epoch takes, whole or not at all.

        Args:
            file: A safetensors file; its folder is created.
            epoch: How many are finished.
            plan: What the training is, to recognise it by.

        Raises:
            WriteError: Disk full, folder read-only, or the like.
        """
        tensors = {}
        for part, module in self._modules().items():
            state = module.state_dict()
            tensors |= {f"{part}.{name}": tensor for name, tensor in state.items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"moment.{i}.{key}": tensor for key, tensor in state.items()}
        tensors = {name: t.clone().contiguous() for name, t in tensors.items()}
        notes = {
            "epoch": str(epoch),
            "history": json.dumps(self.history),
            "plan": plan,
        }
        write_checkpoint(file, tensors, notes)

    def resume(self, file: Path, *, plan: str) -> int:
        """Go on where `save` stopped; returns the finished epochs, 0 without a file.

        Raises:
            ValueError: The file belongs to another training, or is damaged.
        """
        if not file.is_file():
            return 0
        tensors, notes = read_checkpoint(file)
        if notes.get("plan", plan) != plan:
            raise ValueError(
                f"{file} is the checkpoint of another training ({notes['plan']}), "
                f"not of this one ({plan}); delete it or choose another file"
            )
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            part, rest = name.split(".", 1)
            parts.setdefault(part, {})[rest] = tensor
        for part, module in self._modules().items():
            module.load_state_dict(parts.get(part, {}))
        state = self.optimiser.state_dict()
        for name, tensor in parts.get("moment", {}).items():
            i, key = name.split(".", 1)
            state["state"].setdefault(int(i), {})[key] = tensor
        self.optimiser.load_state_dict(state)
        self.history = json.loads(notes["history"])
        epoch = int(notes["epoch"])
        self.n_done = epoch * self.n_steps // self.recipe.epochs
        return epoch

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "student": self.clap.model,
            "average": self.average.model,
            "head": self.head,
            "tracker": self.tracker,
        }


def _parameters(parts: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [p for part in parts for p in part.parameters()]
