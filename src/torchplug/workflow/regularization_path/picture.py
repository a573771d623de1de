"""The picture of a regularization path."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from torchplug.workflow import pictures
from torchplug.workflow.regularization_path.result import RegularizationPath

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
        _draw_coefficients(axes[1], found)
    for axis in axes:
        positive = found.table["coefficient"].filter(found.table["coefficient"] > 0)
        axis.set_xscale("symlog", linthresh=float(positive.min())) if len(positive) < found.table.height else (  # type: ignore[arg-type]
            axis.set_xscale("log")
        )
        axis.set_xlabel(f"λ of {found.parameter}")
    pictures.save(figure, path)


def _draw_metric(axis, found: RegularizationPath) -> None:  # type: ignore[no-untyped-def]
    table = found.table
    grid, mean, error = (table[name].to_numpy() for name in ("coefficient", "mean", "standard_error"))
    axis.fill_between(grid, mean - error, mean + error, alpha=0.25, linewidth=0, label="± standard error")
    axis.plot(grid, mean, label="mean over folds" if "fold_0" in table.columns else "leave-one-out")
    for name, label in (("leave_one_out", "leave-one-out"), ("generalized", "generalized")):
        if name in table.columns:
            axis.plot(grid, table[name], linestyle="--", linewidth=1.0, label=label)
    for value, color, label in ((found.best, "black", "best"), (found.best_1se, "tab:red", "one standard error")):
        axis.axvline(value, color=color, linestyle=":", label=f"{label}: {value:.3g}")
    axis.set_ylabel(found.metric)
    axis.set_title(f"{found.metric} of unseen rows")
    axis.legend(frameon=False, fontsize="small")


def _draw_coefficients(axis, found: RegularizationPath) -> None:  # type: ignore[no-untyped-def]
    assert found.coefficients is not None
    table = found.coefficients
    names = [name for name in table.columns if name != "coefficient" and "(intercept)" not in name]
    values = table.select(names).to_numpy()
    largest = np.argsort(-np.abs(values[-1]))[:_NAMED]
    for place in range(len(names)):
        label = names[place] if place in largest else None
        axis.plot(table["coefficient"], values[:, place], linewidth=1.0, label=label)
    for value, color in ((found.best, "black"), (found.best_1se, "tab:red")):
        axis.axvline(value, color=color, linestyle=":")
    axis.axhline(0.0, color="black", linewidth=0.6)
    axis.set_title("coefficients, in original units")
    axis.legend(frameon=False, fontsize="x-small", ncols=2)
