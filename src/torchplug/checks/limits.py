"""Limits and intervals of the trainer that leave nothing to train on, to validate or to evaluate."""

from __future__ import annotations

import math

import lightning

from torchplug.batch import SplitName
from torchplug.checks.prepared_data import PreparedData
from torchplug.errors import ConfigurationError


def refuse_limits(trainer: lightning.Trainer, data: PreparedData) -> None:
    """Refuse a fit in which an epoch has no batch, or a validation is never reached.

    Raises:
        ConfigurationError: naming the flag and what would work.
    """
    _refuse_empty(trainer, data, "train")
    if data.sizes["validation"]:
        _refuse_empty(trainer, data, "validation")
        _refuse_validation_never_reached(trainer, data)


def refuse_evaluation(trainer: lightning.Trainer, data: PreparedData, split: SplitName) -> None:
    """Refuse an evaluation of no batch.

    Raises:
        ConfigurationError: naming the limit.
    """
    _refuse_empty(trainer, data, split)
    flag, limit = _limit(trainer, split)
    if limit == 0:
        raise ConfigurationError(f"--trainer.{flag} 0 leaves nothing to evaluate: leave it out")


def validates(trainer: lightning.Trainer, data: PreparedData) -> bool:
    """Whether a fit comes to a validation."""
    if not data.sizes["validation"] or trainer.limit_val_batches == 0:
        return False
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    return every is None or epochs is None or epochs < 0 or every <= epochs or bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def _limit(trainer: lightning.Trainer, split: SplitName) -> tuple[str, int | float]:
    """The flag that limits the batches of a split, and its value."""
    overfit: int | float = trainer.overfit_batches  # type: ignore[attr-defined]
    if overfit and split != "test":
        return "overfit_batches", overfit
    flag = {"train": "limit_train_batches", "validation": "limit_val_batches", "test": "limit_test_batches"}[split]
    limit: int | float = getattr(trainer, flag)
    return flag, limit


def _batches(trainer: lightning.Trainer, data: PreparedData, split: SplitName) -> int:
    """How many batches of a split an epoch has, limits included."""
    limit, batches = _limit(trainer, split)[1], data.batches(split, trainer.world_size)
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _refuse_empty(trainer: lightning.Trainer, data: PreparedData, split: SplitName) -> None:
    flag, limit = _limit(trainer, split)
    batches = data.batches(split, trainer.world_size)
    if limit and batches and not _batches(trainer, data, split):
        number = "1 batch" if batches == 1 else f"{batches} batches"
        least = math.ceil(1e4 / batches) / 1e4
        raise ConfigurationError(
            f"--trainer.{flag} {limit}: the {split} split has {number}, and that share of them is none: "
            f"give at least {least:g}, or a whole number of batches"
        )


def _refuse_validation_never_reached(trainer: lightning.Trainer, data: PreparedData) -> None:
    interval, every = trainer.val_check_interval, trainer.check_val_every_n_epoch
    if trainer.limit_val_batches == 0 or trainer.fast_dev_run or not isinstance(interval, int):  # type: ignore[attr-defined]
        return
    batches = _batches(trainer, data, "train")
    epochs = trainer.max_epochs or -1
    if every is None and epochs > 0:
        batches *= epochs
    elif every is None:
        return
    if interval > batches:
        of = "training has" if every is None else "an epoch has"
        number = "1 batch" if batches == 1 else f"{batches} batches"
        raise ConfigurationError(
            f"--trainer.val_check_interval {interval}: {of} {number}: give at most {batches}, or validate rarer with "
            "--trainer.check_val_every_n_epoch"
        )
