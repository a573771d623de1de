"""Parameters in the precision that is trained in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from torchplug.errors import ConfigurationError
from torchplug.resolved_config import ResolvedConfig


def refuse_numbers(resolved: ResolvedConfig, precision: str | int | None) -> None:
    """Refuse parameters that the training's precision turns into infinity or zero.

    Args:
        resolved: the components.
        precision: as Lightning's Trainer takes it.

    Raises:
        ConfigurationError: naming the parameter and the range.
    """
    if resolved.is_full_batch or str(precision) in ("64-true", "64"):
        return
    half = precision in ("16-true", "transformer-engine-float16")
    limits = torch.finfo(torch.float16 if half else torch.float32)
    name = "half" if half else "single"
    for component in resolved.components:
        for path, value in _numbers(component.spec.plain()["parameters"]):
            size = abs(value)
            if size > limits.max or 0 < size < limits.smallest_normal * (limits.eps if not half else 0):
                raise ConfigurationError(
                    f"{component.name}: {path} {value:g} is {'infinite' if size > 1 else 'zero'} in {name} precision, "
                    f"whose numbers reach from {limits.smallest_normal:.1e} to {limits.max:.1e}: choose one of these, "
                    "or --trainer.precision 64-true"
                )


def _numbers(parameters: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every float among parameters, with the names that lead to it."""
    if isinstance(parameters, Mapping):
        for key, value in parameters.items():
            inner = path if key in ("name", "parameters") and path else f"{path}.{key}".lstrip(".")
            yield from _numbers(value, inner)
    elif isinstance(parameters, list | tuple):
        for value in parameters:
            yield from _numbers(value, path)
    elif isinstance(parameters, float) and math.isfinite(parameters):
        yield path, parameters
