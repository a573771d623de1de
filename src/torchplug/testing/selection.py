"""Which components are checked, and what is declared for them. No torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from torchplug.errors import ConfigurationError, PluginError, UnknownComponentError
from torchplug.registry import Entry, registry
from torchplug.registry.permissions import canonical_name

_V = TypeVar("_V")


def select(name: str) -> list[Entry]:
    """Return the components of a distribution, or those of a bare or qualified name in all families.

    Args:
        name: of a distribution or a component; what is both means the distribution.

    Raises:
        UnknownComponentError: if there is neither, with the nearest names.
        PluginError: if the distribution is broken or blocked, or offers nothing.
    """
    known, distribution = registry(), canonical_name(name)
    plugins = [plugin for plugin in known.plugins if plugin.distribution == distribution]
    if not plugins:
        try:
            return known.find_all(name)
        except UnknownComponentError as error:
            near = difflib.get_close_matches(distribution, {plugin.distribution for plugin in known.plugins}, n=1)
            if not near or ":" in name:
                raise
            raise UnknownComponentError(f"no distribution or component {name!r}: did you mean {near[0]}?") from error
    for plugin in plugins:
        if plugin.trouble:
            raise PluginError(f"{plugin.trouble}: nothing of it can be checked")
    owned = [entry for entry in known.entries() if entry.distribution == distribution]
    if not owned:
        raise PluginError(f"{distribution} offers no component: see `torchplug plugins`")
    return owned


def declared(what: str, values: Mapping[str, _V], entries: Iterable[Entry]) -> dict[str, _V]:
    """Return what is declared for components by `family:name`, or by the name where it is unique, by the former alone.

    Args:
        what: is declared, for messages.
        values: by component.
        entries: the components.

    Raises:
        ConfigurationError: for a name that none or several of them have.
    """
    found: dict[str, _V] = {}
    keys = {f"{entry.family.value}:{entry.name}": entry for entry in entries}
    for name, value in values.items():
        meant = [key for key in keys if name in (key, key.partition(":")[2])]
        if not meant:
            near = difflib.get_close_matches(name, [*keys, *(entry.name for entry in keys.values())], n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}"
            raise ConfigurationError(f"{what}: no component {name!r} is checked: {hint}")
        if len(meant) > 1:
            raise ConfigurationError(f"{what}: {name!r} means {' and '.join(meant)}: use one of these")
        found[meant[0]] = value
    return found


def refuse_unknown_checks(expected: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> None:
    """Refuse an expected failure of a check that there is not.

    Args:
        expected: component → check → reason.
        names: of all checks.

    Raises:
        ConfigurationError: with the nearest name.
    """
    known = sorted(names)
    for component, reasons in expected.items():
        for name in reasons:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else "`torchplug check` prints them all"
                raise ConfigurationError(f"expected_failed_checks: {component}: no check {name!r}: {hint}")
