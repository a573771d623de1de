"""A nested configuration in one readable level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COMPONENT_FORMS = (("name", "parameters"), ("class_path", "init_args"))
"""How a component with its parameters is written: by `Spec.plain`, and in configuration files."""


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a configuration: names joined by slashes, since W&B advises against dots.

    A component stands at its own name, its parameters below it. Lists of plain values stay lists.

    >>> flat_config({"model": {"optimizer": {"name": "adam", "parameters": {"lr": 0.1}}, "hidden": [64, 64]}})
    {'model/optimizer': 'adam', 'model/optimizer/lr': 0.1, 'model/hidden': [64, 64]}
    >>> flat_config({"regularizers": [{"class_path": "l2", "init_args": {"coefficient": 0.01}}, "l1"]})
    {'regularizers/0': 'l2', 'regularizers/0/coefficient': 0.01, 'regularizers/1': 'l1'}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        _flatten(str(key), value, flat)
    return flat


def _flatten(key: str, value: Any, flat: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for name, parameters in _COMPONENT_FORMS:
            if name in value and set(value) <= {name, parameters}:
                flat[key] = value[name]
                value = value.get(parameters) or {}
                break
        for inner, item in value.items():
            _flatten(f"{key}/{inner}", item, flat)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        for index, item in enumerate(value):
            _flatten(f"{key}/{index}", item, flat)
    elif isinstance(value, list | tuple):
        flat[key] = [_plain(item) for item in value]
    else:
        flat[key] = _plain(value)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
