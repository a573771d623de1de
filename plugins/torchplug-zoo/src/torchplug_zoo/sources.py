"""What a library offers, read from its sources without importing them."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path


def folder_of(package: str) -> Path | None:
    """Return the folder of a top-level package; None if it is not installed."""
    found = find_spec(package)
    return None if found is None or found.origin is None else Path(found.origin).parent


def exported(module: str, folder: Path) -> dict[str, str]:
    """Return the names that a package imports from modules of its own, each with that module.

    Args:
        module: the package, such as `torch.optim`.
        folder: the folder of its top-level package.
    """
    names: dict[str, str] = {}
    for statement in _parsed(module, folder).body:
        if isinstance(statement, ast.ImportFrom):
            origin = f"{module}.{statement.module}" if statement.level else str(statement.module)
            if origin.startswith(f"{module}."):
                names |= {alias.name: origin for alias in statement.names}
    return names


def listed(module: str, folder: Path, variable: str) -> list[str]:
    """Return the names and texts in a module's list, or those that are a mapping's values."""
    for statement in _parsed(module, folder).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if variable in map(ast.unparse, targets):
                return [_text(item) for item in _items(statement.value)]
    return []


def summary_of(name: str, module: str, folder: Path) -> str:
    """Return the first sentence of the docstring of a class or function; empty if there is none."""
    for statement in _parsed(module, folder).body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            if docstring := ast.get_docstring(statement):
                return first_sentence(docstring)
        elif isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == f"{name}.__doc__":
            return first_sentence(_first_text(statement.value))
    return ""


def first_sentence(docstring: str) -> str:
    """Return a docstring's first sentence in one line, without its full stop and markup."""
    first, *others = docstring.strip().splitlines() or [""]
    # a line that begins with a capital letter or is empty begins another sentence
    continued = takewhile(lambda line: line.strip() and not line.strip()[0].isupper(), others)
    text = " ".join(" ".join([first, *continued]).split())
    sentence = re.split(r"(?<=[a-z0-9)`])\. ", text)[0]
    return re.sub(r":\w+:`~?([^`<]*)[^`]*`|`+", r"\1", sentence).strip().rstrip(".")


def _parsed(module: str, folder: Path) -> ast.Module:
    path = folder.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _items(value: ast.expr) -> list[ast.expr]:
    return value.values if isinstance(value, ast.Dict) else getattr(value, "elts", [])


def _text(item: ast.expr) -> str:
    return str(item.value) if isinstance(item, ast.Constant) else ast.unparse(item)


def _first_text(value: ast.expr) -> str:
    """The first text of an expression that joins several."""
    found = [node for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return str(min(found, key=lambda node: (node.lineno, node.col_offset)).value) if found else ""
