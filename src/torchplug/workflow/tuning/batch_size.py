"""`torchplug.tune_batch_size`: rows per second and the gradient noise scale, by which batches are small or large."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import polars
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, NonFiniteGradientError, TrainingError
from torchplug.network_memory import naming_lack_of_memory
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow import pictures
from torchplug.workflow.tuning.noise_scale import noise_scale
from torchplug.workflow.tuning.trial import Trials

_SMALLEST = 16
_MOST_BATCHES = 256
"""Batches of an epoch of a trial."""


@dataclass(frozen=True)
class BatchSizes:
    """What trials of batch sizes came to.

    Args:
        table: a row per batch size: `batch_size`, `samples_per_second`, and, relative to their smallest possible
            values, `steps` = 1 + B/b and `samples` = 1 + b/B to reach a loss, with batches of b rows and the noise
            scale B; `time` = samples / samples_per_second, relative to the smallest.
        largest: the largest size that fitted into memory.
        fastest: the size with most samples per second.
        suggestion: the size with the least estimated time.
        noise_scale: B, in rows, after the shortest trial.
        run: the run directory, with batch_sizes.csv and batch_sizes.png.
    """

    table: polars.DataFrame
    largest: int
    fastest: int
    suggestion: int
    noise_scale: float
    run: Run


def tune_batch_size(
    config: Mapping[str, Any],
    data: TabularData,
    *,
    sizes: Sequence[int] | None = None,
    seconds: float = 1.0,
    trainer: Mapping[str, Any] | None = None,
    tracking: Mapping[str, Any] | Tracking | None = None,
    name: str = "tune_batch_size",
    root: str | Path = "runs",
    seed: int = 0,
) -> BatchSizes:
    r"""Train briefly with growing batches, on copies of the model, until memory or the training split ends.

    Large batches use the hardware better, and reduce the gradient's noise, which helps up to the noise scale B alone:

        steps ∝ 1 + B/b,    samples ∝ 1 + b/B

    Args:
        config: ComponentModule's parameters, with an optimizer for minibatches; its scheduler is left out.
        data: the table; its own batch size is not used.
        sizes: batch sizes to try; None: 16, 32, … and the whole training split.
        seconds: > 0, how long each is timed, after an epoch that is not.
        trainer: parameters of Lightning's Trainer.
        tracking: W&B's settings, which are written down: trials send nothing.
        name: the folder of the run's family, below `root`.
        root: the folder of all runs.
        seed: of the network's start and the order of rows.

    Raises:
        ConfigurationError: for sizes below 1, and full-batch optimizers.
        DataError: for a table that cannot be used.
        TrainingError: if not even the smallest size fits into memory.

    Reference: McCandlish, Kaplan and Amodei (2018), arXiv:1812.06162.

    Example:
        >>> import torchplug
        >>> from torchplug import TabularData, use
        >>> config = {"model": use("mlp", hidden=[16]), "loss": "mse", "optimizer": "adam"}
        >>> torchplug.tune_batch_size(config, TabularData("diabetes")).table  # doctest: +SKIP
    """
    if not 0.0 < seconds < math.inf:
        raise ConfigurationError(f"seconds is {seconds:g}: give a time above 0")
    if sizes is not None and (not sizes or any(isinstance(b, bool) or not isinstance(b, int) or b < 1 for b in sizes)):
        raise ConfigurationError(f"sizes is {sizes!r}: give whole numbers of at least 1")
    trials = Trials(config, data, trainer or {}, seed)
    prepared = data.copied()
    prepared.prepare(trials.module().data_request())
    rows = prepared.sizes["train"]
    tried = _doubling(rows) if sizes is None else sorted({min(size, rows) for size in sizes})
    speeds, scale, notes = _measure(trials, prepared, tried, seconds)
    table = _table(speeds, scale)
    run = Run.create(name, root)
    found = BatchSizes(
        table=table,
        largest=max(speeds),
        fastest=max(speeds, key=speeds.__getitem__),
        suggestion=table.sort("time")["batch_size"][0],
        noise_scale=scale,
        run=run,
    )
    chosen = Tracking.of(tracking)
    trials.record(run, "tune_batch_size", {"sizes": tried, "seconds": seconds}, chosen)
    _write(found, notes)
    return found


def _doubling(rows: int) -> list[int]:
    sizes = [_SMALLEST]
    while 2 * sizes[-1] < rows:
        sizes.append(2 * sizes[-1])
    return sorted({min(size, rows) for size in [*sizes, rows]})


def _measure(
    trials: Trials, prepared: TabularData, sizes: Sequence[int], seconds: float
) -> tuple[dict[int, float], float, list[str]]:
    """Samples per second by size, the noise scale after the first trial, and notes."""
    speeds: dict[int, float] = {}
    scale, notes, rows = math.nan, [], prepared.sizes["train"]
    for size in sizes:
        batches = min(_MOST_BATCHES, -(-rows // size))
        clock = _Clock(seconds, min(batches * size, rows))
        try:
            with naming_lack_of_memory():
                module = trials.train(clock, batch_size=size, max_epochs=-1, limit_train_batches=batches)
        except NonFiniteGradientError as error:
            notes.append(f"batch size {size}: {error}")
            continue
        except TrainingError as error:
            if not speeds:
                raise
            notes.append(f"batch size {size}: {error}")
            break
        speeds[size] = clock.speed
        if len(speeds) == 1:
            scale = noise_scale(module.cpu(), prepared.training_set, trials.seed)
    if not speeds:
        raise TrainingError("no batch size could be trained with: lower the learning rate (tune_lr suggests one)")
    return speeds, scale, notes


def _table(speeds: Mapping[int, float], scale: float) -> polars.DataFrame:
    known = scale if math.isfinite(scale) else None
    table = polars.DataFrame({"batch_size": list(speeds), "samples_per_second": list(speeds.values())})
    size = polars.col("batch_size")
    # without signal every doubling of a batch halves the steps, and no sample is wasted
    samples = 1.0 + size / known if known else polars.lit(1.0)
    steps = 1.0 + known / size if known else polars.lit(None, dtype=polars.Float64)
    table = table.with_columns(steps.alias("steps"), samples.alias("samples"))
    needed = polars.col("samples") / polars.col("samples_per_second")
    return table.with_columns((needed / needed.min()).alias("time"))


class _Clock(Callback):
    """Times whole epochs, after the first."""

    def __init__(self, seconds: float, samples: int) -> None:
        self._seconds = seconds
        self._samples = samples
        self._start = 0.0
        self.speed = 0.0

    @override
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self._start = time.perf_counter()
            return
        passed = time.perf_counter() - self._start
        self.speed = trainer.current_epoch * self._samples / passed
        if passed >= self._seconds:
            trainer.should_stop = True


def _write(found: BatchSizes, notes: Sequence[str]) -> None:
    run = found.run
    run.write_table("batch_sizes.csv", found.table)
    if pictures.available():
        _draw(found, run.path / "batch_sizes.png")
    else:
        notes = [*notes, pictures.INSTALL]
    run.write_notes(notes)
    chosen = {"largest": found.largest, "fastest": found.fastest, "suggestion": found.suggestion}
    scale = found.noise_scale if math.isfinite(found.noise_scale) else None
    run.write_outcome({"name": "converged", **chosen, "noise_scale": scale})


def _draw(found: BatchSizes, path: Path) -> None:
    figure, (speed, needed) = pictures.panels(2, width=5.5, height=4.0)
    table = found.table
    speed.plot(table["batch_size"], table["samples_per_second"], marker="o")
    speed.set_ylabel("samples per second")
    for name in ("steps", "samples", "time"):
        if table[name].null_count() == 0:
            needed.plot(table["batch_size"], table[name], marker=".", label=f"{name}, relative")
    needed.set_yscale("log")
    for axis in (speed, needed):
        axis.set_xscale("log", base=2)
        axis.set_xlabel("batch size")
        axis.axvline(found.suggestion, color="black", linestyle=":", label=f"suggestion: {found.suggestion}")
    if math.isfinite(found.noise_scale):
        needed.axvline(
            found.noise_scale, color="tab:red", linestyle="--", label=f"noise scale: {found.noise_scale:.3g}"
        )
    needed.legend(frameon=False, fontsize="small", loc="upper center")
    pictures.save(figure, path)
