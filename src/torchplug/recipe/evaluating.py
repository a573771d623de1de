"""The commands `validate` and `test`: a checkpoint's figures on a split."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning import Trainer

from torchplug.checkpoint_record import KEY, REFIT
from torchplug.checks import refuse_evaluation
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, WriteError
from torchplug.fitting.origin import Origin
from torchplug.fitting.ranks import first_rank, meet
from torchplug.fitting.same_tables import changed_tables
from torchplug.fitting.trainer import build_trainer
from torchplug.many.evaluation import Evaluated, ensemble_metrics
from torchplug.module import ComponentModule
from torchplug.recipe.output import say_notes
from torchplug.tracking.ensemble import Ensemble
from torchplug.tracking.jsonl import EvaluationLogger, plain_values
from torchplug.tracking.ledger import Ledger, Opening, identity
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.summary import print_summary
from torchplug.tracking.wandb_group import GroupedRun, send_group
from torchplug.tracking.wandb_summary import add_to_summary
from torchplug.training import StopAtBoundary

if TYPE_CHECKING:
    from torchplug.recipe.command import Command

_MOST_DATES = 5


def validate(command: Command, module: ComponentModule | Ensemble, data: TabularData) -> int:
    """Print and record the figures of the validation split; returns the exit status."""
    return _evaluate(command, module, data, "validation")


def test(command: Command, module: ComponentModule | Ensemble, data: TabularData) -> int:
    """Print and record the figures of the test split, and that it was opened; returns the exit status."""
    return _evaluate(command, module, data, "test")


def _evaluate(command: Command, module: ComponentModule | Ensemble, data: TabularData, split: Evaluated) -> int:
    assert command.origin is not None
    first = module.members[0] if isinstance(module, Ensemble) else module
    data.prepare(first.data_request())
    if not data.sizes[split]:
        raise ConfigurationError(f"the split leaves no {split} rows: choose another --data.split")
    trainer = build_trainer(command.trainer())
    refuse_evaluation(trainer, data, split)
    if isinstance(module, Ensemble):
        _refuse_partial(trainer, split)
    else:
        module.configure(data)
    run = command.origin.run
    figures = None if run is None else EvaluationLogger(run, command.origin.file.name)
    key = split if split in data.sources else "source"
    changed = changed_tables(command.origin.content, data, split, named=command.names(f"data.{key}"))
    say_notes(
        [
            *changed,
            *_seen(data, run, split),
            *_refitted(command.origin, split),
            *data.notes,
            *(data.test_notes if split == "test" else []),
        ]
    )
    meet(trainer, data, command.settings.plain(), command.origin.file)
    opening = _record_opening(command, data) if split == "test" and first_rank() else {}
    if isinstance(module, Ensemble):
        values: Mapping[str, Any] = ensemble_metrics(module, data, split)
        if figures is not None:
            figures.log_metrics(values)
    else:
        values = _by_trainer(trainer, module, data, split, figures)
    if first_rank():
        if split == "test":
            _tell_wandb(command, module, {**opening, **plain_values(values)})
        print_summary(values, run or Run(command.origin.file.parent))
    if figures is not None and figures.trouble is not None:
        say_notes([f"these figures are not recorded: {figures.trouble}"])
    return 0


def _by_trainer(
    trainer: Trainer, module: ComponentModule, data: TabularData, split: Evaluated, figures: EvaluationLogger | None
) -> Mapping[str, Any]:
    """The metrics of a single model, over all ranks."""
    trainer.loggers = [] if figures is None else [figures]
    trainer.callbacks.append(StopAtBoundary())  # type: ignore[attr-defined]
    evaluate = trainer.test if split == "test" else trainer.validate
    evaluate(module, datamodule=data, verbose=False)
    return trainer.callback_metrics


def _refuse_partial(trainer: Trainer, split: Evaluated) -> None:
    """Refuse settings of the trainer that the evaluation of an ensemble does not follow."""
    limit = trainer.limit_test_batches if split == "test" else trainer.limit_val_batches
    if trainer.world_size > 1 or isinstance(limit, int) or limit < 1.0:  # 1 is one batch, 1.0 all of them
        raise ConfigurationError(
            "an ensemble is evaluated in one process and on the whole split: leave out --trainer.devices and the "
            "limits of batches"
        )


def _seen(data: TabularData, run: Run | None, split: Evaluated) -> list[str]:
    """What to say of rows that members of an ensemble were trained on."""
    folds = None if run is None else run.folds
    if split == "test" or split in data.sources or run is None or folds is None:
        return []
    trained = folds.filter(part="training")["row"].to_numpy()
    if not np.isin(data.row_numbers("validation"), trained).any():
        return []
    where = "see folds.csv for unseen rows" if (run.path / "folds.csv").is_file() else "test has unseen rows"
    return [f"members of the ensemble were trained on rows of the validation split too: {where}"]


def _refitted(origin: Origin, split: Evaluated) -> list[str]:
    """What to say of validation rows that a refit has trained on."""
    if split == "test" or REFIT not in origin.content[KEY]:
        return []
    return ["the model was refitted on the validation rows too: selected.ckpt of its run has not seen them"]


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


def _tell_wandb(command: Command, module: ComponentModule | Ensemble, values: Mapping[str, Any]) -> None:
    """Add the opening and its metrics to the W&B run of the checkpoint; of an ensemble, as a run of its group."""
    assert command.origin is not None
    run = command.origin.run
    if run is None:
        return
    settings = dict(command.origin.config.get("tracking") or {})
    if command.names("tracking.mode"):
        settings["mode"] = command.settings.tracking["mode"]
    tracking = Tracking.of(settings)
    if not isinstance(module, Ensemble):
        add_to_summary(run, tracking, values, module.resolved.metric_choice.directions)
    elif (run.path / "wandb").is_dir():
        name = f"{tracking.name}-test" if tracking.name else "test"
        tested = GroupedRun("test", name, {"models": len(module.members)}, rows=[], summary=values)
        send_group(tracking, run, [tested], run.provenance, resumed=True)
