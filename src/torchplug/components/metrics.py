"""The metrics of a split: which there are, and their values, accumulated in float64."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
import torchmetrics
from torch import Tensor, nn

from torchplug.components.task import Task
from torchplug.errors import ConfigurationError, PluginError
from torchplug.registry import Entry, Resolved, registry
from torchplug.registry.component import Direction, Family, Metric, View

IGNORED = -1
"""A class index that torchmetrics leaves out: its classification metrics take no empty batch."""
_MANY_CLASSES = 100
"""The number of classes that metrics are tried with before there are data."""


class MetricChoice:
    """The metrics of a module: those of its task, and those that were asked for by name.

    Args:
        task: of the loss.
        chosen: further metrics; one that the task has already takes its place.

    Attributes:
        records: the records of all of them, by name.

    Raises:
        ConfigurationError: for a metric that does not go with the loss, or is named twice.
        ParameterError: if a metric refuses a parameter.
    """

    def __init__(self, task: Task, chosen: Sequence[Resolved]) -> None:
        self.task = task
        self._chosen = [metric.name for metric in chosen]
        every = [*(registry().resolve(Family.METRIC, name) for name in task.metrics), *chosen]
        self._metrics = {metric.name: metric for metric in every}
        self.records = {name: _record(metric.entry) for name, metric in self._metrics.items()}
        for name in self._chosen:
            self._refuse(name)
        self.build(self._chosen, _MANY_CLASSES)

    def _refuse(self, name: str) -> None:
        record, kind = self.records[name], self.task.kind
        if self._chosen.count(name) > 1:
            raise ConfigurationError(f"--model.metrics names {name} twice, which would be logged under one name")
        if kind not in record.kinds:
            fitting = {entry.name for entry in registry().entries(Family.METRIC) if kind in _record(entry).kinds}
            raise ConfigurationError(
                f"--model.metrics: {name} goes with losses for {' and '.join(sorted(record.kinds))}, and this loss is "
                f"for {kind}: choose among {', '.join(sorted(fitting))}"
            )
        if record.view not in self.task.views:
            raise PluginError(
                f"metric {self._metrics[name].qualified_name} is of {record.view}, which losses of kind {kind} do not "
                f"give: {', '.join(self.task.views)}"
            )

    def refuse_target(self, labelled: bool, columns: int) -> None:
        """Refuse metrics that were asked for and cannot be computed for a target.

        Args:
            labelled: whether targets are classes, not probabilities.
            columns: as for `build`.

        Raises:
            ConfigurationError: for a metric that needs class labels where there are none.
            ParameterError: if a metric refuses a parameter.
        """
        for name in self._chosen:
            if name not in self.names(labelled):
                raise ConfigurationError(
                    f"--model.metrics: {name} needs class labels, and the target has probabilities"
                )
        self.build(self._chosen, columns)

    @property
    def directions(self) -> dict[str, Direction]:
        """Which value is the best, by the name of what is logged, the split left out."""
        own: dict[str, Direction] = {"loss": "min"}
        return own | {name: record.direction for name, record in self.records.items()}

    def names(self, labelled: bool) -> list[str]:
        """The metrics that are defined.

        Args:
            labelled: whether targets are classes, not probabilities.
        """
        return [name for name, record in self.records.items() if labelled or not record.needs_labels]

    def watchable(self, validated: bool, labelled: bool = True) -> list[str]:
        """What the end of each epoch logs, and callbacks such as EarlyStopping can watch.

        Args:
            validated: whether there is a validation split.
            labelled: whether targets are classes, not probabilities.
        """
        return ["train/epoch_loss", *(f"val/{name}" for name in ("loss", *self.names(labelled)) if validated)]

    def objection(self, monitor: str, mode: object) -> str | None:
        """What is wrong with waiting for a metric to become small (mode `min`) or large (`max`), or None.

        Args:
            monitor: the name of a logged value, such as val/loss.
            mode: of a callback or schedule that watches it; other modes compare nothing.
        """
        best = self.directions.get(monitor.rpartition("/")[2].removeprefix("epoch_"))
        if best is None or mode not in ("min", "max") or mode == best:
            return None
        return f"whose {'lowest' if best == 'min' else 'highest'} value is the best: set its mode to {best}"

    def build(self, names: Sequence[str], columns: int) -> dict[str, torchmetrics.Metric]:
        """Accumulators by name.

        Args:
            names: which.
            columns: k, the number of target columns; the number of classes where the loss has a score for each.

        Raises:
            ParameterError: if a metric refuses a parameter.
            PluginError: if a plugin's target gives no torchmetrics.Metric.
        """
        classes = columns if self.task.has_indices else 2
        supplied = {"num_classes": classes, "num_outputs": columns, "ignore_index": IGNORED}
        built = {name: self._metrics[name].build(**supplied) for name in names}
        for name, metric in built.items():
            if not isinstance(metric, torchmetrics.Metric):
                raise PluginError(f"metric {self._metrics[name].qualified_name} must give a torchmetrics.Metric")
        return built


def _record(entry: Entry) -> Metric:
    assert isinstance(entry.component, Metric), "discovery refuses others"
    return entry.component


class _LossAndRange(torchmetrics.Metric):
    """The mean of losses, and the lowest and highest number among the targets; NaN, ∞ and −∞ without rows."""

    full_state_update = False
    total: Tensor
    rows: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, start, over_ranks in (
            ("total", 0.0, "sum"),
            ("rows", 0.0, "sum"),
            ("lowest", math.inf, "min"),
            ("highest", -math.inf, "max"),
        ):
            self.add_state(name, torch.tensor(start, dtype=torch.float64), dist_reduce_fx=over_ranks)

    def update(self, losses: Tensor, target: Tensor) -> None:
        """Add losses (n,) and targets (n, …)."""
        self.total += losses.sum(dtype=torch.float64)
        self.rows += len(losses)
        if len(target):
            lowest, highest = torch.aminmax(target)
            self.lowest, self.highest = torch.minimum(self.lowest, lowest), torch.maximum(self.highest, highest)

    def compute(self) -> Tensor:
        """All three."""
        return torch.stack([self.total / self.rows, self.lowest, self.highest])


class Evaluation(nn.Module):
    r"""The metrics of one split, exact over any number of batches and ranks.

    Every row counts once and unweighted, but for `loss`, which is (1/n) Σ wᵢ ℓᵢ.

    Args:
        choice: the metrics.
        columns: k, the number of target columns; the number of classes for `multiclass`.
        labelled: whether targets are classes, not probabilities.
        location: (k,) a typical target value, taken off for the view `standardized` so that nothing cancels.
        spread: (k,) a typical deviation of the targets, by which that view divides for the same reason.

    Shape:
        predictions (n, k) in float64: values, probabilities, or scores (`margin`); targets as the
        loss sees them, in original units.
    """

    def __init__(
        self,
        choice: MetricChoice,
        columns: int,
        labelled: bool = True,
        location: Tensor | None = None,
        spread: Tensor | None = None,
    ) -> None:
        super().__init__()
        self._task = choice.task
        self._location = torch.zeros(columns, dtype=torch.float64) if location is None else location
        self._spread = torch.ones(columns, dtype=torch.float64) if spread is None else spread
        names = choice.names(labelled)
        self._records = {name: choice.records[name] for name in names}
        self._metrics = choice.build(names, columns)
        self._loss = _LossAndRange()
        self._empty: tuple[Tensor, Tensor] | None = None
        for metric in self._all():
            metric.set_dtype(torch.float64)

    @property
    def names(self) -> list[str]:
        """What `compute` returns."""
        return ["loss", *self._metrics]

    def _all(self) -> list[torchmetrics.Metric]:
        return [self._loss, *self._metrics.values()]

    def to_device(self, device: torch.device) -> None:
        """Move the accumulators to where the batches are."""
        self._location, self._spread = self._location.to(device), self._spread.to(device)
        for metric in self._all():
            metric.to(device)

    def leave_ranks_apart(self) -> None:
        """Make `compute` that of this rank's rows alone: other ranks need not call it."""
        for metric in self._all():
            metric.distributed_available_fn = lambda: False

    def update(self, losses: Tensor, predictions: Tensor, target: Tensor) -> None:
        """Add a batch, possibly empty: weighted losses (n,), predictions and targets."""
        if len(target) == 0:
            self._empty = (predictions, target)
            return
        self._loss.update(losses, target)
        views = self._viewed(predictions, target)
        for name, metric in self._metrics.items():
            metric.update(*views[self._records[name].view])

    def _viewed(self, predictions: Tensor, target: Tensor) -> dict[View, tuple[Tensor, Tensor]]:
        """Predictions and target as metrics take them, by the view."""
        seen = {}
        for view in {record.view for record in self._records.values()}:
            pair = (predictions, target)
            if view == "standardized":
                pair = tuple((values - self._location) / self._spread for values in pair)  # type: ignore[assignment]
            seen[view] = self._task.view(view, *pair)
        return seen

    def _shape_without_rows(self) -> None:
        """Give the states of a rank without rows the shapes that they have on others."""
        if self._empty is None or self._loss.update_called:
            return
        views = self._viewed(*self._empty)
        self._loss.update(self._empty[0].new_zeros(0), self._empty[1])
        for name, metric in self._metrics.items():
            update_without_rows(metric, self._records[name], *views[self._records[name].view])

    def compute(self) -> dict[str, float]:
        """All metrics over all ranks; NaN where one is undefined. Every rank must call it."""
        self._shape_without_rows()
        loss, lowest, highest = self._loss.compute().tolist()
        constant = lowest >= highest
        values = {"loss": loss}
        for name, metric in self._metrics.items():
            undefined = constant and self._records[name].needs_variation
            values[name] = math.nan if undefined else _value(name, metric)
        return values

    def reset(self) -> None:
        """Forget what was added."""
        self._empty = None
        for metric in self._all():
            metric.reset()


def update_without_rows(metric: torchmetrics.Metric, record: Metric, predicted: Tensor, true: Tensor) -> None:
    """Give the states of a metric that has seen no row the shapes that they have on other ranks.

    Args:
        metric: the accumulator.
        record: its record.
        predicted: predictions in the metric's view, of no rows.
        true: targets in the metric's view, of no rows.
    """
    if getattr(metric, "ignore_index", None) == IGNORED:
        predicted, true = predicted.new_zeros(1, *predicted.shape[1:]), true.new_full((1,), IGNORED)
    if len(true) or not record.needs_labels:
        metric.update(predicted, true)


def _value(name: str, metric: torchmetrics.Metric) -> float:
    with warnings.catch_warnings():
        if not metric.update_called:  # this rank has no rows
            warnings.simplefilter("ignore")
        value = metric.compute()
    if not isinstance(value, Tensor):
        raise PluginError(f"metric {name} gives {type(value).__name__}, and not a number")
    return float(value.double().mean())


def location_and_spread(target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column of numeric targets (n, k), for a well-conditioned R²."""
    spread = target.std(dim=0, correction=0)
    return target.mean(dim=0), torch.where(spread > 0, spread, torch.ones_like(spread))
