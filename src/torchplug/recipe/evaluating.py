"""The commands `validate` and `test`: a checkpoint's figures on a split."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torchplug.checks import refuse_evaluation
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, WriteError
from torchplug.fitting.ranks import first_rank, meet
from torchplug.fitting.same_tables import changed_tables
from torchplug.fitting.trainer import build_trainer
from torchplug.module import ComponentModule
from torchplug.recipe.output import say_notes
from torchplug.tracking.jsonl import EvaluationLogger, plain_values
from torchplug.tracking.ledger import Ledger, Opening, identity
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.summary import print_summary
from torchplug.tracking.wandb_summary import add_to_summary
from torchplug.training import StopAtBoundary

if TYPE_CHECKING:
    from torchplug.recipe.command import Command

_MOST_DATES = 5


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
    say_notes([*changed, *data.notes, *(data.test_notes if split == "test" else [])])
    trainer.callbacks.append(StopAtBoundary())  # type: ignore[attr-defined]
    meet(trainer, data, command.settings.plain(), command.origin.file)
    if split == "test":
        opening = _record_opening(command, data) if first_rank() else {}
        trainer.test(module, datamodule=data, verbose=False)
        if first_rank():
            _tell_wandb(command, module, {**opening, **plain_values(trainer.callback_metrics)})
    else:
        trainer.validate(module, datamodule=data, verbose=False)
    if first_rank():
        print_summary(trainer.callback_metrics, run or Run(command.origin.file.parent))
    if figures is not None and figures.trouble is not None:
        say_notes([f"these figures are not recorded: {figures.trouble}"])
    return 0


def _record_opening(command: Command, data: TabularData) -> dict[str, Any]:
    """Enter the test split's opening into the ledger, and warn if it was opened before; returns what W&B is told."""
    assert command.origin is not None
    file, run = command.origin.file, command.origin.run
    opening = Opening(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=command.recipe,
        run=None if run is None else str(run.path),
        checkpoint=str(file),
        **identity(data, "test"),
        rows=data.sizes["test"],
    )
    ledger = Ledger(Path("runs") if run is None else run.root)
    earlier = [other for other in ledger.openings() if other.is_of(opening)]
    if earlier:
        dates = ", ".join(other.time for other in earlier[-_MOST_DATES:])
        shown = dates if len(earlier) <= _MOST_DATES else f"last {dates}"
        print(
            f"warning: this test split was opened before, {len(earlier)} × ({shown}): "
            "results on it no longer stand for new data",
            file=sys.stderr,
        )
    try:
        ledger.append(opening)
    except WriteError as error:
        say_notes([f"that the test split is opened is not recorded: {error}"])
    return {"test_openings": len(earlier) + 1, "test_opened": opening.time}


def _tell_wandb(command: Command, module: ComponentModule, values: Mapping[str, Any]) -> None:
    """Add the opening and its metrics to the W&B run of the checkpoint."""
    assert command.origin is not None
    if command.origin.run is None:
        return
    settings = dict(command.origin.config.get("tracking") or {})
    if command.names("tracking.mode"):
        settings["mode"] = command.settings.tracking["mode"]
    add_to_summary(command.origin.run, Tracking.of(settings), values, module.resolved.metric_choice.directions)
