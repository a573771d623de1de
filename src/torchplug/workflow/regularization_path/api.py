"""`torchplug.path`: a metric of unseen rows, and coefficients, along the λ of a penalty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars
from rich.console import Console
from rich.progress import track

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, DataError
from torchplug.fitting.config import written_config
from torchplug.many.settings import TrainerSettings
from torchplug.module import ComponentModule
from torchplug.registry import registry
from torchplug.tracking.choices import chosen
from torchplug.tracking.provenance import provenance
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow import pictures
from torchplug.workflow.folds import Fold, divided
from torchplug.workflow.regularization_path import picture, tracked
from torchplug.workflow.regularization_path.coefficients import along
from torchplug.workflow.regularization_path.grid import values_of
from torchplug.workflow.regularization_path.leave_one_out import LeftOut, left_out
from torchplug.workflow.regularization_path.minibatches import fold_metrics
from torchplug.workflow.regularization_path.penalty import PathPenalty, slope_strengths
from torchplug.workflow.regularization_path.problem import Problem
from torchplug.workflow.regularization_path.result import RegularizationPath, choices, over_folds
from torchplug.workflow.regularization_path.solving import Solutions, solve
from torchplug.workflow.writing import as_yaml, write_method

Folds = int | Literal["loo"] | Sequence[tuple[Any, Any]]
_STEPS = 1000
"""The most steps of a full-batch optimizer at each λ, unless max_epochs says."""


def path(
    config: Mapping[str, Any],
    data: TabularData,
    *,
    coefficient: str | Sequence[float] = "log(1e-6,1)",
    points: int = 100,
    folds: Folds = 5,
    regularizer: int | None = None,
    metric: str = "loss",
    trainer: Mapping[str, Any] | None = None,
    tracking: Mapping[str, Any] | Tracking | None = None,
    name: str = "path",
    root: str | Path = "runs",
    seed: int = 0,
) -> RegularizationPath:
    """Fit along λ of a penalty, from large to small, and choose λ by cross-validation.

    With a full-batch optimizer each fit starts at the minimum before. Linear least squares and smooth losses of one
    linear score, with l1, l2 and elastic_net on the slopes, are solved for all λ together, to the minimum of the same
    objective. Minibatch models are trained by `fit_many`, each from its seed.

    Preprocessing is fitted on each fold's training rows; the test split belongs to no fold. Ridge regression also has
    leave-one-out and generalized cross-validation, exactly and without refitting, with the preprocessing of all rows.

    The run directory has path.csv, coefficients.csv and path.png, and best.yaml and best_1se.yaml for
    `fit --config`.

    Args:
        config: ComponentModule's parameters, with at least one penalty.
        data: the table.
        coefficient: values of λ: `log(1e-6,1)`, `linear(0,1)` or a list. λ is the penalty's `coefficient`; elastic_net
            keeps the ratio of l1 and l2, and λ is their sum.
        points: how many values of a range, at least 2.
        folds: k of `TabularData.folds`; pairs of training and validation rows, counted from 0 in the source; or `loo`,
            for ridge regression, which leaves out each row once.
        regularizer: which penalty varies, counted from 0; None: the only one.
        metric: what chooses: loss, or a metric of the configuration such as rmse or accuracy.
        trainer: parameters of Lightning's Trainer; `max_epochs` bounds the steps at each λ.
        tracking: W&B's settings (`Tracking`), such as `{"mode": "disabled"}`.
        name: the folder of the run's family, below `root`.
        root: the folder of all runs.
        seed: of the folds and of each network's start, 0 or more.

    Returns:
        the metric for each λ, both choices of λ, and coefficients.

    Raises:
        ConfigurationError: for components or settings that do not exist or do not go together.
        DataError: for a table that cannot be used or divided so.

    Example:
        >>> import torchplug
        >>> from torchplug import TabularData, use
        >>> lasso = {"regularizers": [use("l1", proximal=True)], "optimizer": "proximal_newton"}
        >>> config = {"model": "linear", "loss": "mse", **lasso}
        >>> found = torchplug.path(config, TabularData("diabetes"), coefficient="log(1e-3,100)")  # doctest: +SKIP
        >>> found.best, found.best_1se  # doctest: +SKIP
    """
    chosen_tracking = tracking if isinstance(tracking, Tracking) else Tracking.of(tracking or {})
    options = (coefficient, points, folds, regularizer, metric)
    return PathJob(config, data, *options, trainer or {}, chosen_tracking, name, root, seed).run()


@dataclass(frozen=True)
class PathJob:
    """A path to be made; the arguments are those of `path`.

    Args:
        settings: what best.yaml is written from, as `fit --config` reads it; None: the arguments.
    """

    config: Mapping[str, Any]
    data: TabularData
    coefficient: str | Sequence[float]
    points: int
    folds: Folds
    regularizer: int | None
    metric: str
    trainer: Mapping[str, Any]
    tracking: Tracking
    name: str
    root: str | Path
    seed: int
    settings: Mapping[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def run(self) -> RegularizationPath:
        """Fit along λ, and write the run directory.

        Raises:
            TorchplugError: for input that is refused.
        """
        chosen(self.tracking)
        directions = self._module.resolved.metric_choice.directions
        if self.metric not in directions:
            raise ConfigurationError(f"metric is {self.metric!r}: choose among {', '.join(directions)}")
        table = self._by_folds() if self.folds != "loo" else self._by_rows()
        mean, error = table["mean"].to_list(), table["standard_error"].to_list()
        best, simplest = choices(self._grid, mean, error, directions[self.metric])
        self._remark(best, simplest)
        run = Run.create(self.name, self.root)
        found = RegularizationPath(
            parameter=f"regularizers.{self._penalty.index} ({self._penalty.name})",
            metric=self.metric,
            direction=directions[self.metric],
            table=table,
            best=self._grid[best],
            best_1se=self._grid[simplest],
            coefficients=self._coefficients,
            run=run,
        )
        self._write(found)
        tracked.send(found, self.tracking)
        return found

    # ------------------------------------------------------------------ what is asked for

    @cached_property
    def _module(self) -> ComponentModule:
        return ComponentModule(**self.config)

    @cached_property
    def _penalty(self) -> PathPenalty:
        return PathPenalty.of(self._module, self.regularizer)

    @cached_property
    def _grid(self) -> list[float]:
        return values_of(self.coefficient, self.points)

    @cached_property
    def _settings(self) -> TrainerSettings:
        return TrainerSettings(self.trainer)

    @property
    def _steps(self) -> int:
        return self._settings.trainer.max_epochs or _STEPS

    @cached_property
    def _divided(self) -> list[Fold]:
        """The folds; with `loo` any that have all rows between them."""
        folds = 2 if self.folds == "loo" else self.folds
        assert not isinstance(folds, str)
        return divided(self.data, folds, kind=self._module.loss.kind, seed=self.seed)

    # ------------------------------------------------------------------ fits

    def _by_folds(self) -> polars.DataFrame:
        if len(self._divided) < 2:
            raise DataError("folds has one fold, which has no standard error: give at least two")
        folds = self._full_batch() if self._module.resolved.is_full_batch else self._minibatches()
        mean, error = over_folds(folds)
        return self._table(mean, error, {f"fold_{number}": values for number, values in enumerate(folds)})

    def _by_rows(self) -> polars.DataFrame:
        estimates = self._left_out
        if estimates is None or self.metric != "loss":
            raise ConfigurationError(
                "folds loo is exact for ridge regression by metric loss: a linear model, the loss mse, l2 on its "
                "slopes and a full-batch optimizer such as closed_form; give a number of folds"
            )
        return self._table(estimates.mean, estimates.error, {})

    def _table(
        self, mean: Sequence[float], error: Sequence[float], folds: Mapping[str, Sequence[float]]
    ) -> polars.DataFrame:
        columns: dict[str, Any] = {"coefficient": self._grid, "mean": mean, "standard_error": error, **folds}
        if self._coefficients is not None:
            slopes = polars.exclude("coefficient", "^.*\\(intercept\\)$")
            columns["nonzero"] = self._coefficients.select(polars.sum_horizontal(slopes != 0.0)).to_series()
        if self._left_out is not None and self.metric == "loss":
            columns |= {"leave_one_out": self._left_out.mean, "generalized": self._left_out.gcv}
        return polars.DataFrame(columns).with_columns(polars.col(polars.Float64).fill_nan(None))

    def _full_batch(self) -> list[list[float]]:
        """The metric along λ, for each fold."""
        found: list[list[float]] = []
        console = Console(stderr=True)
        for fold in track(
            self._divided,
            description=f"{len(self._grid)} λ × {len(self._divided)} folds",
            console=console,
            transient=True,
            disable=not (console.is_terminal and self._settings.shows_progress),
        ):
            problem = Problem.of(self.config, self.data.fold(*fold), self.seed)
            points = self._solved(problem, f"fold {len(found)}").points
            found.append(problem.metric(self.metric, points))
        return found

    def _minibatches(self) -> list[list[float]]:
        self.notes.append(f"{self._module.resolved.optimizer.name} uses minibatches: each λ is trained from its seed")
        penalties = [self._penalty.specs(self.config["regularizers"], strength) for strength in self._grid]
        configs = [{**self.config, "regularizers": own, "seed": self.seed} for own in penalties]
        return fold_metrics(configs, self.data, self._divided, self.trainer, self.metric)

    def _solved(self, problem: Problem, where: str) -> Solutions:
        solutions = solve(problem, self._penalty, self._grid, self._steps)
        if not self.notes:
            self.notes.append(f"solved {solutions.method}")
        if solutions.stalled:
            strength, reason = solutions.stalled[0]
            self.notes.append(f"{where}: no minimum at {len(solutions.stalled)} λ, such as {strength:.3g}: {reason}")
        return solutions

    @cached_property
    def _whole(self) -> Problem | None:
        """All rows of the folds, for a linear model with a full-batch optimizer."""
        if not self._module.resolved.is_full_batch:
            return None
        rows = np.unique(np.concatenate([part for fold in self._divided for part in fold]))
        problem = Problem.of(self.config, self.data.fold(rows, rows[:0]), self.seed)
        return problem if problem.linear is not None else None

    @cached_property
    def _left_out(self) -> LeftOut | None:
        problem = self._whole
        if problem is None or problem.linear is None:
            return None
        weight = problem.linear.weight
        return left_out(problem, slope_strengths(problem.module, weight, self._penalty, self._grid))

    @cached_property
    def _coefficients(self) -> polars.DataFrame | None:
        if self._whole is None:
            return None
        return along(self._whole, self._grid, self._solved(self._whole, "all rows").points)

    # ------------------------------------------------------------------ what is written

    def _remark(self, best: int, simplest: int) -> None:
        """Say where a choice is at an end of the range."""
        ends = {0: "largest", len(self._grid) - 1: "smallest"}
        if best in ends:
            self.notes.append(f"the best λ is the {ends[best]} of the range, which may be too narrow")
        if simplest == 0 and best != 0:
            self.notes.append("the one-standard-error choice is the largest λ of the range, which may be too narrow")

    def _written(self) -> Mapping[str, Any]:
        if self.settings is not None:
            return self.settings
        return written_config(self._module, self.data, self.trainer, self.tracking, self.seed)

    def _write(self, found: RegularizationPath) -> None:
        run, settings = found.run, dict(self._written())
        folds = self.folds if isinstance(self.folds, int | str) else "given"
        own = {
            "coefficient": self.coefficient if isinstance(self.coefficient, str) else self._grid,
            "points": self.points,
            "folds": folds,
            "regularizer": self._penalty.index,
            "metric": self.metric,
        }
        write_method(run, {"path": own, **settings}, self._origins())
        run.write_table("path.csv", found.table)
        if found.coefficients is not None:
            run.write_coefficients(found.coefficients)
        for name, strength in (("best.yaml", found.best), ("best_1se.yaml", found.best_1se)):
            run.write_yaml(name, as_yaml(self._with_strength(settings, strength)))
        if pictures.available():
            picture.draw(found, run.path / "path.png")
        else:
            self.notes.append(pictures.INSTALL)
        run.write_notes(list(dict.fromkeys(self.notes)))
        run.write_outcome({"name": "converged", "best": found.best, "best_1se": found.best_1se})

    def _with_strength(self, settings: Mapping[str, Any], strength: float) -> dict[str, Any]:
        """Settings of a fit with this λ."""
        model = dict(settings["model"])
        chosen = [dict(own) if isinstance(own, Mapping) else {"class_path": own} for own in model["regularizers"]]
        penalty = chosen[self._penalty.index]
        penalty["init_args"] = {**(penalty.get("init_args") or {}), **self._penalty.numbers(strength)}
        return {**settings, "model": {**model, "regularizers": chosen}}

    def _origins(self) -> dict[str, Any]:
        components = [component.entry for component in self._module.components]
        return provenance(registry().plugins, components, self.data.fingerprint, self.seed)
