"""Checks of schedulers: learning rates and other settings over a run, saved and resumed, alone and under `warmup`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from torchplug.errors import ParameterError
from torchplug.registry import Resolved, registry
from torchplug.registry.component import Family, Spec
from torchplug.registry.foreign_code import one_line
from torchplug.testing.compared import require_equal, saved_and_loaded
from torchplug.testing.record import NotApplicable, NotRun, check, require
from torchplug.testing.subject import Subject

_TOTAL, _PER_EPOCH, _RISE = 24, 4, 4
_RATES = (0.1, 0.05)
"""Of two parameter groups."""
_DECAY = 0.5
"""Weight decay of each group, in units of its rate."""
_HIGHEST = 100.0
"""Times the optimizer's own rate."""


class SchedulerSubject(Subject):
    """A scheduler under test, of an optimizer with two parameter groups, in a run of 24 steps in 6 epochs."""

    def optimizer(self, rates: tuple[float, ...] = _RATES) -> Optimizer:
        """Return an optimizer with a group for each rate."""
        groups = [
            {"params": [nn.Parameter(torch.ones(2))], "lr": rate, "weight_decay": _DECAY * rate} for rate in rates
        ]
        return SGD(groups, momentum=0.9)

    def built(self, resolved: Resolved) -> Any:
        """Build it for an optimizer and the run's length."""
        return resolved.build(self.optimizer(), total_steps=_TOTAL, steps_per_epoch=_PER_EPOCH)

    def answer(self, instance: Any) -> Any:
        """The rates of the next steps."""
        return advanced(copy.deepcopy(instance), 6)

    def scheduler(self, rates: tuple[float, ...] = _RATES, total_steps: int = _TOTAL) -> Any:
        """Return an instance.

        Raises:
            NotRun: if it cannot be built.
        """
        resolved = self.resolved()
        try:
            return resolved.build(self.optimizer(rates), total_steps=total_steps, steps_per_epoch=_PER_EPOCH)
        except Exception as error:
            raise NotRun("it cannot be built, see the check builds_from_its_defaults") from error

    @property
    def spec(self) -> Spec:
        """Its name and parameters."""
        return self.resolved().spec


def rates(scheduler: Any) -> list[float]:
    """Return the present learning rate of each group."""
    return [float(group["lr"]) for group in scheduler.optimizer.param_groups]


def settings(scheduler: Any) -> list[dict[str, Any]]:
    """Return all present settings of each group, the learning rate included."""
    groups = scheduler.optimizer.param_groups
    return [{name: value for name, value in group.items() if name != "params"} for group in groups]


_T = TypeVar("_T")


def followed(scheduler: Any, steps: int, read: Callable[[Any], _T]) -> list[_T]:
    """Return what is read of a scheduler after each of some steps; a monitored metric never improves."""
    found = []
    for _ in range(steps):
        scheduler.optimizer.step()
        scheduler.step(*([1.0] if isinstance(scheduler, ReduceLROnPlateau) else []))
        found.append(read(scheduler))
    return found


def advanced(scheduler: Any, steps: int) -> list[list[float]]:
    """Return the rates after each of some steps; a monitored metric never improves."""
    return followed(scheduler, steps, rates)


@check(Family.SCHEDULER)
def is_a_scheduler(subject: SchedulerSubject) -> None:
    """It is an LRScheduler of torch's, counts epochs or steps, and monitors a metric only as ReduceLROnPlateau."""
    scheduler = subject.build()
    require(isinstance(scheduler, LRScheduler), f"it gives a {type(scheduler).__name__}: subclass torch's LRScheduler")
    interval = getattr(scheduler, "interval", "epoch")
    require(interval in ("epoch", "step"), f"its `interval` is {interval!r}: use epoch or step")
    monitors = getattr(scheduler, "monitor", None) is not None
    require(
        monitors == isinstance(scheduler, ReduceLROnPlateau),
        "`monitor` is for subclasses of ReduceLROnPlateau, which alone are stepped with a metric",
    )


@check(Family.SCHEDULER)
def first_rate_is_sane(subject: SchedulerSubject) -> None:
    """The first rate of each group is finite, not negative and of the size of the optimizer's own."""
    _require_sane(rates(subject.scheduler()), "before the first step")


@check(Family.SCHEDULER)
def rates_stay_sane(subject: SchedulerSubject) -> None:
    """Over the whole run the rates are finite, not negative, and of the size of the optimizer's own."""
    for number, found in enumerate(advanced(subject.scheduler(), _TOTAL - 1), start=1):
        _require_sane(found, f"after step {number} of {_TOTAL}")


@check(Family.SCHEDULER)
def other_settings_stay_numbers(subject: SchedulerSubject) -> None:
    """Other settings of groups, such as weight decay, may change if they are numbers, and stay finite numbers."""
    scheduler = subject.scheduler()
    initial = settings(subject.scheduler())
    for number, found in enumerate(followed(scheduler, _TOTAL - 1, settings), start=1):
        for now, first in zip(found, initial, strict=True):
            for name, value in first.items():
                require(
                    _is_number(now.get(name)) if _is_number(value) else now.get(name) == value,
                    f"after step {number} of {_TOTAL} the setting {name} is {now.get(name)!r}, and was {value!r} at "
                    "the start: change finite numbers only",
                )


@check(Family.SCHEDULER)
def groups_keep_their_rates(subject: SchedulerSubject) -> None:
    """Each parameter group has the rates, and other settings, that it has alone."""
    together = advanced(subject.scheduler(), _TOTAL - 1)
    for i, rate in enumerate(_RATES):
        alone = [found for (found,) in advanced(subject.scheduler((rate,)), _TOTAL - 1)]
        for found, wanted in zip(together, alone, strict=True):
            require(
                math.isclose(found[i], wanted, rel_tol=1e-12, abs_tol=0),
                f"a group of rate {rate:g} has {found[i]:.6g} beside another group, and {wanted:.6g} alone",
            )
    last = followed(subject.scheduler(), _TOTAL - 1, settings)[-1]
    for group, rate in zip(last, _RATES, strict=True):
        (own,) = followed(subject.scheduler((rate,)), _TOTAL - 1, settings)[-1]
        different = [name for name in own if name != "lr" and group.get(name) != own[name]]
        require(
            not different,
            f"a group of rate {rate:g} has another {', '.join(different)} beside another group than alone: start from "
            "each group's own value",
        )


@check(Family.SCHEDULER)
def scheduler_state_is_plain(subject: SchedulerSubject) -> None:
    """state_dict survives a weights-only load."""
    scheduler = subject.scheduler()
    advanced(scheduler, 5)
    saved_and_loaded(scheduler.state_dict(), "state_dict")


@check(Family.SCHEDULER)
def scheduler_resumes(subject: SchedulerSubject) -> None:
    """A new instance with the saved state goes on bit for bit, also from the start and in the middle of an epoch."""
    for passed in (0, 1, 7, 17):
        scheduler = subject.scheduler()
        advanced(scheduler, passed)
        saved = copy.deepcopy((scheduler.optimizer.state_dict(), scheduler.state_dict()))
        other = subject.scheduler()
        other.optimizer.load_state_dict(saved[0])
        other.load_state_dict(saved[1])
        left = _TOTAL - 1 - passed
        require_equal(
            followed(other, left, settings),
            followed(scheduler, left, settings),
            f"resumed after {passed} steps, it gives other rates or settings: state_dict must hold its progress",
        )


@check(Family.SCHEDULER)
def early_end_has_a_reason(subject: SchedulerSubject) -> None:
    """`stop_early` is a truth value; `reason_to_end` gives a text or None, and after resuming the same."""
    scheduler = subject.scheduler()
    if not callable(getattr(scheduler, "reason_to_end", None)):
        raise NotApplicable("it has no `reason_to_end`")
    declared = getattr(scheduler, "stop_early", None)
    require(isinstance(declared, bool), f"`stop_early` is {declared!r}: make it true or false")
    first = _reasons(scheduler, 3)
    require(
        all(reason is None or isinstance(reason, str) for reason in first),
        "`reason_to_end` must return why training ends, or None where it goes on",
    )
    other = subject.scheduler()
    other.optimizer.load_state_dict(copy.deepcopy(scheduler.optimizer.state_dict()))
    other.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    require(
        _reasons(other, 3) == _reasons(scheduler, 3),
        "resumed, `reason_to_end` says something else for the same losses: state_dict must hold what it has seen",
    )


def _reasons(scheduler: Any, epochs: int) -> list[str | None]:
    """What `reason_to_end` says at the ends of some epochs, in which the loss does not fall."""
    found = []
    for _ in range(epochs):
        for _ in range(_PER_EPOCH if getattr(scheduler, "interval", "epoch") == "step" else 1):
            advanced(scheduler, 1)
        found.append(scheduler.reason_to_end(1.0))
    return found


@check(Family.SCHEDULER)
def works_under_warmup(subject: SchedulerSubject) -> None:
    """After the rise of `warmup` it gives its own rates; one that monitors a metric is refused."""
    alone = subject.scheduler(total_steps=_TOTAL - _RISE)
    spec = {"name": "torchplug:warmup", "parameters": {"steps": _RISE, "after": subject.spec.plain()}}
    warmup = registry().resolve(Family.SCHEDULER, spec)
    try:
        risen = warmup.build(subject.optimizer(), total_steps=_TOTAL, steps_per_epoch=_PER_EPOCH)
    except ParameterError as error:
        require(getattr(alone, "monitor", None) is not None, f"`warmup` cannot wrap it: {error}")
        return
    wanted = [rates(alone), *advanced(alone, _TOTAL - _RISE - 1)]
    by_step = getattr(alone, "interval", "epoch") == "step"
    every = 1 if by_step else _PER_EPOCH
    found = advanced(risen, _TOTAL - 1)[_RISE - 1 :]
    for number, after in enumerate(found):
        close = all(
            math.isclose(a, b, rel_tol=1e-12, abs_tol=0) for a, b in zip(after, wanted[number // every], strict=True)
        )
        require(
            close,
            f"{number} steps after `warmup` its rates are {_texts(after)}, and {_texts(wanted[number // every])} "
            "without it: compute them from base_lrs and a count, or from the group's present rate",
        )


@check(Family.SCHEDULER)
def closed_form_is_step_by_step(subject: SchedulerSubject) -> None:
    """A closed form, `rate(α₀, count)` or torch's `_get_closed_form_lr`, gives the rates of the steps."""
    scheduler = subject.scheduler()
    if not hasattr(scheduler, "rate") and not hasattr(scheduler, "_get_closed_form_lr"):
        raise NotApplicable("it has neither `rate` nor `_get_closed_form_lr`")
    for number in range(1, _TOTAL):
        (found,) = advanced(scheduler, 1)
        if hasattr(scheduler, "rate"):
            wanted = [float(scheduler.rate(initial, number)) for initial in _RATES]
        else:
            wanted = [float(rate) for rate in scheduler._get_closed_form_lr()]
        close = all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-15) for a, b in zip(found, wanted, strict=True))
        require(close, f"after {number} steps the rates are {_texts(found)}, and {_texts(wanted)} by the closed form")


@check(Family.SCHEDULER)
def one_step_run_works(subject: SchedulerSubject) -> None:
    """A run of a single step is possible."""
    resolved = subject.resolved()
    subject.make()
    scheduler = resolved.build(subject.optimizer(), total_steps=1, steps_per_epoch=1)
    _require_sane(rates(scheduler), "in a run of one step")


@check(Family.SCHEDULER)
def endless_run_is_refused_or_works(subject: SchedulerSubject) -> None:
    """Without a planned end it works, or refuses with a ValueError of one line."""
    resolved = subject.resolved()
    if "total_steps" not in resolved.asked:
        raise NotApplicable("its signature does not name total_steps")
    subject.make()
    try:
        scheduler = resolved.build(subject.optimizer(), steps_per_epoch=_PER_EPOCH)
    except ParameterError:
        return
    except Exception as error:
        raise AssertionError(
            f"without total_steps it raises {one_line(error)}: raise a ValueError that says so"
        ) from error
    _require_sane(advanced(scheduler, 3)[-1], "in a run without a planned end")


@check(Family.SCHEDULER)
def weights_stay_unchanged(subject: SchedulerSubject) -> None:
    """A step of the scheduler changes neither weights nor the optimizer's state."""
    scheduler = subject.scheduler()
    for group in scheduler.optimizer.param_groups:
        group["params"][0].grad = torch.ones(2)
    scheduler.optimizer.step()
    before = copy.deepcopy(
        ([g["params"] for g in scheduler.optimizer.param_groups], scheduler.optimizer.state_dict()["state"])
    )
    scheduler.step(*([1.0] if isinstance(scheduler, ReduceLROnPlateau) else []))
    after = ([g["params"] for g in scheduler.optimizer.param_groups], scheduler.optimizer.state_dict()["state"])
    require_equal(after, before, "its step changes weights or the optimizer's state: change settings of groups only")


def _require_sane(found: list[float], when: str) -> None:
    sane = all(0 <= rate <= _HIGHEST * own for rate, own in zip(found, _RATES, strict=False))
    require(sane, f"{when} the rates are {_texts(found)} of an optimizer with {_texts(list(_RATES))}")


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float | torch.Tensor) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _texts(found: list[float]) -> str:
    return " and ".join(f"{rate:.6g}" for rate in found)
