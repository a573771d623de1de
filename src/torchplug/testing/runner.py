"""Running checks: which there are for a component, and how each of them ended. Torch is imported when one runs."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from traceback import walk_tb
from typing import Any, Literal

from torchplug.errors import TorchplugError
from torchplug.registry.component import Family
from torchplug.registry.foreign_code import one_line
from torchplug.testing.record import Check, NotApplicable, NotRun
from torchplug.testing.subject import Subject

Outcome = Literal["passed", "failed", "not applicable", "not run", "failed as expected"]
"""How a check ended. A check that was expected to fail and passes has failed."""

_FAMILIES: Mapping[Family, tuple[str, str]] = {
    Family.MODEL: ("models", "ModelSubject"),
    Family.LOSS: ("losses", "LossSubject"),
    Family.OPTIMIZER: ("descent", "OptimizerSubject"),
    Family.REGULARIZER: ("regularizers", "RegularizerSubject"),
    Family.SCHEDULER: ("schedulers", "SchedulerSubject"),
    Family.METRIC: ("metrics", "MetricSubject"),
}
"""The kind of subject of each family, and its module."""
_MODULES = (
    *("importing", "any_component", "modules", "models", "losses", "optimizers", "updates", "full_batch"),
    *("regularizers", "schedulers", "metrics"),
)
_COSTLY_MODULE = "fits"
"""Imports Lightning; all of its checks are costly."""
_LONGEST = 400
"""Characters of a reason."""


@dataclass(frozen=True)
class Result:
    """How a check of a component ended.

    Args:
        family: the component's family.
        component: its qualified name.
        check: the check's name.
        outcome: how it ended.
        reason: why, in one line; empty if it passed.
        error: the exception that says so, if there is one.
    """

    family: str
    component: str
    check: str
    outcome: Outcome
    reason: str = ""
    error: BaseException | None = None

    def plain(self) -> dict[str, str]:
        """Return it as plain types, without the exception."""
        return {name: getattr(self, name) for name in ("family", "component", "check", "outcome", "reason")}


def checks(*, quick: bool = False) -> tuple[Check, ...]:
    """Return all checks.

    Args:
        quick: leave out the costly ones, which start processes or compilers.
    """
    return tuple(each for each in _all(quick) if not (quick and each.costly))


def subject(entry: Any, parameters: Mapping[str, Any] | None = None) -> Subject:
    """Return a registered component as checks take it, with the declared values of its parameters."""
    module, kind = _FAMILIES[entry.family]
    made: Subject = getattr(import_module(f"torchplug.testing.{module}"), kind)(entry, parameters)
    return made


def run(check: Check, component: Subject, expected: str | None = None) -> Result:
    """Run a check on a component.

    Random numbers, the default dtype and warnings' filters are as before afterwards.

    Args:
        check: the check.
        component: the component.
        expected: why it is expected to fail; None if it is not.
    """
    outcome, reason, error = _ended(check, component)
    if expected is not None and outcome == "failed":
        outcome, reason = "failed as expected", expected
    elif expected is not None and outcome == "passed":
        outcome, reason = "failed", f"is expected to fail ({expected}), and passes: remove the expectation"
    entry = component.entry
    return Result(entry.family.value, entry.qualified_name, check.name, outcome, reason, error)


def run_all(
    components: Sequence[Subject],
    expected: Mapping[str, Mapping[str, str]] | None = None,
    *,
    quick: bool = False,
) -> Iterator[Result]:
    """Yield the result of each check of each component's family, in this order.

    Args:
        components: from `subject`.
        expected: `Subject.key` → check → why it is expected to fail.
        quick: leave out the costly checks.
    """
    chosen = checks(quick=quick)
    for component in components:
        reasons = (expected or {}).get(component.key, {})
        for each in chosen:
            if component.family in each.families:
                yield run(each, component, reasons.get(each.name))


def summary(results: Iterable[Result]) -> str:
    """Return one line that counts how checks ended: a check that did not run never counts as passed."""
    found = list(results)
    counted = Counter(result.outcome for result in found)
    components = len({(result.family, result.component) for result in found})
    ran = counted["passed"] + counted["failed"] + counted["failed as expected"]
    return (
        f"{_many(components, 'component')}, {_many(ran, 'check')} ran: {counted['passed']} passed, {counted['failed']} "
        f"failed, {counted['failed as expected']} failed as expected; {counted['not applicable']} not applicable, "
        f"{counted['not run']} not run"
    )


@cache
def _all(quick: bool) -> tuple[Check, ...]:
    """Every check, in the order of the modules and of the definitions within each."""
    found: dict[str, Check] = {}
    for name in (*_MODULES, *(() if quick else (_COSTLY_MODULE,))):
        module = import_module(f"torchplug.testing.{name}")
        for each in vars(module).values():
            if isinstance(each, Check) and each.function.__module__ == module.__name__:
                assert each.name not in found, f"two checks are called {each.name}"
                found[each.name] = each
    return tuple(found.values())


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _ended(check: Check, component: Subject) -> tuple[Outcome, str, BaseException | None]:
    obstacle = check.why_not(component.family, component.capabilities)
    if obstacle is not None:
        return "not applicable", obstacle, None
    try:
        with _isolated():
            check.function(component)
    except NotApplicable as error:
        return "not applicable", str(error), error
    except NotRun as error:
        return "not run", str(error), error
    except (AssertionError, TorchplugError) as error:
        return "failed", _shortened(" ".join(str(error).split())), error
    except (Exception, SystemExit) as error:
        return "failed", _shortened(f"raises {one_line(error)} {_place(error, component)}"), error
    return "passed", "", None


def _place(error: BaseException, component: Subject) -> str:
    """Where an exception was raised: in the innermost frame of the component's package, or outside of torch."""
    frames = [
        (frame.f_globals.get("__name__", ""), f"({Path(frame.f_code.co_filename).name}:{line})")
        for frame, line in walk_tb(error.__traceback__)
    ]
    package = component.entry.component.target.partition(":")[0].partition(".")[0]
    tested = [each for each in frames if not each[0].startswith("torchplug.testing")]
    within = [each for each in tested if each[0].partition(".")[0] == package]
    outside = [each for each in tested if each[0].partition(".")[0] != "torch"]
    return (within or outside or frames)[-1][1]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


@contextmanager
def _isolated() -> Iterator[None]:
    """Seeded random numbers; what a component changes for the whole process is put back."""
    import torch

    dtype = torch.get_default_dtype()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
