"""Options, models and settings that the chosen optimizer cannot handle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, LearningRateMonitor, StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn

from torchplug.batch import TrainingSet
from torchplug.engine import FULL_PRECISION, check_analytic
from torchplug.errors import ConfigurationError
from torchplug.objective import StepObjective
from torchplug.registry.component import Capability
from torchplug.resolved_config import ResolvedConfig
from torchplug.training import Execution, full_batch_objective
from torchplug.training.grouping import why_single_steps

_REDUCED_PRECISIONS = ("16-mixed", "16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")


def refuse_options(resolved: ResolvedConfig, options: Execution) -> None:
    """Refuse options that the optimizer has no use for.

    Raises:
        ConfigurationError: naming the optimizer.
    """
    if resolved.is_full_batch and options not in (Execution(), Execution(steps_per_execution=1)):
        raise ConfigurationError(
            f"{resolved.optimizer.name} makes one step per epoch, alike on every rank, and chooses its own "
            "derivatives: leave out engine, steps_per_execution, sync_every and gradient_norms"
        )
    if resolved.needs_graph and options.engine not in ("auto", "autograd"):
        raise ConfigurationError(
            f"{resolved.optimizer.name} differentiates the gradient, which only autograd can: leave engine at auto"
        )


def refuse_model(
    resolved: ResolvedConfig,
    options: Execution,
    objective: StepObjective,
    optimizer: Callable[[], Any],
    training_set: Callable[[], TrainingSet],
) -> None:
    """Refuse a model, or a size, that cannot be trained as asked.

    Args:
        resolved: the components.
        options: how minibatches are executed.
        objective: network, loss and penalties.
        optimizer: gives the optimizer over the network's parameters.
        training_set: gives all training rows, of which a few are read.

    Raises:
        ConfigurationError: saying what stands against it, and the remedy.
    """
    if not resolved.is_full_batch:
        if options.engine == "analytic":
            check_analytic(objective)
        return
    name, capabilities = resolved.optimizer.name, resolved.optimizer.capabilities
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in objective.network.modules()):
        raise _whole_set(
            name,
            "batch normalization, which makes a row's loss depend on its batch, cannot be trained",
            "set batch_norm: false, or put these layers into evaluation mode",
        )
    whole = full_batch_objective(objective, training_set())
    if Capability.LINEAR_RESIDUALS in capabilities and not whole.has_linear_residuals():
        raise _nonlinear(name, "another optimizer such as levenberg_marquardt")
    if Capability.PIECEWISE_LINEAR in capabilities and not whole.has_linear_scores():
        raise _nonlinear(name, "an optimizer for minibatches such as adam")
    try:
        getattr(optimizer(), "refuse", lambda objective: None)(whole)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {' '.join(str(error).split())}") from error


def refuse_settings(resolved: ResolvedConfig, options: Execution, trainer: Trainer) -> None:
    """Refuse settings of the trainer that would make other steps than those that were asked for.

    Raises:
        ConfigurationError: naming the setting and the remedy.
    """
    if resolved.is_full_batch:
        for trouble, remedy in _full_batch_obstacles(trainer):
            raise _whole_set(resolved.optimizer.name, trouble, remedy)
        return
    if options.engine == "analytic" and trainer.precision not in FULL_PRECISION:
        raise ConfigurationError(f"engine analytic: it computes in full precision, and not in {trainer.precision}")
    if Capability.CLOSURE in resolved.optimizer.capabilities:
        _refuse_partial_evaluations(resolved.optimizer.name, trainer)
    if resolved.needs_graph and (trainer.world_size > 1 or trainer.precision == "16-mixed"):
        raise ConfigurationError(
            f"{resolved.optimizer.name} differentiates the gradient, whose graph is lost when it is averaged over "
            "processes or unscaled: train in one process, without precision 16-mixed"
        )
    asked = options.steps_per_execution
    obstacle = None if asked in ("auto", 1) else why_single_steps(trainer, resolved.why_closure)
    if obstacle is not None:
        raise ConfigurationError(f"steps_per_execution {asked}: {obstacle}; leave it at auto, or set it to 1")


def refuse_start(resolved: ResolvedConfig, options: Execution, trainer: Trainer, objective: StepObjective) -> None:
    """Refuse what the built optimizer, the callbacks and the loader show, in `on_train_start`.

    Raises:
        ConfigurationError: naming what stands in the way, and the remedy.
    """
    loader: Any = trainer.train_dataloader
    if not resolved.is_full_batch:
        refuse_settings(resolved, options, trainer)  # again: the optimizer, which there is now, may stand in the way
        _refuse_single_rows(objective.network, loader)
        return
    name, optimizer = resolved.optimizer.name, trainer.optimizers[0]
    if not hasattr(loader, "training_set"):
        raise _whole_set(
            name,
            f"it cannot be fed by a {type(loader).__name__}, which gives batches",
            "use TabularData, or a loader with an attribute training_set",
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        wants_rate = isinstance(callback, LearningRateMonitor | StochasticWeightAveraging)
        if wants_rate and "lr" not in optimizer.defaults:
            raise _whole_set(name, "it has no learning rate", f"leave the callback {type(callback).__name__} out")
    refuse_model(resolved, options, objective, lambda: optimizer, lambda: loader.training_set)


def _full_batch_obstacles(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """What the trainer would do to the steps of a full-batch optimizer, and the remedy."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if trainer.accumulate_grad_batches != 1:
        yield "there is nothing to accumulate", "leave accumulate_grad_batches at 1"
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks):
        yield "there is nothing to accumulate", "leave the callback GradientAccumulationScheduler out"
    if trainer.gradient_clip_val:
        yield "its gradient must stay what it is, unclipped", "leave gradient_clip_val unset"
    if trainer.limit_train_batches < 1:
        yield (
            "there is no part of its batches to train on",
            "leave limit_train_batches and overfit_batches out, or give it fewer rows",
        )
    if trainer.precision in _REDUCED_PRECISIONS:
        yield (
            f"precision {trainer.precision} would lose the digits that it decides by",
            "use precision 32-true or 64-true (it computes in double precision either way)",
        )
    if not isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy):
        yield f"{type(trainer.strategy).__name__}, which shards parameters, cannot be used", "use strategy ddp"


def _refuse_partial_evaluations(name: str, trainer: Trainer) -> None:
    """Refuse settings under which a closure would not evaluate the step's whole objective, or not be passed on."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    scheduled = any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks)
    if trainer.accumulate_grad_batches != 1 or scheduled:
        raise ConfigurationError(
            f"{name} evaluates the loss several times in a step, on a single batch: leave accumulate_grad_batches at 1 "
            "and GradientAccumulationScheduler out, and choose a larger batch_size"
        )
    if trainer.precision == "16-mixed":
        raise ConfigurationError(
            f"{name} evaluates the loss several times in a step, which precision 16-mixed does not: use bf16-mixed"
        )


def _refuse_single_rows(network: nn.Module, loader: Any) -> None:
    normalizes = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    smallest = getattr(loader, "smallest_batch", None)
    if normalizes and smallest is not None and smallest < 2:
        raise ConfigurationError(
            f"batch normalization needs at least 2 rows in every batch, and the smallest here has {smallest}: "
            "choose another batch_size, or batch_norm: false"
        )


def _whole_set(name: str, trouble: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{name} sees the whole training set at once, so {trouble}: {remedy}")


def _nonlinear(name: str, other: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} needs a model that is linear in its parameters, and this one is not: use the model linear, or {other}"
    )
