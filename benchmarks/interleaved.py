"""Timing contestants side by side: in turn, several rounds, medians; and the table that says so."""

from __future__ import annotations

import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")

_PAUSE = 0.2
"""In seconds."""


def in_turn(contestants: Mapping[str, Callable[[], _Result]], rounds: int) -> dict[str, list[_Result]]:
    """What each contestant returns, round by round.

    Before each there is a pause: the threads of another library's BLAS spin for a while before they fall asleep. What
    the last one left is thrown away in it, so that nobody cleans up after another.
    """
    results: dict[str, list[_Result]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            gc.collect()
            time.sleep(_PAUSE)
            results[name].append(run())
    return results


def race(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant, round by round, after one round that does not count."""
    timed = {name: partial(_seconds, run) for name, run in contestants.items()}
    return {name: seconds[1:] for name, seconds in in_turn(timed, 1 + rounds).items()}


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(seconds: Sequence[float], unit: float = 1e-3) -> str:
    """Median and range.

    Args:
        seconds: what was measured.
        unit: what they are shown in, in seconds: milliseconds unless told.
    """
    low, middle, high = (value / unit for value in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{middle:.1f} ({low:.1f}–{high:.1f})"


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """How many times longer `of` took than `to`, by medians."""
    return statistics.median(of) / statistics.median(to)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def machine(*distributions: str) -> str:
    """What was measured with and on, in a line; distributions that are not installed are left out."""
    versions = ", ".join(f"{name} {number}" for name in ("torch", *distributions) if (number := _version(name)))
    return (
        f"{versions}; Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}{_model()}"
    )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _model() -> str:
    """The processor's name, where Linux tells it."""
    information = Path("/proc/cpuinfo")
    text = information.read_text(encoding="utf-8") if information.is_file() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return f" ({found[1].strip()})" if found else ""
