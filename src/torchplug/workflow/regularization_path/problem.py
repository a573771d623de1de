"""One part of a path: a model over training rows, and the chosen metric on the rows that validate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
_CANCELS = 1e-4
"""A sum of squares below this share of its terms has lost digits in products of rows."""


def _unknown(method: Method) -> Tensor | None:
    return None


@dataclass(frozen=True, eq=False)
class Problem:
    """A model on some rows.

    Args:
        module: configured; its parameters move along the path.
        training: the rows that train.
        validation: those that validate; may be none.
        target_scale: gives mean and standard deviation of a numeric target that trains; None of any other.
        factor: R of linear least squares over the rows that train, where that is known without reading them.
        unseen: the same of the rows that validate.
    """

    module: ComponentModule
    training: TrainingSet
    validation: TrainingSet
    target_scale: Callable[[], tuple[Tensor, Tensor] | None]
    factor: Callable[[Method], Tensor | None] = _unknown
    unseen: Callable[[Method], Tensor | None] = _unknown

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
        return cls(module, data.training_set, data.rows_of("validation"), lambda: data.target_scale)

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
        if name == "loss" and (squares := self._squares(points)) is not None:
            return squares
        rows = self.validation.read(0, self.validation.samples)
        if name == "loss" and self.linear is not None and takes_axes(self.module.loss):
            return self._losses(points, rows)
        return [self._evaluated(name, point, rows) for point in points]

    def _squares(self, points: Tensor) -> list[float] | None:
        """The mean squared loss at each point, by R of the rows; None where that is not known or has lost digits."""
        method, design = self.objective.factorized or (None, None)
        factor = None if method is None else self.unseen(method)
        if design is None or factor is None:
            return None
        scale = design.scale / (self.objective.scale * self.validation.samples)
        unseen = replace(design, factor=factor, samples=self.validation.samples, scale=scale)
        found = unseen.values(points)
        if method == "gram" and not bool((found > _CANCELS * unseen.terms(points)).all()):
            return None
        return found.tolist()

    def _losses(self, points: Tensor, rows: Rows) -> list[float]:
        """The mean weighted loss at each point, for several points at once."""
        shape = self.objective.linear_map
        assert shape is not None, "it is linear"
        size = max(1, _SCORES // (len(rows.weight) * shape.outputs))
        found: list[float] = []
        for some in torch.split(points, size):
            maps = shape.matrix(some.mT).permute(2, 0, 1)
            slopes = maps[:, int(shape.intercept) :]
            flat = slopes.transpose(1, 2).flatten(0, 1) @ rows.features.mT  # one product for all points
            scores = flat.view(len(some), -1, flat.shape[1]).transpose(1, 2)
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
        evaluations.compare_with(self.target_scale())
        batch = Batch(rows.features, rows.target, rows.weight, len(rows.weight))
        with evaluating(module.network):
            evaluations.update("val", module.network(rows.features), batch, module.preprocessing)
            return float(evaluations.finish("val")[f"val/{name}"])
