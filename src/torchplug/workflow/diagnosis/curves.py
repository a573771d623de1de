"""What the losses by epoch show by themselves."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

from torchplug.tracking.run import Run
from torchplug.workflow.diagnosis import codes
from torchplug.workflow.finding import Finding

_LEAST_EPOCHS = 10
_RISE = 0.1
_FALL = 0.01


def from_curves(run: Run, is_full_batch: bool = False) -> Finding | None:
    """Whether a fit was stopped too early, or went on too long; None where the losses by epoch show neither.

    Overfitting: the median of the last three validation losses is more than 10 % above the lowest, and by more than
    10 % of all that it fell, and the training loss has fallen meanwhile. Not converged: training ended by a limit, and
    in its last tenth both losses fell by more than 1 % of all that they fell.

    Args:
        run: of one fit.
        is_full_batch: whether its optimizer is a full-batch one, whose epochs are iterations.
    """
    validation = _values(run, "val/loss")
    training = _values(run, "train/epoch_loss")
    if len(validation) < _LEAST_EPOCHS or len(training) < _LEAST_EPOCHS or min(validation) <= 0:
        return None
    best, last = validation.index(min(validation)), statistics.median(validation[-3:])
    rise = last / validation[best] - 1
    learnt = validation[0] - validation[best]
    if (
        rise > _RISE
        and last - validation[best] > _RISE * learnt
        and training[-1] < training[best * len(training) // len(validation)]
    ):
        evidence = (
            f"the validation loss was lowest after epoch {best + 1} of {len(validation)} and is {rise:.0%} above that "
            "at the end, while the training loss fell on"
        )
        return Finding(*codes.OVERFITTING, evidence, tuple(codes.generalize(False, False)))
    if _was_limited(run) and _is_falling(validation) and _is_falling(training):
        tenth = max(1, len(training) // 10)
        evidence = (
            f"in the last {tenth} of {len(training)} epochs the training loss still fell from "
            f"{training[-tenth - 1]:.4g} to {training[-1]:.4g}, and the validation loss with it"
        )
        return Finding(*codes.NOT_CONVERGED, evidence, tuple(codes.train_longer(is_full_batch)))
    return None


def _values(run: Run, name: str) -> list[float]:
    """A metric by epoch, without those of later evaluations; a row that is being written is omitted."""
    if not run.metrics_file.is_file():
        return []
    found = []
    for line in run.metrics_file.read_text(encoding="utf-8").splitlines():
        if f'"{name}"' in line and line.endswith("}"):
            row = json.loads(line)
            if "evaluated" not in row and row[name] is not None:
                found.append(float(row[name]))
    return found


def _was_limited(run: Run) -> bool:
    return (run.outcome or {}).get("name") == "limit"


def _is_falling(values: Sequence[float]) -> bool:
    tenth = max(1, len(values) // 10)
    before, now = statistics.median(values[-2 * tenth : -tenth]), statistics.median(values[-tenth:])
    return before - now > _FALL * (values[0] - min(values))
