"""The command `fit`: refused first, then a run directory, then Lightning's Trainer, then what training came to."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse
import lightning
from lightning.pytorch.trainer.states import TrainerStatus

from torchplug import interruption
from torchplug.checks import refuse_settings
from torchplug.data.tabular import TabularData
from torchplug.errors import TorchplugError
from torchplug.execution import StopAtBoundary
from torchplug.execution.ending import trainer_outcome
from torchplug.interruption import INTERRUPTED, Interrupted
from torchplug.module import ComponentModule
from torchplug.processes.job import attributed
from torchplug.recipe.best_checkpoint import BestCheckpoint
from torchplug.recipe.checks import refuse_combination
from torchplug.recipe.convergence import ConvergenceTable, describe_outcome, outcome_record
from torchplug.recipe.last_good import what_is_left
from torchplug.recipe.parser import load_yaml
from torchplug.recipe.ranks import first_rank, meet, say_notes
from torchplug.recipe.remaining import refuse_nothing_left
from torchplug.recipe.restoring import refusing_what_cannot_be_restored
from torchplug.recipe.same_tables import changed_tables
from torchplug.recipe.trainer import build_trainer
from torchplug.registry import registry
from torchplug.terminal import one_line, printable
from torchplug.tracking.checkpoint_content import load_weights
from torchplug.tracking.checkpoint_file import read_checkpoint
from torchplug.tracking.checkpoints import checkpoint_callbacks, offering_another
from torchplug.tracking.directory import RunDirectory
from torchplug.tracking.jsonl import JsonlLogger
from torchplug.tracking.provenance import provenance
from torchplug.tracking.row_position import RowPosition
from torchplug.tracking.settings import Tracking
from torchplug.tracking.summary import print_summary
from torchplug.tracking.wandb import WandbLogger, wandb_logger

if TYPE_CHECKING:
    from torchplug.recipe.checkpoint import Origin
    from torchplug.recipe.command import Command


STALLED = 3
"""The exit status where an optimizer could not go on: what it reached is kept."""


def fit(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Train, or finish what a killed run left undone; returns the exit status.

    Raises:
        TorchplugError: for input that is refused, or training that had to stop.
    """
    resumed = command.origin
    file = None if resumed is None else str(resumed.file)
    data.prepare(module.data_request())
    module.adopt(data)
    if resumed is not None:
        changed_tables(resumed.content, data, "train", named=False)
        _check_resumable(module, resumed, command.settings.trainer)
    trainer = build_trainer(command.parser, command.settings, progress_bar=not module.assembly.sees_full_set)
    refuse_settings(module.assembly, module.options, trainer)
    refuse_combination(trainer, module, data)
    fresh = resumed is None or resumed.run is None
    directory = RunDirectory.create(command.recipe) if resumed is None or resumed.run is None else resumed.run
    best = BestCheckpoint.of(trainer, module, data)
    with directory.locked():
        wandb = _record(command, module, data, directory)
        _attach(trainer, module, best, directory, wandb)
        said = (*command.notes, *data.notes, *module.notes(trainer, data.batch_size), *best.notes)
        notes = [one_line(note) for note in said]
        directory.write_notes(notes)
        say_notes(notes)
        interruption.explain(lambda: _how_to_go_on(command, directory))
        try:
            with attributed():
                meet(trainer, command, data)
                _train(trainer, module, data, file, wandb, directory if best.is_solution else None)
        except (Interrupted, SystemExit) as error:
            if isinstance(error, SystemExit) and trainer.state.status != TrainerStatus.INTERRUPTED:
                raise
            if first_rank():
                print(f"interrupted{_how_to_go_on(command, directory)}")
            return INTERRUPTED
        except TorchplugError as error:
            if error.exit_status == 2 and fresh and first_rank():
                shutil.rmtree(directory.path)  # refused in setup, before the first step: nothing ran
            elif error.exit_status == STALLED:
                error.args = (f"{error}; {what_is_left(directory)}",)
            raise
        if first_rank():
            _write_end(trainer, module, directory)
    return STALLED if module.outcome is not None and module.outcome.name == "stalled" else 0


def _check_resumable(module: ComponentModule, origin: Origin, trainer: jsonargparse.Namespace) -> None:
    """Refuse a checkpoint of other data, or one with nothing left to do, before any rank is launched.

    Raises:
        CheckpointError: if the checkpoint's preprocessing is not that of the data, or its weights cannot be used.
        ConfigurationError: if all that is asked for is done.
    """
    file, content = origin.file, origin.content
    module.on_load_checkpoint(dict(content))
    with offering_another(file, resume=True):
        load_weights(module, content, file)
    outcome = None
    if module.assembly.sees_full_set:
        optimizer = module.build_optimizer()
        optimizer.load_state_dict(content["optimizer_states"][0])
        outcome = getattr(optimizer, "outcome", None)
    refuse_nothing_left(origin, trainer, outcome)


def _record(
    command: Command, module: ComponentModule, data: TabularData, directory: RunDirectory
) -> WandbLogger | None:
    """Write what runs and where it comes from, before the first step; W&B is told the same."""
    config = command.config()
    components = [component.entry for component in module.components]
    origins = provenance(registry().plugins, components, data.fingerprint, command.settings.seed_everything)
    directory.write_config(config)
    directory.write_provenance(origins)
    resumed = command.origin is not None and command.origin.run is not None
    tracking = Tracking(**command.settings.tracking.as_dict())
    return wandb_logger(tracking, directory, load_yaml(config), origins, resumed)


def _attach(
    trainer: lightning.Trainer,
    module: ComponentModule,
    best: BestCheckpoint,
    directory: RunDirectory,
    wandb: WandbLogger | None,
) -> None:
    """Give the trainer its loggers and callbacks."""
    jsonl = JsonlLogger(directory)
    trainer.loggers = [jsonl, *([wandb] if wandb is not None else [])]
    checkpoints = checkpoint_callbacks(directory, best.monitor)
    stop = StopAtBoundary(directory.last)
    table = [ConvergenceTable()] if module.assembly.sees_full_set else []
    ours = [RowPosition(jsonl, wandb), *table, stop, *checkpoints]
    trainer.callbacks.extend(ours)  # type: ignore[attr-defined]


def _train(
    trainer: lightning.Trainer,
    module: ComponentModule,
    data: TabularData,
    file: str | None,
    wandb: WandbLogger | None,
    solution: RunDirectory | None,
) -> None:
    """Fit, and end the W&B run whatever happens, before anything else writes into the run directory.

    Args:
        trainer: fits.
        module: what is fitted.
        data: what it is fitted to.
        file: the checkpoint to go on from.
        wandb: the logger, which sends best.ckpt where that is asked for.
        solution: the directory of a run whose best.ckpt is its solution; None where it is that of an epoch.
    """
    try:
        with refusing_what_cannot_be_restored(trainer, file):
            trainer.fit(module, datamodule=data, ckpt_path=file, weights_only=True)
        if solution is not None and first_rank():
            solution.keep_last_as_best()
    finally:
        if wandb is not None:
            wandb.finish(0 if trainer.state.status == TrainerStatus.FINISHED else 1)


def _write_end(trainer: lightning.Trainer, module: ComponentModule, directory: RunDirectory) -> None:
    """Write and print what training came to; the outcome last: a run that has one is finished."""
    if module.has_coefficients:
        directory.write_coefficients(module.coefficient_table())
    outcome = module.outcome or trainer_outcome(trainer)
    reached = {"epochs": trainer.current_epoch, "steps": trainer.global_step}
    directory.write_outcome({**outcome_record(outcome, module.iteration), **reached})
    if module.outcome is not None:
        print(one_line(describe_outcome(module)))
    elif directory.best.is_file():
        print(_best_epoch(trainer, directory))
    print_summary(trainer.callback_metrics, directory)


def _best_epoch(trainer: lightning.Trainer, directory: RunDirectory) -> str:
    """Which epoch best.ckpt holds."""
    best = read_checkpoint(directory.best)["epoch"] + 1
    return f"best: epoch {best} of {trainer.current_epoch}, kept for test and predict; the table is of the last one"


def _how_to_go_on(command: Command, directory: RunDirectory) -> str:
    """What follows upon the reason why training ended."""
    if directory.last.is_file():
        script, last = _short(Path(command.script)), _short(directory.last)
        return f"; go on with: python {printable(script)} fit --ckpt_path {printable(last)}"
    return " before the first step ended: there is no checkpoint to go on from"


def _short(path: Path) -> str:
    """The path from here, or the whole one if that is shorter."""
    return shlex.quote(min(os.path.relpath(path), os.path.abspath(path), key=len))
