"""What ranks average with each other: gradients at every step, or parameters now and then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from torchplug.errors import NonFiniteGradientError


def average(tensors: Sequence[Tensor], world: int) -> None:
    """Average tensors over all ranks by one reduction, as DDP does: divided first, then added up."""
    flat = tensors[0] if len(tensors) == 1 else torch.cat([tensor.reshape(-1) for tensor in tensors])
    flat.mul_(1.0 / world)
    _add_up(flat, world)
    if len(tensors) > 1:
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))


def _add_up(flat: Tensor, world: int) -> None:
    """Add up over ranks, in place."""
    if world != 2 or flat.device.type != "cpu":
        torch.distributed.all_reduce(flat)
    # gloo takes ten times as long to reduce a small tensor as to send it there and back; a sum of two has the same bits
    elif torch.distributed.get_rank() == 0:
        others = torch.empty_like(flat)
        torch.distributed.recv(others, 1)
        torch.distributed.send(flat.add_(others), 1)
    else:
        torch.distributed.send(flat, 0)
        torch.distributed.recv(flat, 0)


class ParameterAveraging:
    r"""Each rank makes steps of its own, and now and then all take the mean of their parameters.

        θ_r ← θ_r − α g_r at every step,    θ_r ← (1/W) Σ_r θ_r at every K-th

    Another algorithm than averaging gradients: with the same batches it leads to other weights, by fewer reductions.
    The optimizer's state stays each rank's own; a checkpoint keeps that of rank 0.

    Args:
        trainer: of a DDP fit; its reduction of gradients is switched off.
        every: K ≥ 1 optimizer steps.
        parameters: what is averaged.

    Reference: Lin et al. (2020), Don't use large mini-batches, use local SGD, arXiv:1808.07217.
    """

    def __init__(self, trainer: Trainer, every: int, parameters: Sequence[Tensor]) -> None:
        self._world = trainer.world_size
        self._parameters = list(parameters)
        saved = [getattr(callback, "_every_n_train_steps", 0) for callback in trainer.checkpoint_callbacks]
        self._due = [every, *(steps for steps in saved if steps)]
        wrapped: Any = trainer.strategy.model
        wrapped.require_backward_grad_sync = False

    def after_step(self, step: int) -> None:
        """Average where the step, counted from 1, is a K-th or is saved."""
        if any(step % every == 0 for every in self._due):
            self.now()

    @torch.no_grad()
    def now(self) -> None:
        """Average; every rank must call it."""
        average(self._parameters, self._world)

    def agree(self, failure: NonFiniteGradientError | None) -> None:
        """Raise on every rank what one has met, so that none waits for another. Every rank must call it.

        Raises:
            NonFiniteGradientError: this rank's own, or one that tells of another's.
        """
        met = self._parameters[0].new_tensor(float(failure is not None))
        torch.distributed.all_reduce(met, torch.distributed.ReduceOp.MAX)
        if failure is not None:
            raise failure
        if met:
            raise NonFiniteGradientError("a gradient of another rank is NaN or infinite, and its message says where")
