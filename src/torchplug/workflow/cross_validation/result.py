"""What a cross-validation came to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars

from torchplug.evaluation.calibration import Calibration
from torchplug.fit_result import FitResult
from torchplug.tracking.ensemble import Ensemble
from torchplug.tracking.run import Run
from torchplug.workflow.cross_validation.intervals import Interval, corrected_interval
from torchplug.workflow.cross_validation.out_of_fold import OutOfFold, pooled


@dataclass(frozen=True)
class CrossValidation:
    """What a cross-validation came to.

    Args:
        folds: the values of each metric by its plain name, such as `rmse`, a value per fold, those of the first repeat
            first; NaN where a metric is undefined.
        mean: over folds.
        interval: ends of the corrected 95 % interval of each mean; NaN for a single fold.
        predictions: by models that have not seen the row, ordered by row: `fold`, `row` (of the source, counted from
            1), the target as `actual_…`, and the columns of `predict`.
        results: what the fit of each fold came to.
        run: the run directory.
        calibration: by the rows of all folds, each scored by models that have not seen it; the ensemble and each
            fold's module have it.
    """

    folds: Mapping[str, list[float]]
    mean: Mapping[str, float]
    interval: Mapping[str, Interval]
    predictions: polars.DataFrame
    results: Sequence[FitResult]
    run: Run
    calibration: Calibration

    @classmethod
    def of(cls, evaluated: Sequence[OutOfFold], results: Sequence[FitResult], run: Run) -> CrossValidation:
        """Put the folds together."""
        calibration = pooled(evaluated, results[0].module.loss)
        for result in results:
            result.module.calibration = calibration
        folds = {name: [own.metrics[name] for own in evaluated] for name in evaluated[0].metrics}
        training = [own.training for own in evaluated]
        validation = [own.predictions.height for own in evaluated]
        return cls(
            folds=folds,
            mean={name: statistics.fmean(values) for name, values in folds.items()},
            interval={name: corrected_interval(values, training, validation) for name, values in folds.items()},
            predictions=polars.concat(own.predictions for own in evaluated).sort("row", "fold"),
            results=results,
            run=run,
            calibration=calibration,
        )

    @cached_property
    def ensemble(self) -> Ensemble:
        """The models of all folds, which predict as one."""
        return Ensemble([result.module for result in self.results], self.calibration)

    @property
    def table(self) -> polars.DataFrame:
        """A row for each metric: metric, mean, low, high, fold_0, fold_1, …; null where a value is undefined."""
        rows = [
            {"metric": name, "mean": self.mean[name], "low": self.interval[name][0], "high": self.interval[name][1]}
            | {f"fold_{number}": value for number, value in enumerate(values)}
            for name, values in self.folds.items()
        ]
        return polars.DataFrame(rows).with_columns(polars.col(polars.Float64).fill_nan(None))

    @property
    def stalled(self) -> list[int]:
        """The folds whose training could not go on."""
        return [number for number, result in enumerate(self.results) if result.outcome.name == "stalled"]

    @property
    def undefined(self) -> list[str]:
        """The metrics that some fold leaves undefined."""
        return [name for name, values in self.folds.items() if not all(map(math.isfinite, values))]
