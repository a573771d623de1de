"""What a regularization path came to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import polars

from torchplug.registry.component import Direction
from torchplug.tracking.run import Run


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


def over_folds(folds: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Return mean and standard error of each λ over folds.

    Args:
        folds: for each of k ≥ 2 folds the values along λ.

    >>> over_folds([[1.0, 2.0], [3.0, 2.0]])
    ([2.0, 2.0], [1.0, 0.0])
    """
    values = list(zip(*folds, strict=True))
    return [statistics.fmean(own) for own in values], [_deviation(own) / math.sqrt(len(own)) for own in values]


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


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
