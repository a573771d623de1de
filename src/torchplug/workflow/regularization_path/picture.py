"""The picture of a regularization path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars

from torchplug.workflow import pictures
from torchplug.workflow.regularization_path.result import RegularizationPath

_COLORS = ("black", "tab:red")
"""Of the best λ and of the one-standard-error choice."""
_NAMED = 8
"""How many coefficients have their names written."""


def draw(found: RegularizationPath, path: Path) -> None:
    """Write the metric along λ with both choices marked and, of linear models, the coefficients beside it.

    Raises:
        WriteError: if it cannot be written.
    """
    figure, axes = pictures.panels(1 if found.coefficients is None else 2, width=6.0, height=4.2)
    _draw_metric(axes[0], found)
    if found.coefficients is not None:
        _draw_coefficients(axes[1], found.coefficients, (found.best, found.best_1se))
    for axis in axes:
        axis.set_xscale("log")  # where λ = 0 has no place
        axis.set_xlabel(f"λ of {found.parameter}")
    pictures.save(figure, path)


def _draw_metric(axis: Any, found: RegularizationPath) -> None:
    table = found.table
    grid, mean, error = (table[name].to_numpy() for name in ("coefficient", "mean", "standard_error"))
    axis.fill_between(grid, mean - error, mean + error, alpha=0.25, linewidth=0, label="± standard error")
    axis.plot(grid, mean, label="mean over folds" if "fold_0" in table.columns else "leave-one-out")
    estimates = {"leave_one_out": "leave-one-out", "generalized": "generalized cross-validation"}
    for name, label in estimates.items():
        if name in table.columns and ("fold_0" in table.columns or name == "generalized"):
            axis.plot(grid, table[name], linestyle="--", linewidth=1.0, label=label)
    for value, color, label in zip((found.best, found.best_1se), _COLORS, ("best", "one standard error"), strict=True):
        axis.axvline(value, color=color, linestyle=":", label=f"{label}: {value:.3g}")
    axis.set_ylabel(found.metric)
    axis.set_title(f"{found.metric} of unseen rows")
    axis.legend(frameon=False, fontsize="small", loc="upper center")


def _draw_coefficients(axis: Any, table: polars.DataFrame, choices: Sequence[float]) -> None:
    names = [name for name in table.columns if name != "coefficient" and "(intercept)" not in name]
    values = table.select(names).to_numpy()
    largest = np.argsort(-np.abs(values[-1]), kind="stable")[:_NAMED]
    for place, name in enumerate(names):
        axis.plot(table["coefficient"], values[:, place], linewidth=1.0, label=name if place in largest else None)
    for value, color in zip(choices, _COLORS, strict=True):
        axis.axvline(value, color=color, linestyle=":")
    axis.set_title("coefficients, in original units")
    axis.legend(frameon=False, fontsize="x-small", ncols=2, loc="upper right")
