"""Components with one fault each, by the check that must catch it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torchplug import Component, Family, Metric

PLANTED: dict[str, Planted] = {}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Planted:
    """A faulty component.

    Args:
        check: the name of the check that must fail on it, and its own.
        family: its family.
        component: its record.
        reason: a part of the reason that the check must give.
        parameters: that it needs.
    """

    check: str
    family: Family
    component: Component
    reason: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def planted(
    family: Family,
    check: str,
    reason: str,
    *,
    target: str = "",
    parameters: Mapping[str, Any] | None = None,
    **record: Any,
) -> Callable[[_T], _T]:
    """Plant a class or function.

    Args:
        family: its family.
        check: see `Planted`.
        reason: see `Planted`.
        target: in place of the decorated class.
        parameters: see `Planted`.
        record: of the component.
    """

    def register(made: _T) -> _T:
        path = target or f"{made.__module__}:{made.__name__}"  # type: ignore[attr-defined]
        kind = Metric if family is Family.METRIC else Component
        component = kind(check, path, record.pop("summary", f"breaks {check}"), **record)
        assert check not in PLANTED, f"{check} is planted twice"
        PLANTED[check] = Planted(check, family, component, reason, parameters or {})
        return made

    return register
