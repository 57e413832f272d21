"""Several processes, one training and one table: what each does, and what all share.

    accelerate launch --num_processes 8 -m clepdg_lib finetune ...

Accelerate starts a process for each graphics card and knows how they speak to each
other (NCCL; between processors gloo, where `torchrun` starts them, for Accelerate's own
launcher wants MPI there). Started by hand, a process is alone, and nothing here does
anything.

In a contrastive training every clip is compared with the whole batch, so embeddings
are gathered from all processes. Each process then has the same loss; the gradient
that reaches its own clips is taken as often as there are processes, so that averaging
over processes gives what one process would have found for the whole batch.

Lesson: notebooks/06_scale_up.ipynb
Shapes: B batch, P processes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import torch


class Team:
    """The processes that work together: this one's number, and what they exchange.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
        device: Where this one computes.
    """

    def __init__(self) -> None:
        self.rank, self.size, self.device = 0, 1, torch.device("cpu")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            # Made once in a process: it joins the others the first time.
            state = PartialState(cpu=not torch.cuda.is_available())
            self.rank, self.size = state.process_index, state.num_processes
            self.device = state.device
        elif torch.cuda.is_available():
            self.device = torch.device("cuda")

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows bars."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of a batch, all parts alike.

        Raises:
            ValueError: A batch that does not divide.
        """
        if n % self.size:
            raise ValueError(
                f"a batch of {n} clips does not divide among {self.size} processes; "
                f"choose a batch_size that is a multiple of {self.size}"
            )
        part = n // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """Put the parts of all processes one behind the other, with gradients.

        Args:
            own: (B / P, ...), of one shape everywhere.

        Returns:
            (B, ...), the same everywhere.
        """
        return own if self.size == 1 else _Gather.apply(own, self.rank, self.size)

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes."""
        if self.size == 1:
            return
        from accelerate.utils import reduce

        with_gradient = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in with_gradient])
        parts = reduce(flat, reduction="mean").split([g.numel() for g in with_gradient])
        for grad, part in zip(with_gradient, parts, strict=True):
            grad.copy_(part.view_as(grad))

    def collect(self, own: Any) -> list[Any]:
        """List what each process has; for tables and other small things."""
        if self.size == 1:
            return [own]
        from accelerate.utils import gather_object

        return gather_object([own])

    def wait(self) -> None:
        """Wait until all have come here."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def has_screen() -> bool:
    """Whether a moving bar can be seen: on a terminal, in a notebook, not in a log."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class _Gather(torch.autograd.Function):
    """All-gather whose gradient is this process's rows, times the processes.

    Every process computes the same loss from the same gathered rows, so the sum over
    processes of the gradient at a row is a multiple of what each has already: the way
    back needs no exchange.
    """

    @staticmethod
    def forward(ctx, own: torch.Tensor, rank: int, size: int) -> torch.Tensor:
        from accelerate.utils import gather

        ctx.rank, ctx.size = rank, size
        return gather(own.contiguous())

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        part = len(grad) // ctx.size
        return grad[ctx.rank * part : (ctx.rank + 1) * part] * ctx.size, None, None
