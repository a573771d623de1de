"""Checks of metrics: exact over any division of the rows into batches and ranks."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torchmetrics
from torch import Tensor
from torch.nn.functional import one_hot

from torchplug.components.metrics import IGNORED, update_without_rows
from torchplug.components.task import TASKS, Task
from torchplug.registry import Resolved
from torchplug.registry.component import Family, Kind, Metric
from torchplug.registry.foreign_code import one_line
from torchplug.testing.compared import copied, require_equal
from torchplug.testing.record import NotApplicable, NotRun, check, require
from torchplug.testing.subject import Subject

_ROWS = 60
_SPLITS = ((60,), (1, 59), (20, 20, 20), (7, 13, 1, 39))


class Rows(NamedTuple):
    """Predictions and targets as a metric receives them."""

    predictions: Tensor
    target: Tensor

    def part(self, which: Any) -> Rows:
        """Return some of the rows."""
        return Rows(self.predictions[which], self.target[which])

    def parts(self, sizes: Sequence[int]) -> list[Rows]:
        """Return consecutive rows, so many in each."""
        return [Rows(*pair) for pair in zip(*(torch.split(tensor, list(sizes)) for tensor in self), strict=True)]


class MetricSubject(Subject):
    """A metric under test, for each kind of loss that it suits, on sixty rows."""

    @property
    def record(self) -> Metric:
        """What the plugin registers."""
        assert isinstance(self.entry.component, Metric), "discovery refuses others"
        return self.entry.component

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of loss that it suits."""
        return sorted(self.record.kinds)

    def built(self, resolved: Resolved) -> Any:
        """Build it for the first of its kinds."""
        return self._built_for(resolved, TASKS[self.kinds[0]])

    def answer(self, instance: Any) -> Any:
        """Its value."""
        return value([self.rows(self.kinds[0])], instance)

    def metric(self, kind: Kind) -> torchmetrics.Metric:
        """Return an empty accumulator in float64.

        Raises:
            NotRun: if it is none, or cannot be used for this kind.
        """
        resolved, task = self.resolved(), TASKS[kind]
        try:
            made = self._built_for(resolved, task)
        except Exception as error:
            raise NotRun("it cannot be built, see the check builds_from_its_defaults") from error
        if not isinstance(made, torchmetrics.Metric):
            raise NotRun("it is no torchmetrics.Metric, see the check is_a_metric")
        made.set_dtype(torch.float64)
        return made

    def rows(self, kind: Kind, noise: float = 1.0, constant: bool = False) -> Rows:
        """Return rows whose predictions are better, the less noise there is.

        Args:
            kind: of the loss.
            noise: in units of scores.
            constant: whether all targets are equal.
        """
        task = TASKS[kind]
        generator = torch.Generator().manual_seed(5)
        labels = torch.randint(3 if task.has_indices else 2, (_ROWS,), generator=generator)
        labels = torch.zeros_like(labels) if constant else labels
        target = labels if task.has_indices else labels[:, None].double()
        scores = one_hot(labels, 3).double() * 3.0 if task.has_indices else 4.0 * target - 2.0
        drawn = torch.randn(scores.shape, generator=generator, dtype=torch.float64)
        target = target if task.has_classes else task.link(scores)
        return Rows(*task.view(self.record.view, task.link(scores + noise * drawn), target))

    def tried(self, kind: Kind) -> tuple[torchmetrics.Metric, Rows, float]:
        """Return an empty accumulator, rows, and the value for them.

        Raises:
            NotRun: if it fails on them.
        """
        metric, rows = self.metric(kind), self.rows(kind)
        try:
            return metric, rows, value([rows], metric)
        except Exception as error:
            raise NotRun("it fails on ordinary rows, see the check value_is_a_number") from error

    def _built_for(self, resolved: Resolved, task: Task) -> Any:
        classes = 3 if task.has_indices else 2
        outputs = classes if task.has_indices else 1
        return resolved.build(num_classes=classes, num_outputs=outputs, ignore_index=IGNORED)


def value(batches: Sequence[Rows], metric: torchmetrics.Metric) -> float:
    """Return the value over some batches, of a copy of an accumulator."""
    own = copy.deepcopy(metric)
    for batch in batches:
        own.update(*batch)
    return float(own.compute().double().mean())


@check(Family.METRIC)
def is_a_metric(subject: MetricSubject) -> None:
    """It gives a torchmetrics.Metric, and losses of its kinds give what it views."""
    made = subject.make()
    require(isinstance(made, torchmetrics.Metric), f"it gives a {type(made).__name__}: return a torchmetrics.Metric")
    for kind in subject.kinds:
        require(
            subject.record.view in TASKS[kind].views,
            f"losses of kind {kind} give no {subject.record.view}: use a view of {', '.join(TASKS[kind].views)}",
        )


@check(Family.METRIC)
def value_is_a_number(subject: MetricSubject) -> None:
    """On ordinary rows the value is a finite tensor."""
    for kind in subject.kinds:
        metric, rows = subject.metric(kind), subject.rows(kind)
        metric.update(*rows)
        found = metric.compute()
        require(isinstance(found, Tensor), f"`compute` returns {type(found).__name__}: return a tensor")
        require(bool(found.isfinite().all()), f"for losses of kind {kind} the value of 60 rows is not finite")


@check(Family.METRIC)
def direction_as_declared(subject: MetricSubject) -> None:
    """Better predictions have the better value."""
    direction = subject.record.direction
    for kind in subject.kinds:
        metric, _, _ = subject.tried(kind)
        good, bad = (value([subject.rows(kind, noise)], metric) for noise in (0.1, 10.0))
        right = good > bad if direction == "max" else good < bad
        require(
            right,
            f"good predictions have {good:.4g} and bad ones {bad:.4g}, and the record says direction={direction!r}",
        )


@check(Family.METRIC)
def exact_over_batches(subject: MetricSubject) -> None:
    """Any division of the rows into batches gives the same value."""
    for kind in subject.kinds:
        metric, rows, wanted = subject.tried(kind)
        for sizes in _SPLITS:
            found = value(rows.parts(sizes), metric)
            _require_same(
                found, wanted, f"batches of {_listed(sizes)} rows", "accumulate sums, and divide in `compute`"
            )


@check(Family.METRIC)
def exact_over_ranks(subject: MetricSubject) -> None:
    """Any division of the rows among ranks gives the same value, also if a rank has none."""
    for kind in subject.kinds:
        metric, rows, wanted = subject.tried(kind)
        for sizes in (*_SPLITS, (40, 0, 20)):
            found = _over_ranks(subject, metric, rows.parts(sizes))
            _require_same(
                found,
                wanted,
                f"ranks with {_listed(sizes)} rows",
                "give every state a dist_reduce_fx that sums or joins",
            )


@check(Family.METRIC)
def rows_may_come_in_any_order(subject: MetricSubject) -> None:
    """The order of the rows does not count."""
    for kind in subject.kinds:
        metric, rows, wanted = subject.tried(kind)
        order = torch.randperm(_ROWS, generator=torch.Generator().manual_seed(9))
        _require_same(value([rows.part(order)], metric), wanted, "rows in another order", "let no row depend on others")


@check(Family.METRIC)
def empty_batch_counts_nothing(subject: MetricSubject) -> None:
    """A rank without rows can be evaluated, and changes no value."""
    for kind in subject.kinds:
        metric, rows, wanted = subject.tried(kind)
        try:
            update_without_rows(metric, subject.record, *rows.part(slice(0, 0)))
        except Exception as error:
            raise AssertionError(
                f"an update without rows fails: {one_line(error)[:200]}: let it return early, or take `ignore_index`"
            ) from error
        _require_same(value([rows], metric), wanted, "after an update without rows", "add nothing for no rows")


@check(Family.METRIC)
def single_row_works(subject: MetricSubject) -> None:
    """A single row gives a number, which may be NaN, unless `needs_variation` is declared."""
    _refuse_variation(subject)
    for kind in subject.kinds:
        metric, rows, _ = subject.tried(kind)
        try:
            value([rows.part(slice(0, 1))], metric)
        except Exception as error:
            raise AssertionError(
                f"a single row fails: {one_line(error)[:200]}: return NaN if it is undefined"
            ) from error


@check(Family.METRIC)
def reset_forgets(subject: MetricSubject) -> None:
    """After `reset` nothing of earlier rows is left."""
    for kind in subject.kinds:
        metric, rows, wanted = subject.tried(kind)
        metric.update(*subject.rows(kind, 10.0))
        metric.reset()
        _require_same(value([rows], metric), wanted, "after `reset`", "keep rows in states of `add_state` only")


@check(Family.METRIC)
def compute_changes_nothing(subject: MetricSubject) -> None:
    """`compute` may be called between updates, and gives the value of all rows at the end."""
    for kind in subject.kinds:
        metric, rows, wanted = subject.tried(kind)
        for part in rows.parts((40, 20)):
            metric.update(*part)
            metric.compute()
        _require_same(
            float(metric.compute().double().mean()), wanted, "with `compute` between", "change no state in it"
        )


@check(Family.METRIC)
def metric_inputs_stay_unchanged(subject: MetricSubject) -> None:
    """`update` changes none of its arguments."""
    for kind in subject.kinds:
        metric, rows, _ = subject.tried(kind)
        before = copied(tuple(rows))
        metric.update(*rows)
        require_equal(tuple(rows), before, "`update` changes its arguments, which other metrics are given as well")


@check(Family.METRIC)
def equal_targets_as_declared(subject: MetricSubject) -> None:
    """The value of equal targets is finite, unless `needs_variation` is declared."""
    _refuse_variation(subject)
    for kind in subject.kinds:
        metric, _, _ = subject.tried(kind)
        found = value([subject.rows(kind, constant=True)], metric)
        require(
            math.isfinite(found), f"its value for equal targets is {found}: declare needs_variation=True in its record"
        )


@check(Family.METRIC)
def metric_on_cuda_is_the_same(subject: MetricSubject) -> None:
    """On CUDA the value is that of the CPU."""
    if not torch.cuda.is_available():
        raise NotRun(f"torch {torch.__version__} sees no CUDA device")
    for kind in subject.kinds:
        metric, rows, wanted = subject.tried(kind)
        moved = Rows(*(tensor.to("cuda") for tensor in rows))
        _require_same(value([moved], metric.to("cuda")), wanted, "on CUDA", "make tensors on the arguments' device")


def _refuse_variation(subject: MetricSubject) -> None:
    if subject.record.needs_variation:
        raise NotApplicable("it declares needs_variation, so that it is NaN there without being asked")


def _over_ranks(subject: MetricSubject, metric: torchmetrics.Metric, shards: Sequence[Rows]) -> float:
    """The value that the first of several ranks computes."""
    ranks = []
    for shard in shards:
        rank = copy.deepcopy(metric)
        if len(shard.target):
            rank.update(*shard)
        else:
            update_without_rows(rank, subject.record, *shard)
        ranks.append(rank)
    sent: list[list[Tensor]] = []
    for rank in ranks:
        own: list[Tensor] = []
        copy.deepcopy(rank).sync(dist_sync_fn=_recording(own), distributed_available=lambda: True)
        sent.append(own)
    gathered = iter(list(map(list, zip(*sent, strict=True))))
    first = ranks[0]
    first.sync(dist_sync_fn=lambda *_, **__: next(gathered), distributed_available=lambda: True)
    first._computed = None
    first._to_sync = False
    return float(first.compute().double().mean())


def _recording(sent: list[Tensor]) -> Any:
    def gather(tensor: Tensor, *_: Any, **__: Any) -> list[Tensor]:
        sent.append(tensor)
        return [tensor]

    return gather


def _require_same(found: float, wanted: float, when: str, remedy: str) -> None:
    same = math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(found) and math.isnan(wanted))
    require(same, f"{when}: the value is {found:.6g}, and {wanted:.6g} of all rows at once: {remedy}")


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
