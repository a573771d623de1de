"""`torchplug.path`: a metric of unseen rows, and coefficients, along the λ of a penalty."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchplug import interruption
from torchplug.data.tabular import TabularData
from torchplug.tracking.choices import chosen
from torchplug.tracking.flat_config import flat_config
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow.regularization_path import minibatches, tracked
from torchplug.workflow.regularization_path.full_batch import FullBatchPath
from torchplug.workflow.regularization_path.kept import Kept, run_to_resume
from torchplug.workflow.regularization_path.plan import Folds, Plan
from torchplug.workflow.regularization_path.result import RegularizationPath, Traced, choices
from torchplug.workflow.regularization_path.writing import Writing
from torchplug.workflow.unfinished import Unfinished, how_to_go_on

_TABLES = ("source", "validation", "test")


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
    resume: str | Path | None = None,
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
        resume: the directory of a run that was interrupted, or `last`: what is done is not computed again.

    Returns:
        the metric for each λ, both choices of λ, and coefficients.

    Raises:
        ConfigurationError: for components or settings that do not exist or do not go together.
        DataError: for a table that cannot be used or divided so.
        CheckpointError: if there is no run to resume, or it is one of other settings.
        KeyboardInterrupt: after Ctrl-C; what is done is kept, and `resume` goes on.

    Example:
        >>> import torchplug
        >>> from torchplug import TabularData, use
        >>> lasso = {"regularizers": [use("l1", proximal=True)], "optimizer": "proximal_newton"}
        >>> config = {"model": "linear", "loss": "mse", **lasso}
        >>> found = torchplug.path(config, TabularData("diabetes"), coefficient="log(1e-3,100)")  # doctest: +SKIP
        >>> found.best, found.best_1se  # doctest: +SKIP
    """
    plan = Plan(config, data, coefficient, points, folds, regularizer, metric, trainer or {}, seed)
    try:
        with interruption.handled_within():
            return PathJob(plan, Tracking.of(tracking), name, root, resume).run()
    except Unfinished as stop:
        raise stop.told("the path") from stop


@dataclass(frozen=True)
class PathJob:
    """A path to be made.

    Args:
        plan: what is computed.
        tracking: W&B's settings.
        name: the folder of the run's family.
        root: the folder of all runs.
        resume: the run to go on with, or `last`.
        settings: what best.yaml is written from, as `fit --config` reads it; None: the plan's.
        remedy: how to go on after an interruption.
    """

    plan: Plan
    tracking: Tracking
    name: str
    root: str | Path
    resume: str | Path | None = None
    settings: Mapping[str, Any] | None = None
    remedy: Callable[[Run], str] = how_to_go_on

    def run(self) -> RegularizationPath:
        """Fit along λ, and write the run directory.

        Raises:
            TorchplugError: for input that is refused.
            Unfinished: if a signal stopped it.
        """
        chosen(self.tracking)
        self.plan.refuse()
        writing = Writing(self.plan, self.tracking, self.settings)
        if not self.plan.is_full_batch:
            traced, run = minibatches.trace(self.plan, self.name, self.root, self.resume)
            writing.describe(run)
            return self._end(writing, traced, run)
        resumed = None if self.resume is None else run_to_resume(self.resume, self.name, self.root)
        with Kept(lambda: self._begin(writing), self._identity(writing), self.remedy, resumed) as kept:
            path = FullBatchPath(self.plan, kept)
            path.refuse()
            traced = path.trace()
            kept.save()
            return self._end(writing, traced, kept.run)

    def _begin(self, writing: Writing) -> Run:
        run = Run.create(self.name, self.root)
        writing.begin(run)
        return run

    def _end(self, writing: Writing, traced: Traced, run: Run) -> RegularizationPath:
        """Choose λ, and write and send what was found."""
        plan, table = self.plan, traced.table(self.plan.grid, self.plan.metric)
        mean, error = table["mean"].to_list(), table["standard_error"].to_list()
        best, simplest = choices(plan.grid, mean, error, plan.direction)
        found = RegularizationPath(
            parameter=f"regularizers.{plan.penalty.index} ({plan.penalty.name})",
            metric=plan.metric,
            direction=plan.direction,
            table=table,
            best=plan.grid[best],
            best_1se=plan.grid[simplest],
            coefficients=traced.coefficients,
            run=run,
        )
        writing.end(found, [*traced.notes, *_remarks(len(plan.grid), best, simplest)])
        tracked.send(found, self.tracking, self.resume is not None)
        return found

    def _identity(self, writing: Writing) -> dict[str, Any]:
        """The settings in which a path agrees with the one that it goes on with."""
        plan, settings = self.plan, writing.settings
        rows = hashlib.sha256()
        for part in (np.ascontiguousarray(own) for fold in plan.divided for own in fold):
            rows.update(part.tobytes() + b"|")
        own = {**plan.described, "coefficient": plan.grid, "rows": rows.hexdigest(), "steps": plan.steps}
        # a table is compared by its content: the same file may lie elsewhere
        data = {name: value for name, value in settings["data"].items() if name not in _TABLES}
        groups = {"path": own, "model": settings["model"], "data": data}
        return {**flat_config(groups), "seed": plan.seed, "table": plan.data.fingerprint}


def _remarks(points: int, best: int, simplest: int) -> list[str]:
    """Where a choice is at an end of the range."""
    ends = {0: "largest", points - 1: "smallest"}
    remarks = []
    if best in ends:
        remarks.append(f"the best λ is the {ends[best]} of the range, which may be too narrow")
    if simplest == 0 and best != 0:
        remarks.append("the one-standard-error choice is the largest λ of the range, which may be too narrow")
    return remarks
