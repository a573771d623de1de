"""The search space: settings, what they may be, and which of them a trial has."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torchplug.errors import ConfigurationError, TorchplugError
from torchplug.many.configurations import Configurations
from torchplug.settings.model import SLOTS
from torchplug.workflow.search.ranges import Choices, Range, Searched, read_grid, read_random
from torchplug.workflow.search.settings import Base, Values, place_of, takes

_MOST = 100_000
"""Combinations of a grid."""


@dataclass(frozen=True)
class Dimension:
    """A setting that is searched.

    Args:
        name: such as `model.optimizer.lr`.
        values: what it may be.
        option: what gave it: grid or random.
    """

    name: str
    values: Choices | Range
    option: str

    def all(self) -> list[Any]:
        """All values of a list, or of a range of whole numbers.

        Raises:
            ConfigurationError: for a range of real numbers.
        """
        if isinstance(self.values, Choices):
            return self.values.examples()
        if (numbers := self.values.values()) is None:
            raise ConfigurationError(
                f"--{self.option} {self.name}: a grid has no {self.values.described()}: list values, or search with "
                "--sampler random or tpe"
            )
        return list(numbers)


class Space:
    """What is searched, checked: every value of every setting is one that the setting takes.

    Parameters of components belong to a trial only where the component that is chosen has them.

    Args:
        base: the settings that are not searched.
        grid: lists of values.
        random: ranges, and lists of values.

    Raises:
        ConfigurationError: for settings that do not exist, values that do not fit, and nothing to search.

    Attributes:
        dimensions: components before their parameters.
    """

    def __init__(self, base: Base, grid: Searched | None, random: Searched | None) -> None:
        self.base = base
        listed, drawn = read_grid(grid), read_random(random)
        if not listed and not drawn:
            raise ConfigurationError(
                "there is nothing to search: give --grid model.optimizer.lr=1e-3,1e-2, or --random "
                "'model.optimizer.lr=log(1e-4,1e-1)'"
            )
        for name in listed.keys() & drawn.keys():
            raise ConfigurationError(f"{name} is given by --grid and by --random: leave it out of one")
        found = [Dimension(name, values, "grid") for name, values in listed.items()]
        found += [Dimension(name, values, "random") for name, values in drawn.items()]
        for dimension in found:
            base.refuse_name(dimension.name, dimension.option)
        self.dimensions = sorted(found, key=lambda dimension: dimension.name.count("."))
        self._reader = Configurations()
        for dimension in self.dimensions:
            self._check(dimension)

    def has(self, dimension: Dimension, values: Values) -> bool:
        """Whether a trial with these values has a setting."""
        place = place_of(dimension.name)
        if place is None or not place[2]:
            return True
        if not any(dimension.name.startswith(f"{other.name}.") for other in self.dimensions):
            return True
        slot, number, path = place
        component = self.base.component(values, slot, number)
        return component is not None and takes(SLOTS[slot].family, component, path)

    def ask(self, trial: Any, fixed: Values | None = None) -> dict[str, Any]:
        """Ask a trial of Optuna for the settings that it has.

        Args:
            trial: of a study.
            fixed: values that are not asked for.
        """
        values: dict[str, Any] = {}
        for dimension in self.dimensions:
            if fixed is not None and dimension.name in fixed:
                values[dimension.name] = fixed[dimension.name]
            elif self.has(dimension, values):
                values[dimension.name] = dimension.values.suggest(trial, dimension.name)
        return values

    def stored(self, values: Values) -> dict[str, Any]:
        """Values as a study stores them."""
        by_name = {dimension.name: dimension.values for dimension in self.dimensions}
        return {name: by_name[name].stored(value) for name, value in values.items()}

    def combinations(self, option: str | None = None) -> list[dict[str, Any]]:
        """Every combination of values, of all settings or of those that an option gave.

        Raises:
            ConfigurationError: for ranges of real numbers, and far too many combinations.
        """
        chosen = [dimension for dimension in self.dimensions if option in (None, dimension.option)]
        count = math.prod(len(dimension.all()) for dimension in chosen)
        if count > _MOST:
            raise ConfigurationError(f"the grid has {count} combinations: list fewer values, or search with --random")
        found: list[dict[str, Any]] = [{}]
        for dimension in chosen:
            found = [
                {**own, **more}
                for own in found
                for more in (
                    [{dimension.name: value} for value in dimension.all()] if self.has(dimension, own) else [{}]
                )
            ]
        return found

    def described(self) -> dict[str, str]:
        """What is searched, as a command line gives it, by name."""
        return {dimension.name: dimension.values.described() for dimension in self.dimensions}

    def described_by_option(self) -> dict[str, list[str]]:
        """What is searched, as the options of a command line give it."""
        return {
            option: [f"{one.name}={one.values.described()}" for one in self.dimensions if one.option == option]
            for option in ("grid", "random")
        }

    @cached_property
    def structures(self) -> list[dict[str, Any]]:
        """A trial's values for every choice of components, those of other settings the first ones."""
        return [self._completed(chosen) for chosen in self._chosen_components()]

    def _chosen_components(self) -> Iterator[dict[str, Any]]:
        components = [one for one in self.dimensions if (place := place_of(one.name)) is not None and not place[2]]
        for values in itertools.product(*(dimension.all() for dimension in components)):
            yield {dimension.name: value for dimension, value in zip(components, values, strict=True)}

    def _completed(self, chosen: Values) -> dict[str, Any]:
        """Values of all settings: those that are chosen, and else the first."""
        values: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.name in chosen:
                values[dimension.name] = chosen[dimension.name]
            elif self.has(dimension, values):
                values[dimension.name] = dimension.values.examples()[0]
        return values

    def _check(self, dimension: Dimension) -> None:
        """Try every value, and the ends of a range, in every component that has the setting."""
        before = self.dimensions[: self.dimensions.index(dimension)]
        above = [other for other in before if dimension.name.startswith(f"{other.name}.")]
        had = False
        for choice in itertools.product(*(other.all() for other in above)):
            chosen = {other.name: value for other, value in zip(above, choice, strict=True)}
            if not self.has(dimension, chosen):
                continue
            had = True
            for value in dimension.values.examples():
                self._try({**chosen, dimension.name: value}, dimension)
        if not had:  # in no component: as its own error says it
            first = {other.name: other.all()[0] for other in above}
            self._try({**first, dimension.name: dimension.values.examples()[0]}, dimension)

    def _try(self, values: Mapping[str, Any], dimension: Dimension) -> None:
        trial = self.base.trial(values, dimension.option)
        try:
            self._reader.read(trial.config)
            self.base.refuse(trial)
        except TorchplugError as error:
            value = values[dimension.name]
            raise type(error)(f"--{dimension.option} {dimension.name}={value}: {error}") from error
