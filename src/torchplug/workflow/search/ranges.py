"""What a searched setting may be: one of several values, or a number of a range."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torchplug.errors import ConfigurationError
from torchplug.registry.signatures import plain

Searched = Mapping[str, Any] | Sequence[str]
"""Values or ranges by the settings' names, or texts `name=values`."""
Kind = Literal["uniform", "log", "int"]

_RANGE = re.compile(r"\s*(uniform|log|int)\((.*)\)\s*", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Choices:
    """One of several values.

    Args:
        values: text, as a flag gives it, or plain values; each by the text under which it is stored.
    """

    values: Mapping[str, Any]

    def suggest(self, trial: Any, name: str) -> Any:
        """Ask a trial of Optuna for a value."""
        return self.values[trial.suggest_categorical(name, list(self.values))]

    def stored(self, value: Any) -> str:
        """The text under which a value is stored."""
        return next(text for text, own in self.values.items() if own is value or own == value)

    def restored(self, stored: str) -> Any:
        """The value that is stored under a text."""
        return self.values[stored]

    def examples(self) -> list[Any]:
        """The values on which a setting is tried before the search begins: all."""
        return list(self.values.values())

    def described(self) -> str:
        """As a command line gives it."""
        return ",".join(self.values)


@dataclass(frozen=True)
class Range:
    """A number between two others, both included.

    Args:
        kind: `uniform` or `log` for real numbers, uniform in themselves or in their logarithm; `int` for whole ones.
        low: the least.
        high: the greatest, above the least.
    """

    kind: Kind
    low: float
    high: float

    def suggest(self, trial: Any, name: str) -> float:
        """Ask a trial of Optuna for a value."""
        if self.kind == "int":
            return int(trial.suggest_int(name, int(self.low), int(self.high)))
        return float(trial.suggest_float(name, self.low, self.high, log=self.kind == "log"))

    def stored(self, value: float) -> float:
        """The number itself."""
        return value

    def restored(self, stored: float) -> float:
        """The number itself."""
        return stored

    def examples(self) -> list[float]:
        """The values on which a setting is tried before the search begins: the ends, and one between them."""
        if self.kind == "int":
            return [int(self.low), int(self.high)]
        between = self.low + 0.38196601125 * (self.high - self.low)
        return [self.low, self.high, between]

    def values(self) -> Iterator[int] | None:
        """All values, if these are whole numbers."""
        return iter(range(int(self.low), int(self.high) + 1)) if self.kind == "int" else None

    def described(self) -> str:
        """As a command line gives it."""
        return f"{self.kind}({self.low!r},{self.high!r})"


def read_grid(given: Searched | None) -> dict[str, Choices]:
    """Read what `grid` gives: lists of values.

    Raises:
        ConfigurationError: for an empty list, a value that occurs twice, or a range.
    """
    found = {}
    for name, value in _named(given, "grid"):
        if isinstance(value, str) and _RANGE.fullmatch(value):
            raise ConfigurationError(f"--grid {name}: {value} is a range, of which --random draws: list values here")
        found[name] = _choices(value, f"--grid {name}")
    return found


def read_random(given: Searched | None) -> dict[str, Choices | Range]:
    """Read what `random` gives: ranges, and lists of values.

    Raises:
        ConfigurationError: for ranges that are reversed or have no logarithm, and as `read_grid`.
    """
    found: dict[str, Choices | Range] = {}
    for name, value in _named(given, "random"):
        where = f"--random {name}"
        match = _RANGE.fullmatch(value) if isinstance(value, str) else None
        found[name] = _choices(value, where) if match is None else _range(match[1], match[2], where)
    return found


def _named(given: Searched | None, option: str) -> Iterator[tuple[str, Any]]:
    """Yield names and what they may be; each name once."""
    pairs: Iterable[tuple[str, Any]]
    if given is None:
        return
    if isinstance(given, Mapping):
        pairs = given.items()
    elif isinstance(given, str):
        pairs = [_pair(given, option)]
    else:
        pairs = [_pair(text, option) for text in given]
    seen: set[str] = set()
    for name, value in pairs:
        if name in seen:
            raise ConfigurationError(f"--{option} {name} is given twice: put all its values into one")
        seen.add(name)
        yield name, value


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals or not name.strip():
        example = "model.optimizer.lr=" + ("1e-3,1e-2" if option == "grid" else "'log(1e-4,1e-1)'")
        raise ConfigurationError(f"--{option} {text}: expected a setting with values, such as {example}")
    return name.strip(), values


def _choices(value: Any, where: str) -> Choices:
    if isinstance(value, str):
        items: list[Any] = split_at_commas(value)
    elif isinstance(value, Iterable) and not isinstance(value, Mapping):
        items = [plain(item) for item in value]
    else:
        raise ConfigurationError(f"{where}: expected a list of values, got {value!r}")
    if not items or any(item == "" for item in items):
        raise ConfigurationError(f"{where}: an empty list of values, or an empty value: name at least one")
    texts = [item if isinstance(item, str) else json.dumps(item) for item in items]
    repeated = next((text for text in texts if texts.count(text) > 1), None)
    if repeated is not None:
        raise ConfigurationError(f"{where}: {repeated} occurs twice")
    return Choices(dict(zip(texts, items, strict=True)))


def _range(kind: str, ends: str, where: str) -> Range:
    shown = f"{kind}({ends})"
    try:
        low, high = (float(end) for end in ends.split(","))
    except ValueError:
        raise ConfigurationError(f"{where}: {shown} has not two numbers as ends, as in {kind}(1,10)") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigurationError(f"{where}: {shown} has no finite ends")
    if low >= high:
        raise ConfigurationError(f"{where}: {shown} is reversed or empty: the lower end comes first")
    if kind == "log" and low <= 0:
        raise ConfigurationError(f"{where}: {shown} begins at {low:g}, which has no logarithm: begin above 0")
    if kind == "int" and not (low.is_integer() and high.is_integer()):
        raise ConfigurationError(f"{where}: {shown} has ends that are no whole numbers")
    return Range(kind, low, high)  # type: ignore[arg-type]


def split_at_commas(text: str) -> list[str]:
    """The parts of a text between commas that are within no brackets.

    >>> split_at_commas("[32, 32],[64]")
    ['[32, 32]', '[64]']
    """
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if character == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]
