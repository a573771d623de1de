"""All metrics of trained models on a part of their data."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from torchplug.checked_network import evaluating
from torchplug.components.contracts import Loss
from torchplug.components.metrics import Evaluation
from torchplug.data.tabular import TabularData
from torchplug.evaluation.split_evaluations import SplitEvaluations, original_units
from torchplug.module import ComponentModule
from torchplug.tracking.ensemble import Ensemble

Evaluated = Literal["validation", "test"]
"""A split that models are evaluated on."""
_PREFIXES: dict[Evaluated, str] = {"validation": "val", "test": "test"}


def validation_metrics(module: ComponentModule, data: TabularData) -> dict[str, float]:
    """Every metric of the validation split, by its full name.

    Args:
        module: trained, on the CPU.
        data: prepared for it.
    """
    evaluations = SplitEvaluations(module.loss, module.resolved.metric_choice)
    evaluations.compare_with(data.target_scale)
    network = module.network
    assert network is not None, "it is trained"
    with evaluating(network):
        for batch in data.val_dataloader():
            evaluations.update("val", network(batch.features), batch, module.preprocessing)
        values = evaluations.finish("val")
    return {name: float(value) for name, value in values.items()}


def ensemble_metrics(ensemble: Ensemble, data: TabularData, split: Evaluated) -> dict[str, float]:
    """Every metric of the averaged predictions on a split, by its full name; NaN where one is undefined.

    The loss is that of the scores that would give these predictions, in units of the first member's standardization.
    Losses with a link of their own, or several predictions of a target, have none.

    Args:
        ensemble: its first member's loss and metrics are used.
        data: prepared for the first member.
        split: its name.
    """
    first = ensemble.members[0]
    preprocessing = first.preprocessing
    assert preprocessing is not None, "members are trained"
    target = torch.cat(list(data.rows_of(split).targets()))
    predictions = ensemble.predictions(data.frame_of(split))
    points, losses = first.loss.point(predictions), _losses(first, predictions, target)
    loader = data.test_dataloader() if split == "test" else data.val_dataloader()
    weights = torch.cat([batch.weight for batch in loader])
    scale = data.target_scale or ()
    evaluation = Evaluation(first.resolved.metric_choice, points.shape[1], preprocessing.target_coding.labels, *scale)
    weighted = torch.zeros(len(target)) if losses is None else losses * weights
    evaluation.update(weighted, points, original_units(target, first.loss, preprocessing))
    values = evaluation.compute()
    prefix, left_out = _PREFIXES[split], "loss" if losses is None else ""
    return {f"{prefix}/{name}": value for name, value in values.items() if name != left_out}


def _losses(module: ComponentModule, predictions: Tensor, target: Tensor) -> Tensor | None:
    """ℓ of scores whose predictions are these, in the target's units, (n,); None where scores do not follow."""
    assert module.preprocessing is not None, "it is trained"
    loss, coding = module.loss, module.preprocessing.target_coding
    if type(loss).link is not Loss.link or loss.units != ("location",):
        return None
    if loss.task.standardizes:
        if predictions.shape[1] != len(coding.info.columns):
            return None
        predictions = (predictions - coding.center) / coding.scale
    with torch.no_grad():
        found: Tensor = loss(loss.task.scores(predictions), target)
    return found
