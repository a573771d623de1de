"""How jsonargparse reads values for a type, made linear in long lists and lenient to what sweeps write."""

from __future__ import annotations

import collections.abc
import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args, get_origin

from jsonargparse import _typehints as typehints

_LEAVES = (bool, int, float, str)
_SEQUENCES = (list, collections.abc.Sequence, collections.abc.Iterable)
_INT = re.compile(r"[+-]?\d{1,18}")
_LARGEST_EXACT = 2.0**53
"""From here on a float is no longer one whole number but several."""


@contextmanager
def lenient_values(none_is_null: bool = False) -> Iterator[None]:
    """Read values for jsonargparse's types as this package wants them, while the context lasts.

    A float without a fraction serves as an int where no float is accepted (`3.0`, as a sweep's quantized distribution
    gives it). Lists of plain values are checked in linear time; jsonargparse copies the whole list for each item.

    Args:
        none_is_null: whether the text `None` stands for null where null is accepted, as a sweep's agent writes it.
    """
    original = typehints.adapt_typehints
    takes_float = False

    def adapt(val: Any, typehint: Any, *arguments: Any, **settings: Any) -> Any:
        nonlocal takes_float
        if typehint is int and not takes_float:
            val = _whole(val)
        members, before = get_args(typehint), takes_float
        if none_is_null and val == "None" and type(None) in members:
            val = None
        if (
            get_origin(typehint) in _SEQUENCES
            and len(members) == 1
            and type(val) is list
            and not settings.get("append")
        ):
            items = [_whole(item) for item in val] if members[0] is int else val
            if members[0] in _LEAVES and all(type(item) is members[0] for item in items):
                return items
        if members:
            takes_float = float in members
            if takes_float and int in members and (number := _as_int(val)) is not None:
                return number
        try:
            if typehint is float and isinstance(val, int):
                float(val)
            return original(val, typehint, *arguments, **settings)  # type: ignore[no-untyped-call]
        except OverflowError as error:
            raise ValueError("it is too large for a float") from error
        finally:
            takes_float = before

    typehints.adapt_typehints = adapt
    try:
        yield
    finally:
        typehints.adapt_typehints = original


def _as_int(value: Any) -> int | None:
    """An int, or the text of one, where a float is accepted as well: the order of a union's members is not reliable.

    Python caches unions, and takes one that names the same types in another order for the same.
    """
    if type(value) is int:
        return value
    return int(value) if isinstance(value, str) and _INT.fullmatch(value) else None


def _whole(value: Any) -> Any:
    """An int for a float, or the text of one, without a fraction; anything else as it is."""
    number = value
    if isinstance(value, str) and any(mark in value for mark in ".eE"):
        with contextlib.suppress(ValueError):
            number = float(value)
    if isinstance(number, float) and number.is_integer() and abs(number) < _LARGEST_EXACT:
        return int(number)
    return value
