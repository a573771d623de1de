"""What a search came to."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars

from torchplug.data.tabular import TabularData
from torchplug.registry.component import Direction
from torchplug.tracking.run import Run
from torchplug.workflow.search.study import Finished


@dataclass(frozen=True)
class Repeats:
    """The best trial, trained again from other seeds.

    Args:
        seeds: of networks and dropout.
        values: of the metric; None where training diverged.
    """

    seeds: Sequence[int]
    values: Sequence[float | None]

    @property
    def known(self) -> list[float]:
        """The values of those that did not diverge."""
        return [value for value in self.values if value is not None]

    @property
    def mean(self) -> float | None:
        """Over seeds; None where all diverged."""
        return statistics.fmean(self.known) if self.known else None

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds, n − 1 in the denominator; None for fewer than two values."""
        return statistics.stdev(self.known) if len(self.known) > 1 else None


@dataclass(frozen=True)
class SearchResult:
    """What a search came to.

    Args:
        trials: a row for each trial that has ended, by number: `trial`, `state` (complete, pruned or diverged), the
            metric (with folds its mean), the settings by name (null where a trial does not have one), `epochs`, and
            `reason`.
        metric: what trials are compared by.
        direction: which value of it is the best: min or max.
        best: the settings of the best trial, by name; None where no trial is complete.
        best_trial: its number.
        best_value: the metric of the best trial.
        config: ComponentModule's parameters for the best trial, for `torchplug.fit`.
        data: its table.
        trainer: its settings of the Trainer.
        repeats: the best trial, trained again from other seeds; None where it was not.
        importances: how much of the metric's variation among the better trials each setting explains, adding up to 1.
        planned: how many trials there are in all.
        shared: how many models have run in how many programs, in this process.
        notes: what the user should know.
        run: the run directory.
    """

    trials: polars.DataFrame
    metric: str
    direction: Direction
    best: Mapping[str, Any] | None
    best_trial: int | None
    best_value: float | None
    config: Mapping[str, Any] | None
    data: TabularData | None
    trainer: Mapping[str, Any] | None
    repeats: Repeats | None
    importances: Mapping[str, float]
    planned: int
    shared: str
    notes: Sequence[str]
    run: Run

    @property
    def is_finished(self) -> bool:
        """Whether all trials have ended; else other processes have some under way."""
        return self.trials.height >= self.planned


def best_of(finished: Sequence[Finished], direction: Direction) -> Finished | None:
    """The complete trial with the best value; of equals the first."""
    complete = [own for own in finished if own.result.state == "complete"]
    sign = 1.0 if direction == "min" else -1.0
    return min(complete, key=lambda own: sign * (own.result.value or 0.0), default=None)


def table_of(finished: Sequence[Finished], settings: Sequence[str], metric: str) -> polars.DataFrame:
    """The table of trials.

    Args:
        finished: those that have ended.
        settings: the names of what is searched.
        metric: its name.
    """
    folds = max((len(own.result.metrics[metric]) for own in finished), default=1)
    per_fold = [f"{metric}, fold {fold}" for fold in range(folds)] if folds > 1 else []
    columns = [
        polars.Series("trial", [own.number for own in finished], dtype=polars.Int64),
        polars.Series("state", [own.result.state for own in finished], dtype=polars.String),
        polars.Series(metric, [own.result.value for own in finished], dtype=polars.Float64),
        *(_column(name, [own.values.get(name) for own in finished]) for name in settings),
        *(
            polars.Series(name, [_at(own.result.metrics[metric], fold) for own in finished], dtype=polars.Float64)
            for fold, name in enumerate(per_fold)
        ),
        polars.Series("epochs", [own.result.epochs for own in finished], dtype=polars.Int64),
        polars.Series("reason", [own.result.reason for own in finished], dtype=polars.String),
    ]
    return polars.DataFrame(columns)


def _column(name: str, values: Sequence[Any]) -> polars.Series:
    """A setting's values: numbers if all are, else text."""
    numbers = [_number(value) for value in values]
    if all((number is None) == (value is None) for number, value in zip(numbers, values, strict=True)):
        return polars.Series(name, numbers, dtype=polars.Float64)
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return polars.Series(name, texts, dtype=polars.String)


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _at(values: Sequence[float | None], place: int) -> float | None:
    return values[place] if place < len(values) else None
