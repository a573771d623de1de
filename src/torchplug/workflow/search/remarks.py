"""What the user should know of a search: best values at an edge, trials that diverged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torchplug.registry.component import Direction
from torchplug.workflow.search.ranges import Choices, Range
from torchplug.workflow.search.result import Repeats
from torchplug.workflow.search.space import Dimension, Space
from torchplug.workflow.search.study import Finished

_EDGE = 0.05
"""A best value is at an edge within this share of a range, of its logarithm where that is drawn from."""


def remarks(
    finished: Sequence[Finished],
    best: Finished | None,
    space: Space,
    repeats: Repeats | None,
    metric: str,
    direction: Direction,
) -> Iterator[str]:
    """Yield notes.

    Args:
        finished: all trials.
        best: the best of them.
        space: what was searched.
        repeats: the best trial, trained again.
        metric: what trials are compared by.
        direction: which value is the best.
    """
    diverged = [own for own in finished if own.result.state == "diverged"]
    if diverged:
        share = f"{len(diverged)} of {len(finished)} trials diverged ({len(diverged) / len(finished):.0%})"
        yield f"{share}: {_shared_cause(diverged, finished)}"
    if best is None:
        if finished:
            yield "no trial is complete, so that there is no best one"
        return
    for dimension in space.dimensions:
        if dimension.name in best.values and (edge := _edge(dimension, best.values[dimension.name])):
            yield edge
    if repeats is not None and repeats.known and best.result.value is not None:
        yield from _repeated(repeats, best.result.value, metric, direction)


def _shared_cause(diverged: Sequence[Finished], finished: Sequence[Finished]) -> str:
    """In what those that diverged differ most plainly: a setting above or below which all of them are."""
    sound = [own for own in finished if own.result.state != "diverged"]
    for name in diverged[0].values:
        bad, good = _numbers(diverged, name), _numbers(sound, name)
        if len(bad) == len(diverged) and good:
            if min(bad) > max(good):
                return f"all have {name} of at least {min(bad):.3g}; lower the upper end"
            if max(bad) < min(good):
                return f"all have {name} of at most {max(bad):.3g}; raise the lower end"
    return diverged[0].result.reason


def _numbers(trials: Sequence[Finished], name: str) -> list[float]:
    found = []
    for own in trials:
        try:
            found.append(float(own.values[name]))
        except (KeyError, TypeError, ValueError):
            continue
    return found


def _edge(dimension: Dimension, value: Any) -> str | None:
    """A note if a best value is the least or greatest, or near it, so that better ones may lie beyond."""
    if isinstance(dimension.values, Range):
        place = _place(dimension.values, value)
        side = "lower" if place <= _EDGE else "upper" if place >= 1 - _EDGE else None
        shown = f"{value:.4g}"
    else:
        side, shown = _side(dimension.values, value), str(value)
    if side is None:
        return None
    return (
        f"the best {dimension.name} is {shown}, at the {side} edge of {dimension.values.described()}: better values "
        "may lie beyond, search there too"
    )


def _place(values: Range, value: float) -> float:
    """Where a value stands between the ends, from 0 to 1."""
    low, high = values.low, values.high
    if values.kind == "log":
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _side(choices: Choices, value: Any) -> str | None:
    """At which end of a list of at least three numbers a value stands."""
    try:
        numbers = [float(own) for own in choices.values.values()]
        number = float(value)
    except (TypeError, ValueError):
        return None
    if len(numbers) < 3 or any(isinstance(own, bool) for own in choices.values.values()):
        return None
    return "lower" if number == min(numbers) else "upper" if number == max(numbers) else None


def _repeated(repeats: Repeats, value: float, metric: str, direction: Direction) -> Iterator[str]:
    """Yield what the best trial comes to from other seeds."""
    spread = "" if repeats.sd is None else f" ± {repeats.sd:.3g}"
    seeds = f"the best trial from {len(repeats.values)} other seeds"
    yield f"{seeds}: {metric} {repeats.mean:.6g}{spread} (in the search: {value:.6g})"
    lost = len(repeats.values) - len(repeats.known)
    if lost:
        yield f"{lost} of {len(repeats.values)} other seeds of the best trial diverged"
    if repeats.sd is not None and repeats.mean is not None:
        luck = (repeats.mean - value) * (1 if direction == "min" else -1)
        if luck > 2 * repeats.sd:
            yield "the best trial's value is better than those of other seeds by more than 2 sd: it is partly luck"
