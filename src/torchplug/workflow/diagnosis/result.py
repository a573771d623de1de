"""What a diagnosis has found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars

from torchplug.tracking.run import Run
from torchplug.workflow.diagnosis import codes
from torchplug.workflow.diagnosis.verdicts import Evaluated
from torchplug.workflow.finding import Finding

GOOD = "good"


@dataclass(frozen=True)
class Parts:
    """The validation loss as a sum: floor + optimizer gap + generalization gap.

    Args:
        floor: the training loss at the optimum: noise, and what the model cannot express.
        optimizer_gap: the training loss less the floor; what a better optimizer would gain on the training split.
        generalization_gap: the validation loss less the training loss; None without validation rows.
        noise_floor: the floor, corrected for the parameters that were fitted to these rows: an estimate of the loss of
            the best parameters on new rows. L·n/(n − p) for sums of squares, L + p/(2n) for likelihoods, with p the
            effective number of parameters; None where that is not defined.
    """

    floor: float
    optimizer_gap: float
    generalization_gap: float | None
    noise_floor: float | None


@dataclass(frozen=True)
class Diagnosis:
    """What became of a fit, and what to do next.

    Args:
        verdict: `good`, `underfitting`, `overfitting`, `not converged` or `too little data`.
        findings: codes with evidence and remedies, that of the verdict first.
        models: name → loss and error on both splits: `model`, `optimum` (or `bound`), `linear`, `constant`.
        error_name: what the error is: `error rate`, `rmse` or `loss`.
        parts: the validation loss taken apart; None without an optimum.
        objective: F of the model on the training split, and `minimum` or `bound` of F.
        target: the error that was wanted.
        notes: what could not be computed, and why.
        run: the run.
    """

    verdict: str
    findings: tuple[Finding, ...]
    models: Mapping[str, Evaluated]
    error_name: str
    parts: Parts | None
    objective: Mapping[str, float]
    target: float | None
    notes: tuple[str, ...]
    run: Run

    @property
    def table(self) -> polars.DataFrame:
        """A row for each model: loss and error on the training and the validation split."""
        rows = []
        for name, evaluated in self.models.items():
            train, validation = evaluated.train, evaluated.validation
            rows.append(
                {
                    "model": name,
                    "train loss": train.loss,
                    "val loss": None if validation is None else validation.loss,
                    f"train {self.error_name}": train.error,
                    f"val {self.error_name}": None if validation is None else validation.error,
                }
            )
        figures = dict.fromkeys(list(rows[0])[1:], polars.Float64)
        return polars.DataFrame(rows, schema={"model": polars.String, **figures})

    @property
    def line(self) -> str:
        """The verdict with its evidence, in one line."""
        if self.verdict == GOOD:
            return f"verdict: {GOOD}"
        first = self.findings[0]
        return f"verdict: {first.name} ({first.code}): {first.evidence}"

    def plain(self) -> dict[str, Any]:
        """The diagnosis as plain types."""
        plain: dict[str, Any] = _finite(
            {
                "verdict": self.verdict,
                "findings": [asdict(finding) for finding in self.findings],
                "models": {row.pop("model"): row for row in self.table.to_dicts()},
                "parts": None if self.parts is None else asdict(self.parts),
                "objective": dict(self.objective),
                "target": self.target,
                "notes": list(self.notes),
                "codes": codes.CODES,
            }
        )
        return plain


def _finite(value: Any) -> Any:
    """A value without NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
