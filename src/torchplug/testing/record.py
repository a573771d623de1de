"""What a check is: a named function of a component, which raises where the contract is broken. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torchplug.registry.component import Capability, Family


class NotRun(Exception):  # noqa: N818 no error of the component's
    """A check could not run: it says nothing about the component."""


class NotApplicable(NotRun):
    """A check has nothing to test on this component."""


@dataclass(frozen=True)
class Check:
    """One promise of the contract, tested on a component.

    Args:
        name: what reports and `expected_failed_checks` call it.
        families: the families that it applies to.
        function: takes a `Subject`; raises AssertionError with one line that says what is wrong and the remedy,
            `NotApplicable` or `NotRun`.
        capability: what the component must declare for the check to apply; None: nothing.
        unless: what it must not declare.
        costly: whether it takes a second or more, as do other processes and compilers.
    """

    name: str
    families: frozenset[Family]
    function: Callable[[Any], None] = field(repr=False)
    capability: Capability | None = None
    unless: Capability | None = None
    costly: bool = False

    @property
    def summary(self) -> str:
        """What it tests, in one line."""
        return (self.function.__doc__ or "").strip().splitlines()[0]

    def why_not(self, family: Family, capabilities: frozenset[Capability]) -> str | None:
        """Why it does not apply to a component, as far as its record says; None if it applies."""
        if family not in self.families:
            return f"it is for {', '.join(sorted(each.plural for each in self.families))}"
        if self.capability is not None and self.capability not in capabilities:
            return f"it does not declare {self.capability.name}"
        if self.unless is not None and self.unless in capabilities:
            return f"it declares {self.unless.name}"
        return None


def check(
    *families: Family, capability: Capability | None = None, unless: Capability | None = None, costly: bool = False
) -> Callable[[Callable[[Any], None]], Check]:
    """Make a function the check of its name; `runner.checks` finds it in its module.

    Args:
        families: those that it applies to.
        capability: see `Check`.
        unless: see `Check`.
        costly: see `Check`.
    """

    def made(function: Callable[[Any], None]) -> Check:
        return Check(function.__name__, frozenset(families), function, capability, unless, costly)

    return made


def require(holds: object, message: str) -> None:
    """Raise an AssertionError unless something holds.

    Args:
        holds: what must be true.
        message: one line: what is wrong, and the remedy.
    """
    if not holds:
        raise AssertionError(message)
