"""Models that cannot share a program, trained one by one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml  # type: ignore[import-untyped]
from lightning.pytorch.callbacks import Checkpoint
from torch import nn
from typing_extensions import override

from torchplug.checkpoint_record import KEY
from torchplug.data.tabular import TabularData
from torchplug.errors import NonFiniteGradientError
from torchplug.fit_result import FitResult
from torchplug.fitting.calibration import calibrate
from torchplug.fitting.config import written_config
from torchplug.fitting.environment import as_found
from torchplug.fitting.origin import Origin
from torchplug.fitting.training import Training
from torchplug.interruption import Interrupted
from torchplug.many.config import Epoch
from torchplug.many.configurations import Configuration
from torchplug.many.evaluation import validation_metrics
from torchplug.many.record import Record
from torchplug.many.result import Fitted
from torchplug.many.settings import TrainerSettings
from torchplug.module import ComponentModule
from torchplug.registry.component import Outcome
from torchplug.tracking.checkpoint_content import load_weights
from torchplug.tracking.checkpoint_file import read_checkpoint
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.training import StopAtBoundary
from torchplug.training.ending import trainer_outcome
from torchplug.training.generators import generator_states, restore_generators

EpochSeen = Callable[[int, int, Mapping[str, float]], bool]
"""Called after each epoch with its number, the steps made and the metrics; returns whether training goes on."""


@dataclass(frozen=True)
class Lone:
    """A model that is trained by itself, by Lightning's Trainer.

    Args:
        configuration: what is trained, from its seed.
        data: the tables of its fold.
        settings: of the Trainer; callbacks are copied.
        record: of all models.
        directory: the run directory for it, which may hold a part of the training already; None: none is kept.
        epoch: whose parameters it ends with; the best one needs a run directory.
    """

    configuration: Configuration
    data: TabularData
    settings: TrainerSettings
    record: Record
    directory: Run | None
    epoch: Epoch = "last"

    def fit(self, seen: EpochSeen) -> Fitted:
        """Train what is left to be trained."""
        fitted, run = self._fit(seen), self.directory
        if self.epoch == "last" or run is None or not run.best.is_file() or not fitted.ended:
            return fitted
        return replace(fitted, result=self._at_best(run, fitted.result.outcome))

    def _fit(self, seen: EpochSeen) -> Fitted:
        if self.directory is not None and self._has_ended(self.directory):
            return self._restored(self.directory)
        watching = _Watching(seen, self.directory)
        with _generators_left_alone():
            torch.manual_seed(self.configuration.seed)
            module = self._module()
            outcome = None
            try:
                if self.directory is None:
                    self._train(module, watching)
                else:
                    self._train_in(self.directory, module, watching)
            except NonFiniteGradientError as error:  # the others go on, as they do within a program
                outcome = Outcome("stalled", str(error))
            except Interrupted:
                reason = f"interrupted after {watching.trainer.current_epoch} epochs"
                return self._fitted(module, watching, Outcome("limit", reason, self.record.remedy), ended=False)
        outcome = outcome or watching.outcome or module.outcome or trainer_outcome(watching.trainer)
        fitted = self._fitted(module, watching, outcome)
        if self.directory is not None:
            self.directory.write_outcome({**vars(outcome), "epochs": fitted.epochs, "steps": fitted.steps})
        return fitted

    def _module(self) -> ComponentModule:
        given = dict(self.configuration.given)
        if isinstance(given.get("model"), nn.Module):
            given["model"] = copy.deepcopy(given["model"])
        return ComponentModule(**given)

    def _train(self, module: ComponentModule, watching: _Watching) -> None:
        callbacks = [*copy.deepcopy(self.settings.callbacks), StopAtBoundary()]
        with as_found():
            trainer = lightning.Trainer(**{**self.settings.keywords, "callbacks": callbacks})
            trainer.callbacks.append(watching)  # type: ignore[attr-defined]
            trainer.fit(module, self.data)

    def _train_in(self, run: Run, module: ComponentModule, watching: _Watching) -> None:
        """As `torchplug.fit` does."""
        untracked, seed = Tracking(mode="disabled"), self.configuration.seed
        trainer = {**self.settings.of_run, "callbacks": copy.deepcopy(self.settings.callbacks)}
        config = written_config(module, self.data, trainer, untracked, seed)
        training = Training(
            name=run.recipe,
            module=module,
            data=self.data,
            trainer=trainer,
            tracking=untracked,
            seed=seed,
            config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
            origin=Origin.of(run.last, resume=True) if run.last.is_file() else None,
            callbacks=[watching],
            directory=run,
        )
        with as_found():
            training.run()

    def _fitted(self, module: ComponentModule, watching: _Watching, outcome: Outcome, ended: bool = True) -> Fitted:
        trainer = watching.trainer
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        result = FitResult(metrics, outcome, lambda: self._calibrated(module), self.record.run)
        return Fitted(result, trainer.current_epoch, trainer.global_step, ended)

    def _calibrated(self, module: ComponentModule) -> ComponentModule:
        self.data.prepare(module.data_request())
        calibrate(module, self.data)
        return module

    # ------------------------------------------------------------------ what has been trained before

    def _has_ended(self, run: Run) -> bool:
        """Whether nothing is left to be trained, under a limit of epochs that may have been raised."""
        if run.outcome is None:
            return False
        planned, now = run.config["trainer"].get("max_epochs"), self.settings.trainer.max_epochs
        reached = run.outcome["name"] == "limit" and planned is not None and run.outcome["epochs"] >= planned
        return not (reached and now is not None and (now > planned or now < 0))

    def _restored(self, run: Run) -> Fitted:
        content, end = read_checkpoint(run.last), run.outcome or {}
        metrics = dict((content[KEY].get("fit") or {}).get("metrics", {}))
        outcome = Outcome(end["name"], end["reason"], end["remedy"])
        result = FitResult(metrics, outcome, lambda: self._calibrated(self._loaded(content, run.last)), self.record.run)
        return Fitted(result, end["epochs"], end["steps"])

    def _at_best(self, run: Run, outcome: Outcome) -> FitResult:
        """The model of best.ckpt."""
        module, data = self._loaded(read_checkpoint(run.best), run.best), self.data.copied()
        data.trainer = self.settings.trainer
        data.prepare(module.data_request())
        metrics = validation_metrics(module, data) if data.sizes["validation"] else {}
        return FitResult(metrics, outcome, lambda: self._calibrated(module), self.record.run)

    def _loaded(self, content: Mapping[str, Any], file: Path) -> ComponentModule:
        module = self._module()
        module.restore(content)
        load_weights(module, content, file)
        return module


class _Watching(Checkpoint):
    """Shows each epoch's metrics when all of them are known: Lightning calls checkpoints last.

    Args:
        seen: is shown them, and says whether training goes on.
        run: where the last good parameters are kept of a fit that cannot go on.

    Attributes:
        trainer: which fits.
        outcome: set if training was ended here.
    """

    trainer: lightning.Trainer

    def __init__(self, seen: EpochSeen, run: Run | None) -> None:
        self._seen = seen
        self._run = run
        self._validated = False
        self.outcome: Outcome | None = None

    @override
    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self.trainer = trainer

    @override
    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    @override
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name == "train/epoch_loss" or (self._validated and name.startswith("val/"))
        }
        self._validated = False
        if not self._seen(trainer.current_epoch, trainer.global_step, metrics):
            trainer.should_stop = True
            self.outcome = Outcome("limit", f"pruned after {trainer.current_epoch + 1} epochs")

    @override
    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, NonFiniteGradientError) and self._run is not None:
            trainer.save_checkpoint(self._run.last)


@contextmanager
def _generators_left_alone() -> Iterator[None]:
    """Leave the user's random generators as they are; a fit that is resumed sets all of them."""
    device = torch.device("cpu")
    before = generator_states(device)
    try:
        yield
    finally:
        restore_generators(before, device)
