"""Timing contestants side by side: in turn, several rounds, medians; and the table that says so."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

_PAUSE = 0.2
"""In seconds."""


def race(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant, round by round, after one round that does not count.

    Before each there is a pause: the threads of another library's BLAS spin for a while before they fall asleep.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for counted in [False] + [True] * rounds:
        for name, run in contestants.items():
            time.sleep(_PAUSE)
            start = time.perf_counter()
            run()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(seconds: Sequence[float]) -> str:
    """Median and range, in milliseconds."""
    low, middle, high = (1e3 * value for value in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{middle:.1f} ({low:.1f}–{high:.1f})"


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """How many times longer `of` took than `to`, by medians."""
    return statistics.median(of) / statistics.median(to)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def machine(*distributions: str) -> str:
    """What was measured with and on, in a line."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *distributions))
    return f"{versions}; Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}"
