"""Groups of settings that are the parameters of a class, and how their values are read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from inspect import Parameter, signature
from typing import Any

from lightning.pytorch import Trainer

from torchplug.bounded_yaml import UnboundedError
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fitting.trainer import NOT_SETTABLE
from torchplug.registry.signatures import allows_none, expected, settable_parameters
from torchplug.registry.value_types import convert
from torchplug.settings.given import Given, structure
from torchplug.terminal import shortened
from torchplug.tracking.settings import Tracking

GROUPS: Mapping[str, Any] = {"data": TabularData, "trainer": Trainer, "tracking": Tracking}
"""Groups of settings that are the parameters of a class; `model` holds components besides."""


@cache
def parameters_of(group: str) -> Mapping[str, Parameter]:
    """The settings of a group that have plain values, with their types."""
    return settable_parameters(GROUPS[group], leave_out=NOT_SETTABLE)


@cache
def signature_of(group: str) -> Mapping[str, Parameter]:
    """All settings of a group, in order."""
    return {name: known for name, known in signature(GROUPS[group]).parameters.items() if name not in NOT_SETTABLE}


def read_value(annotation: Any, given: Given, current: Any = None) -> Any:
    """A setting's value as its type.

    Args:
        annotation: the type.
        given: the value, and where it stands.
        current: the list that a value given by `+=` is added to.

    Raises:
        ConfigurationError: if the value does not fit.
    """
    value = given.value
    if given.appends:
        value = structure(given)
        there = current if isinstance(current, list | tuple) else []
        value = [*there, *(value if isinstance(value, list) else [value])]
    if value in ("null", "None") and allows_none(annotation):
        return None
    try:
        return convert(annotation, value)
    except UnboundedError as error:
        raise ConfigurationError(f"{given.where}: {error}") from error
    except ValueError as error:
        if isinstance(error.__cause__, OverflowError):
            raise ConfigurationError(f"{given.where}: {error}") from None
        wanted = expected(annotation).replace(" | None", " or null").replace(" | ", " or ")
        raise ConfigurationError(f"{given.where}: expected {wanted}, got {shortened(str(value))}") from None


def read_group(known: Mapping[str, Parameter], start: Mapping[str, Any], givens: Iterable[Given]) -> dict[str, Any]:
    """The values of a group of plain settings.

    Args:
        known: the settings and their types.
        start: their defaults.
        givens: what was given for them, later ones counting more; the last part of a path is the setting's name, or the
            key of a setting that is a mapping.

    Raises:
        ConfigurationError: if a value does not fit.
    """
    values = dict(start)
    for given in givens:
        name, *rest = given.path[-1:] if given.path[0] not in GROUPS else given.path[1:]
        values[name] = read_value(known[name].annotation, given.within(values[name], rest), values[name])
    return values


def near(name: str, known: Iterable[str], count: int = 1) -> str:
    """Advice for an unknown name: near ones, if there are any."""
    found = difflib.get_close_matches(name, list(known), n=count)
    return f"did you mean {' or '.join(found)}?" if found else "see --help"
