"""Training a fit's model once more, on the training and validation rows together, for as many epochs as were best."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import yaml  # type: ignore[import-untyped]
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback
from torch import nn
from typing_extensions import override

from torchplug.checkpoint_record import CALIBRATION, KEY, REFIT
from torchplug.checks import validates
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.evaluation.calibration import Calibration
from torchplug.fitting.environment import seed_generators
from torchplug.fitting.origin import Origin
from torchplug.module import ComponentModule
from torchplug.tracking.checkpoint_file import read_checkpoint
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking

if TYPE_CHECKING:
    from torchplug.fitting.training import Training

_OF_FIRST_FIT = ("min_epochs", "min_steps", "max_time")
"""Limits of the first fit, whose best epoch ends the second."""
_PLAN = "plan.json"
_FIRST_FITS_DATA = (TabularData.__qualname__, "datamodule_hyper_parameters")
"""Entries of a checkpoint by which evaluations find its tables and their splits."""


@dataclass(frozen=True)
class Refitted:
    """What a refit has trained.

    Args:
        epochs: how many; None for a full-batch optimizer, which ended by itself.
        rows: how many trained.
        module: with the parameters that predict.
    """

    epochs: int | None
    rows: int
    module: ComponentModule

    def plain(self) -> dict[str, Any]:
        """What outcome.json holds."""
        return {"epochs": self.epochs, "rows": self.rows}


def refuse_refit(trainer: lightning.Trainer, module: ComponentModule, data: TabularData) -> None:
    """Refuse a refit that cannot be made, before anything is trained.

    Args:
        trainer: of the first fit.
        module: configured.
        data: prepared.

    Raises:
        ConfigurationError: naming the reason.
    """
    reason = None
    if trainer.world_size > 1:
        reason = "trains in one process: leave --trainer.devices at 1"
    elif data.stream:
        reason = "needs the table in memory: leave out --data.stream"
    elif "validation" in data.sources:
        reason = "takes the validation rows from the source: leave out --data.validation"
    elif not validates(trainer, data):
        reason = "trains for as many epochs as validation rows say, and nothing validates"
    elif (monitor := _monitored(module)) is not None:
        reason = f"has no validation rows, and the scheduler follows {monitor}: choose one that does not"
    if reason is not None:
        raise ConfigurationError(f"refit {reason}")


def _monitored(module: ComponentModule) -> str | None:
    """The validation metric that a schedule follows, if it does."""
    resolved = module.resolved
    if resolved.scheduler is None or not resolved.takes_learning_rate:
        return None
    scheduler = resolved.build_scheduler(module.build_optimizer(total_steps=1000, num_data=1000), 1000, 10)
    monitor = str(getattr(scheduler, "monitor", None))
    return monitor if monitor.startswith("val/") else None


class Start:
    """What a second training begins with: taken before the first one changes it.

    Args:
        module: the module of the first fit.
        trainer: its keyword arguments of `lightning.Trainer`.
    """

    def __init__(self, module: ComponentModule, trainer: Mapping[str, Any]) -> None:
        self._network: nn.Module | None = None
        if module.hparams["model"] is None:
            self._network = copy.deepcopy(module.network)
        given = trainer.get("callbacks") or []
        kept = [each for each in (given if isinstance(given, list) else [given]) if not _follows_validation(each)]
        self._trainer = {name: value for name, value in trainer.items() if name not in _OF_FIRST_FIT}
        self._trainer["callbacks"] = copy.deepcopy(kept)

    def module(self, first: ComponentModule) -> ComponentModule:
        """A new module of the same components; its scores are not divided by a temperature while it trains."""
        parameters = {**first.hparams, "calibrate": False}
        return ComponentModule(**(parameters if self._network is None else {**parameters, "model": self._network}))

    def trainer(self, growth: float) -> dict[str, Any]:
        """Parameters of the Trainer, for `growth` times as many batches in an epoch."""
        steps = self._trainer.get("max_steps")
        return self._trainer if steps is None or steps < 0 else {**self._trainer, "max_steps": round(steps * growth)}


def _follows_validation(callback: Callback) -> bool:
    """Whether a callback, such as EarlyStopping, watches a metric that a fit without validation rows lacks."""
    return str(getattr(callback, "monitor", None)).startswith("val/")


class StopAfter(Callback):
    """End a fit after so many epochs of a longer plan.

    Args:
        epochs: at least 1.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    @override
    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch >= self._epochs

    @override
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch + 1 >= self._epochs:
            trainer.should_stop = True


def refit(
    first: Training, start: Start, run: Run, io: CheckpointIO, calibration: Calibration | None, is_solution: bool
) -> Refitted:
    """Train again, in the folder `refit` of the run, and make the result best.ckpt; the first becomes selected.ckpt.

    What a process that was killed has done of it is not done again.

    Args:
        first: the fit that has ended.
        start: what it began with.
        run: its directory, with best.ckpt.
        io: reads and writes checkpoints, as it did in the fit.
        calibration: of the first fit's best checkpoint, which is kept.
        is_solution: whether best.ckpt is a full-batch optimizer's solution.

    Raises:
        TorchplugError: if training cannot continue.
        Interrupted: if a signal stopped it; what is done is kept.
    """
    selected = io.load_checkpoint(run.best)
    epochs = None if is_solution else int(selected["epoch"]) + 1
    rows = np.sort(np.concatenate([first.data.row_numbers("train"), first.data.row_numbers("validation")]))
    data = first.data.fold(rows, [])
    part = Run(run.path / "refit")
    planned = {name: first.trainer.get(name) for name in ("max_epochs", "max_steps")}
    _begin(part, {"epochs": epochs, "steps": int(selected["global_step"]), **planned})
    seed_generators(first.seed)
    module = start.module(first.module)
    data.prepare(module.data_request())
    second = replace(
        first,
        module=module,
        data=data,
        trainer=start.trainer(data.batches("train") / first.data.batches("train")),
        tracking=Tracking(mode="disabled"),
        config=yaml.safe_dump({**first.settings, "refit": False}, sort_keys=False, allow_unicode=True),
        origin=Origin.of(part.last, resume=True) if part.last.is_file() else None,
        notes=(),
        callbacks=[] if epochs is None else [StopAfter(epochs)],
        directory=part,
        compares=False,
        refits=False,
    )
    second.run()
    content = _concluded(read_checkpoint(part.last), selected, len(rows), calibration)
    run.keep_best_as_selected()
    io.save_checkpoint(content, run.best)
    io.teardown()  # one that writes in a thread of its own waits for it
    return Refitted(epochs, len(rows), module)


def _begin(part: Run, plan: Mapping[str, Any]) -> None:
    """Make the folder, or empty it if what it holds is of another plan; what has ended there may be ended again."""
    if part.path.is_dir() and part.read_json(_PLAN) != dict(plan):
        shutil.rmtree(part.path)
    part.path.mkdir(exist_ok=True)
    part.write_json(_PLAN, plan)
    (part.path / "outcome.json").unlink(missing_ok=True)


def _concluded(
    content: dict[str, Any], selected: Mapping[str, Any], rows: int, calibration: Calibration | None
) -> dict[str, Any]:
    """The content of a checkpoint that predicts like the first fit's, and holds no training to be resumed.

    Args:
        content: of the refit's last checkpoint.
        selected: of the first fit's best.
        rows: how many trained.
        calibration: of the first fit's best.
    """
    record = {name: value for name, value in content[KEY].items() if name != "fit"}
    record |= {CALIBRATION: None if calibration is None else calibration.state(), REFIT: {"rows": rows}}
    parameters = {**content["hyper_parameters"], "calibrate": selected["hyper_parameters"]["calibrate"]}
    tables = {name: selected[name] for name in _FIRST_FITS_DATA if name in selected}
    return {**content, **tables, "hyper_parameters": parameters, KEY: record}


def selected_file(run: Run) -> Path:
    """The checkpoint of a run whose validation rows did not train: selected.ckpt after a refit, else the best."""
    return run.selected if run.selected.is_file() else run.best
