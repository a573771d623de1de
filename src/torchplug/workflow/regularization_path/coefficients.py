"""A linear model's coefficients along a path, in the table's units."""

from __future__ import annotations

from collections.abc import Sequence

import polars
from torch import Tensor

from torchplug.evaluation.coefficients import original_coefficients
from torchplug.workflow.regularization_path.problem import Problem


def along(problem: Problem, grid: Sequence[float], points: Tensor) -> polars.DataFrame:
    """Return a row for each λ and a column for each coefficient; of several outputs, `output/feature`.

    Args:
        problem: of a linear model.
        grid: L values of λ.
        points: parameters (L, p).
    """
    names: list[str] = []
    rows = []
    for point in points:
        problem.put(point)
        found = original_coefficients(problem.module.network, problem.module.preprocessing)  # type: ignore[arg-type]
        several = len({output for output, _, _ in found}) > 1
        names = [f"{output}/{feature}" if several else feature for output, feature, _ in found]
        rows.append([value for _, _, value in found])
    columns = {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    return polars.DataFrame({"coefficient": list(grid), **columns})
