"""The linear model that a fit's network is compared with when it ends."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from torchplug.batch import Batch, Rows
from torchplug.components.builtin.losses import MSE
from torchplug.components.contracts import Loss, linear_scores
from torchplug.data.tabular import TabularData
from torchplug.errors import TorchplugError
from torchplug.evaluation.calibration import Calibration, HeldOut, held_out
from torchplug.evaluation.linear_baseline import LinearBaseline
from torchplug.evaluation.split_evaluations import SplitEvaluations
from torchplug.fitting.calibration import holding
from torchplug.memory import require_memory
from torchplug.module import ComponentModule
from torchplug.objective.linear_model import LinearModel, penalized_linear_model
from torchplug.objective.ridge import ridge
from torchplug.tracking.checkpoint_file import read_checkpoint
from torchplug.tracking.jsonl import plain_values

MOST_WORK = 2e10
"""Multiplications, about two seconds on a CPU; what would take more is not compared."""
_EVALUATIONS = 250
"""Passes over the rows, forwards and backwards, of a logistic regression."""


def linear_baseline(
    module: ComponentModule, data: TabularData, file: Path, calibration: Calibration | None
) -> LinearBaseline | None:
    """Compare the model of a checkpoint with a linear one on the validation rows.

    Numbers: ridge regression, λ chosen by leaving out each training row once. Classes: the fit's loss with the penalty
    λ = 1/(2n), scikit-learn's C = 1. Both train on the features and weights of the fit. A comparison that cannot be
    made does not end a fit.

    Args:
        module: of the run; it is left as it is.
        data: prepared for it.
        file: the checkpoint.
        calibration: of the checkpoint, with the temperature that its scores are divided by where that is asked for.

    Returns:
        Both models' metrics; None for a model that is linear itself, without validation rows, and where the linear one
        does not apply or takes too long (docs/mlp.md).
    """
    if not file.is_file() or not data.sizes["validation"] or linear_scores(module.network) is not None:
        return None
    kind = _kind(module.loss)
    if kind is None or _work(module, data, kind) > MOST_WORK or (kind == "logistic" and data.stream):
        return None
    try:
        return _compared(module, data, kind, file, calibration)
    except (TorchplugError, RuntimeError):  # such as eigenvalues that do not converge, or a lack of memory
        return None


def _kind(loss: Loss) -> Literal["ridge", "logistic"] | None:
    """Which linear model minimizes a loss, or one near to it."""
    if any(True for _ in loss.parameters()):
        return None
    if loss.kind == "regression":
        return "ridge" if loss.units == ("location",) else None
    return "logistic" if loss.smooth and loss.task.probabilities is not None else None


def _sizes(module: ComponentModule, data: TabularData) -> tuple[int, int, int]:
    """Training rows, features and scores."""
    assert module.preprocessing is not None, "it is configured"
    return (
        data.sizes["train"],
        len(module.preprocessing.feature_names),
        module.loss.outputs(module.preprocessing.info),
    )


def _work(module: ComponentModule, data: TabularData, kind: str) -> float:
    samples, features, outputs = _sizes(module, data)
    if kind == "ridge":
        return float(samples) * features * min(samples, features)
    return float(_EVALUATIONS) * samples * features * outputs


def _compared(
    module: ComponentModule,
    data: TabularData,
    kind: Literal["ridge", "logistic"],
    file: Path,
    calibration: Calibration | None,
) -> LinearBaseline | None:
    linear = _ridge(module, data) if kind == "ridge" else _logistic(module, data)
    if linear is None or not bool(linear.weight.isfinite().all() and linear.bias.isfinite().all()):
        return None
    evaluate = _evaluation(module, data)
    of_linear = evaluate(_scored(linear, data))
    with holding(module, read_checkpoint(file)["state_dict"]):
        module.calibration = calibration
        assert module.network is not None, "it is trained"
        rows = held_out(module.network, data.all_batches("validation"))
        of_model = evaluate(rows._replace(scores=rows.scores / module.temperature))
    same = isinstance(module.loss, MSE) and "val/rmse" in of_model
    shown = "val/rmse" if same and _agree(of_linear, of_model) else "val/loss"
    return LinearBaseline(kind, linear.coefficient, of_linear, of_model, shown)


def _agree(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> bool:
    """Whether rmse orders two models as the loss does; it does not where several targets have other units."""
    ranks = [(first[name] or 0.0) < (second[name] or 0.0) for name in ("val/loss", "val/rmse")]
    return ranks[0] == ranks[1]


def _evaluation(module: ComponentModule, data: TabularData) -> Callable[[HeldOut], dict[str, float | None]]:
    """What gives the metrics of rows that are scored."""
    evaluations = SplitEvaluations(_double(module.loss), module.resolved.metric_choice, apart=True)
    evaluations.compare_with(data.target_scale)

    def metrics(rows: HeldOut) -> dict[str, float | None]:
        batch = Batch(None, _precise(rows.target), rows.weight.double(), len(rows.weight))
        evaluations.update("val", rows.scores, batch, module.preprocessing)
        return plain_values(evaluations.finish("val"))

    return metrics


def _scored(linear: LinearModel, data: TabularData) -> HeldOut:
    batches = data.all_batches("validation")
    return HeldOut.joined([HeldOut(linear(batch.features), batch.target, batch.weight) for batch in batches])


def _ridge(module: ComponentModule, data: TabularData) -> LinearModel | None:
    samples, features, outputs = _sizes(module, data)
    if next(iter(data.all_batches("train"))).target.shape[1] != outputs:
        return None  # several predictions per target
    if samples <= features:
        _require_memory(samples * features)

    def read() -> Iterator[Rows]:
        for batch in data.all_batches("train"):
            yield Rows(batch.features, batch.target, batch.weight)

    return ridge(read, samples, features, outputs)


def _logistic(module: ComponentModule, data: TabularData) -> LinearModel:
    samples, features, outputs = _sizes(module, data)
    _require_memory(samples * features)
    batches = list(data.all_batches("train"))
    rows = Rows(
        torch.cat([batch.features for batch in batches]).double(),
        _precise(torch.cat([batch.target for batch in batches])),
        torch.cat([batch.weight for batch in batches]).double(),
    )
    return penalized_linear_model(rows, _double(module.loss), outputs, 1 / (2 * samples))


def _require_memory(numbers: int) -> None:
    require_memory(4 * 8 * numbers, "the linear baseline", "it is left out")


def _double(loss: Loss) -> Loss:
    return copy.deepcopy(loss).cpu().double()


def _precise(target: Tensor) -> Tensor:
    return target.double() if target.is_floating_point() else target
