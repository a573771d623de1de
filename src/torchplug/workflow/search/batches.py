"""Training of trials: those that agree in structure as one program, the rest one by one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from torchplug.data.tabular import TabularData
from torchplug.many.configurations import Configuration, Configurations
from torchplug.many.grouping import Grouper, Grouping, Shared
from torchplug.many.record import Model, Record
from torchplug.many.result import Fitted
from torchplug.many.settings import TrainerSettings
from torchplug.many.training import ManyTraining, Watch, keep_all
from torchplug.workflow.search.pruning import Pruner, is_rung
from torchplug.workflow.search.settings import Base, Trial, Values
from torchplug.workflow.search.study import Asked, Result, Study

Fold = tuple[Any, Any]
"""The rows that train and those that validate."""


class Epochs(Record):
    """Keeps the metrics of each epoch in memory.

    Args:
        numbers: of the trials that are trained together.
        fold: the number of their first fold.

    Attributes:
        rows: of metrics.jsonl, by trial.
    """

    def __init__(self, numbers: Sequence[int], fold: int) -> None:
        self._numbers = numbers
        self._fold = fold
        self.rows: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}

    @override
    def log(self, epoch: int, models: Sequence[Model], steps: Sequence[int], metrics: Mapping[str, Tensor]) -> None:
        columns = [[value if math.isfinite(value) else None for value in own.tolist()] for own in metrics.values()]
        for model, step, *values in zip(models, steps, *columns, strict=True):
            number = self._numbers[model[0]]
            place = {"step": step - 1, "epoch": epoch, "trial": number, "fold": self._fold + model[1]}
            self.rows[number].append(place | dict(zip(metrics, values, strict=True)))


@dataclass
class _Attempt:
    """What is known of a trial while its folds are trained."""

    asked: Asked
    trial: Trial
    fitted: list[Fitted] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    is_pruned: bool = False


@dataclass(frozen=True)
class Ended:
    """A trial that was trained.

    Args:
        asked: the trial.
        result: what it came to; None where it was interrupted.
        rows: its metrics by epoch and fold.
    """

    asked: Asked
    result: Result | None
    rows: Sequence[Mapping[str, Any]]


class Batches:
    """Trains batches of trials.

    Args:
        base: the settings that are not searched.
        folds: the rows of each; None: the table's own split.
        metric: what trials are compared by.
        pruner: what ends trials early.
        seed: of networks and dropout.

    Attributes:
        shared: how many models have run in how many programs.
    """

    def __init__(self, base: Base, folds: Sequence[Fold] | None, metric: str, pruner: Pruner, seed: int) -> None:
        self._base = base
        self._folds = folds
        self._metric = metric
        self._pruner = pruner
        self._seed = seed
        self._reader = Configurations()
        self._prepared: dict[Hashable, tuple[TrainerSettings, list[TabularData], dict[int | None, Grouper]]] = {}
        self.shared = Shared()

    @property
    def folds(self) -> int:
        """How many models a trial has."""
        return 1 if self._folds is None else len(self._folds)

    def check(self, values: Values) -> tuple[Configuration, TabularData]:
        """Read the tables, and refuse a trial that could not be trained.

        Args:
            values: of its settings.

        Returns:
            its configuration, and the table of its first fold, prepared.

        Raises:
            DataError: for tables that cannot be used.
            ConfigurationError: for components that do not go with them.
        """
        trial = self._base.trial(values)
        _, _, groupers = self._tables(trial)
        configuration = self._reader.read(trial.config)
        groupers[None].group([configuration])
        return configuration, groupers[None].prepared(configuration.module().data_request())[0]

    def train(self, asked: Sequence[Asked], study: Study, advance: Callable[[float], None]) -> Iterator[Ended]:
        """Train trials, and yield each when it has ended.

        Args:
            asked: the trials.
            study: decides which are pruned.
            advance: is called with a number of trials as training goes on.
        """
        together: dict[Hashable, list[_Attempt]] = {}
        for one in asked:
            trial = self._base.trial(one.values)
            together.setdefault(trial.setting, []).append(_Attempt(one, trial))
        for attempts in together.values():
            if self._pruner == "wilcoxon":
                self._train_fold_by_fold(attempts, study, advance)
            else:
                watch = self._halving(attempts, study) if self._pruner == "halving" else keep_all
                self._train(attempts, None, advance, watch)
            for attempt in attempts:
                yield Ended(attempt.asked, self._result(attempt), attempt.rows)

    def repeat(self, values: Values, seeds: Sequence[int]) -> list[float | None]:
        """Train one trial from several seeds; the value of each, None where it diverged or was interrupted."""
        trial = self._base.trial(values)
        settings, tables, groupers = self._tables(trial)
        configurations = [self._reader.read({**trial.config, "seed": seed}) for seed in seeds]
        grouping = groupers[None].group(configurations)
        fitted = self._run(configurations, tables, grouping, settings, Record(), lambda trials: None, keep_all)
        found = []
        for number in range(len(seeds)):
            own = [fitted[number, fold] for fold in range(len(tables))]
            found.append(self._result(_Attempt(Asked(number, values, None), trial, own)))
        return [None if result is None else result.value for result in found]

    # ------------------------------------------------------------------ training

    def _train(
        self, attempts: Sequence[_Attempt], fold: int | None, advance: Callable[[float], None], watch: Watch = keep_all
    ) -> None:
        """Train trials of equal settings in all folds, or in one."""
        settings, tables, groupers = self._tables(attempts[0].trial)
        configurations = [self._reader.read({**own.trial.config, "seed": self._seed}) for own in attempts]
        record = Epochs([own.asked.number for own in attempts], fold or 0)
        chosen = tables if fold is None else [tables[fold]]
        grouping = groupers[fold].group(configurations)
        self.shared.add(grouping)
        fitted = self._run(configurations, chosen, grouping, settings, record, advance, watch)
        for number, attempt in enumerate(attempts):
            attempt.fitted += [fitted[number, place] for place in range(len(chosen))]
            attempt.rows += record.rows[attempt.asked.number]

    def _train_fold_by_fold(self, attempts: Sequence[_Attempt], study: Study, advance: Callable[[float], None]) -> None:
        """Train fold after fold those that are not significantly worse than the best."""
        going = list(attempts)
        for fold in range(self.folds):
            if not going:
                return
            self._train(going, fold, advance)
            if not all(own.fitted[-1].ended for own in going):
                return
            for attempt in going:
                value = _value(attempt.fitted[-1], self._metric)
                if value is None:
                    continue
                study.report(attempt.asked, value, fold)
                attempt.is_pruned = fold + 1 < self.folds and study.prunes(attempt.asked)
            left = [own for own in going if not own.is_pruned and _value(own.fitted[-1], self._metric) is not None]
            advance((len(going) - len(left)) * (self.folds - fold - 1) / self.folds)
            going = left

    def _run(
        self,
        configurations: Sequence[Configuration],
        tables: Sequence[TabularData],
        grouping: Grouping,
        settings: TrainerSettings,
        record: Record,
        advance: Callable[[float], None],
        watch: Watch,
    ) -> dict[Model, Fitted]:
        def advanced(models: float) -> None:
            advance(models / self.folds)

        return ManyTraining(configurations, tables, grouping, settings, record, advanced, watch).run()

    def _tables(self, trial: Trial) -> tuple[TrainerSettings, list[TabularData], dict[int | None, Grouper]]:
        """The Trainer's settings and the tables of a trial, and what groups the models of all folds, or of one."""
        if trial.setting not in self._prepared:
            settings, table = TrainerSettings(trial.trainer), self._base.table(trial)
            tables = [table] if self._folds is None else [table.fold(*fold) for fold in self._folds]
            groupers: dict[int | None, Grouper] = {None: Grouper(tables, settings)}
            groupers |= {fold: Grouper([own], settings) for fold, own in enumerate(tables)}
            self._prepared[trial.setting] = settings, tables, groupers
        return self._prepared[trial.setting]

    def _halving(self, attempts: Sequence[_Attempt], study: Study) -> Watch:
        """What ends trials after an epoch: those that are not among the best third, in all folds."""
        planned = attempts[0].trial.trainer.get("max_epochs")

        def watch(epoch: int, models: Sequence[Model], metrics: Mapping[str, Tensor]) -> Tensor:
            keep = torch.ones(len(models), dtype=torch.bool)
            if not is_rung(epoch + 1) or epoch + 1 == planned:
                return keep
            places: dict[int, list[int]] = {}
            for place, (number, _) in enumerate(models):
                places.setdefault(number, []).append(place)
            values = metrics[self._metric]
            whole = {number: own for number, own in places.items() if len(own) == self.folds}
            for number, own in whole.items():
                study.report(attempts[number].asked, float(values[own].mean()), epoch + 1)
            for number, own in whole.items():
                attempts[number].is_pruned = study.prunes(attempts[number].asked)
                keep[own] = not attempts[number].is_pruned
            return keep

        return watch

    # ------------------------------------------------------------------ what came of it

    def _result(self, attempt: _Attempt) -> Result | None:
        fitted = attempt.fitted
        if not all(own.ended for own in fitted):
            return None
        names = dict.fromkeys(["train/epoch_loss", "val/loss", self._metric])
        metrics = {name: [_value(own, name) for own in fitted] for name in names}
        values = metrics[self._metric]
        diverged = next((own for own in fitted if self._has_diverged(own, attempt.trial)), None)
        epochs = max(own.epochs for own in fitted)
        known = [value for value in values if value is not None]
        if diverged is not None:
            return Result("diverged", None, metrics, epochs, diverged.result.outcome.reason)
        value = statistics.fmean(known)
        if attempt.is_pruned:
            reason = (
                f"pruned after {epochs} epochs" if self._pruner == "halving" else f"pruned after {len(fitted)} folds"
            )
            return Result("pruned", value, metrics, epochs, reason)
        return Result("complete", value, metrics, epochs, fitted[0].result.outcome.reason)

    def _has_diverged(self, fitted: Fitted, trial: Trial) -> bool:
        """Whether a model has no value, or a gradient that is not finite has ended its training.

        Full-batch optimizers also stall where they make no more progress, at a value that stands.
        """
        if _value(fitted, self._metric) is None:
            return True
        is_full_batch = self._reader.read(trial.config).components.is_full_batch
        return fitted.result.outcome.name == "stalled" and not is_full_batch


def _value(fitted: Fitted, metric: str) -> float | None:
    """The last value of a metric; None where there is none, or it is not finite."""
    value = fitted.result.metrics.get(metric)
    return value if value is not None and math.isfinite(value) else None
