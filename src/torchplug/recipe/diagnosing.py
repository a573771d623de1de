"""The command `diagnose`: figures of a fit beside its optimum and baselines, a verdict and remedies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_table, say_notes
from torchplug.recipe.run_names import run_named
from torchplug.terminal import one_line, printable
from torchplug.workflow.diagnosis import Diagnosis
from torchplug.workflow.diagnosis import diagnose as diagnose_run

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def diagnose(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Print table, parts, findings and verdict; returns the exit status.

    Raises:
        TorchplugError: for a directory that is no run, a table that has changed, or an unknown code.
    """
    options = command.settings.others
    names = options["run"] or ["last"]
    if len(names) > 1:
        raise ConfigurationError(f"diagnose takes one run, not {len(names)}: name one directory, or last")
    found = diagnose_run(
        run_named(names[0], command.recipe),
        target=options["target"],
        ignore=options["ignore"],
        iterations=options["iterations"],
    )
    say_notes(found.notes)
    print_table(found.table, f"{command.recipe}: {found.run.path.name}")
    _print_parts(found)
    for finding in found.findings:
        print(one_line(f"{finding.code} {finding.name}: {finding.evidence}"))
        for number, remedy in enumerate(finding.remedies, start=1):
            print(f"  {number}. {one_line(remedy)}")
    print(one_line(found.line))
    print(f"diagnosis: {printable(os.path.relpath(found.run.path / 'diagnosis.json'))}")
    return 0


def _print_parts(found: Diagnosis) -> None:
    """How the validation loss comes about."""
    parts = found.parts
    if parts is None:
        return
    kind = "minimum" if "minimum" in found.objective else "bound"
    print(f"objective: {found.objective['model']:.6g}, its {kind}: {found.objective[kind]:.6g}")
    if parts.generalization_gap is not None:
        total = parts.floor + parts.optimizer_gap + parts.generalization_gap
        print(
            f"validation loss {total:.4g} = {parts.floor:.4g} at the {kind} + {parts.optimizer_gap:.4g} optimizer gap "
            f"+ {parts.generalization_gap:.4g} generalization gap"
        )
    if parts.noise_floor is not None:
        print(f"noise floor, the loss of the best parameters on new rows, about {parts.noise_floor:.4g}")
