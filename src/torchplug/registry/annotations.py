"""Annotations of a signature as types: text is evaluated, and names that only type checkers import are found."""

from __future__ import annotations

import ast
import inspect
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.util import resolve_name
from typing import Any

_MOST_NAMES = 32
"""Names that only type checkers import, in one annotation."""


def annotation_of(parameter: inspect.Parameter, target: Any) -> Any:
    """A parameter's annotation as a type; Any if there is none.

    Raises:
        ValueError: if it is text that cannot be evaluated, saying why.
    """
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    namespace = dict(_namespace(target))
    for _ in range(_MOST_NAMES):
        try:
            return _evaluated(parameter.annotation, namespace)
        except NameError as error:
            found = _absent(error.name or "", namespace)
            if not found:
                raise ValueError(_unresolved(parameter, error)) from error
            namespace |= found
        except Exception as error:  # any expression may stand there
            raise ValueError(_unresolved(parameter, error)) from error
    raise ValueError(_unresolved(parameter, "too many unknown names"))


def _unresolved(parameter: inspect.Parameter, why: object) -> str:
    return f"its annotation {parameter.annotation!r} cannot be resolved ({' '.join(str(why).split())})"


def _evaluated(annotation: Any, namespace: dict[str, Any]) -> Any:
    """One by one, so that one unknown name spoils no other parameter."""
    return typing.get_type_hints(types.SimpleNamespace(__annotations__={"it": annotation}), namespace)["it"]


def _namespace(target: Any) -> Mapping[str, Any]:
    """The globals in which the annotations of a target's signature were written."""
    function = target.__init__ if inspect.isclass(target) else target
    namespace: Mapping[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    return namespace


def _absent(name: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """A name that a module lacks at run time: an import for type checkers, else one of the standard library's types."""
    module = str(namespace.get("__name__", ""))
    sources = [_for_type_checkers(module).get(name), ("collections.abc", name), ("typing", name)]
    for source in filter(None, sources):
        try:
            return {name: _imported(*source)}
        except Exception:
            continue  # an import that is meant for type checkers may fail
    return {}


@cache
def _for_type_checkers(module: str) -> dict[str, tuple[str, str]]:
    """What a module imports under `if TYPE_CHECKING:`, as name → (module, attribute or nothing)."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, SyntaxError, KeyError):
        return {}
    package = str(getattr(sys.modules[module], "__package__", "") or "")
    guarded = (node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    return {name: source for node in guarded for line in node.body for name, source in _names(line, package)}


def _names(line: ast.stmt, package: str) -> Iterator[tuple[str, tuple[str, str]]]:
    if isinstance(line, ast.Import):
        for alias in line.names:
            top = alias.name.partition(".")[0]
            yield alias.asname or top, (alias.name if alias.asname else top, "")
    elif isinstance(line, ast.ImportFrom):
        module = resolve_name("." * line.level + (line.module or ""), package) if line.level else str(line.module)
        for alias in line.names:
            yield alias.asname or alias.name, (module, alias.name)


def _imported(module: str, attribute: str) -> Any:
    """What an import statement binds."""
    found = import_module(module)
    return getattr(found, attribute) if attribute else found
