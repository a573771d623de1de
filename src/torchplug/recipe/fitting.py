"""The command `fit`: `torchplug.fit` for a terminal, with notes, progress, the outcome and how to resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchplug import interruption
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fitting.ranks import first_rank
from torchplug.fitting.refit import Refitted, selected_file
from torchplug.fitting.training import STALLED, Trained, Training
from torchplug.interruption import INTERRUPTED, Interrupted
from torchplug.module import ComponentModule
from torchplug.recipe.baseline_command import how_to_compare
from torchplug.recipe.certainty import how_sure
from torchplug.recipe.convergence import ConvergenceTable, describe_outcome
from torchplug.recipe.ensembling import fit_ensemble
from torchplug.recipe.output import say_notes, short_path
from torchplug.terminal import one_line, printable
from torchplug.tracking.checkpoint_file import read_checkpoint
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.summary import print_summary
from torchplug.workflow.diagnosis.curves import from_curves

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def fit(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Train, or finish what a killed run left undone; returns the exit status.

    Raises:
        TorchplugError: for input that is refused, or training that had to stop.
    """
    if command.settings.others["ensemble"] is not None:
        if command.settings.others["refit"]:
            raise ConfigurationError(
                "--refit trains one model and --ensemble several: give one (--ensemble_by folds trains on all rows)"
            )
        return fit_ensemble(command, data)
    if command.names("ensemble_by"):
        raise ConfigurationError("--ensemble_by has no effect without --ensemble: say how many models")
    is_full_batch = module.resolved.is_full_batch
    trainer = command.trainer()
    trainer["enable_progress_bar"] = trainer["enable_progress_bar"] and not is_full_batch
    training = Training(
        name=command.recipe,
        module=module,
        data=data,
        trainer=trainer,
        tracking=Tracking(**command.settings.tracking),
        seed=command.settings.seed_everything,
        config=command.config(),
        origin=command.origin,
        notes=command.notes,
        callbacks=[ConvergenceTable()] if is_full_batch else [],
        compares=True,
        refits=command.settings.others["refit"],
    )
    runs: list[Run] = []

    def started(run: Run, notes: Sequence[str]) -> None:
        runs.append(run)
        say_notes(notes)
        interruption.explain(lambda: _how_to_resume(command, run))

    try:
        trained = training.run(started)
    except Interrupted:
        if not runs:
            raise
        if first_rank():
            print(f"interrupted{_how_to_resume(command, runs[0])}")
        return INTERRUPTED
    if first_rank():
        _print_end(command, trained)
    return STALLED if trained.outcome.name == "stalled" else 0


def _print_end(command: Command, trained: Trained) -> None:
    outcome = trained.module.outcome
    if trained.module.resolved.is_full_batch:
        print(one_line(describe_outcome(trained.module)))
    elif outcome is not None:
        print(one_line(f"{outcome.reason}; {outcome.remedy}"))
    if trained.run.best.is_file() and not trained.module.resolved.is_full_batch:
        print(_best_epoch(trained))
    if trained.refitted is not None:
        print(_refitted(trained.refitted))
    for line in how_sure(trained.module, trained.calibration):
        print(one_line(line))
    if trained.baseline is not None and trained.baseline.wins:
        say_notes([f"{trained.baseline}{how_to_compare(command, trained.baseline)}"])
    found = from_curves(trained.run, trained.module.resolved.is_full_batch)
    if found is not None:
        script = printable(short_path(Path(command.script)))
        print(one_line(f"{found.name} ({found.code}): {found.evidence}; see: python {script} diagnose last"))
    print_summary(trained.trainer.callback_metrics, trained.run)


def _best_epoch(trained: Trained) -> str:
    """Which epoch is the best, and what it is kept for."""
    run, refitted = trained.run, trained.refitted
    best = read_checkpoint(selected_file(run))["epoch"] + 1
    kept = "kept for test and predict" if refitted is None else f"kept as {run.selected.name}"
    return f"best: epoch {best} of {trained.trainer.current_epoch}, {kept}; the table is of the last one"


def _refitted(refitted: Refitted) -> str:
    """What the model for test and predict has trained on."""
    how_long = "" if refitted.epochs is None else f" for {refitted.epochs} epoch{'' if refitted.epochs == 1 else 's'}"
    return f"refit: on {refitted.rows} rows of training and validation{how_long}, kept for test and predict"


def _how_to_resume(command: Command, run: Run) -> str:
    """What follows upon the reason why training ended."""
    if run.last.is_file():
        script, last = short_path(Path(command.script)), short_path(run.last)
        return f"; resume with: python {printable(script)} fit --ckpt_path {printable(last)}"
    return " before the first step ended: there is no checkpoint to resume from"
