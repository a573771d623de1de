"""The commands `validate` and `test`: a checkpoint's figures on a split."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from torchplug.checks import refuse_evaluation
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, WriteError
from torchplug.fitting.ranks import first_rank, meet
from torchplug.fitting.same_tables import changed_tables
from torchplug.fitting.trainer import build_trainer
from torchplug.module import ComponentModule
from torchplug.recipe.output import say_notes
from torchplug.tracking.jsonl import EvaluationLogger
from torchplug.tracking.run import Run
from torchplug.tracking.summary import print_summary
from torchplug.tracking.whole_files import append_line
from torchplug.training import StopAtBoundary

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def validate(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Print and record the figures of the validation split; returns the exit status."""
    return _evaluate(command, module, data, "validation")


def test(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Print and record the figures of the test split, and that it was opened; returns the exit status."""
    return _evaluate(command, module, data, "test")


def _evaluate(
    command: Command, module: ComponentModule, data: TabularData, split: Literal["validation", "test"]
) -> int:
    assert command.origin is not None
    data.prepare(module.data_request())
    if not data.sizes[split]:
        raise ConfigurationError(f"the split leaves no {split} rows: choose another --data.split")
    module.configure(data)
    trainer = build_trainer(command.trainer())
    refuse_evaluation(trainer, data, split)
    run = command.origin.run
    figures = None if run is None else EvaluationLogger(run, command.origin.file.name)
    trainer.loggers = [] if figures is None else [figures]
    key = split if split in data.sources else "source"
    changed = changed_tables(command.origin.content, data, split, named=command.names(f"data.{key}"))
    say_notes([*changed, *data.notes])
    trainer.callbacks.append(StopAtBoundary())  # type: ignore[attr-defined]
    meet(trainer, data, command.settings.plain(), command.origin.file)
    if split == "test":
        _record_opening(command, data)
        trainer.test(module, datamodule=data, verbose=False)
    else:
        trainer.validate(module, datamodule=data, verbose=False)
    if first_rank():
        print_summary(trainer.callback_metrics, run or Run(command.origin.file.parent))
    if figures is not None and figures.trouble is not None:
        say_notes([f"these figures are not recorded: {figures.trouble}"])
    return 0


def _record_opening(command: Command, data: TabularData) -> None:
    """Write down that the test split was opened, and warn if it was before."""
    if not first_rank():
        return
    assert command.origin is not None
    folder = command.origin.run.path if command.origin.run is not None else command.origin.file.parent
    record = folder / "test_openings.jsonl"
    times = len(record.read_text(encoding="utf-8").splitlines()) if record.is_file() else 0
    if times:
        print(
            f"warning: the test split has been opened before ({times} ×): results on it no longer stand for new data",
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
        say_notes([f"that the test split is opened is not recorded: {error}"])
