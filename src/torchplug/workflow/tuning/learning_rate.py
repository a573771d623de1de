"""`torchplug.tune_lr`: the training loss while the learning rate rises."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import polars
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from torchplug.components.parameter_groups import factor_of
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, NonFiniteGradientError
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow import pictures
from torchplug.workflow.tuning.trial import Trials

_SMOOTHING = 0.9
_DIVERGED = 4.0
"""The test ends where the smoothed loss is so many times its lowest value."""


@dataclass(frozen=True)
class LearningRates:
    """What a range test came to.

    Args:
        table: a row per step: `lr`, `loss` of the step's batch, and `smoothed`.
        suggestion: the rate at which the smoothed loss falls most steeply against log lr; None if it never falls.
        run: the run directory, with lr.csv and lr.png.
    """

    table: polars.DataFrame
    suggestion: float | None
    run: Run


def tune_lr(
    config: Mapping[str, Any],
    data: TabularData,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    trainer: Mapping[str, Any] | None = None,
    tracking: Mapping[str, Any] | Tracking | None = None,
    name: str = "tune_lr",
    root: str | Path = "runs",
    seed: int = 0,
) -> LearningRates:
    """Raise the learning rate step by step on a copy of the model, and suggest one.

        lrₖ = lowest · (highest/lowest)^(k/(steps − 1))

    The loss of each batch is smoothed, sₖ = 0.9 sₖ₋₁ + 0.1 ℓₖ, divided by 1 − 0.9ᵏ. The test ends early where that is
    four times its lowest value, or a gradient is not finite. The suggestion is the rate at which it falls most steeply
    against log lr, ahead of its lowest value. Model, data and random generators stay as they are.

    Args:
        config: ComponentModule's parameters, with an optimizer for minibatches; its scheduler is left out.
        data: the table.
        lowest: the first rate, above 0.
        highest: the last rate, above `lowest`.
        steps: how many, at least 10.
        trainer: parameters of Lightning's Trainer.
        tracking: W&B's settings, which are written down: a test sends nothing.
        name: the folder of the run's family, below `root`.
        root: the folder of all runs.
        seed: of the network's start and the order of rows.

    Raises:
        ConfigurationError: for a reversed range, and optimizers without learning rate.
        DataError: for a table that cannot be used.

    Reference: Smith (2017), doi:10.1109/WACV.2017.58.

    Example:
        >>> import torchplug
        >>> from torchplug import TabularData, use
        >>> config = {"model": use("mlp", hidden=[16]), "loss": "mse", "optimizer": "adam"}
        >>> torchplug.tune_lr(config, TabularData("diabetes")).suggestion  # doctest: +SKIP
    """
    if not 0.0 < lowest < highest < math.inf:
        raise ConfigurationError(f"lowest is {lowest:g} and highest {highest:g}: give 0 < lowest < highest")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 10:
        raise ConfigurationError(f"steps is {steps!r}: a range test needs at least 10")
    trials = Trials(config, data, trainer or {}, seed)
    resolved = trials.module().resolved
    if not resolved.takes_learning_rate:
        raise ConfigurationError(f"{resolved.optimizer.name} has no learning rate to tune")
    rising = _Rising([float(rate) for rate in np.geomspace(lowest, highest, steps)])
    with contextlib.suppress(NonFiniteGradientError):  # the end of the range that can be used
        trials.train(rising, max_steps=steps, max_epochs=-1)
    table = polars.DataFrame(
        {"lr": rising.rates[: len(rising.losses)], "loss": rising.losses, "smoothed": rising.smoothed}
    )
    run = Run.create(name, root)
    found = LearningRates(table, steepest(rising.rates, rising.smoothed), run)
    chosen = Tracking.of(tracking)
    trials.record(run, "tune_lr", {"lowest": lowest, "highest": highest, "steps": steps}, chosen)
    _write(found)
    return found


def steepest(rates: Sequence[float], smoothed: Sequence[float]) -> float | None:
    """Return the rate at which a smoothed loss falls most steeply against log lr, ahead of its lowest value.

    Steepness at a step is the difference between the means of a tenth of the test after it and before it: single steps
    are noise.

    Args:
        rates: equally spaced in the logarithm.
        smoothed: the loss at each; may end earlier.

    >>> steepest([0.01, 0.1, 1.0, 10.0], [5.0, 4.5, 2.0, 9.0])
    0.1
    """
    known = [value for value in smoothed if math.isfinite(value)]
    if not known:
        return None
    width, lowest = max(1, len(rates) // 10), int(np.argmin(known))
    falls = {
        place: statistics.fmean(known[place : place + width]) - statistics.fmean(known[place - width : place])
        for place in range(width, lowest + 1)
    }
    if not falls or min(falls.values()) >= 0.0:
        return None
    return rates[min(falls, key=falls.__getitem__) - 1]


class _Rising(Callback):
    """Sets the learning rate before each step, and keeps the loss after it."""

    def __init__(self, rates: Sequence[float]) -> None:
        self.rates = rates
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self._mean = 0.0

    @override
    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rates[min(len(self.losses), len(self.rates) - 1)] * factor_of(group)

    @override
    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = float(outputs["loss"])
        self.losses.append(loss)
        self._mean = _SMOOTHING * self._mean + (1.0 - _SMOOTHING) * loss
        self.smoothed.append(self._mean / (1.0 - _SMOOTHING ** len(self.losses)))
        if not self.smoothed[-1] <= _DIVERGED * min(self.smoothed):
            trainer.should_stop = True


def _write(found: LearningRates) -> None:
    run = found.run
    run.write_table("lr.csv", found.table)
    notes = [] if found.suggestion is not None else ["the loss never falls: try another range, or look at the data"]
    if pictures.available():
        _draw(found, run.path / "lr.png")
    else:
        notes.append(pictures.INSTALL)
    run.write_notes(notes)
    run.write_outcome({"name": "converged", "suggestion": found.suggestion})


def _draw(found: LearningRates, path: Path) -> None:
    figure, (axis,) = pictures.panels(1, width=6.0, height=4.2)
    axis.plot(found.table["lr"], found.table["loss"], linewidth=0.7, alpha=0.5, label="loss of the batch")
    axis.plot(found.table["lr"], found.table["smoothed"], label="smoothed")
    if found.suggestion is not None:
        axis.axvline(found.suggestion, color="black", linestyle=":", label=f"suggestion: {found.suggestion:.2g}")
    axis.set_xscale("log")
    first = found.table["smoothed"][: max(1, found.table.height // 2)].to_list()
    low, high = min(found.table["smoothed"].to_list()), max(first)
    axis.set_ylim(low - 0.2 * (high - low or 1.0), high + 0.5 * (high - low or 1.0))
    axis.set_xlabel("learning rate")
    axis.set_ylabel("training loss")
    axis.legend(frameon=False, fontsize="small", loc="lower left")
    pictures.save(figure, path)
