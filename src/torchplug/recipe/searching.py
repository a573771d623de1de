"""The command `search`: hyper-parameters by grid, at random or by TPE; or a sweep for Weights & Biases."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from torchplug.data.tabular import TabularData
from torchplug.fitting.training import STALLED
from torchplug.interruption import INTERRUPTED
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_table, say_notes, short_path
from torchplug.settings.groups import GROUPS
from torchplug.settings.model import MODEL
from torchplug.terminal import printable
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow.search.concluding import BEST, PICTURES, TRIALS
from torchplug.workflow.search.result import SearchResult
from torchplug.workflow.search.searching import Searching, Unfinished
from torchplug.workflow.search.sweep import write_sweep

if TYPE_CHECKING:
    from torchplug.recipe.command import Command

_SHOWN = 10
_OWN = ("seed_everything", MODEL, *GROUPS)


def search(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Search, or write a sweep's file; returns the exit status.

    Raises:
        TorchplugError: for input that is refused, and files that cannot be written.
    """
    values = command.settings
    options = {name: value for name, value in values.others.items() if name != "export_wandb"}
    job = Searching(
        config=values.model,
        data=data,
        trainer=command.chosen_trainer(),
        tracking=Tracking(**values.tracking),
        name=f"{command.recipe}-search",
        root="runs",
        seed=values.seed_everything,
        written={name: value for name, value in values.plain().items() if name in _OWN},
        notes=command.notes,
        remedy=lambda run: _how_to_go_on(command, run),
        **options,
    )
    if (file := values.others["export_wandb"]) is not None:
        write_sweep(job.sweep(command.script, _given(command)), file)
        print(f"sweep: {printable(file)}; start it with: wandb sweep {printable(shlex.quote(file))}")
        return 0
    try:
        found = job.run()
    except Unfinished as stop:
        print(f"interrupted; {_how_to_go_on(command, stop.run)}")
        return INTERRUPTED
    _print_result(command, found)
    return 0 if found.best is not None else STALLED


def _print_result(command: Command, found: SearchResult) -> None:
    say_notes(found.notes)
    best = found.trials.filter(found.trials["state"] == "complete")
    descending = found.direction == "max"
    best = best.sort(found.metric, descending=descending, maintain_order=True).head(_SHOWN).drop("reason")
    print_table(best, f"{command.recipe}: the best of {found.trials.height} trials")
    for label, name in (("trials", TRIALS), *(("picture", picture) for picture in PICTURES)):
        if (file := found.run.path / name).is_file():
            print(f"{label}: {printable(os.path.relpath(file))}")
    if found.best is not None:
        fit = f"{short_path(Path(command.script))} fit --config {short_path(found.run.path / BEST)}"
        print(f"best: trial {found.best_trial}; fit it with: python {printable(fit)}")
    print(f"run: {printable(os.path.relpath(found.run.path))}")


def _how_to_go_on(command: Command, run: Run) -> str:
    """The command that goes on with a search."""
    given = list(command.line.arguments)
    resumes = any(argument == "--resume" or argument.startswith("--resume=") for argument in given)
    resume = [] if resumes else ["--resume", str(min(os.path.relpath(run.path), str(run.path), key=len))]
    script = short_path(Path(command.script))
    return f"go on with: python {printable(f'{script} {shlex.join([*given, *resume])}')}"


def _given(command: Command) -> dict[str, Any]:
    """The settings that flags, files and variables give, by names and as values of flags."""
    plain = command.settings.plain()
    found: dict[str, Any] = {}
    for given in command.line.givens:
        group, *rest = given.path
        if group == "seed_everything":
            found[group] = plain[group]
        elif group in _OWN and rest:
            found[f"{group}.{rest[0]}"] = _as_flag(plain[group][rest[0]])
    return found


def _as_flag(value: Any) -> Any:
    """A value as a flag takes it: components and lists as YAML in one line."""
    if isinstance(value, Mapping | list):
        return str(yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)).strip()
    return value
