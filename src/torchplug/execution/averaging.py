"""What ranks average with each other: gradients at every step, or parameters now and then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from torchplug.errors import NonFiniteGradientError
from torchplug.execution.local_pair import LocalPair


class Ranks:
    """All ranks of a fit, which add up small tensors between Lightning's steps. Each makes one, and calls it alike.

    Args:
        world: how many there are.
        device: where the tensors are.
    """

    def __init__(self, world: int, device: torch.device) -> None:
        self.world = world
        self._pair = LocalPair.connect() if world == 2 and device.type == "cpu" else None

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all ranks."""
        if self._pair is not None:
            self._pair.add(tensor)
        elif self.world > 1:
            torch.distributed.all_reduce(tensor)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over all ranks, as DDP does: divided first, then added up."""
        flat = tensors[0] if len(tensors) == 1 else torch.cat([tensor.reshape(-1) for tensor in tensors])
        self.all_reduce_sum(flat.mul_(1.0 / self.world))
        if len(tensors) > 1:
            pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
            for tensor, piece in zip(tensors, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))

    def close(self) -> None:
        """Let the others go."""
        if self._pair is not None:
            self._pair.close()


class ParameterAveraging:
    r"""Each rank makes steps of its own, and now and then all take the mean of their parameters.

        θ_r ← θ_r − α g_r at every step,    θ_r ← (1/W) Σ_r θ_r at every K-th

    Another algorithm than averaging gradients: with the same batches it leads to other weights, by fewer reductions.
    The optimizer's state stays each rank's own; a checkpoint keeps that of rank 0.

    Args:
        trainer: of a DDP fit; its reduction of gradients is switched off.
        every: K ≥ 1 optimizer steps.
        parameters: what is averaged.
        ranks: whose mean it is.

    Reference: Lin et al. (2020), Don't use large mini-batches, use local SGD, arXiv:1808.07217.
    """

    def __init__(self, trainer: Trainer, every: int, parameters: Sequence[Tensor], ranks: Ranks) -> None:
        self._parameters = list(parameters)
        self._ranks = ranks
        saved = [getattr(callback, "_every_n_train_steps", 0) for callback in trainer.checkpoint_callbacks]
        self._due = [every, *(steps for steps in saved if steps)]
        wrapped: Any = trainer.strategy.model
        wrapped.require_backward_grad_sync = False

    def after_step(self, step: int) -> None:
        """Average where the step, counted from 1, is a K-th or is saved."""
        if self.is_due(step):
            self.now()

    def is_due(self, step: int) -> bool:
        """Whether ranks have the same parameters after this step."""
        return any(step % every == 0 for every in self._due)

    @torch.no_grad()
    def now(self) -> None:
        """Average; every rank must call it."""
        self._ranks.average(self._parameters)

    def agree(self, failure: NonFiniteGradientError | None) -> None:
        """Raise on every rank what one has met, so that none waits for another. Every rank must call it.

        Raises:
            NonFiniteGradientError: this rank's own, or one that tells of another's.
        """
        met = self._parameters[0].new_tensor(float(failure is not None))
        self._ranks.all_reduce_sum(met)
        if failure is not None:
            raise failure
        if met:
            raise NonFiniteGradientError("a gradient of another rank is NaN or infinite, and its message says where")
