"""A path of minibatch models: all λ and folds together, without warm starts."""

from __future__ import annotations

import math
from pathlib import Path

from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow.regularization_path.plan import Plan
from torchplug.workflow.regularization_path.result import Traced
from torchplug.workflow.unfinished import fit_all


def trace(plan: Plan, name: str, root: str | Path, resume: str | Path | None) -> tuple[Traced, Run]:
    """Train each λ on each fold, and return the metric along λ, and the run directory of `fit_many`.

    Args:
        plan: what is asked for.
        name: the folder of the run's family.
        root: the folder of all runs.
        resume: the run to go on with.

    Raises:
        TorchplugError: for input that is refused.
        Unfinished: if a signal stopped it; `fit_many` keeps what is done.
    """
    folds = plan.divided
    results, run = fit_all(
        plan.configs,
        plan.data,
        folds,
        trainer=plan.trainer,
        tracking=Tracking(mode="disabled"),  # the path is sent as one run
        name=name,
        root=root,
        ckpt_path=resume,
    )
    found = [result.metrics[f"val/{plan.metric}"] for result in results]
    values = [math.nan if value is None else value for value in found]
    note = f"{plan.module.resolved.optimizer.name} uses minibatches: each λ is trained from its seed"
    by_fold = [values[number :: len(folds)] for number in range(len(folds))]
    return Traced(by_fold, coefficients=None, left_out=None, notes=[note, *run.notes]), run
