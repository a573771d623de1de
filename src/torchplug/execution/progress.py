"""Lightning's own counters and metrics of a fit; nothing else of this package writes to them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer
from torch.optim import Optimizer


def done_in_epoch(trainer: Trainer) -> int:
    """How many batches of this epoch are behind the trainer."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def advance(trainer: Trainer, steps: int) -> None:
    """Count steps that were made between two of the trainer's own, as if it had made them."""
    loop = trainer.fit_loop.epoch_loop
    loop.batch_progress.increment_by(steps)
    loop._batches_that_stepped += steps
    counters = loop.automatic_optimization.optim_progress.optimizer
    counters.step.increment_by(steps)
    counters.zero_grad.increment_by(steps)
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None, "a fit that trains has one"
    fetcher.fetched += steps


def learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """What an optimizer's groups now step by, under the names that Lightning's LearningRateMonitor gives."""
    name, groups = f"lr-{type(optimizer).__name__}", optimizer.param_groups
    names = [name] if len(groups) == 1 else [f"{name}/pg{number}" for number in range(1, len(groups) + 1)]
    return {name: float(group["lr"]) for name, group in zip(names, groups, strict=True) if "lr" in group}


def write_row(trainer: Trainer, row: Mapping[str, float]) -> None:
    """Give the loggers a row of the step under way, and callbacks its values.

    `LightningModule.log` would do it for steps of Lightning's alone, and at ten times the cost; its connector, which
    looks for tensors in what are numbers, at twice.
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
    """The same where an epoch ends: as a row of its last step, which the progress bar shows as well."""
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped -= 1  # as Lightning does it
    write_row(trainer, row)
    loop._batches_that_stepped += 1
    trainer._logger_connector._progress_bar_metrics.update(row)
