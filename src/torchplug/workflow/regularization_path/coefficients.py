"""A linear model's coefficients along a path, in the table's units."""

from __future__ import annotations

from collections.abc import Sequence

import polars
from torch import Tensor

from torchplug.components.contracts import LinearScores
from torchplug.evaluation.coefficients import coefficients_of
from torchplug.workflow.regularization_path.problem import Problem


def along(problem: Problem, grid: Sequence[float], points: Tensor) -> polars.DataFrame:
    """Return a row for each λ and a column for each coefficient; of several outputs, `output/feature`.

    Args:
        problem: of a linear model.
        grid: L values of λ.
        points: parameters (L, p).
    """
    shape, preprocessing = problem.objective.linear_map, problem.module.preprocessing
    assert shape is not None, "it is linear"
    assert preprocessing is not None, "it is fitted"
    maps = shape.matrix(points.mT).movedim(-1, 0).mT  # (L, k, b + d)
    linear = LinearScores(maps[..., 1:], maps[..., 0]) if shape.intercept else LinearScores(maps, None)
    names, values = coefficients_of(linear, preprocessing)
    several = len({output for output, _ in names}) > 1
    columns = [f"{output}/{feature}" if several else feature for output, feature in names]
    each = dict(zip(columns, values.mT.contiguous().numpy(), strict=True))
    return polars.DataFrame({"coefficient": list(grid), **each})
