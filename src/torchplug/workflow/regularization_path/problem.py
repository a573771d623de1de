"""One fold of a path: a model over its training rows, and the chosen metric on the rows that validate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from torchplug.batch import Batch, Rows
from torchplug.checked_network import evaluating
from torchplug.components.contracts import LinearScores, linear_scores
from torchplug.data.tabular import TabularData
from torchplug.evaluation.split_evaluations import SplitEvaluations
from torchplug.many.losses import takes_axes
from torchplug.module import ComponentModule
from torchplug.objective import Objective
from torchplug.training.full_batch import full_batch_objective

_SCORES = 2**20
"""How many scores are evaluated at once."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A model on the rows of one fold.

    Args:
        module: configured; its parameters move along the path.
        data: prepared.
    """

    module: ComponentModule
    data: TabularData

    @classmethod
    def of(cls, config: Mapping[str, Any], data: TabularData, seed: int) -> Problem:
        """Prepare the rows and build the model from its seed.

        Raises:
            DataError: for a table that cannot be used.
            ConfigurationError: for components that do not go together.
        """
        module = ComponentModule(**config)
        data.prepare(module.data_request())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module.configure(data)
        return cls(module, data)

    @cached_property
    def objective(self) -> Objective:
        """F on the training rows."""
        return full_batch_objective(self.module.step_objective(), self.data.training_set)

    @property
    def linear(self) -> LinearScores | None:
        """Slopes and intercept, if these are all that is trained."""
        return linear_scores(self.module.network) if self.objective.linear_map is not None else None

    def put(self, point: Tensor) -> None:
        """Move the parameters to a point (p,)."""
        self.objective.move(point)

    def metric(self, name: str, points: Tensor) -> list[float]:
        """A metric of the rows that validate, at each of L points (L, p).

        Args:
            name: such as loss or rmse.
            points: where.
        """
        rows = self._validation
        if name == "loss" and self.linear is not None and takes_axes(self.module.loss):
            return self._losses(points, rows)
        return [self._evaluated(name, point, rows) for point in points]

    @cached_property
    def _validation(self) -> Rows:
        split = self.data.rows_of("validation")
        return split.read(0, split.samples)

    def _losses(self, points: Tensor, rows: Rows) -> list[float]:
        """The mean weighted loss at each point, for several points at once."""
        shape = self.objective.linear_map
        assert shape is not None, "it is linear"
        size = max(1, _SCORES // (len(rows.weight) * shape.outputs))
        found: list[float] = []
        for some in torch.split(points, size):
            maps = torch.stack([shape.matrix(point) for point in some])
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
        evaluations.compare_with(self.data.target_scale)
        batch = Batch(rows.features, rows.target, rows.weight, len(rows.weight))
        with evaluating(module.network):
            evaluations.update("val", module.network(rows.features), batch, module.preprocessing)
            return float(evaluations.finish("val")[f"val/{name}"])
