"""A path of minibatch models: all λ and folds together, without warm starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torchplug.data.tabular import TabularData
from torchplug.many import fit_many
from torchplug.workflow.folds import Fold


def fold_metrics(
    configs: Sequence[Mapping[str, Any]],
    data: TabularData,
    folds: Sequence[Fold],
    trainer: Mapping[str, Any],
    metric: str,
) -> list[list[float]]:
    """Train each configuration on each fold, and return the metric along configurations, for each fold.

    Args:
        configs: one for each λ.
        data: the table.
        folds: the rows.
        trainer: parameters of Lightning's Trainer.
        metric: such as loss or rmse.
    """
    results = fit_many(configs, data, folds, trainer)
    found = [result.metrics[f"val/{metric}"] for result in results]
    values = [math.nan if value is None else value for value in found]
    return [values[number :: len(folds)] for number in range(len(folds))]
