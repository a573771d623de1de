"""What a ladder has come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars

from torchplug.tracking.run import Run
from torchplug.workflow.finding import Finding


@dataclass(frozen=True)
class Rung:
    """One rung.

    Args:
        name: `one row`, `a handful`, `more`, `all`, `regularized`, `validation`, or `shuffled targets`.
        rows: how many were trained on.
        passed: whether it reached what it must.
        reason: the evidence.
        steps: made.
        loss: the mean loss at the end, without dropout; on the validation split for the last two.
        score: the accuracy, or R² relative to the variance of the training split.
        cause: why it failed; for a rung that passed, what to know of it.
        losses: of each step's batch.
    """

    name: str
    rows: int
    passed: bool
    reason: str
    steps: int
    loss: float
    score: float
    cause: Finding | None
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Ladder:
    """Rungs of growing difficulty, up to the first that failed.

    Args:
        rungs: those that were tried.
        score_name: `accuracy` or `r2`.
        notes: what was left out, and why.
        run: the run directory.
    """

    rungs: tuple[Rung, ...]
    score_name: str
    notes: tuple[str, ...]
    run: Run

    @property
    def passed(self) -> bool:
        """Whether all rungs passed."""
        return all(rung.passed for rung in self.rungs)

    @property
    def cause(self) -> Finding | None:
        """The likely cause of the first failure; None if there is none."""
        return next((rung.cause for rung in self.rungs if not rung.passed), None)

    @property
    def table(self) -> polars.DataFrame:
        """A row for each rung."""
        rows = [
            {
                "rung": rung.name,
                "rows": rung.rows,
                "result": "pass" if rung.passed else "FAIL",
                "steps": rung.steps,
                "loss": rung.loss,
                self.score_name: rung.score,
                "why": rung.reason,
            }
            for rung in self.rungs
        ]
        return polars.DataFrame(rows).with_columns(polars.col(polars.Float64).fill_nan(None))

    @property
    def losses(self) -> polars.DataFrame:
        """The loss of each step's batch: rung, step, loss; null where it was not finite."""
        parts = [
            polars.DataFrame(
                {"step": range(1, len(rung.losses) + 1), "loss": [_finite(x) for x in rung.losses]}
            ).select(rung=polars.lit(rung.name), step=polars.col("step"), loss=polars.col("loss").cast(polars.Float64))
            for rung in self.rungs
            if rung.losses
        ]
        return polars.concat(parts)

    def plain(self) -> dict[str, Any]:
        """The ladder as plain types, without losses."""
        rungs: Sequence[dict[str, Any]] = [{**asdict(rung), "loss": _finite(rung.loss)} for rung in self.rungs]
        for own in rungs:
            del own["losses"]
            own["score"] = _finite(own["score"])
        return {"passed": self.passed, "rungs": rungs, "notes": list(self.notes)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
