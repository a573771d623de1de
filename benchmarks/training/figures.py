"""The figures that training is to reach, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from interleaved import ratio

from training import names
from training.cells import CellResult, RanksResult
from training.points import Cost, Factor, exponent

LINEAR = ("linear", "logistic")
_CHOICES = (names.OURS, names.OURS_COMPILED)
"""What a user gets by default, and where compiling once is worth it."""
_BOUNDS: dict[Factor, float] = {"rows": 0.1, "features": 1.1, "batch": 0.1, "width": 2.1}
"""Of the exponents: what the work itself has, and a tenth for caches and noise."""


@dataclass(frozen=True)
class Figure:
    """What is asked for, and what was measured.

    Args:
        what: is compared.
        where: the cell.
        sense: whether the figure is to be at most or at least what is asked.
        asked: for.
        aim: better than that.
        measured: the figure.
        unit: of all three.
    """

    what: str
    where: str
    sense: Literal["≤", "≥"]
    asked: float | None
    aim: float | None
    measured: float
    unit: str = ""

    @property
    def met(self) -> str:
        """Whether it is: `yes, the aim too`, `yes`, or `no`."""
        if self.aim is not None and self._reaches(self.aim):
            return "yes, the aim too" if self.asked is not None else "yes"
        return "yes" if self.asked is not None and self._reaches(self.asked) else "no"

    def _reaches(self, bound: float) -> bool:
        return self.measured <= bound if self.sense == "≤" else self.measured >= bound

    def row(self) -> tuple[str, ...]:
        """Of a table with the header `HEADER`."""
        return (
            self.what,
            self.where,
            self._shown(self.asked),
            self._shown(self.aim),
            self._show(self.measured),
            self.met,
        )

    def _shown(self, bound: float | None) -> str:
        return "–" if bound is None else f"{self.sense} {self._show(bound)}"

    def _show(self, value: float) -> str:
        return f"{value:.2f}{self.unit}"


HEADER = ("figure", "cell", "asked", "aim", "measured", "met")


def figures(
    cells: Sequence[CellResult], classifiers: Sequence[CellResult], ranks: Sequence[RanksResult], costs: Sequence[Cost]
) -> list[Figure]:
    """Those that can be had from what was measured."""
    return [*_autograd(cells), *_cells(cells), *_classifiers(classifiers), *_ranks(ranks), *_growth(costs)]


def _ratio(result: CellResult, of: str, to: str) -> float | None:
    """How many times longer `of` took than `to`; None where one of them took no part."""
    if of in result.measured and to in result.measured:
        return ratio(result.measured[of].seconds, result.measured[to].seconds)
    return None


def _autograd(cells: Sequence[CellResult]) -> Iterator[Figure]:
    what = "torchplug, engine autograd, time of the bare loop with fused Adam"
    ratios = []
    for result in cells:
        measured = _ratio(result, names.OURS_AUTOGRAD, names.BARE_FUSED)
        if measured is not None:
            ratios.append(measured)
            yield Figure(what, result.cell.name, "≤", 1.15, None, measured)
    if ratios:
        yield Figure(what, "geometric mean", "≤", None, 1.0, math.exp(sum(map(math.log, ratios)) / len(ratios)))


def _cells(cells: Sequence[CellResult]) -> Iterator[Figure]:
    for result in cells:
        job, batch, name = result.cell.job, result.cell.batch, result.cell.name
        linear = job in LINEAR
        of_bare = {32: (0.20, 0.10), 256: (0.30, 0.20)} if linear else {32: (0.35, 0.20), 256: (0.45, 0.30)}
        faster = {32: 8.0, 256: 8.0, 4096: 40.0 if linear else 12.0}
        for ours in _CHOICES:
            measured = _ratio(result, ours, names.BARE)
            if measured is not None and batch in of_bare:
                asked, aim = of_bare[batch]
                yield Figure(f"{ours}, time of the bare loop", name, "≤", asked, aim, measured)
        measured = _ratio(result, names.LIGHTNING, names.OURS)
        if measured is not None and batch in faster:
            asked = faster[batch]
            yield Figure("times faster than Lightning + DataLoader", name, "≥", asked, 2 * asked, measured, "×")
        measured = _ratio(result, names.OURS, names.OURS_SILENT)
        if measured is not None:
            yield Figure("time with logging over time without", name, "≤", 1.05, None, measured)


def _classifiers(cells: Sequence[CellResult]) -> Iterator[Figure]:
    for result in cells:
        for peer, asked, aim in ((names.SKLEARN_MLP, 2.0, 2.5), (names.SKORCH, 5.0, 8.0)):
            for ours in _CHOICES:
                measured = _ratio(result, peer, ours)
                if measured is not None:
                    yield Figure(f"{ours}, times faster than {peer}", result.cell.name, "≥", asked, aim, measured, "×")


def _ranks(ranks: Sequence[RanksResult]) -> Iterator[Figure]:
    for result in ranks:
        measured = ratio(result.one, result.two)
        what = "two processes, times faster than one, each of one thread"
        yield Figure(what, result.cell.name, "≥", 1.0, 1.6, measured, "×")


def _growth(costs: Sequence[Cost]) -> Iterator[Figure]:
    for factor, bound in _BOUNDS.items():
        of_factor = [cost for cost in costs if cost.point.factor == factor]
        if len(of_factor) > 1:
            largest = max(cost.point.value for cost in of_factor)
            what = f"time per sample grows as {factor} to the power of"
            yield Figure(what, f"up to {largest:,}", "≤", bound, None, exponent(of_factor))
    by_rows = sorted((cost for cost in costs if cost.point.factor == "rows"), key=lambda cost: cost.point.rows)
    if by_rows:
        cost = by_rows[-1]
        where = f"{cost.point.rows:,} rows, {cost.point.data / 2**20:.0f} MiB"
        yield Figure("copies of the data that are held", where, "≤", 1.1, None, cost.held / cost.point.data)
        yield Figure("buffers while training", where, "≤", 64.0, None, cost.training / 2**20, " MiB")
