"""What a regularization path writes into its run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torchplug.fitting.config import written_config
from torchplug.registry import registry
from torchplug.tracking.provenance import provenance
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow import pictures
from torchplug.workflow.regularization_path import picture
from torchplug.workflow.regularization_path.plan import Plan
from torchplug.workflow.regularization_path.result import RegularizationPath
from torchplug.workflow.writing import as_yaml, write_method


@dataclass(frozen=True)
class Writing:
    """Writes the files of a path.

    Args:
        plan: what is asked for.
        tracking: W&B's settings.
        given: what best.yaml is written from, as `fit --config` reads it; None: the plan's settings.
    """

    plan: Plan
    tracking: Tracking
    given: Mapping[str, Any] | None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings as a configuration file has them."""
        if self.given is not None:
            return dict(self.given)
        plan = self.plan
        return written_config(plan.module, plan.data, plan.trainer, self.tracking, plan.seed)

    def begin(self, run: Run) -> None:
        """Write all settings, and where the results come from."""
        entries = [component.entry for component in self.plan.module.components]
        origins = provenance(registry().plugins, entries, self.plan.data.fingerprint, self.plan.seed)
        write_method(run, {"path": self.plan.described, **self.settings}, origins)

    def describe(self, run: Run) -> None:
        """Add the path's settings to those of a run of `fit_many`."""
        run.write_config(as_yaml({"path": self.plan.described, **run.config}))

    def end(self, found: RegularizationPath, notes: Sequence[str]) -> None:
        """Write the result."""
        run = found.run
        run.write_table("path.csv", found.table)
        if found.coefficients is not None:
            run.write_coefficients(found.coefficients)
        for name, strength in (("best.yaml", found.best), ("best_1se.yaml", found.best_1se)):
            run.write_yaml(name, as_yaml(self._with_strength(strength)))
        drawn = [] if pictures.available() else [pictures.INSTALL]
        if not drawn:
            picture.draw(found, run.path / "path.png")
        run.write_notes(list(dict.fromkeys([*notes, *drawn])))
        ended = run.outcome or {"name": "converged"}
        run.write_outcome({**ended, "best": found.best, "best_1se": found.best_1se})

    def _with_strength(self, strength: float) -> dict[str, Any]:
        """Settings of a fit with this λ."""
        model, penalty = dict(self.settings["model"]), self.plan.penalty
        chosen = [dict(own) if isinstance(own, Mapping) else {"class_path": own} for own in model["regularizers"]]
        own = chosen[penalty.index]
        own["init_args"] = {**(own.get("init_args") or {}), **penalty.numbers(strength)}
        return {**self.settings, "model": {**model, "regularizers": chosen}}
