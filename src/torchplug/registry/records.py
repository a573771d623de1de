"""What is wrong with the records that a plugin's hook returns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, get_args

from torchplug.errors import PluginError
from torchplug.registry.component import Capability, Component, Direction, Family, Kind, Metric, View

_TAKEN = ("loss", "epoch_loss")
"""Names of logged values that are no metric's."""


def checked_records(hook: str, family: Family, components: Iterable[Any]) -> list[Component]:
    """The components of a hook.

    Args:
        hook: its name, for messages.
        family: what they belong to.
        components: what it returned.

    Raises:
        PluginError: if one is malformed, or its name repeats another's.
    """
    found: dict[str, Component] = {}
    for component in components:
        fault = _fault(component) or (_metric_fault(component) if family is Family.METRIC else None)
        if fault:
            raise PluginError(f"{hook} returned {fault}")
        if component.name in found:
            raise PluginError(f"{hook} returned {component.name} twice")
        found[component.name] = component
    return list(found.values())


def _fault(component: Any) -> str | None:
    """What is wrong with a record that a hook returned, or None."""
    if not isinstance(component, Component):
        return f"{_short(component)}, which is no torchplug.Component"
    if not isinstance(component.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", component.name):
        return f"the name {_short(component.name)}: use lower-case letters, digits and underscores, a letter first"
    if not isinstance(component.target, str) or not _is_target(component.target):
        return f"{component.name} with the target {_short(component.target)}, which is no package.module:Class"
    if not isinstance(component.summary, str) or not component.summary.strip() or "\n" in component.summary:
        return f"{component.name} with a summary that is not one line"
    if not isinstance(component.capabilities, frozenset) or not all(
        isinstance(need, Capability) for need in component.capabilities
    ):
        return f"{component.name} with capabilities that are no frozenset of torchplug.Capability"
    if component.groups is not None and not (isinstance(component.groups, str) and _is_target(component.groups)):
        return f"{component.name} with the groups {_short(component.groups)}, which is no package.module:function"
    if component.interval not in (None, "epoch", "step"):
        return f"{component.name} with the interval {_short(component.interval)}, which is neither epoch nor step"
    if component.monitor is not None and not isinstance(component.monitor, str):
        return f"{component.name} with the monitor {_short(component.monitor)}, which is no metric's name"
    return None


def _metric_fault(component: Component) -> str | None:
    """What is wrong with a metric's record beyond that of any component, or None."""
    if not isinstance(component, Metric):
        return f"{component.name}, which is no torchplug.Metric"
    if component.name in _TAKEN:
        return f"the name {component.name}, under which the loss itself is logged"
    kinds = component.kinds
    if not isinstance(kinds, frozenset) or not kinds or not kinds <= set(get_args(Kind)):
        return f"{component.name} with kinds that are no frozenset of {', '.join(get_args(Kind))}"
    for what, known in (("view", get_args(View)), ("direction", get_args(Direction))):
        if (value := getattr(component, what)) not in known:
            return f"{component.name} with the {what} {_short(value)}, which is none of {', '.join(known)}"
    return None


def _is_target(text: str) -> bool:
    module, colon, attribute = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")])


def _short(value: Any) -> str:
    """An unchecked value as text for a message of one line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
