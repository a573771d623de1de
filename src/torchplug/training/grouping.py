"""How many optimizer steps run per step of Lightning's, such that no callback misses one that it observes."""

from __future__ import annotations

import inspect
import math
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    Timer,
    TQDMProgressBar,
)
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn
from torch.optim import Optimizer

from torchplug.training.cost_model import seconds_of_step
from torchplug.training.lightning_internals import done_in_epoch, is_training

StepsPerExecution = int | Literal["auto"]

_KNOWN: tuple[type[Callback], ...] = (ModelCheckpoint, LearningRateMonitor, TQDMProgressBar, RichProgressBar, Timer)
"""Callbacks that are compatible with several steps per call: each acts where a call ends, or is called as needed."""

_SINGLE_STEPS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
_OWN_STEPS = (
    *_SINGLE_STEPS,
    "training_step",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "transfer_batch_to_device",
    "on_before_batch_transfer",
    "on_after_batch_transfer",
)
FULL_STORAGE = ("32-true", "64-true", "bf16-mixed")
"""Precisions in which parameters and gradients are stored unscaled and in full precision."""

_MOST_STEPS = 4096
_CALL_SECONDS = 0.1
_MOST_STEPS_PER_GRAPH = 16
"""Bounds compile time, which grows with the number of steps."""


def _per_step_observer(trainer: Trainer) -> str | None:
    """Return the reason why each step must be made by the trainer, if a callback, module or profiler observes it."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        known = next((kind for kind in _KNOWN if isinstance(callback, kind)), Callback)
        if _overridden(callback, known, _SINGLE_STEPS):
            return f"the callback {type(callback).__name__} looks at single batches"
    module = trainer.lightning_module
    if module is not None and (overridden := _overridden(module, _own_class(module), _OWN_STEPS)):
        return f"{type(module).__name__} has a {overridden[0]} of its own"
    profiler = trainer.profiler  # type: ignore[attr-defined]
    if not isinstance(profiler, PassThroughProfiler):
        return "the profiler measures single steps"
    return None


def why_single_steps(trainer: Trainer, closure: str | None = None) -> str | None:
    """Return why each call of Lightning's must make a single step; None if it may make several.

    Args:
        trainer: the trainer.
        closure: why the optimizer must have a closure at every step; None if it need not.
    """
    if closure is not None:
        return closure
    if trainer.accumulate_grad_batches > 1:
        return "gradients are accumulated"
    if trainer.precision not in FULL_STORAGE:
        return f"precision {trainer.precision} scales or rounds in steps of its own"
    if type(trainer.strategy) not in (SingleDeviceStrategy, DDPStrategy):  # DeepSpeed's derives from DDP's
        return f"the strategy {type(trainer.strategy).__name__} divides the parameters among devices"
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return "fast_dev_run needs every step"
    if trainer.world_size > 1 and trainer.lightning_module is not None and _has_buffers(trainer.lightning_module):
        return "DDP synchronizes the network's buffers before every step"
    for optimizer in trainer.optimizers:
        if _must_have_closure(optimizer):
            return f"the optimizer {type(optimizer).__name__} evaluates gradients by itself"
    return _per_step_observer(trainer)


def steps_per_execution(asked: StepsPerExecution, network: nn.Module, rows: int) -> int:
    """Return the most steps per call: as configured, or by `auto` about a tenth of a second of them.

    Estimated from sizes rather than measured, so that it is equal on every rank.

    Args:
        asked: a number, at least 1, or "auto".
        network: the network; its size determines the estimate.
        rows: rows of a rank's batch.
    """
    if asked != "auto":
        return asked
    return min(_MOST_STEPS, max(1, int(_CALL_SECONDS / seconds_of_step(network, rows))))


def boundary_steps(network: nn.Module, rows: int, sync_every: int | None = None) -> int:
    """Return after how many steps ranks check together for a stop signal: about a tenth of a second of steps.

    Args:
        network: the network; its size determines the estimate.
        rows: rows of a rank's batch.
        sync_every: after how many steps ranks have equal parameters; None: after each.
    """
    every = sync_every or 1
    return -(-steps_per_execution("auto", network, rows) // every) * every


def steps_per_graph(trainer: Trainer, most: int) -> int:
    """Return the number of steps per compiled graph, at least 1.

    All leading steps of a call, or a divisor of the logging interval, so that rows are due where a graph ends.

    Args:
        trainer: the trainer.
        most: how many steps a call makes at most, Lightning's own included.
    """
    ahead = int(max(1, min(most - 1, trainer.num_training_batches - 1)))
    every = int(trainer.log_every_n_steps) or _MOST_STEPS  # type: ignore[attr-defined]
    bound = min(ahead, every, _MOST_STEPS_PER_GRAPH)
    divisor = next(steps for steps in range(bound, 0, -1) if every % steps == 0)
    return divisor if ahead > _MOST_STEPS_PER_GRAPH and 2 * divisor > bound else bound


def steps_until_event(trainer: Trainer, most: int) -> int:
    """Return the number of steps until the next event that needs Lightning, at least 1; Lightning makes the last.

    Events are the end of an epoch or of the training, a validation, a checkpoint, and a step of a schedule that
    monitors a metric. Rows of the log are none: they are written between steps.
    """
    if trainer.should_stop or trainer.accumulate_grad_batches > 1:  # a callback may change the window
        return 1
    if not is_training(trainer):  # an iteration of the loader outside training
        return 1
    loop: Any = trainer.fit_loop.epoch_loop
    here, step = done_in_epoch(trainer), trainer.global_step
    ends = [most, trainer.num_training_batches - here]
    if trainer.max_steps > 0:
        ends.append(trainer.max_steps - step)
    if (loop.min_steps or 0) > step:
        ends.append(loop.min_steps - step)
    if trainer.enable_validation:
        within_epoch = trainer.check_val_every_n_epoch is not None
        batches = here if within_epoch else loop.batch_progress.total.ready
        ends.append(_until(batches, trainer.val_check_batch))
    for callback in trainer.checkpoint_callbacks:
        ends.append(_until(step, getattr(callback, "_every_n_train_steps", 0)))
    for config in trainer.lr_scheduler_configs:
        if config.interval == "step" and config.reduce_on_plateau:
            ends.append(_until(here, config.frequency))
    steps = int(min(ends))
    bar = trainer.progress_bar_callback
    if isinstance(bar, TQDMProgressBar) and here + steps < trainer.num_training_batches:
        shown = (here + steps) // max(1, bar.refresh_rate) * max(1, bar.refresh_rate)  # refreshed at multiples
        steps = shown - here if shown > here else steps
    return max(1, steps)


def _until(now: int, every: float | None) -> float:
    """Return the distance to the next multiple of `every`; infinite without one."""
    return every - now % every if every and every != math.inf else math.inf


def _has_buffers(module: LightningModule) -> bool:
    return next(module.buffers(), None) is not None


def _must_have_closure(optimizer: Optimizer) -> bool:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _own_class(module: LightningModule) -> type:
    """Return the module's nearest base class in this package, whose hooks are known."""
    return next((kind for kind in type(module).__mro__ if kind.__module__.startswith("torchplug.")), LightningModule)


def _overridden(thing: object, base: type, names: tuple[str, ...]) -> list[str]:
    """Return the names of methods that an object overrides, in its class or on the instance."""
    own = vars(thing)
    return [name for name in names if name in own or getattr(type(thing), name) is not getattr(base, name)]
