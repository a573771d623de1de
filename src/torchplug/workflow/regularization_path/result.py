"""What a regularization path came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars

from torchplug.registry.component import Direction
from torchplug.tracking.run import Run
from torchplug.workflow.regularization_path.leave_one_out import LeftOut


@dataclass(frozen=True)
class RegularizationPath:
    """What a regularization path came to.

    Args:
        parameter: what varied, such as `regularizers.0 (l2)`.
        metric: what chose, such as loss.
        direction: whether its lowest (min) or highest (max) value is the best.
        table: a row for each λ from large to small: `coefficient`, `mean` and `standard_error` of the metric over
            folds, and a column for each fold; for linear models `nonzero`, how many coefficients are not zero; for
            ridge regression `leave_one_out` and `generalized`, exact estimates of the loss without refitting.
        best: λ of the best mean.
        best_1se: the largest λ whose mean is within one standard error of the best.
        coefficients: of linear models in original units, from all rows of the folds: `coefficient` (λ), and a column
            for each coefficient; None for other models.
        run: the run directory.
    """

    parameter: str
    metric: str
    direction: Direction
    table: polars.DataFrame
    best: float
    best_1se: float
    coefficients: polars.DataFrame | None
    run: Run


@dataclass(frozen=True)
class Traced:
    """What is found along λ.

    Args:
        folds: the metric along λ, for each fold; empty if each row was left out once.
        coefficients: of linear models, as in `RegularizationPath`.
        left_out: of ridge regression.
        notes: what the user should know.
    """

    folds: list[list[float]]
    coefficients: polars.DataFrame | None
    left_out: LeftOut | None
    notes: list[str]

    def mean_and_error(self) -> tuple[list[float], list[float]]:
        """Mean and standard error of the metric at each λ."""
        if self.folds:
            return over_folds(self.folds)
        assert self.left_out is not None, "it is ridge regression"
        return self.left_out.mean, self.left_out.error

    def table(self, grid: Sequence[float], metric: str) -> polars.DataFrame:
        """`RegularizationPath.table`."""
        mean, error = self.mean_and_error()
        folds = {f"fold_{number}": values for number, values in enumerate(self.folds)}
        columns: dict[str, Any] = {"coefficient": grid, "mean": mean, "standard_error": error, **folds}
        if self.coefficients is not None:
            slopes = [name for name in self.coefficients.columns[1:] if not name.endswith("(intercept)")]
            columns["nonzero"] = np.count_nonzero(self.coefficients[slopes].to_numpy(), axis=1)
        if self.left_out is not None and metric == "loss":
            columns |= {"leave_one_out": self.left_out.mean, "generalized": self.left_out.gcv}
        return polars.DataFrame(columns).with_columns(polars.col(polars.Float64).fill_nan(None))


def over_folds(folds: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Return mean and standard error of each λ over folds.

    Args:
        folds: for each of k ≥ 2 folds the values along λ.

    >>> over_folds([[1.0, 2.0], [3.0, 2.0]])
    ([2.0, 2.0], [1.0, 0.0])
    """
    values = np.array(folds)
    with np.errstate(invalid="ignore"):  # of infinite values
        return values.mean(axis=0).tolist(), (values.std(axis=0, ddof=1) / math.sqrt(len(values))).tolist()


def choices(
    grid: Sequence[float], mean: Sequence[float], error: Sequence[float], direction: Direction
) -> tuple[int, int]:
    """Return the places of the best mean, and of the largest λ within one standard error of it.

    Args:
        grid: λ, from large to small.
        mean: of the metric.
        error: its standard errors.
        direction: which value is the best.

    Reference: Breiman, Friedman, Olshen and Stone (1984), Classification and Regression Trees, section 3.4.3.

    >>> choices([3.0, 2.0, 1.0], [5.0, 4.2, 4.0], [0.3, 0.3, 0.3], "min")
    (2, 1)
    """
    sign = 1.0 if direction == "min" else -1.0
    costs = [sign * value if math.isfinite(value) else math.inf for value in mean]
    best = min(range(len(grid)), key=costs.__getitem__)
    bound = costs[best] + (error[best] if math.isfinite(error[best]) else 0.0)
    return best, next(place for place, cost in enumerate(costs) if cost <= bound)
