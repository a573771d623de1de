"""What was measured, as a Markdown page."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from interleaved import machine, ratio, spread, table

from training import names
from training.cells import CHECKED_STEPS, CellResult, Measured, RanksResult
from training.figures import HEADER, figures
from training.points import Cost

_EQUAL_WORK = """\
Everybody trains the same network from the same initial weights on the same rows, with Adam at its defaults and a rate
of 1e-3; scikit-learn's SGD alone is another algorithm, a step per sample. Times are of whole epochs, the first of every
repeat not counted, contestants in turn, each drawing a new order per epoch in its own way. Before that, everybody
makes the same steps on the first rows as they stand, up to {steps} of them: *check* is the loss on these rows after it,
and *distance* how far the parameters then are from the bare loop's, over how far these have moved. (scikit-learn and
Keras add Adam's ε before its bias is corrected, torch after, which shows where gradients are small.) *End* is the loss
when the timed training ended, the median of the repeats."""


@dataclass
class Results:
    """All that was measured.

    Args:
        cells: of regression and logistic regression.
        classifiers: of ten classes.
        ranks: of two processes.
        costs: as work grows.
        failures: what did not run, and why.
        load: how many processes wanted to run when it began, on average over a minute.
    """

    cells: list[CellResult] = field(default_factory=list)
    classifiers: list[CellResult] = field(default_factory=list)
    ranks: list[RanksResult] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    load: float = field(default_factory=lambda: os.getloadavg()[0])


def page(results: Results, quick: bool) -> str:
    """The whole page."""
    return "\n\n".join(_sections(results, quick)) + "\n"


def _sections(results: Results, quick: bool) -> Iterator[str]:
    yield "# Training by minibatches"
    yield machine("lightning", "torchplug", "scikit-learn", "skorch", "keras", "numpy") + "; two threads, float32."
    if quick:
        yield "A quick run: few rows, few repeats. Its ratios show that it works, and little more."
    if results.load > 0.5:
        yield f"The machine was busy when it began (load {results.load:.1f}): times may be far off."
    if results.cells:
        yield "## Times as long as torchplug"
        yield _overview(results.cells)
        yield "![Time per step](training.png)"
    yield _EQUAL_WORK.format(steps=CHECKED_STEPS)
    for result in [*results.cells, *results.classifiers]:
        yield from _cell(result)
    if results.ranks:
        yield "## Two processes"
        yield "An epoch over the same rows in one process and in two, 256 rows a step and one thread each."
        yield _ranks(results.ranks)
    if results.costs:
        yield "## As work grows"
        yield "![Time per sample and memory](growth.png)"
        yield _growth(results.costs)
    if results.failures:
        yield "## Did not run"
        yield "\n".join(f"- {failure}" for failure in results.failures)
    yield "## Figures"
    yield table(HEADER, [f.row() for f in figures(results.cells, results.classifiers, results.ranks, results.costs)])


def _overview(cells: Sequence[CellResult]) -> str:
    who = [name for name in names.ALL if any(name in result.measured for result in cells)]
    rows = []
    for result in cells:
        ours = result.measured[names.OURS].seconds
        of = result.measured
        rows.append([result.cell.name, *(f"{ratio(of[n].seconds, ours):.2f}" if n in of else "–" for n in who)])
    return table(("cell", *who), rows)


def _cell(result: CellResult) -> Iterator[str]:
    cell = result.cell
    widths = "-".join(map(str, (cell.features, *cell.hidden, cell.outputs)))
    yield f"## {cell.job}, batch {cell.batch}"
    epochs = f"{cell.repeats} × {cell.epochs} epochs that count"
    yield (
        f"{widths}, {cell.loss}; {cell.rows:,} rows, {cell.steps} steps an epoch, {epochs}. "
        f"The loss begins at {result.start:.6f}."
    )
    header = ("contestant", "µs per step (range)", "of the bare loop", "of torchplug", "check", "distance", "end")
    yield table(header, [_contestant(result, name, measured) for name, measured in result.measured.items()])
    compiled = result.measured.get(names.OURS_COMPILED)
    if compiled is not None:
        yield f"The first steps of {names.OURS_COMPILED}, with what had to be compiled: {compiled.first:.1f} s."
    if result.absent:
        yield "\n".join(f"- {name} took no part: {reason}" for name, reason in result.absent.items())


def _contestant(result: CellResult, name: str, measured: Measured) -> list[str]:
    steps = result.cell.steps
    compared = []
    for other in (names.BARE if names.BARE in result.measured else names.BARE_FUSED, names.OURS):
        known = result.measured.get(other)
        compared.append(f"{ratio(measured.seconds, known.seconds):.2f}" if known else "–")
    return [
        name,
        spread([second / steps for second in measured.seconds], unit=1e-6),
        *compared,
        f"{measured.check:.6f}",
        f"{measured.distance:.0e}",
        f"{statistics.median(measured.losses):.6f}",
    ]


def _ranks(ranks: Sequence[RanksResult]) -> str:
    rows = [
        [
            result.cell.job.removeprefix("ranks-"),
            f"{result.cell.rows:,}",
            spread(result.one),
            spread(result.two),
            f"{ratio(result.one, result.two):.2f}",
            " / ".join(f"{loss:.6f}" for loss in result.losses),
        ]
        for result in ranks
    ]
    header = ("job", "rows", "one: ms per epoch (range)", "two: the same", "times faster", "loss at the end: one / two")
    return table(header, rows)


def _growth(costs: Sequence[Cost]) -> str:
    mebibytes = 2**20
    rows = []
    for cost in costs:
        point = cost.point
        sizes = (cost.point.data, cost.prepared, cost.held, cost.training)
        rows.append(
            [
                f"{point.factor} {point.value:,}",
                f"{point.rows:,} × {point.features}, batch {point.batch}, width {point.width}",
                spread(cost.seconds, unit=1e-9),
                f"{cost.median / statistics.median(cost.bare):.2f}",
                *(f"{size / mebibytes:.0f}" for size in sizes),
            ]
        )
    header = (
        "factor",
        "all",
        "ns per sample (range)",
        "of the bare loop, fused",
        "data, MiB",
        "most before training",
        "held",
        "most while training, beside that",
    )
    return f"{table(header, rows)}\n\nMemory is beside the arrays that the user holds."
