"""Command lines as a sweep's agent writes them, in the form and order that the parser takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yaml import YAMLError  # type: ignore[import-untyped]

from torchplug.bounded_yaml import read_text, refuse_unbounded
from torchplug.errors import ConfigurationError

_BARE = re.compile(r"(?:(?:model|data|trainer|tracking)(?:\.\w+)+|seed_everything|ckpt_path|output|id)\+?=")
"""A setting without dashes, as `${args_no_hyphens}` gives it."""

_COMPONENTS = re.compile(r"--model\.[\w.]+(?:=|$)")
"""A flag of a component or of its parameters; not `--model.regularizers+=`, which adds one more."""

_WITHOUT_VALUE = ("-h", "--help", "--print_config")


def normalized(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with every setting as a flag, and components before their parameters.

    Args:
        arguments: what follows the script's name. Besides flags: `model.optimizer.lr=0.1`; a JSON object of settings;
            or a file `*.json` that holds one, as `${args_json}` and `${args_json_file}` of a W&B sweep give them.

    Raises:
        ConfigurationError: if a JSON object or file cannot be read.
    """
    return [argument for unit in _ordered(list(_units(arguments))) for argument in unit]


def _units(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Yield each flag with its values, and each word by itself; other forms of settings become flags."""
    unit: list[str] = []
    for argument in arguments:
        if argument.startswith("-") and not re.match(r"-[\d.]", argument):
            if unit:
                yield unit
            unit = [argument]
        elif unit and len(unit) == 1 and "=" not in unit[0] and unit[0] not in _WITHOUT_VALUE:
            unit.append(argument)  # its value
        else:
            if unit:
                yield unit
            unit = []
            yield from _word(argument)
    if unit:
        yield unit


def _word(argument: str) -> Iterator[list[str]]:
    if _BARE.match(argument):
        yield [f"--{argument}"]
    elif argument.startswith("{"):
        yield from _flags(_json(argument, "the argument"))
    elif argument.endswith(".json"):
        yield from _flags(_json(read_text(argument), argument))
    else:
        yield [argument]


def _json(text: str, where: str) -> Mapping[str, Any]:
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    try:
        refuse_unbounded(text)
        content = json.loads(text)
    except (ValueError, RecursionError, YAMLError) as error:
        raise ConfigurationError(f"{where} is no JSON object of settings: {shown}") from error
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{where} is no JSON object of settings: {shown}")
    return content


def _flags(settings: Mapping[str, Any], prefix: str = "") -> Iterator[list[str]]:
    """Yield a flag for each setting; nested objects name theirs by dots, unless they are a component."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and "class_path" not in value:
            yield from _flags(value, f"{prefix}{key}.")
        else:
            yield [f"--{prefix}{key}={value if isinstance(value, str) else json.dumps(value)}"]


def _ordered(units: list[list[str]]) -> list[list[str]]:
    """Put each component's parameters behind the last flag that names the component: naming it resets them."""
    names = [_name(unit) for unit in units]
    ordered, waiting = [], []
    for position, (unit, name) in enumerate(zip(units, names, strict=True)):
        later = {other for other in names[position + 1 :] if other}
        if name and _has_owner(name, later):
            waiting.append(unit)
            continue
        ordered.append(unit)
        ready = [held for held in waiting if not _has_owner(_name(held), later)]
        waiting = [held for held in waiting if held not in ready]
        ordered += _ordered(ready)
    return ordered


def _name(unit: list[str]) -> str:
    return unit[0].partition("=")[0] if _COMPONENTS.match(unit[0]) else ""


def _has_owner(name: str, flags: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in flags for length in range(2, len(parts)))
