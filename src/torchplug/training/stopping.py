"""Stopping after a signal, at a boundary between steps that is the same on every rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from torchplug import interruption
from torchplug.interruption import Interrupted
from torchplug.training.grouping import boundary_steps
from torchplug.training.lightning_internals import ask_before_batches, evaluated_batches


def asked_to_stop(trainer: Trainer) -> bool:
    """Whether a signal has reached any rank; collective."""
    asked = interruption.requested()
    if trainer.world_size == 1:
        return asked
    flag = torch.tensor([asked], dtype=torch.int32, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


class StepBoundaries:
    """Boundaries between steps that are made outside of Lightning.

    Args:
        trainer: the trainer.
        every: on several ranks, they check together for a signal at multiples of this number of steps.
    """

    def __init__(self, trainer: Trainer, every: int) -> None:
        self._trainer = trainer
        self._every = every
        self._alone = trainer.world_size == 1
        self._step = 0

    def begin(self) -> None:
        """Start counting at the trainer's number of steps."""
        self._step = self._trainer.global_step

    def pass_one(self, steps: int = 1) -> None:
        """Count steps, and stop training if a signal has requested it.

        Raises:
            Interrupted: on every rank, after the same step.
        """
        self._step += steps
        if self._alone:
            _stop_if(interruption.requested())
        elif self._step % self._every == 0 and interruption.is_handled():
            _stop_if(asked_to_stop(self._trainer))


def _stop_if(asked: bool) -> None:
    if asked:
        interruption.reach_boundary()
        raise Interrupted


class StopAtBoundary(Callback):
    """Callback that stops the trainer after a signal, on all ranks together, and saves a fit's last.ckpt.

    Boundaries are Lightning's batches, including those of validation and test, and the steps in between
    (`RunAhead`). Replaces Lightning's handling of SIGTERM, whose handler broadcasts.

    Args:
        last: the path of a fit's checkpoint; None for an evaluation.
    """

    def __init__(self, last: Path | None = None) -> None:
        self._last = last
        self._period = 1  # on several ranks: batches of an evaluation between two checks for a signal

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Install the check between training batches, ahead of all callbacks."""
        if not interruption.is_handled():
            return
        if trainer.world_size > 1:
            rows = getattr(getattr(trainer, "datamodule", None), "batch_size", 1)
            self._period = boundary_steps(pl_module, rows if isinstance(rows, int) else 1)

        def stop_if_asked(window_is_whole: bool) -> None:
            asked = asked_to_stop(trainer)
            module: Any = trainer.lightning_module
            _stop_if(asked and window_is_whole and module.execution.fit.is_boundary())

        ask_before_batches(trainer, stop_if_asked)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defer signals to the boundaries from here on."""
        self._begin(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defer signals to the boundaries from here on."""
        self._begin(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defer signals to the boundaries from here on."""
        self._begin(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defer signals to the boundaries from here on."""
        self._begin(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *arguments: Any, **named: Any) -> None:
        """Check for a signal between the batches of an evaluation."""
        self._check(trainer, evaluated_batches(trainer))

    def on_test_batch_end(self, trainer: Trainer, *arguments: Any, **named: Any) -> None:
        """Check for a signal between the batches of an evaluation."""
        self._check(trainer, evaluated_batches(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check once more: there is no boundary after the last step."""
        self._end(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check once more, unless a fit continues."""
        if trainer.state.fn != "fit":
            self._end(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check once more: there is no boundary after the last batch."""
        self._end(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save the checkpoint to resume from."""
        if not isinstance(exception, Interrupted) or self._last is None:
            return
        if trainer.sanity_checking or trainer.global_step == 0:
            return
        trainer.save_checkpoint(self._last)

    def _begin(self, trainer: Trainer) -> None:
        if interruption.is_handled():
            interruption.defer(alone=trainer.world_size == 1)

    def _check(self, trainer: Trainer, batches: int) -> None:
        if batches % self._period == 0 and interruption.is_handled():
            _stop_if(asked_to_stop(trainer))

    def _end(self, trainer: Trainer) -> None:
        if not interruption.is_handled():
            return
        _stop_if(asked_to_stop(trainer))
        interruption.no_longer_defer()
