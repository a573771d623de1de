"""What a learning curve shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars

from torchplug.fit_result import FitResult
from torchplug.tracking.run import Run
from torchplug.workflow.learning_curve.power_law import PowerLaw


@dataclass(frozen=True)
class LearningCurve:
    """Errors by the number of training rows.

    Args:
        fits: a row for each fit: fraction, rows, repeat, loss and error on training and validation split.
        error_name: what the error is: `error rate`, `rmse` or `loss`.
        law: of the validation error; None where it does not follow one.
        doubled: the validation error expected from twice the rows; None without a law.
        interval: its 95 % bootstrap interval; None where that is not known.
        results: what `fit_many` has returned, in the order of `fits`.
        run: the run directory.
    """

    fits: polars.DataFrame
    error_name: str
    law: PowerLaw | None
    doubled: float | None
    interval: tuple[float, float] | None
    results: Sequence[FitResult]
    run: Run

    @property
    def table(self) -> polars.DataFrame:
        """A row for each size: means and standard deviations (n − 1 in the denominator) over the repeats."""
        figures = [name for name in self.fits.columns if name.startswith(("train ", "val "))]
        aggregates = [
            column
            for name in figures
            for column in (polars.col(name).mean(), polars.col(name).std().alias(f"{name} sd"))
        ]
        return self.fits.group_by("fraction", "rows", maintain_order=True).agg(*aggregates)

    @property
    def line(self) -> str:
        """What more data would bring, in one line."""
        last = self.table.row(-1, named=True)
        now, rows = last[f"val {self.error_name}"], last["rows"]
        if self.law is None or self.doubled is None:
            return (
                f"the validation {self.error_name} of {now:.4g} follows no power law: what more rows bring is unknown"
            )
        spread = "" if self.interval is None else f" (95 %: {self.interval[0]:.4g} to {self.interval[1]:.4g})"
        return (
            f"with {2 * rows} rows in place of {rows} the validation {self.error_name} is expected to be "
            f"{self.doubled:.4g}{spread}, now {now:.4g}; {self.law.a:.3g} + {self.law.b:.3g}·n^−{self.law.c:.2g}"
        )
