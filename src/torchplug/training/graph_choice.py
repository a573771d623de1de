"""Whether the engine `auto` compiles graphs of several steps."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext

from lightning.pytorch import Trainer
from torch import nn

from torchplug.engine.fused_steps import why_no_update_fn
from torchplug.objective import StepObjective
from torchplug.training.cost_model import compiling_pays
from torchplug.training.grouping import why_single_steps
from torchplug.training.layout import Layout
from torchplug.training.planning import planned_steps


def graphs_pay(trainer: Trainer, objective: StepObjective, layout: Layout, rows: int) -> bool:
    """Return whether several steps can be one graph, and compiling it is estimated to pay over the planned steps.

    Sizes decide, so that a resumed fit has the engine of the fit that it continues.

    Args:
        trainer: the trainer; its optimizer and loaders exist.
        objective: F on a minibatch.
        layout: the parameters' memory layout and the optimizer.
        rows: rows of a batch.
    """
    network = objective.network
    possible = (
        layout.update.declared
        and compiling_pays(network, rows, planned_steps(trainer)[0])
        and trainer.world_size == 1
        and trainer.precision == "32-true"
        and trainer.gradient_clip_val is None
        and not any(config.interval == "step" for config in trainer.lr_scheduler_configs)
        and not any(isinstance(module, nn.Dropout) and module.p > 0 for module in network.modules())
        and why_single_steps(trainer) is None
        and why_no_update_fn(layout.optimizer, objective, layout.storage, nullcontext) is None
    )
    return possible and shutil.which(os.environ.get("CXX", "g++")) is not None
