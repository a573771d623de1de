"""A component's parameters: read from its target's signature, and values checked against them.

Values are plain (numbers, text, lists, mappings), because they come from command lines and configuration
files and are saved in checkpoints.
"""

from __future__ import annotations

import collections.abc
import enum
import inspect
import reprlib
import types
import typing
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from torchplug.registry.component import Factory, Family
from torchplug.registry.value_types import convert, is_union

_SCALARS = (bool, int, float, str)
_CONTAINERS = (
    list,
    tuple,
    dict,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Mapping,
)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def read_parameters(target: Any, family: Family) -> dict[str, inspect.Parameter]:
    """The parameters of a target that users set, with resolved annotations.

    Left out are those that the core supplies, and those with a default whose type has no plain values
    (a tensor, a function). Of a union the plain members remain: `float | Tensor` is read as `float`.

    Raises:
        ValueError: if the signature cannot serve the family, saying why.
    """
    signature = inspect.signature(target)
    supplied = [name for name in family.supplied if name not in family.supplied_by_keyword]
    leading = list(signature.parameters)[: len(supplied)]
    if leading != supplied:
        raise ValueError(f"its signature must begin with {', '.join(supplied)}, and begins with {', '.join(leading)}")
    return settable_parameters(target, leave_out=family.supplied)


def settable_parameters(target: Any, leave_out: Collection[str] = ()) -> dict[str, inspect.Parameter]:
    """The parameters of a class or function that have plain values, with resolved annotations.

    Args:
        target: the class or function.
        leave_out: names of parameters that are set otherwise.

    Raises:
        ValueError: if a parameter is required and has a type without plain values.
    """
    namespace = _namespace(target)
    found = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if name in leave_out or parameter.kind in _VARIADIC:
            continue
        annotation = _plain_part(_resolved(parameter.annotation, namespace))
        if annotation is not None:
            found[name] = parameter.replace(annotation=_with_default(annotation, parameter.default))
        elif parameter.default is inspect.Parameter.empty:
            raise ValueError(f"its parameter {name} is required and has a type without plain values")
    return found


@cache
def accepted_keywords(target: Any) -> frozenset[str]:
    """The keywords that a target's signature names."""
    return frozenset(inspect.signature(target).parameters)


def is_factory(annotation: Any) -> bool:
    """Whether a parameter is itself a component: `Factory`, or `Factory | None`."""
    return bool(annotation == Factory or Factory in get_args(annotation))


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
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(repr, get_args(annotation)))}"
    return type_name(annotation)


def plain(value: Any) -> Any:
    """A copy of the value in numbers, text, lists and dicts, NumPy's and torch's types converted.

    Raises:
        ValueError: if there is something else in it.
    """
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
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if is_union(annotation):
        return " | ".join(map(type_name, arguments))
    if origin is not None and arguments:
        inner = ", ".join("..." if argument is Ellipsis else type_name(argument) for argument in arguments)
        return f"{origin.__name__.lower()}[{inner}]"
    return str(getattr(annotation, "__name__", annotation))


def _namespace(target: Any) -> dict[str, Any]:
    """The globals in which the annotations of a target's signature were written."""
    function = target.__init__ if inspect.isclass(target) else target
    namespace: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    return namespace


def _resolved(annotation: Any, namespace: dict[str, Any]) -> Any:
    """An annotation given as text turned into a type; one by one, so that one unknown name spoils no other."""
    if annotation is inspect.Parameter.empty:
        return Any
    for names in (namespace, {**vars(collections.abc), **vars(typing), **namespace}):
        try:
            return typing.get_type_hints(types.SimpleNamespace(__annotations__={"it": annotation}), names)["it"]
        except NameError:  # imported for type checkers only: from the standard library, or it is nothing plain
            continue
    return object


def _plain_part(annotation: Any) -> Any:
    """The annotation without members that have no plain values; None if nothing remains."""
    if annotation is Any or annotation is type(None) or annotation == Factory or get_origin(annotation) is Literal:
        return annotation
    if is_union(annotation):
        members = [part for part in map(_plain_part, get_args(annotation)) if part is not None]
        return Union[tuple(members)] if set(members) - {type(None)} else None  # noqa: UP007 a computed union
    origin = get_origin(annotation) or annotation
    if inspect.isclass(origin) and issubclass(origin, _SCALARS) and not issubclass(origin, enum.Enum):
        return annotation
    if origin not in _CONTAINERS:
        return None
    arguments = tuple(part if part is Ellipsis else _plain_part(part) for part in get_args(annotation))
    if None in arguments:
        return None
    return origin[arguments] if arguments else annotation


def _with_default(annotation: Any, default: Any) -> Any:
    """The annotation, widened by None where that is the default."""
    if default is None and not allows_none(annotation):
        return Union[annotation, None]  # noqa: UP007 a computed union
    return annotation
