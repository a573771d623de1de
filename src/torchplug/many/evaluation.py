"""All metrics of trained models on a part of their data."""

from __future__ import annotations

import torch

from torchplug.batch import SplitName
from torchplug.checked_network import evaluating
from torchplug.components.metrics import Evaluation
from torchplug.data.tabular import TabularData
from torchplug.evaluation.split_evaluations import SplitEvaluations, original_units
from torchplug.module import ComponentModule
from torchplug.tracking.ensemble import Ensemble

_PREFIXES: dict[SplitName, str] = {"train": "train", "validation": "val", "test": "test"}


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


def ensemble_metrics(ensemble: Ensemble, data: TabularData, split: SplitName) -> dict[str, float]:
    """Every metric of the averaged predictions on a split, by its full name; NaN where one is undefined.

    There is no loss: losses are functions of scores, in units of each member's own standardization.

    Args:
        ensemble: its first member's loss and metrics are used.
        data: prepared for the first member.
        split: its name.
    """
    first = ensemble.members[0]
    preprocessing = first.preprocessing
    assert preprocessing is not None, "members are trained"
    target = torch.cat(list(data.rows_of(split).targets()))
    points = first.loss.point(ensemble.predictions(data.frame_of(split)))
    scale = data.target_scale or ()
    evaluation = Evaluation(first.resolved.metric_choice, points.shape[1], preprocessing.target_coding.labels, *scale)
    evaluation.update(torch.zeros(len(target)), points, original_units(target, first.loss, preprocessing))
    values = evaluation.compute()
    return {f"{_PREFIXES[split]}/{name}": value for name, value in values.items() if name != "loss"}
