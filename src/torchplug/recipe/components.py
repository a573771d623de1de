"""Components as classes that jsonargparse understands: one per registered name, importing nothing.

jsonargparse offers typed flags, nested help and lists for parameters whose type is a class with
subclasses. Each component gets such a class here. Its signature is the component's own, and is
read, which imports the component, only when a flag, file or variable names that component.
"""

from __future__ import annotations

import inspect
import re
import sys
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

from torchplug.component import Family, Spec
from torchplug.parameters import allows_none, is_factory
from torchplug.plugins import canonical_name
from torchplug.registry import Entry, Registry, registry


def choices(family: Family) -> type:
    """The base class whose subclasses are the components of a family.

    A plugin's component has two: one under its bare name, if that is unique, and one under an
    identifier for `distribution:name`.
    """
    return _choices(family, registry())


@cache
def _choices(family: Family, known: Registry) -> type:
    # A module without a dot in its name: jsonargparse then takes the class's path as it stands,
    # where it would otherwise look at every class on the way for a shorter one.
    module = ModuleType(_module(family), f"Classes that stand for the registered {family.plural}.")
    abstract = {"__module__": module.__name__, "entry": property(abstractmethod(lambda self: None))}
    base = ABCMeta(family.value, (), abstract)
    for identifier, entry in _identifiers(family).items():
        setattr(module, identifier, type(base)(identifier, (base,), {"__module__": module.__name__, "entry": entry}))
    sys.modules[module.__name__] = module
    return base


def modules() -> list[str]:
    """The modules that the classes of all families live in."""
    return [_module(family) for family in Family]


def read_signature(candidate: type) -> None:
    """Give a component's class its parameters and documentation; other classes pass through."""
    entry = getattr(candidate, "__dict__", {}).get("entry")
    if not isinstance(entry, Entry) or "__init__" in vars(candidate):
        return

    def initialize(self: object, **parameters: Any) -> None:
        """A class that only describes: the registry builds components."""

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=_annotation(parameter, entry.family))
        for parameter in registry().parameters(entry).values()
    ]
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    initialize.__signature__ = inspect.Signature([itself, *parameters])  # type: ignore[attr-defined]
    candidate.__init__ = initialize  # type: ignore[misc]
    candidate.__doc__ = inspect.getdoc(registry().target(entry))


def class_spec(family: Family, spec: Spec) -> dict[str, Any]:
    """A spec as LightningCLI writes it, with class_path and init_args.

    Raises:
        UnknownComponentError: if no loaded plugin offers the name.
    """
    entry = registry().find(family, spec.name)
    identifier = next(key for key, value in _identifiers(family).items() if value == entry)
    parameters = {
        key: class_spec(family, Spec.of(value)) if _is_spec(value) else value for key, value in spec.parameters.items()
    }
    return {"class_path": f"{_module(family)}.{identifier}", "init_args": parameters}


def _is_spec(value: Any) -> bool:
    return isinstance(value, Spec) or (isinstance(value, Mapping) and set(value) == {"name", "parameters"})


def spec_of(value: Mapping[str, Any]) -> Spec:
    """The spec behind a parsed class_path and init_args, nested ones included."""
    parameters = value.get("init_args") or {}
    return Spec(
        shown(value["class_path"]),
        {
            key: spec_of(item) if isinstance(item, Mapping) and "class_path" in item else item
            for key, item in parameters.items()
        },
    )


def hidden(text: str) -> str:
    """Replace `distribution:name` by an identifier, the only thing that jsonargparse takes."""
    identifiers = {
        entry.qualified_name: entry.name if entry.builtin else _qualified_identifier(entry)
        for entry in registry().entries()
    }

    def replace(match: re.Match[str]) -> str:
        return identifiers.get(f"{canonical_name(match[1])}:{match[2]}", match[0])

    return re.sub(r"(?<![\w.:/-])([A-Za-z0-9][\w.-]*):([a-z][a-z0-9_]*)(?![\w.:/-])", replace, text)


def shown(text: str) -> str:
    """Replace the paths of our classes by the names that users know."""
    names = {
        f"{_module(family)}.{identifier}": name_of(identifier, entry)
        for family in Family
        for identifier, entry in _identifiers(family).items()
    }
    return re.sub(r"\btorchplug_[a-z]+\.(\w+)", lambda match: names.get(match[0], match[1]), text)


def name_of(identifier: str, entry: Entry) -> str:
    """The name that an identifier stands for."""
    return entry.name if identifier == entry.name else entry.qualified_name


def _annotation(parameter: inspect.Parameter, family: Family) -> Any:
    """A parameter's type; where it is itself a component, the class of its family's components."""
    if not is_factory(parameter.annotation):
        return parameter.annotation
    return choices(family) | None if allows_none(parameter.annotation) else choices(family)


def _identifiers(family: Family) -> Mapping[str, Entry]:
    """Every identifier of a family's components; the bare name belongs to the built-in, else to the only owner."""
    return _identifiers_in(family, registry())


@cache
def _identifiers_in(family: Family, known: Registry) -> Mapping[str, Entry]:
    entries = known.entries(family)
    owners: dict[str, list[Entry]] = {}
    for entry in entries:
        owners.setdefault(entry.name, []).append(entry)
    bare = {}
    for name, several in owners.items():
        first = next((entry for entry in several if entry.builtin), several[0] if len(several) == 1 else None)
        if first is not None:
            bare[name] = first
    return bare | {_qualified_identifier(entry): entry for entry in entries if not entry.builtin}


def _module(family: Family) -> str:
    return f"torchplug_{family.plural}"


def _qualified_identifier(entry: Entry) -> str:
    return re.sub(r"\W", "_", entry.distribution) + "__" + entry.name
