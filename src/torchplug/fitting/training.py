"""Training in a run directory: what `torchplug.fit` and the recipes' command `fit` share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import yaml  # type: ignore[import-untyped]
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerStatus

from torchplug.checks import refuse_fit
from torchplug.data.tabular import TabularData
from torchplug.errors import TorchplugError
from torchplug.evaluation.calibration import Calibration
from torchplug.evaluation.linear_baseline import LinearBaseline
from torchplug.fitting.best_checkpoint import BestCheckpoint
from torchplug.fitting.calibration import calibrate, calibrate_checkpoint, refuse_without_validation
from torchplug.fitting.last_good import what_is_left
from torchplug.fitting.linear_baseline import linear_baseline
from torchplug.fitting.origin import Origin
from torchplug.fitting.ranks import first_rank, meet
from torchplug.fitting.refit import Refitted, Start, refit, refuse_refit, selected_file
from torchplug.fitting.remaining import refuse_nothing_left
from torchplug.fitting.restoring import restore_errors
from torchplug.fitting.same_tables import changed_tables
from torchplug.fitting.trainer import build_trainer
from torchplug.interruption import Interrupted
from torchplug.module import ComponentModule
from torchplug.processes.job import attributed
from torchplug.registry import named_failures, registry
from torchplug.registry.component import Iteration, Outcome
from torchplug.terminal import one_line
from torchplug.tracking.checkpoint_content import load_weights
from torchplug.tracking.checkpoint_io import ChecksummedCheckpointIO
from torchplug.tracking.checkpoints import checkpoint_callbacks, offering_another
from torchplug.tracking.jsonl import JsonlLogger
from torchplug.tracking.provenance import provenance
from torchplug.tracking.row_position import RowPosition
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.throttled_io import ThrottledCheckpointIO, WriteAtEnd
from torchplug.tracking.wandb import WandbLogger, wandb_logger
from torchplug.training import StopAtBoundary
from torchplug.training.ending import trainer_outcome
from torchplug.training.lightning_internals import has_begun

STALLED = 3
"""The exit status of errors after which training cannot continue: the run directory keeps what was reached."""


@dataclass(frozen=True)
class Training:
    """A fit that is ready to be made: everything is checked before a run directory exists.

    Args:
        name: the folder below `root` in which its run lies, such as a recipe's name.
        module: what is trained.
        data: what it is trained on.
        trainer: parameters of Lightning's Trainer, with objects where they are classes.
        tracking: W&B's settings.
        seed: the run's seed, for its provenance; None if nothing was seeded.
        config: the resolved configuration as YAML.
        root: where runs lie.
        origin: the checkpoint from which training is resumed; None for a new fit.
        notes: what the user should know, besides what data and module have noticed.
        callbacks: more callbacks than those of `trainer`; they run before the checkpoints are written.
        directory: an existing directory for a new run; None makes one.
        compares: whether the kept model is compared with a linear one on the validation rows.
        refits: whether the model is trained again on the training and validation rows when training has ended.
    """

    name: str
    module: ComponentModule
    data: TabularData
    trainer: Mapping[str, Any]
    tracking: Tracking
    seed: int | None
    config: str
    root: str = "runs"
    origin: Origin | None = None
    notes: Sequence[str] = ()
    callbacks: Sequence[Callback] = ()
    directory: Run | None = None
    compares: bool = False
    refits: bool = False

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The resolved configuration as a nested mapping."""
        settings: Mapping[str, Any] = yaml.safe_load(self.config)
        return settings

    def run(self, started: Callable[[Run, Sequence[str]], None] = lambda run, notes: None) -> Trained:
        """Train, or finish what a killed run left undone.

        Args:
            started: called on every rank when the run directory exists, with the notes of the fit.

        Raises:
            TorchplugError: for input that is refused, or training that had to stop.
            Interrupted: if a signal stopped it; last.ckpt is of the step that was reached.
        """
        start = Start(self.module, self.trainer) if self.refits else None
        with named_failures(self.module.components):
            trainer = self._prepared()
        run = (self.origin.run if self.origin else None) or self.directory or Run.create(self.name, self.root)
        is_new = self.origin is None or self.origin.run is None
        best = BestCheckpoint.of(trainer, self.module, self.data)
        with run.locked():
            if not is_new and first_rank():
                run.restore_selected()
            wandb = self._record(run)
            self._attach(trainer, best, run, wandb)
            notes = self._collect_notes(trainer, best)
            run.write_notes(notes)
            started(run, notes)
            try:
                with named_failures(self.module.components, lambda: has_begun(trainer)), attributed():
                    meet(trainer, self.data, self.settings, self._resumed_from(run))
                    calibration, refitted = self._train(trainer, wandb, run, best.is_solution, start)
            except SystemExit as stop:
                if trainer.state.status == TrainerStatus.INTERRUPTED:  # Lightning's answer to Ctrl-C
                    raise Interrupted from stop
                raise
            except TorchplugError as error:
                if error.exit_status == 2 and is_new and first_rank() and not run.last.is_file():
                    shutil.rmtree(run.path)  # refused before anything was trained to be kept
                elif error.exit_status == STALLED:
                    error.args = (f"{error}; {what_is_left(run)}",)
                raise
            outcome = self.module.outcome or trainer_outcome(trainer)
            baseline = None
            if first_rank():
                with named_failures(self.module.components, lambda: True):
                    if self.compares:
                        baseline = linear_baseline(self.module, self.data, _kept_file(run), calibration)
                    self._write_end(trainer, run, outcome, baseline, refitted)
        return Trained(self.module, trainer, run, outcome, calibration, baseline, refitted)

    def _prepared(self) -> lightning.Trainer:
        """Prepare data and module, refuse what cannot be trained, and return the trainer."""
        self.data.prepare(self.module.data_request())
        self.module.configure(self.data)
        refuse_without_validation(self.module, self.data)
        self._refuse_origin()
        trainer = build_trainer(self.trainer)
        labelled = self.data.preprocessing is None or self.data.preprocessing.target_coding.labels
        refuse_fit(trainer, self.module.resolved, self.module.options, self.data, labelled)
        if self.refits:
            refuse_refit(trainer, self.module, self.data)
        return trainer

    def _refuse_origin(self) -> None:
        """Refuse a checkpoint of other data, or one with nothing left to do, before any rank is launched.

        Raises:
            CheckpointError: if the checkpoint's preprocessing is not that of the data, or its weights cannot be used.
            ConfigurationError: if the data are others, or all that is asked for is done.
        """
        if self.origin is None:
            return
        file, content = self.origin.file, self.origin.content
        changed_tables(content, self.data, "train", named=False)
        self.module.restore(content)
        with offering_another(file, resume=True):
            load_weights(self.module, content, file)
        outcome = None
        if self.module.resolved.is_full_batch:
            optimizer = self.module.build_optimizer()
            optimizer.load_state_dict(content["optimizer_states"][0])
            outcome = getattr(optimizer, "outcome", None)
        refuse_nothing_left(self.origin, self.trainer, outcome)

    def _resumed_from(self, run: Run) -> Path | None:
        """The checkpoint that training is resumed from; selected.ckpt has become best.ckpt again."""
        if self.origin is None:
            return None
        return run.best if self.origin.file == run.selected else self.origin.file

    def _record(self, run: Run) -> WandbLogger | None:
        """Write what runs and where it comes from, before the first step; W&B is told the same."""
        components = [component.entry for component in self.module.components]
        origins = provenance(registry().plugins, components, self.data.fingerprint, self.seed)
        run.write_config(self.config)
        run.write_provenance(origins)
        is_resumed = self.origin is not None and self.origin.run is not None
        directions = self.module.resolved.metric_choice.directions
        return wandb_logger(self.tracking, run, self.settings, origins, directions, is_resumed)

    def _attach(self, trainer: lightning.Trainer, best: BestCheckpoint, run: Run, wandb: WandbLogger | None) -> None:
        """Give the trainer its loggers, callbacks and a writer of its checkpoints."""
        jsonl = JsonlLogger(run)
        trainer.loggers = [jsonl, *([wandb] if wandb is not None else [])]
        checkpoints = checkpoint_callbacks(run, best.monitor)
        stop = StopAtBoundary(run.last)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [WriteAtEnd(), *callbacks, RowPosition(jsonl, wandb), *self.callbacks, stop, *checkpoints]
        if type(trainer.strategy.checkpoint_io) is ChecksummedCheckpointIO:  # nothing else was asked for
            trainer.strategy.checkpoint_io = ThrottledCheckpointIO([run.best, run.last])

    def _collect_notes(self, trainer: lightning.Trainer, best: BestCheckpoint) -> list[str]:
        of_module = self.module.notes(trainer, self.data.batch_size)
        return [one_line(note) for note in (*self.notes, *self.data.notes, *of_module, *best.notes)]

    def _train(
        self, trainer: lightning.Trainer, wandb: WandbLogger | None, run: Run, is_solution: bool, start: Start | None
    ) -> tuple[Calibration | None, Refitted | None]:
        """Fit, calibrate and refit; end the W&B run in any case, before the results are written.

        Args:
            trainer: fits.
            wandb: the logger, which sends best.ckpt where that is asked for.
            run: the run directory.
            is_solution: whether best.ckpt is the model at the end of the fit.
            start: what a refit begins with; None: there is none.

        Returns:
            The calibration of the checkpoint that predicts, on the first rank; and what the refit has trained.
        """
        origin = self._resumed_from(run)
        file = None if origin is None else str(origin)
        try:
            with restore_errors(trainer, file):
                trainer.fit(self.module, datamodule=self.data, ckpt_path=file, weights_only=True)
            calibrate(self.module, self.data)
            calibration = self._finish_checkpoint(trainer, run, is_solution) if first_rank() else None
            refitted = None
            if start is not None and run.best.is_file():
                refitted = refit(self, start, run, trainer.strategy.checkpoint_io, calibration, is_solution)
            return calibration, refitted
        finally:
            if wandb is not None:
                wandb.finish(0 if trainer.state.status == TrainerStatus.FINISHED else 1)

    def _finish_checkpoint(self, trainer: lightning.Trainer, run: Run, is_solution: bool) -> Calibration | None:
        """Calibrate the checkpoint that predicts; that of the solution becomes the best."""
        file = run.last if is_solution else _kept_file(run)
        calibration = calibrate_checkpoint(self.module, self.data, file, trainer.strategy.checkpoint_io)
        if is_solution:
            run.keep_last_as_best()
        return calibration

    def _write_end(
        self,
        trainer: lightning.Trainer,
        run: Run,
        outcome: Outcome,
        baseline: LinearBaseline | None,
        refitted: Refitted | None,
    ) -> None:
        """Write the results of training; the outcome last: a run that has one is finished."""
        described = self.module if refitted is None else refitted.module
        if described.has_coefficients:
            run.write_coefficients(described.coefficient_table())
        reached = {"epochs": trainer.current_epoch, "steps": trainer.global_step}
        compared = {} if baseline is None else {"baseline": baseline.plain()}
        again = {} if refitted is None else {"refit": refitted.plain()}
        run.write_outcome({**_outcome_record(outcome, self.module.iteration), **reached, **compared, **again})


@dataclass(frozen=True)
class Trained:
    """The result of training.

    Args:
        module: with the parameters of the last step.
        trainer: after the fit.
        run: the run directory.
        outcome: how training ended.
        calibration: of the checkpoint that predicts, on the first rank.
        baseline: the kept model beside a linear one, on the first rank; None where they were not compared.
        refitted: what was trained again on training and validation rows; None without a refit.
    """

    module: ComponentModule
    trainer: lightning.Trainer
    run: Run
    outcome: Outcome
    calibration: Calibration | None
    baseline: LinearBaseline | None
    refitted: Refitted | None


def _kept_file(run: Run) -> Path:
    """The checkpoint that predicts, before a refit."""
    best = selected_file(run)
    return best if best.is_file() else run.last


def _outcome_record(outcome: Outcome, iteration: Iteration | None) -> dict[str, Any]:
    """The outcome and the last iteration as plain values."""
    return {**vars(outcome), "last_iteration": None if iteration is None else vars(iteration)}
