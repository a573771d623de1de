"""A component's parameters: read from its target's signature, and values checked against them.

Values are plain (numbers, text, lists, mappings), because they come from command lines and configuration
files and are saved in checkpoints.
"""

from __future__ import annotations

import collections.abc
import enum
import inspect
import os
import re
import reprlib
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import Parameter
from pathlib import Path, PurePath
from typing import Any, Literal, Union, get_args, get_origin

from torchplug.registry.annotations import annotation_of
from torchplug.registry.component import Factory, Family
from torchplug.registry.value_types import convert, is_union
from torchplug.terminal import shortened

_SCALARS = (bool, int, float, str)
_CONTAINERS = (
    list,
    tuple,
    dict,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Mapping,
)
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Fixed:
    """A parameter that keeps its default, because no plain value can be given for it.

    Args:
        name: its name.
        type: its annotation as people write it.
        default: its default as Python shows it.
        reason: why it cannot be set.
    """

    name: str
    type: str
    default: str
    reason: str


def read_parameters(target: Any, family: Family) -> dict[str, Parameter]:
    """The parameters of a target that users set, with resolved annotations.

    Left out are those that the core supplies, and `fixed_parameters`. Of a union the plain members remain:
    `float | Tensor` is read as `float`.

    Raises:
        ValueError: if the signature cannot serve the family, saying why.
    """
    supplied = [name for name in family.supplied if name not in family.supplied_by_keyword]
    leading = list(inspect.signature(target).parameters)[: len(supplied)]
    if leading != supplied:
        raise ValueError(f"its signature must begin with {', '.join(supplied)}, and begins with {', '.join(leading)}")
    return settable_parameters(target, leave_out=family.supplied)


def settable_parameters(target: Any, leave_out: Collection[str] = ()) -> dict[str, Parameter]:
    """The parameters of a class or function that have plain values, with resolved annotations.

    Args:
        target: the class or function.
        leave_out: names of parameters that are set otherwise.

    Raises:
        ValueError: if a required parameter has no plain values.
    """
    return {name: known for name, known in _read(target, leave_out) if isinstance(known, Parameter)}


def fixed_parameters(target: Any, family: Family) -> dict[str, Fixed]:
    """The parameters of a target that have a default and cannot be set, by name."""
    return {name: known for name, known in _read(target, family.supplied) if isinstance(known, Fixed)}


def _read(target: Any, leave_out: Collection[str]) -> Iterator[tuple[str, Parameter | Fixed]]:
    for name, parameter in inspect.signature(target).parameters.items():
        if name in leave_out or parameter.kind in _VARIADIC:
            continue
        try:
            yield name, parameter.replace(annotation=_settable_type(parameter, target))
        except ValueError as error:
            if parameter.default is Parameter.empty:
                raise ValueError(f"its parameter {name} is required, and cannot be set by name: {error}") from error
            written = Any if parameter.annotation is Parameter.empty else parameter.annotation
            shown = written if isinstance(written, str) else type_name(written)
            yield name, Fixed(name, shown, _shown(parameter.default), str(error))


def _shown(value: Any) -> str:
    """A value that has no plain form, without its address."""
    return shortened(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)), 60)


def _settable_type(parameter: Parameter, target: Any) -> Any:
    """The part of a parameter's type that has plain values, its default among them.

    Raises:
        ValueError: if there is none, saying why.
    """
    written = annotation_of(parameter, target)
    annotation = _plain_part(written)
    if annotation is None:
        raise ValueError(f"{type_name(written)} has no plain values")
    return annotation if parameter.default is Parameter.empty else _with_default(annotation, parameter.default)


@cache
def accepted_keywords(target: Any) -> frozenset[str]:
    """The keywords that a target's signature names."""
    return frozenset(inspect.signature(target).parameters)


def positional_arguments(target: Any, given: int, keywords: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Part keywords into the values of parameters that are passed by position only, and the rest.

    Args:
        target: what is called.
        given: the number of positional arguments that come before.
        keywords: all other arguments, by name.
    """
    rest = dict(keywords)
    return [rest.pop(name, default) for name, default in _positional_only(target)[given:]], rest


@cache
def _positional_only(target: Any) -> tuple[tuple[str, Any], ...]:
    """The names and defaults of parameters that cannot be passed by name."""
    known = inspect.signature(target).parameters.values()
    return tuple((one.name, one.default) for one in known if one.kind is Parameter.POSITIONAL_ONLY)


def is_factory(annotation: Any) -> bool:
    """Whether a parameter is itself a component: `Factory`, or `Factory | None`."""
    return bool(annotation == Factory or Factory in get_args(annotation))


def has_plain_default(annotation: Any, default: Any) -> bool:
    """Whether a parameter's default can be written as a value of its type; files leave out a default that cannot."""
    if is_factory(annotation) and default is not None:
        return True  # a component, which is checked when it is resolved
    try:
        convert(annotation, plain(default))
    except (ValueError, TypeError):
        return False
    return True


def check_value(annotation: Any, value: Any) -> Any:
    """A plain copy of the value, converted to the annotated type (1 to 1.0, a list to a tuple).

    Raises:
        ValueError: saying what was expected and what was given.
    """
    value = plain(value)
    try:
        return convert(annotation, value)
    except ValueError:
        raise ValueError(f"must be {expected(annotation)}, got {reprlib.repr(value)}") from None


def expected(annotation: Any) -> str:
    """What a value must be, as messages say it: `one of 'sum', 'mean'`, `float | None`."""
    if get_origin(annotation) is Literal or _is_enum(annotation):
        return f"one of {', '.join(_choices(annotation))}"
    return type_name(annotation)


def plain(value: Any) -> Any:
    """A copy of the value in numbers, text, lists and dicts: arrays converted, members by their names, paths as text.

    Raises:
        ValueError: if there is something else in it.
    """
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, torch tensors
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, _SCALARS):
        return value
    raise ValueError(f"must be a plain value, got {reprlib.repr(value)}")


def allows_none(annotation: Any) -> bool:
    """Whether None is a value of the annotated type."""
    return annotation is Any or type(None) in get_args(annotation)


def type_name(annotation: Any) -> str:
    """An annotation as people write it: `float | None`, `'sum' | 'mean'`."""
    if annotation is Any:
        return "any value"
    if annotation is type(None):
        return "None"
    if is_factory(annotation):
        return "component | None" if allows_none(annotation) else "component"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal or _is_enum(annotation):
        return " | ".join(_choices(annotation))
    if inspect.isclass(annotation) and issubclass(annotation, PurePath):
        return "path"
    if is_union(annotation):
        return " | ".join(map(type_name, arguments))
    if origin is not None and arguments:
        inner = ", ".join("..." if argument is Ellipsis else type_name(argument) for argument in arguments)
        return f"{origin.__name__.lower()}[{inner}]"
    if isinstance(annotation, list):  # the arguments of a Callable
        return f"[{', '.join(map(type_name, annotation))}]"
    return str(getattr(annotation, "__name__", annotation))


def _is_enum(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, enum.Enum)


def _choices(annotation: Any) -> list[str]:
    """The values of a Literal or an enumeration, as text."""
    if _is_enum(annotation):
        return list(annotation.__members__)
    return [value.name if isinstance(value, enum.Enum) else repr(value) for value in get_args(annotation)]


def _plain_part(annotation: Any) -> Any:
    """The annotation without members that have no plain values; None if nothing remains."""
    annotation = _underlying(annotation)
    if annotation is Any or annotation is type(None) or annotation == Factory:
        return annotation
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        values = tuple(value for value in get_args(annotation) if _is_plain(value))
        return Literal[values] if values else None
    if is_union(annotation):
        return _plain_union(get_args(annotation))
    if inspect.isclass(origin) and issubclass(origin, (*_SCALARS, enum.Enum, PurePath)):
        return annotation
    if origin not in _CONTAINERS:
        return None
    arguments = tuple(part if part is Ellipsis else _plain_part(part) for part in get_args(annotation))
    if None in arguments:
        return None
    return origin[arguments] if arguments else annotation


def _underlying(annotation: Any) -> Any:
    """What a NewType, a type alias, a TypedDict or PathLike stands for."""
    while (meant := getattr(annotation, "__supertype__", getattr(annotation, "__value__", None))) is not None:
        annotation = meant
    if typing.is_typeddict(annotation):
        return dict[str, Any]
    return Path if annotation is os.PathLike or get_origin(annotation) is os.PathLike else annotation


def _plain_union(members: tuple[Any, ...]) -> Any:
    parts = [part for part in map(_plain_part, members) if part is not None]
    if str in parts:  # what takes a path or its text is given the text
        parts = [part for part in parts if part is not Path]
    return Union[tuple(parts)] if set(parts) - {type(None)} else None  # noqa: UP007 a computed union


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (*_SCALARS, enum.Enum))


def _with_default(annotation: Any, default: Any) -> Any:
    """The annotation, widened by the default where that is a number, a text, a member or None of another type.

    Raises:
        ValueError: if the default is all that is known, and no plain value.
    """
    if has_plain_default(annotation, default):
        return annotation
    if annotation is Any:
        raise ValueError(f"its default {_shown(default)} is no plain value")
    if not _is_plain(default):
        return annotation
    return Union[annotation, type(None) if default is None else Literal[default]]  # noqa: UP007 a computed union
