"""From a family and a name to a component: conflicts, import on use, parameters checked.

A built-in's bare name always means the built-in. A plugin's bare name works while no other
plugin has it in the same family; `distribution:name` always works. Installing a package therefore
never changes what an existing recipe means.
"""

from __future__ import annotations

import difflib
import json
import reprlib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files
from inspect import Parameter
from operator import attrgetter
from typing import Any

from torchplug.errors import ConfigurationError, ParameterError, PluginError, UnknownComponentError
from torchplug.registry.component import Family, Spec
from torchplug.registry.discovery import Plugin, discover
from torchplug.registry.foreign_code import foreign_code, guarded
from torchplug.registry.permissions import canonical_name
from torchplug.registry.resolved import Entry, Resolved
from torchplug.registry.signatures import (
    Fixed,
    allows_none,
    check_value,
    fixed_parameters,
    is_factory,
    read_parameters,
)


class Registry:
    """All components of the loaded plugins.

    Args:
        plugins: the provenance records that `discover` gives.
    """

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._entries = sorted(
            (
                Entry(family, component, plugin.distribution, plugin.version)
                for plugin in self.plugins
                for family, component in plugin.components
            ),
            key=lambda entry: (list(Family).index(entry.family), not entry.builtin, entry.distribution, entry.name),
        )
        self._targets: dict[Entry, Any] = {}
        self._changed: dict[str, list[str]] = {}
        for plugin in self.plugins:
            self._changed.setdefault(plugin.distribution, []).extend(plugin.changed)
        self._parameters: dict[Entry, Mapping[str, Parameter]] = {}

    def entries(self, family: Family | None = None) -> list[Entry]:
        """Return the components of one family or of all, by family, built-in ones first."""
        return [entry for entry in self._entries if family is None or entry.family is family]

    def find(self, family: Family, name: str) -> Entry:
        """Return the component of a bare or qualified name.

        Raises:
            UnknownComponentError: if no loaded plugin has the name, or several do.
        """
        owners = self._owners(family, name)
        if len(owners) > 1:
            names = " and ".join(entry.qualified_name for entry in owners)
            raise UnknownComponentError(f"{family.value} {name!r} is offered by {names}: use a qualified name")
        if not owners:
            raise self._unknown(family, name)
        return owners[0]

    def find_all(self, name: str) -> list[Entry]:
        """Return the components of this name in all families.

        Raises:
            UnknownComponentError: if no family has it, or several plugins have it in one.
        """
        found = [self.find(family, name) for family in Family if self._owners(family, name)]
        if not found:
            raise self._unknown(None, name)
        return found

    def shortest_name(self, entry: Entry) -> str:
        """Return the bare name if it means this component, else the qualified one."""
        return entry.name if self._owners(entry.family, entry.name) == [entry] else entry.qualified_name

    def target(self, entry: Entry) -> Any:
        """Return the component's class or function, imported on first use.

        Raises:
            PluginError: if it cannot be imported, naming the distribution and its version.
        """
        if entry not in self._targets:
            self._targets[entry] = self._imported(entry, entry.component.target)
        return self._targets[entry]

    def notes(self, entries: Iterable[Entry]) -> list[str]:
        """Return a note for each of these components' plugins that changed global state so far when it was imported."""
        owners = dict.fromkeys((entry.distribution, entry.version) for entry in entries)
        return [
            f"{name} {version} changed {', '.join(changed)} when it was imported, which has been restored"
            for name, version in owners
            if (changed := self.changed(name))
        ]

    def changed(self, distribution: str) -> list[str]:
        """Return the global state that a plugin has changed so far when it was imported, and that was restored."""
        return list(dict.fromkeys(self._changed.get(distribution, ())))

    def other_owners(self, family: Family, name: str, distribution: str) -> list[str]:
        """Return the other distributions that offer a component of this name."""
        owners = [entry.distribution for entry in self.entries(family) if entry.name == name]
        return [owner for owner in owners if owner != distribution]

    def parameters(self, entry: Entry) -> Mapping[str, Parameter]:
        """Return the parameters that users may set, with resolved types as annotations.

        Raises:
            PluginError: if the target cannot be imported, or its signature does not suit the family.
        """
        if entry not in self._parameters:
            target = self.target(entry)
            try:
                self._parameters[entry] = read_parameters(target, entry.family)
            except (ValueError, TypeError) as error:
                raise _broken(entry, str(error)) from error
        return self._parameters[entry]

    def parameter(self, entry: Entry, name: str) -> Parameter:
        """One of the parameters that users may set.

        Raises:
            ParameterError: if there is none of this name.
            PluginError: as for `parameters`.
        """
        accepted = self.parameters(entry)
        if name in accepted:
            return accepted[name]
        if (fixed := self.fixed(entry).get(name)) is not None:
            raise ParameterError(
                f"{entry.label}: {name} cannot be set by name: {fixed.reason}; it keeps its default {fixed.default}"
            )
        raise _unknown_parameter(entry, name, accepted)

    def fixed(self, entry: Entry) -> Mapping[str, Fixed]:
        """Return the parameters that keep their defaults, because they have no plain values.

        Raises:
            PluginError: as for `parameters`.
        """
        self.parameters(entry)
        return fixed_parameters(self.target(entry), entry.family)

    def resolve(self, family: Family, spec: Spec | str | Mapping[str, Any]) -> Resolved:
        """Return a component with its parameters checked.

        Raises:
            UnknownComponentError: if no loaded plugin has the name, or several do.
            ParameterError: if a parameter is unknown, missing, or of the wrong type.
            PluginError: if the component's target cannot be imported.
        """
        spec = _read_spec(family, spec)
        entry = self.find(family, spec.name)
        accepted = self.parameters(entry)
        chosen: dict[str, Any] = {}
        nested: dict[str, Resolved] = {}
        for name, value in spec.parameters.items():
            annotation = self.parameter(entry, name).annotation
            if is_factory(annotation) and not (value is None and allows_none(annotation)):
                nested[name] = self.resolve(family, value)
                chosen[name] = nested[name].spec.plain()
                continue
            try:
                chosen[name] = check_value(annotation, value)
            except ValueError as error:
                raise ParameterError(f"{entry.label}: {name} {error}") from error
        missing = [name for name, known in accepted.items() if known.default is Parameter.empty and name not in chosen]
        if missing:
            raise ParameterError(f"{entry.label}: {', '.join(missing)} must be given")
        rule = entry.component.groups
        groups = None if rule is None else self._imported(entry, rule)
        return Resolved(entry, chosen, self.target(entry), nested, groups)

    def _imported(self, entry: Entry, path: str) -> Any:
        """The class or function at an import path; changes of global state are undone and kept for `notes`."""
        changed: list[str] = []
        try:
            with guarded(f"{path} cannot be imported"):
                if entry.builtin:
                    found = _attribute(path)
                else:
                    import_module("torch")  # the time that it takes, and what it changes, are no plugin's doing
                    with foreign_code(entry.distribution, entry.version, path) as changed:
                        found = _attribute(path)
        except PluginError as error:
            raise _broken(entry, str(error)) from error.__cause__
        finally:
            self._changed.setdefault(entry.distribution, []).extend(changed)
        if not callable(found):
            raise _broken(entry, f"{path} is no class or function")
        return found

    def _owners(self, family: Family, name: str) -> list[Entry]:
        """The components that a name may mean: the built-in alone if there is one."""
        distribution, colon, bare = name.rpartition(":")
        named = [entry for entry in self.entries(family) if entry.name == bare]
        if colon:
            return [entry for entry in named if entry.distribution == canonical_name(distribution)]
        return [entry for entry in named if entry.builtin] or named

    def _unknown(self, family: Family | None, name: str) -> UnknownComponentError:
        """The error for an unknown name: what was meant, and why it may be absent."""
        kind = family.value if family else "component"
        elsewhere = [other for other in Family if other is not family and self._owners(other, name)]
        hints = []
        if elsewhere:
            hints.append(f"{name} is among the {' and the '.join(other.plural for other in elsewhere)}")
        near = self._near(family, name)
        if near:
            hints.append(f"did you mean {' or '.join(near)}?")
        hints += self._absent(family, name)
        if not hints:
            hints.append(f"`torchplug list{f' {kind}' if family else ''}` shows what there is")
        if family is Family.METRIC:
            hints.append(f"metrics are {', '.join(self.shortest_name(entry) for entry in self.entries(family))}")
        hints += [plugin.trouble for plugin in self.plugins if plugin.trouble]
        return UnknownComponentError(f"unknown {kind} {name!r}: {'; '.join(hints)}")

    def _near(self, family: Family | None, name: str) -> list[str]:
        distribution, colon, bare = name.lower().rpartition(":")
        entries = self.entries(family)
        if not colon:
            return _close(bare, {self.shortest_name(entry) for entry in entries})
        owner = canonical_name(distribution)
        owned = {entry.name for entry in entries if entry.distribution == owner}
        if owned:
            return [f"{owner}:{near}" for near in _close(bare, owned)]
        return sorted({entry.qualified_name for entry in entries if entry.name == bare})

    def _absent(self, family: Family | None, name: str) -> list[str]:
        """What could be installed for a name: its own distribution, or the project's plugin for its family."""
        distribution, colon, _ = name.rpartition(":")
        installed = {plugin.distribution for plugin in self.plugins if plugin.status != "missing"}
        if colon:
            owner = canonical_name(distribution)
            return [] if owner in installed else [f"to install it: pip install {owner}"]
        wanted = [other.plural for other in Family if family in (None, other)]
        more = {plural: owner for plural, owner in _first_party().items() if plural in wanted}
        return [f"more {of}: pip install {owner}" for of, owner in more.items() if owner not in installed]


@cache
def registry() -> Registry:
    """The registry of this process: plugins are discovered once, at the first call."""
    return Registry(discover())


def _first_party() -> dict[str, str]:
    """The project's own plugins by the family that they offer: an unknown name may be of one that is not installed."""
    owners: dict[str, str] = json.loads(files("torchplug.registry").joinpath("first_party.json").read_text("utf-8"))
    return owners


def _read_spec(family: Family, value: Spec | str | Mapping[str, Any]) -> Spec:
    """Read a spec; refuse a mapping with unknown keys."""
    well_formed = isinstance(value, Spec | str)
    if isinstance(value, Mapping):
        well_formed = set(value) <= {"name", "parameters"} and isinstance(value.get("parameters") or {}, Mapping)
        well_formed = well_formed and "name" in value
    spec = Spec.of(value) if well_formed else None
    if spec is None or not isinstance(spec.name, str):
        forms = "a name, use(name, ...), or a mapping with the keys name and parameters"
        raise ConfigurationError(f"{family.value}: expected {forms}, got {reprlib.repr(value)}")
    return spec


def _close(name: str, known: Iterable[str]) -> list[str]:
    """The nearest known names; half the letters suffice, so that l3 finds l1 and l2."""
    return difflib.get_close_matches(name, sorted(known), cutoff=0.5)


def _unknown_parameter(entry: Entry, name: str, accepted: Mapping[str, Parameter]) -> ParameterError:
    near = difflib.get_close_matches(str(name), list(accepted), n=1)
    hint = f", did you mean {near[0]}?" if near else ";"
    known = f"it takes {', '.join(accepted)}" if accepted else "it takes none"
    return ParameterError(f"{entry.label}: unknown parameter {name!r}{hint} {known}")


def _attribute(path: str) -> Any:
    """What is at an import path."""
    module, _, attributes = path.partition(":")
    return attrgetter(attributes)(import_module(module))


def _broken(entry: Entry, what: str) -> PluginError:
    return PluginError(f"{entry.distribution} {entry.version} is broken: {entry.label}: {what}")
