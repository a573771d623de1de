"""Fit, validate, test, predict: validated first, then a run directory, then Lightning's Trainer."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import polars
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities import rank_zero_only

from torchplug.data.tabular import TabularData
from torchplug.errors import CheckpointError, ConfigurationError, TorchplugError
from torchplug.metrics import epoch_metrics
from torchplug.models import Linear
from torchplug.module import ComponentModule
from torchplug.recipe.convergence import ConvergenceTable, describe_outcome, outcome_record
from torchplug.recipe.parser import load_yaml
from torchplug.recipe.trainer import build_trainer, refuse_unlogged
from torchplug.registry import registry
from torchplug.tables import describe, enumerate_names, read
from torchplug.tracking.checkpoints import checkpoint_callbacks
from torchplug.tracking.directory import RunDirectory
from torchplug.tracking.jsonl import JsonlLogger
from torchplug.tracking.provenance import provenance
from torchplug.tracking.settings import Tracking
from torchplug.tracking.summary import print_summary
from torchplug.tracking.wandb import WandbLogger, wandb_logger

if TYPE_CHECKING:
    from torchplug.recipe.command import Command

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells count it."""

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
    status = None
    try:
        status = _COMMANDS[command.subcommand](command, module, data)
    except MisconfigurationException as error:
        raise ConfigurationError(" ".join(str(error).split())) from error
    finally:
        _leave_process_group(together=status == 0)
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
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if first_rank():  # what took long, such as compiling
        own, handler = logging.getLogger("torchplug"), logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("note: %(message)s"))
        own.setLevel(logging.INFO)
        own.handlers = [handler]
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
        _check_resumable(module, resumed.file, command.settings.trainer.max_epochs)
    trainer = build_trainer(command.parser, command.settings, progress_bar=not module.assembly.sees_full_set)
    module.execution.refuse_settings(trainer)
    refuse_unlogged(trainer, epoch_metrics(module.loss.kind, validated=bool(data.sizes["validation"])))
    fresh = resumed is None or resumed.run is None
    directory = RunDirectory.create(command.recipe) if resumed is None or resumed.run is None else resumed.run
    wandb = _record(command, module, data, directory)
    _attach(trainer, module, data, directory, wandb)
    _say_notes([*data.notes, *module.notes(trainer, data.batch_size)])
    try:
        _train(trainer, module, data, file, wandb)
    except SystemExit:
        if trainer.state.status != TrainerStatus.INTERRUPTED:
            raise
        if first_rank():
            _say_how_to_go_on(command, directory)
        return INTERRUPTED
    except TorchplugError as error:
        if error.exit_status == 2 and fresh and first_rank():
            shutil.rmtree(directory.path)  # refused in setup, before the first step: nothing ran
        raise
    if first_rank():
        if isinstance(module.network, Linear):
            directory.write_coefficients(module.coefficient_table())
        if module.outcome is not None:
            directory.write_outcome(outcome_record(module.outcome, module.iteration))
            print(describe_outcome(module))
        print_summary(trainer.callback_metrics, directory)
    return STALLED if module.outcome is not None and module.outcome.name == "stalled" else 0


def _train(
    trainer: lightning.Trainer, module: ComponentModule, data: TabularData, file: str | None, wandb: WandbLogger | None
) -> None:
    """Fit, and end the W&B run whatever happens, before anybody else touches the run directory."""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=file, weights_only=True)
    finally:
        if wandb is not None:
            wandb.finish(0 if trainer.state.status == TrainerStatus.FINISHED else 1)


def _say_notes(notes: Sequence[str]) -> None:
    """What was noticed in the table, such as rows that were left out, and in the components."""
    if first_rank():
        for note in notes:
            print(f"note: {note}", flush=True)


def _say_how_to_go_on(command: Command, directory: RunDirectory) -> None:
    if directory.last.is_file():
        script, last = _short(Path(command.script)), _short(directory.last)
        print(f"interrupted; go on with: python {script} fit --ckpt_path {last}")
    else:
        print("interrupted before the first epoch ended: there is no checkpoint to go on from")


def _short(path: Path) -> str:
    """The path from here, or the whole one if that is shorter."""
    return shlex.quote(min(os.path.relpath(path), os.path.abspath(path), key=len))


def _validate(command: Command, module: ComponentModule, data: TabularData) -> int:
    return _evaluate(command, module, data, "validation")


def _test(command: Command, module: ComponentModule, data: TabularData) -> int:
    return _evaluate(command, module, data, "test")


def _evaluate(command: Command, module: ComponentModule, data: TabularData, part: str) -> int:
    assert command.origin is not None
    data.prepare(module.data_request())
    if not data.sizes[part]:
        raise ConfigurationError(f"the split leaves no {part} rows: choose another --data.split")
    module.adopt(data)
    trainer = build_trainer(command.parser, command.settings)
    run = command.origin.run
    if run is not None:
        trainer.loggers = [JsonlLogger(run)]
    _say_notes(data.notes)
    if part == "test":
        _record_opening(command, data)
        trainer.test(module, datamodule=data, verbose=False)
    else:
        trainer.validate(module, datamodule=data, verbose=False)
    if first_rank():
        print_summary(trainer.callback_metrics, run or RunDirectory(command.origin.file.parent))
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
    print(f"{frame.height} predictions: {output}")
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
    return wandb_logger(Tracking(**command.settings.tracking.as_dict()), directory, load_yaml(config), origins)


def _attach(
    trainer: lightning.Trainer,
    module: ComponentModule,
    data: TabularData,
    directory: RunDirectory,
    wandb: WandbLogger | None,
) -> None:
    """Give the trainer its loggers and callbacks."""
    trainer.loggers = [JsonlLogger(directory), *([wandb] if wandb is not None else [])]
    checkpoints = checkpoint_callbacks(directory, "val/loss" if data.sizes["validation"] else None)
    table = [ConvergenceTable()] if module.assembly.sees_full_set else []
    trainer.callbacks.extend([*table, KeepOnInterrupt(directory), *checkpoints])  # type: ignore[attr-defined]


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
    with record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _check_resumable(module: ComponentModule, file: Path, epochs: int | None) -> None:
    """Refuse a checkpoint of other data, or one with nothing left to train, before any rank is launched.

    Raises:
        CheckpointError: if the checkpoint's preprocessing is not that of the data, or parts of it are missing.
        ConfigurationError: if the epochs asked for are done.
    """
    content: Mapping[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    module.on_load_checkpoint(dict(content))
    try:
        module.load_state_dict(content["state_dict"])
        done: int = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{file} cannot be gone on from: {' '.join(str(error).split())}") from error
    if epochs is not None and 0 <= epochs <= done:
        raise ConfigurationError(
            f"{file} has {done} epochs behind it: ask for more in all, such as --trainer.max_epochs {2 * done}"
        )


def _write_table(table: polars.DataFrame, output: Path) -> None:
    """Write whole or not at all.

    Raises:
        ConfigurationError: if the file cannot be written.
    """
    part = output.with_name(f".{output.name}.part")
    try:
        if output.suffix == ".csv":
            table.write_csv(part)
        else:
            table.write_parquet(part)
        part.replace(output)
    except OSError as error:
        raise ConfigurationError(f"--output {output}: it cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
