"""Access to Lightning's private counters, metrics and loops; no other file of this package writes to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loops.optimization.automatic import ClosureResult
from lightning.pytorch.loops.training_epoch_loop import RestartStage
from torch import Tensor
from typing_extensions import override


class QuickHooks(LightningModule):
    """LightningModule that is cheaper to call hooks of.

    The trainer notes the name of each hook as an attribute of the module, around a hundred times per epoch, and
    `nn.Module` searches parameters, buffers and submodules at each of them.
    """

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)


def done_in_epoch(trainer: Trainer) -> int:
    """Return the number of batches of this epoch that the trainer has fetched."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def advance(trainer: Trainer, steps: int) -> None:
    """Count steps that were made outside of the trainer as if it had made them."""
    loop = trainer.fit_loop.epoch_loop
    loop.batch_progress.increment_by(steps)
    loop._batches_that_stepped += steps
    counters = loop.automatic_optimization.optim_progress.optimizer
    counters.step.increment_by(steps)
    counters.zero_grad.increment_by(steps)
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None, "a fit that trains has one"
    fetcher.fetched += steps


def step_schedules(trainer: Trainer) -> None:
    """Step the schedules that are due after an optimizer step, except those that monitor a metric."""
    trainer.fit_loop.epoch_loop.update_lr_schedulers("step", update_plateau_schedulers=False)


def write_row(trainer: Trainer, row: Mapping[str, float]) -> None:
    """Write a row of the current step to the loggers, and make its values available to callbacks.

    `LightningModule.log` works in steps of Lightning's only and costs ten times as much; the logger connector, which
    searches for tensors, twice as much.
    """
    connector = trainer._logger_connector
    if row and trainer.loggers:
        connector._logged_metrics.update(row)  # type: ignore[arg-type]
        metrics = {**row, "epoch": trainer.current_epoch}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.fit_loop.epoch_loop._batches_that_stepped)
            logger.save()
    values = torch.tensor(list(row.values()), dtype=torch.float64)
    connector._callback_metrics.update(zip(row, values.unbind(), strict=True))


def write_epoch_row(trainer: Trainer, row: Mapping[str, float]) -> None:
    """Write a row at the end of an epoch, with its last step's number; the progress bar shows it too."""
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped -= 1  # as Lightning does it
    write_row(trainer, row)
    loop._batches_that_stepped += 1
    trainer._logger_connector._progress_bar_metrics.update(row)


def log_validation(trainer: Trainer, values: Mapping[str, Tensor], shown: Sequence[str]) -> None:
    """Log the metrics of a fit's validation in the row that the trainer writes when the validation ends.

    `LightningModule.log` reduces over batches and ranks what is final here, and costs ten times as much.

    Args:
        trainer: in the module's `on_validation_epoch_end`.
        values: by name, equal on all ranks.
        shown: the names that the progress bar shows.
    """
    connector = trainer._logger_connector
    trainer.fit_loop.epoch_loop.val_loop._logged_outputs[-1].update(values)
    connector._callback_metrics.update(values)
    connector._progress_bar_metrics.update({name: values[name].item() for name in shown})


def restore_metrics(trainer: Trainer, metrics: Mapping[str, Tensor]) -> None:
    """Restore the metric values that callbacks read."""
    trainer._logger_connector._callback_metrics.update(metrics)


def mark_closure_done(closure: Any) -> None:
    """Mark Lightning's closure as executed, so that it is not run."""
    closure._result = ClosureResult(closure_loss=None)


# ---------------------------------------------------------------------- position and resuming


def has_begun(trainer: Trainer) -> bool:
    """Whether the trainer's first epoch has begun, in this fit or before it was interrupted."""
    return trainer.fit_loop.epoch_progress.total.ready > 0


def is_training(trainer: Trainer) -> bool:
    """Whether training is running: neither validation nor a fit that has ended or failed."""
    return trainer.training and not trainer.state.stopped


def ends_with_epoch(trainer: Trainer) -> bool:
    """Whether training may end with the epoch that ends now, by a limit or by request."""
    progress: Any = trainer.fit_loop.epoch_progress
    limits = ((progress.current.processed, trainer.max_epochs), (trainer.global_step, trainer.max_steps))
    reached = any(limit is not None and 0 <= limit <= count for count, limit in limits)
    return reached or trainer.should_stop or trainer.received_sigterm


def resumes_within_epoch(trainer: Trainer) -> bool:
    """Whether a fit resumes within an epoch, in which case Lightning skips `on_train_epoch_start`."""
    return trainer.fit_loop.restarted_mid_epoch or trainer.fit_loop.restarted_on_epoch_end


def validation_is_due(trainer: Trainer) -> bool:
    """Whether a validation is due after the current batch by the trainer's intervals, not just because it stops."""
    loop: Any = trainer.fit_loop.epoch_loop
    stops, trainer.should_stop = trainer.should_stop, False
    try:
        return bool(loop._should_check_val_fx(trainer.fit_loop._data_fetcher))
    finally:
        trainer.should_stop = stops


def count_rows(trainer: Trainer, steps: int) -> None:
    """Shift the step number of logged rows."""
    trainer.fit_loop.epoch_loop._batches_that_stepped += steps


def validate(trainer: Trainer) -> None:
    """Run a validation as the training loop does."""
    loop: Any = trainer.fit_loop.epoch_loop.val_loop
    loop._restarting = False
    trainer.validating = True
    loop.run()
    trainer.training = True


def start_next_epoch_afresh(trainer: Trainer) -> None:
    """Make the loops begin the next epoch as in an uninterrupted fit; a fit bounded by `max_steps` would restart."""
    loop: Any = trainer.fit_loop
    for each in (loop, loop.epoch_loop, loop.epoch_loop.val_loop):
        each._restarting = False
        each._restart_stage = RestartStage.NONE


def ask_before_batches(trainer: Trainer, ask: Callable[[bool], None]) -> None:
    """Call a function before each training batch, instead of Lightning's handling of SIGTERM.

    Args:
        trainer: the trainer, before the fit.
        ask: called with whether the previous accumulation window is complete.
    """
    connector: Any = trainer._signal_connector
    connector._sigterm_notifier_fn = _nothing
    loop: Any = trainer.fit_loop.epoch_loop
    advance = loop.advance

    def ask_and_advance(fetcher: Any) -> None:
        ask(not loop._should_accumulate())
        advance(fetcher)

    loop._broadcast_sigterm_tensor = _nothing
    loop.advance = ask_and_advance


def evaluated_batches(trainer: Trainer) -> int:
    """Return the number of batches of the running evaluation that were fetched."""
    return trainer._evaluation_loop.batch_progress.current.ready


def _nothing(*arguments: Any) -> None:
    """Do nothing; replaces methods of Lightning's."""
