"""`--model.groups`: learning-rate factors and weight decay by patterns of parameter names, which contain dots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchplug.components.parameter_groups import SETTINGS, PatternSettings
from torchplug.errors import ConfigurationError
from torchplug.settings.given import structure
from torchplug.settings.groups import read_value
from torchplug.terminal import shortened

if TYPE_CHECKING:
    from torchplug.settings.given import Given

TYPE: Any = dict[str, dict[str, float]] | None
"""What `--model.groups` is."""

_FORMS = """--model.groups '{"bias": {lr: 0.1}}' or --model.groups.bias.lr 0.1"""


def read_groups(given: Given, current: PatternSettings | None) -> Any:
    """The settings of parameter groups after one of them was given.

    After `model.groups` come nothing, a pattern whose settings are given, or a pattern and one of its settings. Whether
    the value is a number decides where the pattern ends.

    Args:
        given: of them, with its path from `model` on.
        current: those that there are.

    Raises:
        ConfigurationError: if the value does not fit, with forms that do.
    """
    *pattern, setting = given.path[2:] or ("",)
    if given.appends:
        raise ConfigurationError(f"{given.where}: += adds to lists only: write {_FORMS}")
    if pattern and setting in SETTINGS and not isinstance(structure(given), Mapping):
        return _with_one(".".join(pattern), {setting: read_value(float, given)}, current or {})
    try:
        return read_value(TYPE, given.within(current, given.path[2:]))
    except ConfigurationError as error:
        got = shortened(str(given.value))
        wanted = f"{' and '.join(SETTINGS)} by pattern of parameter names"
        raise ConfigurationError(f"{given.where}: expected {wanted}, got {got}: write {_FORMS}") from error


def _with_one(pattern: str, settings: Mapping[str, float], current: PatternSettings) -> dict[str, dict[str, float]]:
    found = {name: dict(own) for name, own in current.items()}
    return {**found, pattern: {**found.get(pattern, {}), **settings}}
