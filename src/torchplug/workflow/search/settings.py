"""Settings by their names as configurations, tables and trainers: what each trial is made of."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from torchplug.data.batch_sizes import check_batch_size
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fitting.trainer import build_trainer
from torchplug.many.settings import TrainerSettings
from torchplug.registry import registry
from torchplug.registry.component import Family, Spec
from torchplug.registry.signatures import is_factory
from torchplug.settings.given import Given
from torchplug.settings.groups import near, parameters_of, read_value
from torchplug.settings.model import COMPONENTS, MODEL, SLOTS, read_model, written

Values = Mapping[str, Any]
"""Of searched settings, by their names."""

_DEFAULTS: Mapping[str, Any] = {"loss": "mse", "optimizer": "adam", "regularizers": (), "metrics": ()}
"""ComponentModule's own."""
_ROWS = (
    *("source", "target", "validation", "test", "split", "split_column"),
    *("group", "time", "stratify", "seed", "stream"),
)
"""Settings of the table that decide which rows are validated."""


@dataclass(frozen=True)
class Trial:
    """What a trial is made of.

    Args:
        config: ComponentModule's parameters.
        data: settings of the table that differ from its own.
        trainer: settings of the Trainer.
    """

    config: Mapping[str, Any]
    data: Mapping[str, Any]
    trainer: Mapping[str, Any]

    @property
    def setting(self) -> Hashable:
        """Equal for trials that may be trained together: all but the configuration."""
        return repr((sorted(self.data.items()), sorted((name, repr(value)) for name, value in self.trainer.items())))


@dataclass(frozen=True)
class Base:
    """The settings that are not searched, and the values of those that are before the search.

    Args:
        config: ComponentModule's parameters.
        data: the table.
        trainer: settings of the Trainer.
    """

    config: Mapping[str, Any]
    data: TabularData
    trainer: Mapping[str, Any]

    def trial(self, values: Values, option: str = "") -> Trial:
        """These settings with others for those that are searched.

        Args:
            values: by name; components come before their parameters.
            option: what gave them, for messages: grid or random.

        Raises:
            ConfigurationError: for values that do not fit.
        """
        given = [Given(tuple(name.split(".")), value, f"--{option} {name}".strip()) for name, value in values.items()]
        groups = {
            group: {own.path[1]: self._read(group, own) for own in given if own.path[0] == group}
            for group in ("data", "trainer")
        }
        model = [own for own in given if own.path[0] == MODEL]
        return Trial({**self.config, **self._model(model)}, groups["data"], {**self.trainer, **groups["trainer"]})

    def component(self, values: Values, slot: str, number: int | None) -> Spec | None:
        """The component of a slot under these values."""
        config = self.trial({name: value for name, value in values.items() if name.startswith(f"{MODEL}.")}).config
        found = config.get(slot, _DEFAULTS.get(slot))
        if number is not None:
            found = found[number] if found is not None and number < len(found) else None
        return None if found is None or isinstance(found, nn.Module) else Spec.of(found)

    def table(self, trial: Trial) -> TabularData:
        """The table of a trial; one that is open is shared where that is possible."""
        if set(trial.data) <= {"batch_size"}:
            found = self.data.copied()
            if trial.data:
                found.batch_size = check_batch_size(trial.data["batch_size"])
            return found
        tables = {name: table for name, table in self.data.sources.items() if not isinstance(table, str)}
        return TabularData(**{**self.data.hparams, **tables, **trial.data})

    def refuse(self, trial: Trial) -> None:
        """Refuse settings of table and Trainer that cannot work.

        Raises:
            ConfigurationError: naming the setting.
            DataError: as `TabularData`.
        """
        if trial.data:
            self.table(trial)
        if trial.trainer != self.trainer:
            build_trainer(TrainerSettings(trial.trainer).of_run)

    def written(self, trial: Trial, config: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration file's settings with those of a trial.

        Args:
            trial: as this base gives it.
            config: the base's own, as a recipe or `torchplug.fit` writes it.
        """
        searched = {slot for slot in SLOTS if trial.config.get(slot) is not self.config.get(slot)}
        options = {name for name in COMPONENTS if name not in SLOTS and name in trial.config}
        model = {name: written(name, trial.config[name]) for name in (*searched, *options)}
        trainer = {name: value for name, value in trial.trainer.items() if value is not self.trainer.get(name)}
        return {
            **config,
            MODEL: {**config[MODEL], **model},
            "data": {**config["data"], **trial.data},
            "trainer": {**config["trainer"], **trainer},
        }

    def _model(self, given: Iterable[Given]) -> dict[str, Any]:
        """The parameters of ComponentModule that are searched."""
        given = list(given)
        touched = {own.path[1] for own in given}
        for slot in touched & set(SLOTS):
            if isinstance(self.config.get(slot), nn.Module):
                raise ConfigurationError(
                    f"model.{slot} is a module of your own: only components that are asked for by name can be searched"
                )
        defaults = {slot: self.config.get(slot, _DEFAULTS.get(slot)) for slot in touched}
        read = read_model(defaults, given)
        return {name: read[name] for name in touched}

    def _read(self, group: str, given: Given) -> Any:
        current = self.data.hparams.get(given.path[1]) if group == "data" else self.trainer.get(given.path[1])
        value = given.within(current, given.path[2:])
        return read_value(parameters_of(group)[given.path[1]].annotation, value, current)

    @cached_property
    def known(self) -> list[str]:
        """The settings that can be searched; those of components have parameters besides."""
        return [
            *(f"{MODEL}.{name}" for name in COMPONENTS),
            *(f"data.{name}" for name in parameters_of("data") if name not in _ROWS),
            *(f"trainer.{name}" for name in parameters_of("trainer")),
        ]

    def refuse_name(self, name: str, option: str) -> None:
        """Refuse a name that is no setting, or none that can be searched.

        Raises:
            ConfigurationError: with near names.
        """
        path = name.split(".")
        if path[0] == "data" and path[1:] and path[1] in _ROWS:
            raise ConfigurationError(
                f"--{option} {name} decides which rows are validated: trials could not be compared; leave it out"
            )
        if ".".join(path[:2]) not in self.known:
            raise ConfigurationError(f"--{option}: unknown setting {name}; {near(name, self.known)}")


def place_of(name: str) -> tuple[str, int | None, list[str]] | None:
    """The slot, number and parameter path that a setting of a component names; None for other settings."""
    group, *path = name.split(".")
    if group != MODEL or not path or path[0] not in SLOTS:
        return None
    slot, *rest = path
    if SLOTS[slot].many and rest and rest[0].isdecimal():
        return slot, int(rest[0]), rest[1:]
    return slot, None, rest


def takes(family: Family, spec: Spec, path: list[str]) -> bool:
    """Whether a component, or one that is its parameter, has a parameter of this name."""
    known = registry().parameters(registry().find(family, spec.name))
    name, *inner = path
    if name not in known or not inner:
        return name in known
    nested = spec.parameters.get(name, known[name].default)
    if is_factory(known[name].annotation):
        return nested is not None and takes(family, Spec.of(nested), inner)
    return True
