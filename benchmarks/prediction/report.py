"""The page: for each measure a table of ours beside the peers', with standard errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from interleaved import table

from prediction.record import Record
from prediction.tables import TABLES

HEADS = {
    "linear": "linear",
    "hgb": "boosted trees",
    "realmlp": "RealMLP-TD",
    "realmlp_log_loss": "RealMLP-TD for log loss",
    "tabm": "TabM, piecewise linear",
}

FLOOR = 0.01
"""Mean log losses below this count as this in ratios: a handful of tested rows decides about them."""


@dataclass(frozen=True)
class Compared:
    """An estimate from n values with its standard error, NaN for one value."""

    value: float
    error: float
    n: int


def of_mean(values: Sequence[float] | np.ndarray) -> Compared:
    """The mean."""
    n = len(values)
    return Compared(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else np.nan, n)


def log_ratio(ours: np.ndarray, theirs: np.ndarray) -> Compared:
    """Mean over splits of the ratio's logarithm."""
    return of_mean(np.log(ours / theirs))


def log_ratio_of_means(ours: np.ndarray, theirs: np.ndarray) -> Compared:
    """Logarithm of the ratio of means over splits, since a split's log loss may be 0; error by linearization."""
    a, b = max(ours.mean(), FLOOR), max(theirs.mean(), FLOOR)
    return Compared(float(np.log(a / b)), of_mean(ours / a - theirs / b).error, len(ours))


def difference(ours: np.ndarray, theirs: np.ndarray) -> Compared:
    """Mean over splits of ours less theirs."""
    return of_mean(ours - theirs)


@dataclass(frozen=True)
class Measure:
    """A table of the page.

    Args:
        title: the heading.
        name: the measure in the record.
        classes: of which task; None: of both.
        compare: ours and theirs by split → a difference, or the logarithm of a ratio.
        ratio: whether the comparison is exponentiated.
        higher_is_better: otherwise lower is.
        unit: what values and differences are multiplied by.
    """

    title: str
    name: str
    classes: bool | None
    compare: Callable[[np.ndarray, np.ndarray], Compared]
    ratio: bool = True
    higher_is_better: bool = False
    unit: float = 1.0

    def cell(self, compared: Compared | None, n: int) -> str:
        """A comparison as text, bold where ours is worse, with its number of values in parentheses if it is not n."""
        if compared is None:
            return "–"
        value, error = compared.value, compared.error
        if self.ratio:
            shown = f"{np.exp(value):.3f}" + (f" ± {np.exp(value) * error:.3f}" if error == error else "")
        else:
            digits = 2 if self.unit != 1 else 4
            shown = f"{self.unit * value:+.{digits}f}" + (
                f" ± {self.unit * error:.{digits}f}" if error == error else ""
            )
        worse = value < 0 if self.higher_is_better else value > 0
        return (f"**{shown}**" if worse else shown) + (f" ({compared.n})" if compared.n != n else "")


MEASURES = [
    Measure("RMSE, ratio", "rmse", False, log_ratio),
    Measure("Log loss, ratio", "log_loss", True, log_ratio_of_means),
    Measure("Log loss, difference", "log_loss", True, difference, ratio=False),
    Measure("Accuracy in %, difference", "accuracy", True, difference, ratio=False, higher_is_better=True, unit=100.0),
    Measure("CPU seconds of training, ratio", "seconds", None, log_ratio),
]


def page(record: Record, names: Sequence[str], splits: int, by: str) -> str:
    """The page in Markdown.

    Args:
        record: the results.
        names: the tables.
        splits: how many splits of each count.
        by: ours in the record.
    """
    parts = []
    for measure in MEASURES:
        fitting = [name for name in names if measure.classes in (None, TABLES[name].classes)]
        shown = _table(record, measure, fitting, splits, by)
        if shown:
            parts += [f"### {measure.title}\n", f"{shown}\n"]
    return "\n".join(parts)


def _table(record: Record, measure: Measure, names: Sequence[str], splits: int, by: str) -> str:
    """A measure's table, a line for each table with ours; empty if there is nothing to compare."""
    ours = {name: _first(record.of(name, by, measure.name), splits) for name in names}
    ours = {name: own for name, own in ours.items() if own}
    found = {peer: _compared(record, measure, ours, peer) for peer in HEADS}
    found = {peer: compared for peer, compared in found.items() if compared}
    if not found:
        return ""
    lines = []
    for name, own in ours.items():
        rows, features = (next(iter(record.of(name, by, what).values())) for what in ("rows", "features"))
        line = [name, f"{rows} × {features}", str(len(own)), f"{measure.unit * np.mean(list(own.values())):.4g}"]
        lines.append(line + [measure.cell(compared.get(name), len(own)) for compared in found.values()])
    overall = [of_mean([one.value for one in compared.values()]) for compared in found.values()]
    last = ["geometric mean" if measure.ratio else "mean", "", "", ""]
    last += [measure.cell(compared, len(ours)) for compared in overall]
    return table(["table", "rows × features", "splits", "ours", *map(HEADS.__getitem__, found)], [*lines, last])


def _first(by_split: Mapping[int, float], splits: int) -> dict[int, float]:
    return {split: value for split, value in by_split.items() if split < splits}


def _compared(
    record: Record, measure: Measure, ours: Mapping[str, Mapping[int, float]], peer: str
) -> dict[str, Compared]:
    """Ours beside a peer's by table, on the splits that both have."""
    compared = {}
    for name, own in ours.items():
        theirs = record.of(name, peer, measure.name)
        pairs = np.array([(own[split], theirs[split]) for split in own if split in theirs])
        if len(pairs):
            compared[name] = measure.compare(*pairs.T)
    return compared
