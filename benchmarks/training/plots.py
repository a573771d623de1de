"""What was measured, as pictures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from training import names
from training.cells import CellResult
from training.points import Cost, Factor

_OURS, _BARE, _PEERS = "#1f5fa8", "#5f5f5f", "#d98a2b"
_COLUMNS = 3
_LABELS: dict[Factor, str] = {
    "rows": "rows n (d = 8, batch 256, width 64)",
    "features": "features d (batch 256, width 64)",
    "batch": "rows a step (d = 32, width 64)",
    "width": "width of two hidden layers (d = 32, batch 256)",
}


def plot_cells(results: Sequence[CellResult], file: Path) -> None:
    """A panel per cell: microseconds per step of each contestant, median and range."""
    lines = -(-len(results) // _COLUMNS)
    figure, panels = pyplot.subplots(lines, _COLUMNS, figsize=(16, 3.4 * lines), squeeze=False, layout="constrained")
    for panel in panels.flat[len(results) :]:
        panel.axis("off")
    for panel, result in zip(panels.flat, results, strict=False):
        _plot_cell(panel, result)
    figure.suptitle("Time per optimizer step, µs: median and range (logarithmic)")
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _plot_cell(panel: Axes, result: CellResult) -> None:
    unit = 1e6 / result.cell.steps
    who = [name for name in names.ALL if name in result.measured][::-1]
    seconds = [result.measured[name].seconds for name in who]
    middle = [unit * statistics.median(s) for s in seconds]
    below = [m - unit * min(s) for m, s in zip(middle, seconds, strict=True)]
    above = [unit * max(s) - m for m, s in zip(middle, seconds, strict=True)]
    colors = [
        _OURS if name.startswith(names.OURS) else _BARE if name.startswith(names.BARE) else _PEERS for name in who
    ]
    labels = [f"{name}  {value:,.{value < 100:d}f}" for name, value in zip(who, middle, strict=True)]
    panel.barh(labels, middle, color=colors, xerr=(below, above), error_kw={"elinewidth": 1, "capsize": 2})
    panel.set_xscale("log")
    panel.set_xlim(left=min(middle) / 3)
    panel.tick_params(axis="y", labelsize=8)
    panel.set_title(f"{result.cell.job}, batch {result.cell.batch}", fontsize=10)


def plot_growth(costs: Sequence[Cost], file: Path) -> None:
    """Nanoseconds per sample against each factor, and memory against the number of rows."""
    factors = [factor for factor in _LABELS if any(cost.point.factor == factor for cost in costs)]
    figure, panels = pyplot.subplots(2, _COLUMNS, figsize=(15, 8), squeeze=False, layout="constrained")
    for panel in panels.flat:
        panel.axis("off")
    for panel, factor in zip(panels.flat, factors, strict=False):
        panel.axis("on")
        _plot_times(panel, factor, _along(costs, factor))
    by_rows = _along(costs, "rows")
    if by_rows:
        panel = panels.flat[len(factors)]
        panel.axis("on")
        _plot_memory(panel, by_rows)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _along(costs: Sequence[Cost], factor: Factor) -> list[Cost]:
    return sorted((cost for cost in costs if cost.point.factor == factor), key=lambda cost: cost.point.value)


def _plot_times(panel: Axes, factor: Factor, costs: Sequence[Cost]) -> None:
    values = [cost.point.value for cost in costs]
    for name, color, times in (
        (names.OURS, _OURS, [cost.seconds for cost in costs]),
        (names.BARE_FUSED, _BARE, [cost.bare for cost in costs]),
    ):
        panel.plot(values, [1e9 * statistics.median(t) for t in times], "o-", color=color, label=name)
        panel.fill_between(values, [1e9 * min(t) for t in times], [1e9 * max(t) for t in times], color=color, alpha=0.2)
    panel.set(xscale="log", yscale="log", xlabel=_LABELS[factor], ylabel="ns per sample")
    panel.grid(alpha=0.3)
    panel.legend()


def _plot_memory(panel: Axes, costs: Sequence[Cost]) -> None:
    rows = [cost.point.rows for cost in costs]
    for label, style, sizes in (
        ("one copy in float32", "k--", [cost.point.data for cost in costs]),
        ("most before training", "s-", [cost.prepared for cost in costs]),
        ("held", "o-", [cost.held for cost in costs]),
        ("buffers while training", "^-", [max(cost.training, 2**16) for cost in costs]),
    ):
        panel.plot(rows, [size / 2**20 for size in sizes], style, label=label)
    panel.set(xscale="log", yscale="log", xlabel=_LABELS["rows"], ylabel="MiB beside the user's arrays")
    panel.grid(alpha=0.3)
    panel.legend()
