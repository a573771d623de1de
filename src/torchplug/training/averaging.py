"""Parameter averaging over ranks that step independently (post-local SGD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from torchplug.errors import NonFiniteGradientError
from torchplug.objective.reductions import Ranks


class ParameterAveraging:
    r"""Averages parameters over ranks at every K-th step; in between each rank steps independently.

        θ_r ← θ_r − α g_r at every step,    θ_r ← (1/W) Σ_r θ_r at every K-th

    A different algorithm from averaging gradients: the same batches lead to other weights, with fewer reductions.
    Optimizer state is not averaged; a checkpoint's progress record has that of every rank.

    Args:
        trainer: a DDP trainer; its gradient reduction is switched off.
        every: K ≥ 1 optimizer steps.
        parameters: the tensors to average.
        ranks: the ranks to average over.

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
        """Average after a step, counted from 1, if it is a multiple of K or a checkpoint is due."""
        if self.is_due(step):
            self.now()

    def is_due(self, step: int) -> bool:
        """Whether all ranks have equal parameters after this step."""
        return any(step % every == 0 for every in self._due)

    @torch.no_grad()
    def now(self) -> None:
        """Average the parameters; collective."""
        self._ranks.average(self._parameters)

    def raise_on_all_ranks(self, failure: NonFiniteGradientError | None) -> None:
        """Raise on every rank if any rank has a failure, so that no rank waits for another; collective.

        Raises:
            NonFiniteGradientError: this rank's failure, or one that refers to another rank's message.
        """
        failures = self._parameters[0].new_tensor(float(failure is not None))
        self._ranks.all_reduce_sum(failures)
        if failure is not None:
            raise failure
        if failures:
            raise NonFiniteGradientError("a gradient of another rank is NaN or infinite, and its message says where")
