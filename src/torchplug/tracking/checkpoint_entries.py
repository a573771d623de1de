"""Checked access to the entries of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchplug.errors import CheckpointError


class Entries:
    """The entries of a mapping in a checkpoint, checked when they are read.

    Args:
        content: the mapping.
        path: the checkpoint file.
        where: the prefix of entries in messages.
    """

    def __init__(self, content: Mapping[Any, Any], path: Path, where: str = "") -> None:
        self.content = content
        self.path = path
        self.where = where

    def of(self, name: Any, kind: Any, expected: str) -> Any:
        """An entry, which must be an instance of `kind`."""
        if name not in self.content:
            raise self.malformed(name, "is missing")
        value = self.content[name]
        if not isinstance(value, kind):
            raise self.malformed(name, f"is {type(value).__name__}, not {expected}")
        return value

    def inside(self, name: Any) -> Entries:
        """An entry that is itself a mapping."""
        return Entries(self.of(name, Mapping, "a mapping"), self.path, f"{self.where}{name}.")

    def count(self, name: str, least: int = 0) -> int:
        """An entry that is a whole number of at least `least`."""
        value = self.of(name, int, "a whole number")
        if isinstance(value, bool) or value < least:
            raise self.malformed(name, f"is {value!r}, not a whole number of at least {least}")
        return int(value)

    def fits(self, name: Any, example: Any) -> None:
        """Refuse an entry whose values have other types than an example's.

        Integers, floats and one-element tensors are interchangeable; None in the example allows anything.
        """
        if name not in self.content:
            raise self.malformed(name, "is missing")
        value = self.content[name]
        if isinstance(example, Mapping):
            inside = self.inside(name)
            for key in example:
                inside.fits(key, example[key])
        elif isinstance(example, list | tuple) and example:
            if not isinstance(value, list | tuple) or not value:
                raise self.malformed(name, f"is {type(value).__name__}, not a list with elements")
            inside = Entries(dict(enumerate(value)), self.path, f"{self.where}{name}.")
            for index in inside.content:
                inside.fits(index, example[index if len(value) == len(example) else 0])
        elif example is not None and not _similar(value, example):
            raise self.malformed(name, f"is {type(value).__name__}, not {type(example).__name__}")

    def malformed(self, name: Any, trouble: str) -> CheckpointError:
        """The error for an entry."""
        return CheckpointError(
            f"{self.path} is malformed: {self.where}{name} {trouble}; use a checkpoint as a recipe saved it"
        )


def _similar(value: Any, example: Any) -> bool:
    """Whether one value may replace the other."""
    if isinstance(example, Tensor) and example.ndim:
        return isinstance(value, Tensor)
    if isinstance(example, bool):
        return isinstance(value, bool)
    if isinstance(example, int | float | Tensor):
        number = value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, int | float)
        return number and not isinstance(value, bool) and is_finite(value)
    return isinstance(value, type(example))


def leaves(value: Any) -> Iterator[Any]:
    """The values in nested mappings and lists."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def is_finite(value: Any) -> bool:
    """False for tensors with NaN or infinite elements, and for NaN; an infinite number may be a bound."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    return not (isinstance(value, float) and math.isnan(value))
