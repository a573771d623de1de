"""`fit_many`: configurations × folds, those of one structure as one program and the others one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, get_args

from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.progress import Progress

from torchplug.data.splitting import DrawnRows
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fit_result import FitResult
from torchplug.many.config import Epoch
from torchplug.many.configurations import Configurations
from torchplug.many.grouping import Grouper
from torchplug.many.record import BrokenOff, Record
from torchplug.many.settings import TrainerSettings
from torchplug.many.tracked import TrackedFit, run_to_resume
from torchplug.many.training import ManyTraining
from torchplug.registry import named_failures
from torchplug.tracking.settings import Tracking


def fit_many(
    configs: Sequence[Mapping[str, Any]],
    data: TabularData,
    folds: Sequence[tuple[Any, Any]] | None = None,
    trainer: Mapping[str, Any] | None = None,
    *,
    tracking: Mapping[str, Any] | Tracking | None = None,
    name: str = "fit_many",
    root: str | Path = "runs",
    ckpt_path: str | Path | None = None,
    epoch: Epoch = "last",
    replacement: bool = False,
) -> list[FitResult]:
    r"""Train every configuration on every fold: many small models of one structure in the time of a few.

    Each model is the one that its own `ComponentModule` and Trainer would give from its seed, batch by batch, up to
    rounding. Models that differ in numbers alone (learning rates and other settings of the optimizer, λ, rates of
    dropout, seeds, schedules, δ and the like of a loss) are trained together. What cannot be is trained one by one, and
    a note says how many models ran in how many programs.

    A model whose gradient is not finite stops with the outcome `stalled`, at its last good parameters, and the others
    go on. Ctrl-C ends training after a step: results are those of the models as they are then.

    With `tracking` all models have one run directory: every configuration and the folds, a row of metrics for each
    epoch, configuration and fold, provenance, outcomes, and one checkpoint of all models, from which training is
    resumed with equal bits, whether it was interrupted or killed. Models that are trained one by one have run
    directories of their own within it.

    Args:
        configs: each a mapping of ComponentModule's parameters, and `seed` (by default 0) for the network's start and
            for dropout.
        data: the table. Its batch size, seed and preprocessing hold in every fold.
        folds: pairs of row numbers that train and validate, counted from 0 in the source; None: the data's own split.
        trainer: settings of Lightning's Trainer, such as `max_epochs`, `precision`, `gradient_clip_val`, and
            EarlyStopping among `callbacks`, which watches each model for itself.
        tracking: W&B's settings (`Tracking`), such as `{"mode": "disabled"}` for a run directory alone; each
            configuration becomes a W&B run of one group when training ends. None: nothing is written; of a run that is
            resumed, its own settings.
        name: the folder of the run's family, below `root`.
        root: the folder of all runs.
        ckpt_path: the run directory from which training is resumed, or `last`: the newest of the family.
            Configurations, folds, tables and settings must be its own; `max_epochs` may grow.
        epoch: whose parameters and metrics the results have: the `last`, or the `best`, which is that of lowest
            `val/loss` (the last of equals), as best.ckpt of a fit; full-batch optimizers end with their solution.
        replacement: whether rows may train several times, as in a bootstrap sample.

    Returns:
        a result for each configuration and fold, those of the first configuration first: of F folds, result c·F + f
        is that of configuration c in fold f. A module is built when it is first asked for, and so are metrics other
        than `train/epoch_loss` and `val/loss` computed. Its `run` is the run directory, if there is one.

    Raises:
        ConfigurationError: for no configuration, or one that cannot be trained.
        DataError: for data or folds that cannot be used.
        CheckpointError: if there is no run to resume, or it is one of other configurations, folds or settings.
        WriteError: if the run directory cannot be written.

    Example:
        >>> from torchplug import TabularData, fit_many, use
        >>> configs = [{"model": use("linear"), "optimizer": use("adam", lr=lr)} for lr in (0.01, 0.1)]
        >>> settings = {"max_epochs": 2, "accelerator": "cpu"}
        >>> results = fit_many(configs, TabularData("diabetes"), trainer=settings)
        >>> results[1].metrics["val/loss"] < results[0].metrics["val/loss"]
        True
    """
    if not configs:
        raise ConfigurationError("there is no configuration to fit: give at least one")
    if folds is not None and not folds:
        raise ConfigurationError("there is no fold: give at least one, or None for the data's own split")
    if epoch not in get_args(Epoch):
        raise ConfigurationError(f"epoch is last or best, not {epoch!r}")
    settings = TrainerSettings(trainer or {})
    reader = Configurations()
    configurations = [reader.read(config) for config in configs]
    rows = None if folds is None else [DrawnRows.of(*fold, replacement=replacement) for fold in folds]
    tables = [data.copied()] if rows is None else [data.fold(*own, replacement=replacement) for own in folds or ()]
    resumed = None if ckpt_path is None else run_to_resume(ckpt_path, name, root)
    if tracking is None and resumed is not None:
        tracking = resumed.config["tracking"]
    grouping = Grouper(tables, settings).group(configurations)
    kept: AbstractContextManager[Record] = nullcontext(Record())
    if tracking is not None:
        chosen = Tracking.of(tracking)
        kept = TrackedFit(configurations, rows, data, settings, chosen, name, root, resumed, epoch).record(grouping)
    elif epoch == "best" and grouping.alone:
        raise ConfigurationError("best epochs of models that are trained one by one are kept in a run: give tracking")
    rank_zero_info(grouping.note())
    components = [c for own in configurations if own.resolved is not None for c in own.resolved.components]
    with kept as record:
        with _progress(len(configurations) * len(tables), settings.shows_progress) as advance:
            training = ManyTraining(configurations, tables, grouping, settings, record, advance, epoch=epoch)
            try:
                with named_failures(components, lambda: True):
                    fitted = training.run()
            except KeyboardInterrupt as stop:
                if record.run is None:
                    raise
                raise BrokenOff(record.run) from stop
        record.finish(fitted)
    return [own.result for own in fitted.values()]


@contextmanager
def _progress(models: int, shown: bool) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal; gives what moves it on by a number of models."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not (shown and console.is_terminal), transient=True) as bar:
        task = bar.add_task(f"{models} models", total=models)
        yield lambda part: bar.advance(task, part)
