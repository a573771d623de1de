"""Losses, optimizers, regularizers, schedulers and metrics by name, on PyTorch Lightning."""

from __future__ import annotations

from torchplug.interruption import begin_program

begin_program()  # before anything that takes time is imported

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from torchplug.component import (
    Capability,
    Component,
    Factory,
    Family,
    Iteration,
    Metric,
    Outcome,
    Spec,
    TargetInfo,
    use,
)
from torchplug.errors import TorchplugError
from torchplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from torchplug.contracts import Loss, Pieces, Regularizer
    from torchplug.data.tabular import TabularData
    from torchplug.fit_result import FitResult
    from torchplug.fitting import fit
    from torchplug.many import fit_many
    from torchplug.module import ComponentModule
    from torchplug.objective import Objective
    from torchplug.tracking.checkpoints import load
    from torchplug.tracking.run import Run, runs

__version__ = version("torchplug")
__all__ = [
    "Capability",
    "Component",
    "ComponentModule",
    "Factory",
    "Family",
    "FitResult",
    "Iteration",
    "Loss",
    "Metric",
    "Objective",
    "Outcome",
    "Pieces",
    "Regularizer",
    "Run",
    "Spec",
    "TabularData",
    "TargetInfo",
    "TorchplugError",
    "fit",
    "fit_many",
    "hookimpl",
    "load",
    "runs",
    "use",
]

_LAZY = {
    "ComponentModule": "torchplug.module",
    "FitResult": "torchplug.fit_result",
    "TabularData": "torchplug.data.tabular",
    "fit": "torchplug.fitting",
    "fit_many": "torchplug.many",
    "Run": "torchplug.tracking.run",
    "runs": "torchplug.tracking.run",
    "load": "torchplug.tracking.checkpoints",
    "Loss": "torchplug.contracts",
    "Objective": "torchplug.objective",
    "Pieces": "torchplug.contracts",
    "Regularizer": "torchplug.contracts",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for: `torchplug list` must not."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'torchplug' has no attribute {name!r}")
