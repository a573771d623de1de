"""Fit, validate, test, predict: validated first, then a run directory, then Lightning's Trainer."""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import jsonargparse
import lightning
import polars
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities import rank_zero_only

from torchplug import interruption
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, TorchplugError, WriteError
from torchplug.execution import StopAtBoundary
from torchplug.execution.ending import trainer_outcome
from torchplug.interruption import INTERRUPTED, Interrupted
from torchplug.models import Linear
from torchplug.module import ComponentModule
from torchplug.processes.comparison import description
from torchplug.processes.job import attributed
from torchplug.processes.launching import gather
from torchplug.recipe.checks import refuse_combination, refuse_evaluation, validates
from torchplug.recipe.convergence import ConvergenceTable, describe_outcome, outcome_record
from torchplug.recipe.last_good import what_is_left
from torchplug.recipe.parser import load_yaml
from torchplug.recipe.remaining import refuse_nothing_left
from torchplug.recipe.restoring import refusing_what_cannot_be_restored
from torchplug.recipe.trainer import build_trainer
from torchplug.registry import registry
from torchplug.tables import describe, enumerate_names, read
from torchplug.terminal import PrintableFormatter, one_line, print_warnings_in_one_line, printable
from torchplug.tracking.checkpoint_content import load_weights
from torchplug.tracking.checkpoints import checkpoint_callbacks, offering_another
from torchplug.tracking.directory import RunDirectory
from torchplug.tracking.jsonl import EvaluationLogger, JsonlLogger
from torchplug.tracking.provenance import provenance
from torchplug.tracking.row_position import RowPosition
from torchplug.tracking.settings import Tracking
from torchplug.tracking.summary import print_summary
from torchplug.tracking.wandb import WandbLogger, wandb_logger
from torchplug.tracking.whole_files import append_line, whole_file

if TYPE_CHECKING:
    from torchplug.recipe.checkpoint import Origin
    from torchplug.recipe.command import Command

STALLED = 3
"""The exit status where an optimizer could not go on: what it reached is kept."""

_LARGEST_SEED = 2**32 - 1
"""NumPy's."""


def first_rank() -> bool:
    """Whether this process is the one that speaks and writes."""
    return int(rank_zero_only.rank) == 0  # type: ignore[attr-defined]


def run(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Do what the command asks for, and leave the process group in order.

    Raises:
        TorchplugError: for input that is refused, or training that had to stop.
    """
    _quieten()
    _seed(command.settings.seed_everything)
    if command.origin is not None and command.origin.note is not None:
        say_notes([command.origin.note])
    status = None
    try:
        status = _COMMANDS[command.subcommand](command, module, data)
    except Interrupted:
        status = INTERRUPTED
    except MisconfigurationException as error:
        raise ConfigurationError(" ".join(str(error).split())) from error
    finally:
        _leave_process_group(together=status in (0, INTERRUPTED))
    return status


def _seed(seed: int) -> None:
    if not 0 <= seed <= _LARGEST_SEED:
        raise ConfigurationError(f"--seed_everything must be from 0 to {_LARGEST_SEED}, not {seed}")
    lightning.seed_everything(seed, workers=True, verbose=False)


def _leave_process_group(together: bool) -> None:
    """End the process group: Lightning does it for NCCL only, and gloo's threads may abort the process at exit."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        if together:  # after a failure the other ranks may be gone
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _quieten() -> None:
    """Silence what Lightning says that is no news here, or no fault of the user's."""
    logging.raiseExceptions = False  # a log file on a full disk, such as W&B's, is not worth a traceback
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if first_rank():  # what took long, such as compiling
        own, handler = logging.getLogger("torchplug"), logging.StreamHandler(sys.stdout)
        handler.setFormatter(PrintableFormatter("note: %(message)s"))
        own.setLevel(logging.INFO)
        own.handlers = [handler]
    print_warnings_in_one_line()
    for message in (
        ".*LeafSpec.*is deprecated",  # Lightning's own use of torch
        "The number of training batches",  # rows are written by the step count, across epochs
        "Checkpoint directory .* exists and is not empty",  # a resumed run goes on in its directory
    ):
        warnings.filterwarnings("ignore", message)


def _fit(command: Command, module: ComponentModule, data: TabularData) -> int:
    resumed = command.origin
    file = None if resumed is None else str(resumed.file)
    data.prepare(module.data_request())
    module.adopt(data)
    if resumed is not None:
        _check_resumable(module, resumed, command.settings.trainer)
    trainer = build_trainer(command.parser, command.settings, progress_bar=not module.assembly.sees_full_set)
    module.execution.refuse_settings(trainer)
    refuse_combination(trainer, module, data)
    fresh = resumed is None or resumed.run is None
    directory = RunDirectory.create(command.recipe) if resumed is None or resumed.run is None else resumed.run
    with directory.locked():
        wandb = _record(command, module, data, directory)
        _attach(trainer, module, data, directory, wandb)
        say_notes([*data.notes, *module.notes(trainer, data.batch_size)])
        interruption.explain(lambda: _how_to_go_on(command, directory))
        try:
            with attributed():
                _meet(trainer, command, data)
                _train(trainer, module, data, file, wandb)
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


def _write_end(trainer: lightning.Trainer, module: ComponentModule, directory: RunDirectory) -> None:
    """Write and print what training came to; the outcome last: a run that has one is finished."""
    if isinstance(module.network, Linear):
        directory.write_coefficients(module.coefficient_table())
    outcome = module.outcome or trainer_outcome(trainer)
    reached = {"epochs": trainer.current_epoch, "steps": trainer.global_step}
    directory.write_outcome({**outcome_record(outcome, module.iteration), **reached})
    if module.outcome is not None:
        print(one_line(describe_outcome(module)))
    print_summary(trainer.callback_metrics, directory)


def _train(
    trainer: lightning.Trainer, module: ComponentModule, data: TabularData, file: str | None, wandb: WandbLogger | None
) -> None:
    """Fit, and end the W&B run whatever happens, before anybody else touches the run directory."""
    try:
        with refusing_what_cannot_be_restored(trainer, file):
            trainer.fit(module, datamodule=data, ckpt_path=file, weights_only=True)
    finally:
        if wandb is not None:
            wandb.finish(0 if trainer.state.status == TrainerStatus.FINISHED else 1)


def say_notes(notes: Sequence[str]) -> None:
    """What was noticed in the table, such as rows that were left out, and in the components."""
    if first_rank():
        for note in notes:
            print(f"note: {one_line(note)}", flush=True)


def _how_to_go_on(command: Command, directory: RunDirectory) -> str:
    """What follows upon the reason why training ended."""
    if directory.last.is_file():
        script, last = _short(Path(command.script)), _short(directory.last)
        return f"; go on with: python {printable(script)} fit --ckpt_path {printable(last)}"
    return " before the first step ended: there is no checkpoint to go on from"


def _meet(trainer: lightning.Trainer, command: Command, data: TabularData) -> None:
    """Let all ranks meet, before anything that they do together, and refuse the job if they do not run the same.

    Raises:
        ConfigurationError: naming the rank that differs, and in what.
    """
    job = gather(trainer)
    if job is not None:
        checkpoint = None if command.origin is None else command.origin.file
        settings = command.settings.as_dict()
        job.compare(description(settings, data.fingerprint, data.sizes, registry().plugins, checkpoint))
        job.watch()


def _short(path: Path) -> str:
    """The path from here, or the whole one if that is shorter."""
    return shlex.quote(min(os.path.relpath(path), os.path.abspath(path), key=len))


def _validate(command: Command, module: ComponentModule, data: TabularData) -> int:
    return _evaluate(command, module, data, "validation")


def _test(command: Command, module: ComponentModule, data: TabularData) -> int:
    return _evaluate(command, module, data, "test")


def _evaluate(command: Command, module: ComponentModule, data: TabularData, part: Literal["validation", "test"]) -> int:
    assert command.origin is not None
    data.prepare(module.data_request())
    if not data.sizes[part]:
        raise ConfigurationError(f"the split leaves no {part} rows: choose another --data.split")
    module.adopt(data)
    trainer = build_trainer(command.parser, command.settings)
    refuse_evaluation(trainer, data, part)
    run = command.origin.run
    figures = None if run is None else EvaluationLogger(run, command.origin.file.name)
    trainer.loggers = [] if figures is None else [figures]
    say_notes(data.notes)
    trainer.callbacks.append(StopAtBoundary(every=module.boundary_batches))  # type: ignore[attr-defined]
    _meet(trainer, command, data)
    if part == "test":
        _record_opening(command, data)
        trainer.test(module, datamodule=data, verbose=False)
    else:
        trainer.validate(module, datamodule=data, verbose=False)
    if first_rank():
        print_summary(trainer.callback_metrics, run or RunDirectory(command.origin.file.parent))
    if figures is not None and figures.trouble is not None:
        say_notes([f"these figures are not recorded: {figures.trouble}"])
    return 0


def _predict(command: Command, module: ComponentModule, data: TabularData) -> int:
    assert command.origin is not None
    trainer = build_trainer(command.parser, command.settings)
    if trainer.world_size > 1:
        raise ConfigurationError("predict runs in one process: leave --trainer.devices at 1")
    folder = command.origin.run.path if command.origin.run is not None else Path()
    output = Path(command.settings.output or folder / "predictions.csv")
    if output.suffix not in (".csv", ".parquet"):
        raise ConfigurationError(f"--output {output}: predictions are written as .csv or .parquet")
    if not output.parent.is_dir():
        raise ConfigurationError(f"--output {output}: there is no directory {output.parent}")
    frame = read(data.sources["source"])
    table = module.predict(frame, describe(data.sources["source"]))
    names = polars.DataFrame({"row": range(1, frame.height + 1)})  # as messages count them
    if (column := command.settings.id) is not None:
        if column not in frame.columns:
            there = enumerate_names(frame.columns)
            raise ConfigurationError(f"--id {column}: the input has no such column, it has {there}")
        if column in (taken := [*names.columns, *table.columns]):
            there = enumerate_names(taken)
            raise ConfigurationError(f"--id {column}: the output has columns {there}; repeat another one")
        names = names.with_columns(frame[column])
    _write_table(polars.concat([names, table], how="horizontal"), output)
    print(f"{frame.height} predictions: {printable(str(output))}")
    return 0


_COMMANDS = {"fit": _fit, "validate": _validate, "test": _test, "predict": _predict}


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
    data: TabularData,
    directory: RunDirectory,
    wandb: WandbLogger | None,
) -> None:
    """Give the trainer its loggers and callbacks."""
    jsonl = JsonlLogger(directory)
    trainer.loggers = [jsonl, *([wandb] if wandb is not None else [])]
    checkpoints = checkpoint_callbacks(directory, "val/loss" if validates(trainer, data) else None)
    stop = StopAtBoundary(directory.last, module.boundary_batches)
    table = [ConvergenceTable()] if module.assembly.sees_full_set else []
    ours = [RowPosition(jsonl, wandb), *table, KeepOnInterrupt(directory), stop, *checkpoints]
    trainer.callbacks.extend(ours)  # type: ignore[attr-defined]


class KeepOnInterrupt(Callback):
    """On Ctrl-C during the first epoch, keep a checkpoint: later ones have the last epoch's.

    Args:
        directory: the run's.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Save in a single process only: ranks that wait for each other elsewhere would hang here."""
        alone = trainer.world_size == 1
        if isinstance(exception, KeyboardInterrupt) and alone and not self.directory.last.is_file():
            trainer.save_checkpoint(self.directory.last)


def _record_opening(command: Command, data: TabularData) -> None:
    """Write down that the test part was opened, and warn if it was before."""
    if not first_rank():
        return
    assert command.origin is not None
    folder = command.origin.run.path if command.origin.run is not None else command.origin.file.parent
    record = folder / "test_openings.jsonl"
    times = len(record.read_text(encoding="utf-8").splitlines()) if record.is_file() else 0
    if times:
        print(
            f"warning: the test part has been opened before ({times} ×): results on it no longer stand for new data",
            file=sys.stderr,
        )
    row = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": str(command.origin.file),
        "data": data.fingerprint,
        "rows": data.sizes["test"],
    }
    try:
        append_line(record, json.dumps(row) + "\n")
    except WriteError as error:
        say_notes([f"that the test part is opened is not recorded: {error}"])


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
    refuse_nothing_left(origin, trainer, module.saved_outcome(content["optimizer_states"][0]))


def _write_table(table: polars.DataFrame, output: Path) -> None:
    """Write whole or not at all.

    Raises:
        ConfigurationError: if the file cannot be written.
    """
    written = io.BytesIO()
    if output.suffix == ".csv":
        table.write_csv(written)
    else:
        table.write_parquet(written)
    try:
        with whole_file(output) as file:
            file.write(written.getbuffer())
    except WriteError as error:
        raise ConfigurationError(f"--output {error}; or name a file elsewhere") from error
