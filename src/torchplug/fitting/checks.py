"""Trainer, data and components that do not go together: refused before a run is made, where Lightning fails later."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping

from torchplug.components.metrics import MetricChoice
from torchplug.data.splitting import SplitName
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.module import ComponentModule

_VALIDATE = "validate more rows (--data.split) or more often (--trainer.limit_val_batches, check_val_every_n_epoch)"


def refuse_combination(trainer: lightning.Trainer, module: ComponentModule, data: TabularData) -> None:
    """Refuse a fit that would fail on the way, or in which a setting would have no effect.

    Args:
        trainer: as it will fit.
        module: with its components; it has seen the data.
        data: prepared.

    Raises:
        ConfigurationError: naming the flag, what is wrong and what would work.
    """
    _refuse_empty(trainer, data, "train")
    if data.sizes["validation"]:
        _refuse_empty(trainer, data, "validation")
        _refuse_validation_never_reached(trainer, data)
    _refuse_unlogged(trainer, module, data)


def refuse_evaluation(trainer: lightning.Trainer, data: TabularData, split: Literal["validation", "test"]) -> None:
    """Refuse an evaluation of no batch.

    Raises:
        ConfigurationError: naming the limit.
    """
    _refuse_empty(trainer, data, split)
    flag, limit = _limit(trainer, split)
    if limit == 0:
        raise ConfigurationError(f"--trainer.{flag} 0 leaves nothing to evaluate: leave it out")


def validates(trainer: lightning.Trainer, data: TabularData) -> bool:
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


def _batches(trainer: lightning.Trainer, data: TabularData, split: SplitName) -> int:
    """How many batches of a split an epoch has, limits included."""
    limit, batches = _limit(trainer, split)[1], data.batches(split, trainer.world_size)
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _refuse_empty(trainer: lightning.Trainer, data: TabularData, split: SplitName) -> None:
    flag, limit = _limit(trainer, split)
    batches = data.batches(split, trainer.world_size)
    if limit and batches and not _batches(trainer, data, split):
        number = "1 batch" if batches == 1 else f"{batches} batches"
        least = math.ceil(1e4 / batches) / 1e4
        raise ConfigurationError(
            f"--trainer.{flag} {limit}: the {split} split has {number}, and that share of them is none: "
            f"give at least {least:g}, or a whole number of batches"
        )


def _refuse_validation_never_reached(trainer: lightning.Trainer, data: TabularData) -> None:
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


def _refuse_unlogged(trainer: lightning.Trainer, module: ComponentModule, data: TabularData) -> None:
    """Refuse to wait for a metric that does not exist when it is asked for."""
    validated = validates(trainer, data)
    choice = module.resolved.metric_choice
    labelled = module.preprocessing is None or module.preprocessing.target_coding.labels
    known = choice.watchable(validated, labelled)
    schedule = module.resolved.trial_scheduler
    monitor = getattr(schedule, "monitor", None)
    if monitor is not None:
        scheduler = module.resolved.scheduler
        name = "the scheduler" if scheduler is None else scheduler.name
        where = f"--model.scheduler: {name} watches {monitor}"
        if monitor not in ["train/loss", *known]:
            raise ConfigurationError(f"{where}, {_remedy(monitor, known, choice)}")
        _refuse_direction(choice, schedule, monitor, where)
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        where = f"--trainer.callbacks: {type(callback).__name__} watches {monitor}"
        if monitor is not None and monitor not in known:
            raise ConfigurationError(f"{where}, {_remedy(monitor, known, choice)}")
        if monitor is not None:
            _refuse_direction(choice, callback, monitor, where)
        if isinstance(callback, EarlyStopping) and monitor is not None:
            _refuse_early_look(trainer, callback, monitor, validated, where)


def _refuse_direction(choice: MetricChoice, watching: object, monitor: str, where: str) -> None:
    if (objection := choice.objection(monitor, getattr(watching, "mode", None))) is not None:
        raise ConfigurationError(f"{where}, {objection}")


def _remedy(monitor: str, known: Sequence[str], choice: MetricChoice) -> str:
    if monitor in choice.watchable(validated=True):
        return f"which no epoch logs, since nothing is validated: watch {', '.join(known)}, or {_VALIDATE}"
    return f"which no epoch logs: watch {', '.join(known)}"


def _refuse_early_look(
    trainer: lightning.Trainer, callback: EarlyStopping, monitor: str, validated: bool, where: str
) -> None:
    """Refuse an EarlyStopping that looks when its metric is not there yet, or never looks."""
    every_epoch = trainer.check_val_every_n_epoch == 1
    chosen = callback._check_on_train_epoch_end
    at_epoch_end = (trainer.val_check_interval == 1.0 and every_epoch) if chosen is None else chosen
    if not at_epoch_end and not validated:
        raise ConfigurationError(
            f"{where} when a validation ends, and nothing is validated: set its check_on_train_epoch_end to true"
        )
    if not at_epoch_end and monitor.startswith("train/"):
        raise ConfigurationError(
            f"{where} when a validation ends, before an epoch has logged it: set its check_on_train_epoch_end to true, "
            "or watch val/loss"
        )
    if at_epoch_end and monitor.startswith("val/") and not every_epoch:
        raise ConfigurationError(
            f"{where} at the end of every epoch, and not every epoch validates: leave check_on_train_epoch_end out, or "
            "set --trainer.check_val_every_n_epoch 1"
        )


def refuse_numbers(module: ComponentModule, precision: str | int | None) -> None:
    """Refuse parameters that the training's precision turns into infinity or zero.

    Args:
        module: with its components.
        precision: as Lightning's Trainer takes it.

    Raises:
        ConfigurationError: naming the parameter and the range.
    """
    if module.resolved.is_full_batch or str(precision) in ("64-true", "64"):
        return
    half = precision in ("16-true", "transformer-engine-float16")
    limits = torch.finfo(torch.float16 if half else torch.float32)
    name = "half" if half else "single"
    for component in module.components:
        for path, value in _numbers(component.spec.plain()["parameters"]):
            size = abs(value)
            if size > limits.max or 0 < size < limits.smallest_normal * (limits.eps if not half else 0):
                raise ConfigurationError(
                    f"{component.name}: {path} {value:g} is {'infinite' if size > 1 else 'zero'} in {name} precision, "
                    f"whose numbers reach from {limits.smallest_normal:.1e} to {limits.max:.1e}: choose one of these, "
                    "or --trainer.precision 64-true"
                )


def _numbers(parameters: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every float among parameters, with the names that lead to it."""
    if isinstance(parameters, Mapping):
        for key, value in parameters.items():
            inner = path if key in ("name", "parameters") and path else f"{path}.{key}".lstrip(".")
            yield from _numbers(value, inner)
    elif isinstance(parameters, list | tuple):
        for value in parameters:
            yield from _numbers(value, path)
    elif isinstance(parameters, float) and math.isfinite(parameters):
        yield path, parameters
