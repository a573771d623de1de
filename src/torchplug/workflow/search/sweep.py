"""A search as a sweep of Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchplug.errors import ConfigurationError
from torchplug.registry.component import Direction
from torchplug.tracking.whole_files import whole_file
from torchplug.workflow.search.ranges import Choices, Range
from torchplug.workflow.search.samplers import Sampler
from torchplug.workflow.search.space import Space

_METHODS: Mapping[Sampler, str] = {"grid": "grid", "random": "random", "tpe": "bayes"}
_DISTRIBUTIONS = {"uniform": "uniform", "log": "log_uniform_values", "int": "int_uniform"}
_PLACES = {"tracking.project": "project", "tracking.entity": "entity"}
"""Settings that are those of the sweep, which no run of it may change."""
_GOALS: Mapping[Direction, str] = {"min": "minimize", "max": "maximize"}


def sweep(
    space: Space,
    *,
    program: str,
    sampler: Sampler,
    metric: str,
    direction: Direction,
    trials: int | None,
    fixed: Mapping[str, Any],
) -> dict[str, Any]:
    """The configuration of a sweep, as `wandb sweep` takes it.

    W&B's agent calls the program with a flag for each parameter: `python recipe.py --model.optimizer.lr=0.01`.

    Args:
        space: what is searched.
        program: the recipe's file.
        sampler: W&B's `bayes` stands for `tpe`.
        metric: what trials are compared by.
        direction: which value of it is the best.
        trials: how many there are at most; None: no bound.
        fixed: other settings of the command line, by name.

    Raises:
        ConfigurationError: for parameters of components that not all components have, which a sweep cannot express.
    """
    for dimension in space.dimensions:
        if any(dimension.name not in values for values in space.structures):
            raise ConfigurationError(
                f"{dimension.name} belongs to some of the components that are searched, and W&B would give it to all: "
                "leave it out, or export a sweep for each component"
            )
    left = {name: value for name, value in fixed.items() if name not in (*space.described(), *_PLACES)}
    parameters = {name: {"value": value} for name, value in left.items()}
    parameters |= {dimension.name: _parameter(dimension.values) for dimension in space.dimensions}
    found = {
        **{own: fixed[name] for name, own in _PLACES.items() if fixed.get(name) is not None},
        "program": program,
        "method": _METHODS[sampler],
        "metric": {"name": metric, "goal": _GOALS[direction]},
        "parameters": parameters,
    }
    return found if trials is None else {**found, "run_cap": trials}


def _parameter(values: Choices | Range) -> dict[str, Any]:
    if isinstance(values, Choices):
        return {"values": [_number(value) for value in values.values.values()]}
    low, high = (int(end) if values.kind == "int" else end for end in (values.low, values.high))
    return {"distribution": _DISTRIBUTIONS[values.kind], "min": low, "max": high}


def _number(value: Any) -> Any:
    """A text that is a number as one, and a list as the text that a flag takes."""
    if isinstance(value, list | tuple | dict):
        return yaml.safe_dump(value, default_flow_style=True).strip()
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def write_sweep(content: Mapping[str, Any], path: str | Path) -> None:
    """Write a sweep's file.

    Raises:
        WriteError: if it cannot be written.
    """
    with whole_file(path) as file:
        file.write(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True).encode())
