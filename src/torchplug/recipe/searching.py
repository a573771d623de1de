"""The command `search`: hyper-parameters by grid, at random or by TPE; or a sweep for Weights & Biases."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from torchplug.data.tabular import TabularData
from torchplug.fitting.training import STALLED
from torchplug.interruption import INTERRUPTED
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_files, print_table, say_notes, short_path
from torchplug.settings.groups import GROUPS
from torchplug.settings.model import MODEL
from torchplug.terminal import printable
from torchplug.workflow.search.concluding import BEST, PICTURES, TRIALS
from torchplug.workflow.search.planning import Plan
from torchplug.workflow.search.result import SearchResult
from torchplug.workflow.search.searching import Searching
from torchplug.workflow.search.sweep import write_sweep
from torchplug.workflow.unfinished import Unfinished

if TYPE_CHECKING:
    from torchplug.recipe.command import Command

_SHOWN = 10
_SINGLE = ("seed_everything", "plugins_lock")


def search(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Search, or write a sweep's file; returns the exit status.

    Raises:
        TorchplugError: for input that is refused, and files that cannot be written.
    """
    values = command.settings
    options = {name: value for name, value in command.options.items() if name != "export_wandb"}
    plan = Plan(
        config=values.model,
        data=data,
        root="runs",
        **command.method(),
        written={name: value for name, value in values.plain().items() if name in (*_SINGLE, MODEL, *GROUPS)},
        notes=command.notes,
        remedy=command.resuming,
        **options,
    )
    if (file := values.others["export_wandb"]) is not None:
        write_sweep(plan.sweep(command.script, _given(command)), file)
        print(f"sweep: {printable(file)}; start it with: wandb sweep {printable(shlex.quote(file))}")
        return 0
    try:
        found = Searching(plan).run()
    except Unfinished as stop:
        print(f"interrupted; {command.resuming(stop.run)}")
        return INTERRUPTED
    _print_result(command, found)
    return 0 if found.best is not None else STALLED


def _print_result(command: Command, found: SearchResult) -> None:
    say_notes(found.notes)
    best = found.trials.filter(found.trials["state"] == "complete")
    descending = found.direction == "max"
    best = best.sort(found.metric, descending=descending, maintain_order=True).head(_SHOWN).drop("reason")
    print_table(best, f"{command.recipe}: the best of {found.trials.height} trials")
    if found.best is not None:
        fit = f"{short_path(Path(command.script))} fit --config {short_path(found.run.path / BEST)}"
        print(f"best: trial {found.best_trial}; fit it with: python {printable(fit)}")
    print_files(found.run, TRIALS, *PICTURES)


def _given(command: Command) -> dict[str, Any]:
    """The settings that flags, files and variables give, by names and as values of flags."""
    plain = command.settings.plain()
    found: dict[str, Any] = {}
    for given in command.line.givens:
        group, *rest = given.path
        if group in _SINGLE:
            found[group] = plain[group]
        elif group in (MODEL, *GROUPS) and rest:
            found[f"{group}.{rest[0]}"] = _as_flag(plain[group][rest[0]])
    return found


def _as_flag(value: Any) -> Any:
    """A value as a flag takes it: components and lists as YAML in one line."""
    if isinstance(value, Mapping | list):
        return str(yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)).strip()
    return value
