"""A full-batch optimizer's iterations in the terminal, as they are made."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from torchplug.module import ComponentModule
from torchplug.registry.component import Iteration

_HEADER = (
    f"{'iteration':>9}  {'objective':>16}  {'gradient norm':>13}  {'step':>9}  {'damping':>9}  {'evaluations':>11}"
)
_EACH = 20
"""So many iterations get a line each, from there on every tenth."""


class ConvergenceTable(Callback):
    """Print a line per iteration: objective, gradient norm, step size or damping, evaluations."""

    def __init__(self) -> None:
        self._printed: Iteration | None = None

    @override
    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *arguments: Any) -> None:
        iteration = pl_module.iteration
        if not trainer.is_global_zero or iteration is None or iteration == self._printed:
            return
        if self._printed is None:
            print(_HEADER)
        self._printed = iteration
        if iteration.number <= _EACH or iteration.number % 10 == 0 or pl_module.outcome is not None:
            print(_line(iteration), flush=True)


def describe_outcome(module: ComponentModule) -> str:
    """How a full-batch optimizer ended the training, in a line."""
    outcome = module.outcome
    assert outcome is not None, "only a finished full-batch optimizer has an outcome"
    remedy = f"; {outcome.remedy}" if outcome.remedy else ""
    made = module.iteration.number if module.iteration is not None else 0
    return f"{outcome.name} after {made} iteration{'' if made == 1 else 's'}: {outcome.reason}{remedy}"


def _line(iteration: Iteration) -> str:
    step, damping = (f"{'-' if value is None else f'{value:.2e}':>9}" for value in (iteration.step, iteration.damping))
    return (
        f"{iteration.number:>9}  {iteration.loss:>16.9e}  {iteration.gradient_norm:>13.3e}  {step}  {damping}  "
        f"{iteration.evaluations:>11}"
    )
