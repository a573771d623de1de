"""All metrics of a trained module on a part of its data."""

from __future__ import annotations

from torchplug.checked_network import evaluating
from torchplug.data.tabular import TabularData
from torchplug.evaluation.split_evaluations import SplitEvaluations
from torchplug.module import ComponentModule


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
