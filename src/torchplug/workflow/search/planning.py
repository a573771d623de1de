"""What is searched, checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fitting.config import written_config
from torchplug.many.configurations import Configuration, Configurations
from torchplug.many.settings import TrainerSettings
from torchplug.registry.component import Direction
from torchplug.settings.groups import near
from torchplug.tracking.choices import chosen
from torchplug.tracking.flat_config import flat_config
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow.search.batches import Batches, Fold
from torchplug.workflow.search.helpers import refuse_own_classes
from torchplug.workflow.search.pruning import Pruner, refuse_pruner
from torchplug.workflow.search.ranges import Searched
from torchplug.workflow.search.samplers import Sampler, chosen_sampler, planned
from torchplug.workflow.search.settings import Base, Values
from torchplug.workflow.search.space import Space
from torchplug.workflow.search.storage import refuse_missing
from torchplug.workflow.search.sweep import sweep

_TABLES = ("source", "validation", "test")
_UNITS = ("data.standardize_target",)
"""Settings beside those of the loss on which the unit of losses depends."""


@dataclass(frozen=True)
class Plan:
    """A search to be made; the arguments are those of `search`, and

    Args:
        written: the settings that are not searched, as a configuration file has them; None: those of the arguments.
        notes: what the user should know besides.
        remedy: how to go on after an interruption; None: by `resume`.
    """

    config: Mapping[str, Any]
    data: TabularData
    grid: Searched | None
    random: Searched | None
    trials: int | None
    sampler: Sampler | None
    pruner: Pruner
    folds: int | None
    jobs: int
    resume: str | Path | None
    storage: str | None
    study: str | None
    metric: str
    repeats: int
    trainer: Mapping[str, Any]
    tracking: Tracking
    name: str
    root: str | Path
    seed: int
    written: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    remedy: Callable[[Run], str] | None = None

    @cached_property
    def base(self) -> Base:
        """The settings that are not searched."""
        return Base(self.config, self.data, self.trainer)

    @cached_property
    def space(self) -> Space:
        """What is searched."""
        return Space(self.base, self.grid, self.random)

    @cached_property
    def batches(self) -> Batches:
        """What trains."""
        return Batches(self.base, self._folds, self.metric, self.pruner, self.seed)

    @cached_property
    def method(self) -> Sampler:
        """How trials are chosen."""
        return chosen_sampler(self.sampler, self.space)

    @cached_property
    def planned(self) -> list[Values]:
        """The trials, in their order; empty ones where each learns from those before."""
        return planned(self.method, self.space, self.trials, self.seed)

    @cached_property
    def checked(self) -> list[tuple[Configuration, TabularData]]:
        """Every structure of the search, and its table, prepared."""
        return [self.batches.check(values) for values in self.space.structures]

    @cached_property
    def direction(self) -> Direction:
        """Which value of the metric is the best."""
        directions = self.checked[0][0].components.metric_choice.directions
        return directions[self.metric.rpartition("/")[2].removeprefix("epoch_")]

    @cached_property
    def settings(self) -> TrainerSettings:
        """The Trainer's."""
        return TrainerSettings(self.trainer)

    def refuse(self) -> None:
        """Refuse what cannot be searched.

        Raises:
            TorchplugError: saying what, and the remedy.
        """
        refuse_missing()
        for name, least in (("jobs", 1), ("repeats", 0)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"--{name} must be at least {least}, not {getattr(self, name)}")
        if "seed" in self.config:
            raise ConfigurationError("config has no seed here: give seed to search")
        chosen(self.tracking)
        if self.tracking.log_checkpoint:
            raise ConfigurationError(
                "--tracking.log_checkpoint: a search keeps no checkpoints; fit --config best.yaml afterwards, with it"
            )
        if self.settings.trainer.world_size > 1:
            raise ConfigurationError("a search trains each model in one process: leave out devices, and give --jobs")
        self.settings.refuse_in_run()
        Configurations().read(self.config)
        _ = self.space, self.planned  # each refuses what it is made from
        refuse_pruner(self.pruner, self.metric, self.folds or 0)
        self._refuse_metric()
        if self.jobs > 1:
            refuse_own_classes({"config": self.config, "trainer": self.trainer})

    def _refuse_metric(self) -> None:
        """Refuse a metric that is not known of all trials, or not comparable between them."""
        for configuration, table in self.checked:
            if self.metric.startswith("val/") and not table.sizes["validation"]:
                raise ConfigurationError("there are no validation rows to compare by: give --data.split, or --folds")
            names = configuration.components.metric_choice.watchable(bool(table.sizes["validation"]))
            if self.metric not in names:
                raise ConfigurationError(
                    f"--metric {self.metric} is none of {', '.join(names)}; {near(self.metric, names)}"
                )
        units = [name for name in self.space.described() if name.startswith("model.loss") or name in _UNITS]
        if units and self.metric.endswith("loss"):
            raise ConfigurationError(
                f"{units[0]} changes what {self.metric} measures, so that trials could not be compared by it: give "
                "another --metric, such as val/rmse or val/accuracy"
            )

    @cached_property
    def _folds(self) -> Sequence[Fold] | None:
        if self.folds is None:
            return None
        kind = Configurations().read(self.config).module().loss.kind
        return self.data.folds(self.folds, seed=self.seed, kind=kind)

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """The settings that are not searched, as a configuration file has them."""
        if self.written is not None:
            return dict(self.written)
        module = Configurations().read(self.config).module()
        return written_config(module, self.data, self.trainer, self.tracking, self.seed)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What all processes that work on the study must agree in."""
        groups = {group: self.configuration[group] for group in ("model", "data", "trainer")}
        settings = flat_config(groups)
        for table in _TABLES:  # the same file may lie elsewhere on another machine
            settings.pop(f"data/{table}", None)
        own = {"sampler": self.method, "pruner": self.pruner, "metric": self.metric, "folds": self.folds}
        return {
            "recipe": self.name,
            **{f"search of {name}": values for name, values in self.space.described().items()},
            **own,
            "seed": self.seed,
            "table": self.checked[0][1].fingerprint,
            **settings,
        }

    def sweep(self, program: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the search as a sweep of Weights & Biases.

        Args:
            program: the recipe's file.
            fixed: settings that are given, by name.

        Raises:
            TorchplugError: for input that is refused.
        """
        self.refuse()
        return sweep(
            self.space,
            program=program,
            sampler=self.method,
            metric=self.metric,
            direction=self.direction,
            trials=self.trials,
            fixed=fixed,
        )
