"""Losses, optimizers, regularizers, schedulers and metrics by name, on PyTorch Lightning."""

from __future__ import annotations

from torchplug.interruption import begin_program

begin_program()  # before anything that takes time is imported

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from torchplug.components import validate
from torchplug.errors import TorchplugError
from torchplug.registry.component import (
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
from torchplug.registry.hookspecs import hookimpl

if TYPE_CHECKING:
    from torchplug.batch import Batch, Rows, TrainingSet
    from torchplug.components.contracts import Loss, Pieces, Regularizer
    from torchplug.components.embeddings import CategoryEmbedding, PeriodicEmbedding, PiecewiseLinearEmbedding
    from torchplug.components.optimizer import FusedOptimizer, ProximalOptimizer
    from torchplug.data.tabular import TabularData
    from torchplug.fit_result import FitResult
    from torchplug.fitting import fit
    from torchplug.many import fit_many
    from torchplug.module import ComponentModule
    from torchplug.objective import Objective
    from torchplug.objective.least_squares import LeastSquares
    from torchplug.tracking.checkpoints import load
    from torchplug.tracking.ensemble import Ensemble
    from torchplug.tracking.run import Run, runs
    from torchplug.workflow.comparison import Comparison, compare
    from torchplug.workflow.cross_validation import cross_validate
    from torchplug.workflow.cross_validation.result import CrossValidation
    from torchplug.workflow.diagnosis import Diagnosis, diagnose
    from torchplug.workflow.ensemble import fit_ensemble
    from torchplug.workflow.ensemble.result import EnsembleFit
    from torchplug.workflow.ladder import Ladder, ladder
    from torchplug.workflow.learning_curve import LearningCurve, learning_curve
    from torchplug.workflow.regularization_path import RegularizationPath, path
    from torchplug.workflow.search import SearchResult, search
    from torchplug.workflow.tuning import BatchSizes, LearningRates, tune_batch_size, tune_lr

__version__ = version("torchplug")
__all__ = [
    "Batch",
    "BatchSizes",
    "Capability",
    "CategoryEmbedding",
    "Comparison",
    "Component",
    "ComponentModule",
    "CrossValidation",
    "Diagnosis",
    "Ensemble",
    "EnsembleFit",
    "Factory",
    "Family",
    "FitResult",
    "FusedOptimizer",
    "Iteration",
    "Ladder",
    "LearningCurve",
    "LearningRates",
    "LeastSquares",
    "Loss",
    "Metric",
    "Objective",
    "Outcome",
    "PeriodicEmbedding",
    "Pieces",
    "PiecewiseLinearEmbedding",
    "ProximalOptimizer",
    "RegularizationPath",
    "Regularizer",
    "Rows",
    "Run",
    "SearchResult",
    "Spec",
    "TabularData",
    "TargetInfo",
    "TorchplugError",
    "TrainingSet",
    "compare",
    "cross_validate",
    "diagnose",
    "fit",
    "fit_ensemble",
    "fit_many",
    "hookimpl",
    "ladder",
    "learning_curve",
    "load",
    "path",
    "runs",
    "search",
    "tune_batch_size",
    "tune_lr",
    "use",
    "validate",
]

_LAZY = {
    "Comparison": "torchplug.workflow.comparison",
    "ComponentModule": "torchplug.module",
    "CrossValidation": "torchplug.workflow.cross_validation.result",
    "Ensemble": "torchplug.tracking.ensemble",
    "EnsembleFit": "torchplug.workflow.ensemble.result",
    "Diagnosis": "torchplug.workflow.diagnosis",
    "FitResult": "torchplug.fit_result",
    "TabularData": "torchplug.data.tabular",
    "BatchSizes": "torchplug.workflow.tuning",
    "LearningRates": "torchplug.workflow.tuning",
    "tune_batch_size": "torchplug.workflow.tuning",
    "tune_lr": "torchplug.workflow.tuning",
    "RegularizationPath": "torchplug.workflow.regularization_path",
    "compare": "torchplug.workflow.comparison",
    "path": "torchplug.workflow.regularization_path",
    "cross_validate": "torchplug.workflow.cross_validation",
    "diagnose": "torchplug.workflow.diagnosis",
    "Ladder": "torchplug.workflow.ladder",
    "LearningCurve": "torchplug.workflow.learning_curve",
    "fit": "torchplug.fitting",
    "fit_ensemble": "torchplug.workflow.ensemble",
    "fit_many": "torchplug.many",
    "Run": "torchplug.tracking.run",
    "SearchResult": "torchplug.workflow.search",
    "search": "torchplug.workflow.search",
    "ladder": "torchplug.workflow.ladder",
    "learning_curve": "torchplug.workflow.learning_curve",
    "runs": "torchplug.tracking.run",
    "load": "torchplug.tracking.checkpoints",
    "CategoryEmbedding": "torchplug.components.embeddings",
    "PeriodicEmbedding": "torchplug.components.embeddings",
    "PiecewiseLinearEmbedding": "torchplug.components.embeddings",
    "Loss": "torchplug.components.contracts",
    "Objective": "torchplug.objective",
    "LeastSquares": "torchplug.objective.least_squares",
    "FusedOptimizer": "torchplug.components.optimizer",
    "ProximalOptimizer": "torchplug.components.optimizer",
    "Batch": "torchplug.batch",
    "Rows": "torchplug.batch",
    "TrainingSet": "torchplug.batch",
    "Pieces": "torchplug.components.contracts",
    "Regularizer": "torchplug.components.contracts",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for: `torchplug list` must not."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'torchplug' has no attribute {name!r}")
