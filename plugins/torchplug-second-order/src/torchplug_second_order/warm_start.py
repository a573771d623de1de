r"""A start at the minimum over a sample of the rows, where there are many more rows than a start needs.

Symbols: n rows, m of them in the sample, p parameters.
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from torchplug import Objective, Outcome
from torchplug_second_order.descents import Line
from torchplug_second_order.method import Descent, Failure, Memory, Point, Search
from torchplug_second_order.reuse import start_counting

_SHARE = 16
_ROWS_PER_PARAMETER = 5
_LEAST_SAVING = 4
_WORTHWHILE = 10**8
"""Products n·p² from which on a start is worth its overhead."""
_STEPS = 20
_PRECISION = 0.2


def sample_size(objective: Objective) -> int | None:
    """M = max(n/16, 5p), if that is at most n/4 and there is enough to save; else None."""
    rows = max(objective.samples // _SHARE, _ROWS_PER_PARAMETER * objective.size)
    large = objective.samples * objective.size**2 >= _WORTHWHILE
    # a sum over fewer rows would be another balance with the penalties
    return rows if large and _LEAST_SAVING * rows <= objective.samples and objective.reduction == "mean" else None


@final
class WarmStart(Descent[Line]):
    r"""Another descent, whose first step leads to the minimum over a sample of the rows.

    At the sample's minimum F is about F·p/2m above its own, and to that precision the minimum is sought. The step is
    tried as any other: where the whole F does not decrease along it, training begins where it stood. What the
    descent has learnt on the sample, it keeps.

    Args:
        descent: the way to go, on the sample and afterwards.
        search: how far, on the sample.

    Reference: Byrd, Chin, Neveitt and Nocedal (2011), doi:10.1137/10079923X.
    """

    def __init__(self, descent: Descent[Line], search: Search[Line]) -> None:
        self.descent = descent
        self.search = search
        self.ends_by_promise = descent.ends_by_promise

    def evaluate(self, objective: Objective) -> None:
        """Ask for what the next path needs."""
        self.descent.evaluate(objective)

    def point(self, objective: Objective) -> Point:
        """What is known where the parameters stand."""
        return self.descent.point(objective)

    def without_minimum(self, objective: Objective, value: float, initial: float) -> Outcome | None:
        """An outcome where F turns out to have no minimum, else None."""
        return self.descent.without_minimum(objective, value, initial)

    def is_stationary(self, here: Point, objective: Objective, tolerance: float, initial: float) -> bool:
        """Whether the descent takes a point for a minimum."""
        return self.descent.is_stationary(here, objective, tolerance, initial)

    def refuse_size(self, size: int) -> None:
        """Refuse what the descent refuses."""
        self.descent.refuse_size(size)

    def refuse(self, objective: Objective) -> None:
        """Refuse what the descent refuses."""
        self.descent.refuse(objective)

    def path(self, here: Point, objective: Objective, memory: Memory) -> Line | Failure:
        """At first the line to the sample's minimum, then the descent's."""
        if not memory.get("started"):
            memory["started"] = True
            rows = sample_size(objective)
            line = None if rows is None else self._to_minimum(here, objective, rows, memory)
            start_counting(memory)
            if line is not None:
                memory["starting"] = True
                return line
        return self.descent.path(here, objective, memory)

    def update(self, displacement: Tensor, change: Tensor, memory: Memory) -> None:
        """Take note of a step, unless it was the first: over so long a way the curvature is none of either end."""
        if not memory.pop("starting", False):
            self.descent.update(displacement, change, memory)

    def reset(self, memory: Memory) -> bool:
        """Drop what was learnt; without the first step there is always another try."""
        starting = bool(memory.pop("starting", False))
        return self.descent.reset(memory) or starting

    def _to_minimum(self, here: Point, objective: Objective, rows: int, memory: Memory) -> Line | None:
        sample = objective.sample(rows)
        start = there = self.descent.point(sample)
        precision = _PRECISION * sample.size / sample.samples
        for _ in range(_STEPS):
            path = self.descent.path(there, sample, memory)
            if isinstance(path, Failure) or path.predicted_reduction <= precision * abs(there.value):
                break
            step = self.search.run(there, path, sample, memory, {})
            if isinstance(step, Failure):
                break
            following = self.descent.point(sample)
            if not following.is_finite:
                break
            self.descent.update(step.displacement, following.gradient - there.gradient, memory)
            there = following
        objective.move(here.position)
        if not there.value < start.value:
            return None
        # what the sample has gained, as the slope of the line to there
        return Line(there.position - here.position, -2.0 * (start.value - there.value))
