"""What became of each of many models."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchplug.data.tabular import TabularData
from torchplug.fit_result import FitResult, LateMetrics
from torchplug.fitting.calibration import calibrate
from torchplug.many.configurations import Configuration
from torchplug.many.evaluation import validation_metrics
from torchplug.many.members import components_of
from torchplug.many.program import Trained
from torchplug.module import ComponentModule
from torchplug.registry.component import Outcome
from torchplug.tracking.run import Run


@dataclass(frozen=True)
class Fitted:
    """A model that was trained.

    Args:
        result: what `fit_many` returns of it.
        epochs: whole epochs behind it.
        steps: optimizer steps behind it, of whole epochs where it shared a program.
        ended: whether its training has ended; False where it was interrupted.
    """

    result: FitResult
    epochs: int
    steps: int
    ended: bool = True


def of_program(configuration: Configuration, data: TabularData, trained: Trained, run: Run | None) -> Fitted:
    """A model that shared a program, with the run directory of all models."""

    def build() -> ComponentModule:
        module = configuration.module()
        with torch.random.fork_rng(devices=[]):
            module.configure(data)
        network = module.network
        assert network is not None, "it has adopted data"
        network.to(next(iter(trained.state.values())).dtype)
        network.load_state_dict(trained.state)
        calibrate(module, data)
        return module

    steps = trained.epochs * data.batches("train")
    if not trained.metrics:
        return Fitted(FitResult({}, trained.outcome, build, run), trained.epochs, steps, trained.ended)
    result: FitResult
    assert data.preprocessing is not None, "it was trained on"
    choice, labelled = components_of(configuration).metric_choice, data.preprocessing.target_coding.labels
    names = tuple(choice.watchable(bool(data.sizes["validation"]), labelled))
    metrics = LateMetrics(trained.metrics, names, lambda: validation_metrics(result.module, data))
    result = FitResult(metrics, trained.outcome, build, run)
    return Fitted(result, trained.epochs, steps, trained.ended)


def not_begun(configuration: Configuration, remedy: str, run: Run | None) -> Fitted:
    """A model that was not trained at all, because training was interrupted before."""
    outcome = Outcome("limit", "interrupted before its first step", remedy)
    return Fitted(FitResult({}, outcome, configuration.module, run), 0, 0, ended=False)
