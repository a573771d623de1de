"""What is asked of a regularization path: the model, λ, folds and metric, and what is refused of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, DataError
from torchplug.many.settings import TrainerSettings
from torchplug.module import ComponentModule
from torchplug.registry.component import Direction
from torchplug.workflow.folds import Fold, divided
from torchplug.workflow.regularization_path.grid import values_of
from torchplug.workflow.regularization_path.penalty import PathPenalty

Folds = int | Literal["loo"] | Sequence[tuple[Any, Any]]
_STEPS = 1000
"""The most steps of a full-batch optimizer at each λ, unless max_epochs says."""


@dataclass(frozen=True)
class Plan:
    """The arguments of `path` that say what is computed, and what follows from them."""

    config: Mapping[str, Any]
    data: TabularData
    coefficient: str | Sequence[float]
    points: int
    folds: Folds
    regularizer: int | None
    metric: str
    trainer: Mapping[str, Any]
    seed: int

    def refuse(self) -> None:
        """Refuse what is found without preparing the table.

        Raises:
            TorchplugError: for components, settings or folds that are impossible.
        """
        directions = self.module.resolved.metric_choice.directions
        if self.metric not in directions:
            raise ConfigurationError(f"metric is {self.metric!r}: choose among {', '.join(directions)}")
        _ = self.penalty, self.grid, self.settings  # each refuses what it is made from
        if self.folds != "loo" and len(self.divided) < 2:
            raise DataError("folds has one fold, which has no standard error: give at least two")

    @cached_property
    def module(self) -> ComponentModule:
        """The model, which nothing is trained in."""
        return ComponentModule(**self.config)

    @property
    def is_full_batch(self) -> bool:
        """Whether the optimizer sees all training rows at once."""
        return self.module.resolved.is_full_batch

    @property
    def is_linear(self) -> bool:
        """Whether the model is linear in its parameters."""
        return self.module.resolved.linear is not None

    @property
    def direction(self) -> Direction:
        """Which value of the metric is the best."""
        return self.module.resolved.metric_choice.directions[self.metric]

    @cached_property
    def penalty(self) -> PathPenalty:
        """The penalty that varies."""
        return PathPenalty.of(self.module, self.regularizer)

    @cached_property
    def grid(self) -> list[float]:
        """The values of λ, from large to small."""
        return values_of(self.coefficient, self.points)

    @cached_property
    def settings(self) -> TrainerSettings:
        """The Trainer's."""
        return TrainerSettings(self.trainer)

    @property
    def steps(self) -> int:
        """The most steps of a full-batch optimizer at each λ."""
        return self.settings.max_epochs or _STEPS

    @cached_property
    def divided(self) -> list[Fold]:
        """The folds; with `loo` any that have all rows between them."""
        folds = 2 if self.folds == "loo" else self.folds
        assert not isinstance(folds, str)
        return divided(self.data, folds, kind=self.module.loss.kind, seed=self.seed)

    @property
    def configs(self) -> list[dict[str, Any]]:
        """The configuration with each λ."""
        penalties = [self.penalty.specs(self.config["regularizers"], strength) for strength in self.grid]
        return [{**self.config, "regularizers": own, "seed": self.seed} for own in penalties]

    @property
    def described(self) -> dict[str, Any]:
        """The options of the path as plain values."""
        return {
            "coefficient": self.coefficient if isinstance(self.coefficient, str) else self.grid,
            "points": self.points,
            "folds": self.folds if isinstance(self.folds, int | str) else "given",
            "regularizer": self.penalty.index,
            "metric": self.metric,
        }
