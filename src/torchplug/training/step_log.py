"""Rows of the training log: after which optimizer steps they are due, and their values."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from torchplug.gradient_guard import tensors_norm
from torchplug.objective import StepObjective
from torchplug.training.running_means import RunningMeans


def learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """Return the current learning rates, named as by Lightning's LearningRateMonitor.

    Of groups with names, which have settings of their own, momentum and weight decay as well.
    """
    first, groups = f"lr-{type(optimizer).__name__}", optimizer.param_groups
    row: dict[str, float] = {}
    for number, group in enumerate(groups, start=1):
        name = f"{first}/{group.get('name', f'pg{number}')}" if len(groups) > 1 or "name" in group else first
        settings = {"": "lr"} | ({"-momentum": "momentum", "-weight_decay": "weight_decay"} if "name" in group else {})
        row |= {f"{name}{suffix}": float(group[key]) for suffix, key in settings.items() if _is_number(group.get(key))}
    return row


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Tensor) and not isinstance(value, bool)


def by_layer(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, list[nn.Parameter]]:
    """Return a ComponentModule's parameters by the name of the module that owns them, within the network."""
    layers = defaultdict(list)
    for name, parameter in named:
        layers[name.rpartition(".")[0].removeprefix("network.")].append(parameter)
    return dict(layers)


class StepLog:
    """Counts optimizer steps and computes the rows of the training log.

    Args:
        trainer: the trainer, for its logging interval and step count.
        means: running means of the loss.

    Attributes:
        step: the number of the current or last step, from 1.
        row_at: the number of the step after which the last row was written.
        due: whether a row is due after this step.
    """

    def __init__(self, trainer: Trainer, means: RunningMeans) -> None:
        self._trainer = trainer
        self._means = means
        self._every: float = trainer.log_every_n_steps or math.inf  # type: ignore[attr-defined]
        self.step = self.row_at = trainer.global_step
        self.due = False
        self._objective: StepObjective
        self._parameters: Sequence[Tensor] = ()
        self._layers: Mapping[str, Sequence[nn.Parameter]] = {}
        self._gradient_norms: dict[str, Tensor] = {}
        self._learning_rates: dict[str, float] = {}

    def watch(
        self,
        objective: StepObjective,
        parameters: Sequence[Tensor],
        layers: Mapping[str, Sequence[nn.Parameter]],
    ) -> None:
        """Set the objective and parameters that rows describe.

        Args:
            objective: F on a minibatch.
            parameters: the module's parameters.
            layers: trained parameters whose gradient norm each row has too, by the layer's name.
        """
        self._objective, self._parameters, self._layers = objective, parameters, layers

    def begin(self, step: int) -> bool:
        """Set the number of the current step; return whether a row is due after it."""
        self.step = step
        self.due = due = step % self._every == 0
        return due

    def until_row(self) -> int:
        """Return the number of steps until the next row, inclusive."""
        return int(min(self._every - self.step % self._every, 2**31))

    def measure(self, gradients: Sequence[Tensor]) -> None:
        """Record the current step's gradient norms and learning rates for its row."""
        self._gradient_norms = {"train/gradient_norm": tensors_norm(gradients)}
        for layer, parameters in self._layers.items():
            own = [p.new_zeros(()) if p.grad is None else p.grad for p in parameters]
            self._gradient_norms[f"train/gradient_norm/{layer}"] = tensors_norm(own)
        self._learning_rates = learning_rates(self._trainer.optimizers[0])

    def row(self) -> dict[str, float]:
        """Synchronize with the device and return the row; collective."""
        total, rows = self._means.row()
        # with `reduction: sum` the objective of a step is a sum, so that its mean is over steps
        objective = self._objective
        divisor = rows if objective.reduction == "mean" else self.step - self.row_at
        row = {
            "train/loss": total / rows,
            "train/objective": total / divisor + (float(objective.penalty()) if objective.penalties else 0.0),
            "train/parameter_norm": float(tensors_norm(self._parameters)),
            **self._learning_rates,
        }
        if self._gradient_norms:
            norms = torch.stack(list(self._gradient_norms.values())).tolist()
            row |= zip(self._gradient_norms, norms, strict=True)
        self.row_at = self.step
        return row
