"""Intervals around predicted numbers, as columns of a table of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from torch import Tensor

from torchplug.components.contracts import Loss
from torchplug.errors import ConfigurationError
from torchplug.evaluation.calibration import Calibration, takes_intervals
from torchplug.registry.component import TargetInfo
from torchplug.tables import enumerate_names


@dataclass(frozen=True)
class PredictionIntervals:
    r"""Conformal intervals of one level.

        [ŷ − h, ŷ + h], within the values that the loss is defined for

    Args:
        half_widths: h (k,), in the target's units.
        columns: the k target columns.
        domain: the least and the greatest target value that there may be.
    """

    half_widths: Tensor
    columns: Sequence[str]
    domain: tuple[float, float]

    @classmethod
    def of(
        cls, level: float, calibration: Calibration | None, loss: Loss, info: TargetInfo, remedy: str
    ) -> PredictionIntervals:
        """Return the intervals that cover a share of new rows.

        Args:
            level: that share, in (0, 1).
            calibration: with the residuals of rows that did not train, if there are any.
            loss: which predicts.
            info: of the target.
            remedy: how to have residuals where there are none.

        Raises:
            ConfigurationError: if the loss's predictions are no numbers, there are no residuals or too few, or the
                level is out of range.
        """
        if loss.task.has_classes:
            shown = "scores" if loss.task.probabilities is None else "probabilities"
            raise ConfigurationError(f"intervals are for numbers: predictions of {loss.kind} losses come with {shown}")
        if not takes_intervals(loss):
            raise ConfigurationError("intervals need a predicted location, and this loss predicts none")
        if calibration is None or calibration.residuals is None:
            raise ConfigurationError(f"intervals need residuals of rows that did not train: {remedy}")
        return cls(calibration.residuals.half_widths(level), info.columns, loss.task.domain)

    def beside(self, table: pl.DataFrame, points: Tensor) -> pl.DataFrame:
        """Add `<target>_lower` and `<target>_upper` for each target column.

        Args:
            table: of predictions, n rows.
            points: (n, k), the middle of each interval.

        Raises:
            ConfigurationError: if the table has such a column already.
        """
        ends = {"lower": points - self.half_widths, "upper": points + self.half_widths}
        added = [
            pl.Series(f"{column}_{end}", values[:, place].clamp(*self.domain).numpy())
            for place, column in enumerate(self.columns)
            for end, values in ends.items()
        ]
        names = [series.name for series in added]
        if taken := [name for name in names if name in table.columns or names.count(name) > 1]:
            raise ConfigurationError(f"predictions have a column {enumerate_names(taken)} already: rename the target")
        return table.hstack(added)
