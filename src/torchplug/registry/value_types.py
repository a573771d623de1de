"""Plain values read for an annotated type: numbers, text, lists and mappings, as files and command lines hold them."""

from __future__ import annotations

import collections.abc
import enum
import re
import types
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, Union, get_args, get_origin

LARGEST_EXACT = 2.0**53
"""From here on a float is no longer one whole number but several."""

_INT = re.compile(r"[+-]?\d{1,4000}")
_BOOLS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping)


def convert(annotation: Any, value: Any) -> Any:
    """Return the value converted to a type: 1 to 1.0, a list to a tuple, "0.5" to 0.5, "[1, 2]" to a list.

    A float without a fraction serves as an int where no float is accepted: sweeps write 3.0. Of a union the member that
    says most of a text counts: "3" is a number wherever one is accepted, and text only where nothing else is.

    Args:
        annotation: made of bool, int, float, str, None, Any, Literal, enumerations (of whose members the name counts),
            paths, unions, and lists, tuples and mappings of these.
        value: a plain value.

    Raises:
        ValueError: if the value does not fit.
    """
    if annotation is Any:
        return value
    origin, members = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, types.UnionType):
        return _of_union(members, value)
    if origin is Literal:
        return _literal(members, value)
    if origin in _LISTS:
        item = members[0] if members else Any
        return [convert(item, part) for part in _container(value, list | tuple)]
    if origin is tuple:
        return _tuple(members, _container(value, list | tuple))
    if origin in _MAPPINGS:
        key, item = members or (Any, Any)
        return {convert(key, name): convert(item, part) for name, part in _container(value, Mapping).items()}
    return _scalar(origin, value)


def is_union(annotation: Any) -> bool:
    """Whether an annotation is `A | B` or `Union[A, B]`."""
    return get_origin(annotation) in (Union, types.UnionType)


def _scalar(kind: Any, value: Any) -> Any:
    """A number, a text or None, of the kind or a class derived from it; a member; or a path."""
    if issubclass(kind, enum.Enum):
        return _member(kind, value)
    if issubclass(kind, PurePath):
        return kind(_str(value))
    if kind in _SCALARS:
        return _SCALARS[kind](value)
    base = next(base for base in (bool, int, float, str) if issubclass(kind, base))
    return kind(_SCALARS[base](value))


def _member(kind: type[enum.Enum], value: Any) -> enum.Enum:
    if isinstance(value, str) and value in kind.__members__:
        return kind[value]
    raise ValueError


def _of_union(members: tuple[Any, ...], value: Any) -> Any:
    for member in members:
        if type(value) is member and member is not str:
            return value
    # Python caches unions regardless of their members' order, so it cannot mean anything.
    ordered = sorted(members, key=lambda member: (member is str, member is float))
    for member in ordered:
        if member is int and float in members and not (isinstance(value, str) and _INT.fullmatch(value)):
            continue
        try:
            return convert(member, value)
        except ValueError:
            continue
    raise ValueError


def _literal(members: tuple[Any, ...], value: Any) -> Any:
    for member in members:
        text = member.name if isinstance(member, enum.Enum) else str(member)
        if (type(member) is type(value) and member == value) or (isinstance(value, str) and text == value):
            return member
    raise ValueError


def _container(value: Any, kind: Any) -> Any:
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        from yaml import YAMLError  # type: ignore[import-untyped]

        from torchplug.bounded_yaml import load

        try:
            value = load(value)
        except YAMLError as error:
            raise ValueError from error
    if not isinstance(value, kind):
        raise ValueError
    return value


def _tuple(members: tuple[Any, ...], parts: Any) -> tuple[Any, ...]:
    if not members or (len(members) == 2 and members[1] is Ellipsis):
        item = members[0] if members else Any
        return tuple(convert(item, part) for part in parts)
    return tuple(convert(member, part) for member, part in zip(members, parts, strict=True))


def _bool(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in _BOOLS:
        return _BOOLS[value.lower()]
    if isinstance(value, bool):
        return value
    raise ValueError


def _int(value: Any) -> int:
    if isinstance(value, str):
        value = int(value) if _INT.fullmatch(value) else _float(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_EXACT:
        return int(value)
    if type(value) is int:
        return value
    raise ValueError


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    if isinstance(value, str):
        as_yaml_writes_it = re.compile(r"^([+-]?)\.(?=inf|nan)")
        value = int(value) if _INT.fullmatch(value) else as_yaml_writes_it.sub(r"\1", value.lower())
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("it is too large for a float") from error


def _str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError


def _none(value: Any) -> None:
    if value is not None:
        raise ValueError


_SCALARS = {bool: _bool, int: _int, float: _float, str: _str, type(None): _none}
