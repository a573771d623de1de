"""One part of a path: a model over training rows, and the chosen metric on the rows that validate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from torchplug.batch import Batch, Rows, TrainingSet
from torchplug.checked_network import evaluating
from torchplug.components.contracts import LinearScores, linear_scores
from torchplug.data.tabular import TabularData
from torchplug.evaluation.split_evaluations import SplitEvaluations
from torchplug.many.losses import takes_axes
from torchplug.module import ComponentModule
from torchplug.objective import Objective
from torchplug.objective.least_squares import LeastSquares, Method
from torchplug.training.full_batch import full_batch_objective
from torchplug.workflow.regularization_path.plan import Plan

_SCORES = 2**20
"""How many scores are evaluated at once."""


def _unknown(method: Method) -> Tensor | None:
    return None


@dataclass(frozen=True, eq=False)
class Problem:
    """A model on some rows.

    Args:
        module: configured; its parameters move along the path.
        training: the rows that train.
        validation: those that validate; may be none.
        target_scale: mean and standard deviation of a numeric target that trains.
        factor: R of linear least squares over the rows that train, where that is known without reading them.
    """

    module: ComponentModule
    training: TrainingSet
    validation: Rows
    target_scale: tuple[Tensor, Tensor] | None
    factor: Callable[[Method], Tensor | None] = _unknown

    @classmethod
    def of(cls, plan: Plan, data: TabularData) -> Problem:
        """Prepare the rows of a fold, and build the model from its seed.

        Raises:
            DataError: for a table that cannot be used.
            ConfigurationError: for components that do not go together.
        """
        module = ComponentModule(**plan.config)
        data.prepare(module.data_request())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            module.configure(data)
        split = data.rows_of("validation")
        return cls(module, data.training_set, split.read(0, split.samples), data.target_scale)

    @cached_property
    def objective(self) -> Objective:
        """F on the training rows."""
        return full_batch_objective(self.module.step_objective(), self.training)

    @property
    def linear(self) -> LinearScores | None:
        """Slopes and intercept, if these are all that is trained."""
        return linear_scores(self.module.network) if self.objective.linear_map is not None else None

    def least_squares(self, method: Method) -> LeastSquares | None:
        """The rows that train, factorized; None for anything but linear least squares."""
        return self.objective.least_squares(method, self.factor)

    def put(self, point: Tensor) -> None:
        """Move the parameters to a point (p,)."""
        self.objective.move(point)

    def metric(self, name: str, points: Tensor) -> list[float]:
        """A metric of the rows that validate, at each of L points (L, p).

        Args:
            name: such as loss or rmse.
            points: where.
        """
        if name == "loss" and self.linear is not None and takes_axes(self.module.loss):
            return self._losses(points, self.validation)
        return [self._evaluated(name, point, self.validation) for point in points]

    def _losses(self, points: Tensor, rows: Rows) -> list[float]:
        """The mean weighted loss at each point, for several points at once."""
        shape = self.objective.linear_map
        assert shape is not None, "it is linear"
        size = max(1, _SCORES // (len(rows.weight) * shape.outputs))
        found: list[float] = []
        for some in torch.split(points, size):
            maps = shape.matrix(some.mT).permute(2, 0, 1)
            slopes = maps[:, int(shape.intercept) :]
            flat = rows.features @ slopes.transpose(0, 1).reshape(slopes.shape[1], -1)  # one product for all points
            scores = flat.view(len(flat), len(some), -1).transpose(0, 1)
            if shape.intercept:
                scores = scores + maps[:, :1]
            losses: Tensor = self.module.loss(scores, rows.target)
            found += (losses @ rows.weight / len(rows.weight)).tolist()
        return found

    def _evaluated(self, name: str, point: Tensor, rows: Rows) -> float:
        module = self.module
        assert module.network is not None, "it is configured"
        self.put(point)
        evaluations = SplitEvaluations(module.loss, module.resolved.metric_choice)
        evaluations.compare_with(self.target_scale)
        batch = Batch(rows.features, rows.target, rows.weight, len(rows.weight))
        with evaluating(module.network):
            evaluations.update("val", module.network(rows.features), batch, module.preprocessing)
            return float(evaluations.finish("val")[f"val/{name}"])
