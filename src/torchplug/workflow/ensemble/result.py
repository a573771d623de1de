"""What the fit of an ensemble came to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars

from torchplug.errors import TrainingError
from torchplug.fit_result import FitResult
from torchplug.tracking.ensemble import Ensemble
from torchplug.tracking.run import Run


@dataclass(frozen=True)
class EnsembleFit:
    """What the fit of an ensemble came to.

    Args:
        ensemble: the members that can be used, each at its best epoch; predicts as one.
        metrics: of the averaged predictions on the validation split, such as `val/rmse`; empty without one, and for
            folds, whose rows most members were trained on.
        members: the same of each member that is used, on the rows that validate it.
        results: what the fit of each member came to, those left out included.
        left_out: which could not be trained to the end.
        run: the run directory.
    """

    ensemble: Ensemble
    metrics: Mapping[str, float]
    members: Mapping[str, Sequence[float]]
    results: Sequence[FitResult]
    left_out: Sequence[int]
    run: Run

    @property
    def mean(self) -> dict[str, float]:
        """The members' mean of each metric; NaN where one is undefined."""
        return {name: statistics.fmean(values) for name, values in self.members.items()}

    @property
    def deviation(self) -> dict[str, float]:
        """The members' standard deviation of each metric (of the population); NaN where one is undefined."""
        return {name: float(np.std(values)) for name, values in self.members.items()}

    @property
    def table(self) -> polars.DataFrame:
        """A row for each metric: metric, ensemble (if it has metrics), members (their mean), sd; null if undefined."""
        values = {"ensemble": self.metrics, "members": self.mean, "sd": self.deviation}
        names = list(self.members)
        columns = {column: [own.get(name) for name in names] for column, own in values.items() if own}
        table = polars.DataFrame({"metric": names, **columns}, schema_overrides=dict.fromkeys(columns, polars.Float64))
        return table.with_columns(polars.col(polars.Float64).fill_nan(None))

    @cached_property
    def line(self) -> str:
        """The ensemble against its mean member, by the first metric of the task."""
        count = f"ensemble of {len(self.ensemble.members)}"
        names = [f"val/{name}" for name in self.ensemble.members[0].resolved.metric_choice.records]
        name = next((name for name in names if name in self.members), None)
        if name is None:
            return f"{count}: no rows validate"
        members = f"{_rounded(self.mean[name], 4)} ± {_rounded(self.deviation[name], 2)}"
        if name not in self.metrics:
            return f"{count}: members' {name} {members}, each on the fold that it was not trained on"
        return f"{count}: {name} {_rounded(self.metrics[name], 4)} (members {members})"


def _rounded(value: float, digits: int) -> str:
    """A number to so many digits, all of those before the point included."""
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def usable(results: Sequence[FitResult]) -> list[int]:
    """Which members were trained to the end, with a loss that is finite.

    Raises:
        TrainingError: if none was.
    """
    found = [number for number, result in enumerate(results) if _is_sound(result)]
    if not found:
        raise TrainingError(f"no member of the ensemble can be used; member 0: {results[0].outcome.reason}")
    return found


def _is_sound(result: FitResult) -> bool:
    loss = result.metrics.get("val/loss", 0.0)
    return result.outcome.name != "stalled" and loss is not None and math.isfinite(loss)
