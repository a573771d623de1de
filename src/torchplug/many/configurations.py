"""Configurations as components, resolved once for each part that they share."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import nn

from torchplug.components.contracts import Loss, Regularizer
from torchplug.components.parameter_groups import GroupSettings
from torchplug.errors import ConfigurationError
from torchplug.many.losses import takes_axes
from torchplug.many.stopping import WATCHED
from torchplug.module import HOW_STEPS_ARE_MADE, ComponentModule, hyper_parameters
from torchplug.objective import Reduction
from torchplug.objective.function import numbers_of
from torchplug.registry import Resolved, registry
from torchplug.registry.component import Family
from torchplug.resolved_config import ResolvedConfig
from torchplug.training import Execution

_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(ComponentModule.__init__).parameters.items()
    if name != "self"
}


@dataclass(frozen=True)
class Configuration:
    """One configuration: what is trained, from which seed.

    Args:
        given: ComponentModule's parameters, as they were given.
        seed: of the network's start and of dropout.
        resolved: the components; None where it trains by itself.
        loss: built.
        regularizers: built.
        key: equal for configurations that may be trained as one program.
        alone: why it trains by itself; None if it need not.
    """

    given: Mapping[str, Any]
    seed: int
    resolved: ResolvedConfig | None = None
    loss: Loss | None = None
    regularizers: tuple[Regularizer, ...] = ()
    key: Hashable = None
    alone: str | None = None

    def module(self) -> ComponentModule:
        """A module of its own, whose network is not built yet."""
        return ComponentModule(**self.given)

    @property
    def reduction(self) -> Reduction:
        """`mean` or `sum`."""
        reduction: Reduction = self.given.get("reduction", _DEFAULTS["reduction"])
        return reduction

    @cached_property
    def components(self) -> ResolvedConfig:
        """Its components, also where it trains by itself."""
        return self.resolved if self.resolved is not None else self.module().resolved

    @cached_property
    def hyper_parameters(self) -> dict[str, Any]:
        """ComponentModule's parameters in plain types."""
        options = Execution(**{name: self.given.get(name, _DEFAULTS[name]) for name in HOW_STEPS_ARE_MADE})
        calibrate: bool = self.given.get("calibrate", _DEFAULTS["calibrate"])
        return hyper_parameters(self.components, self.reduction, options, calibrate)


class Configurations:
    """Reads configurations; a part that several of them share is resolved and built once."""

    def __init__(self) -> None:
        self._resolved: dict[str, Resolved] = {}
        self._built: dict[str, Any] = {}
        self._tried: set[Hashable] = set()

    def read(self, config: Mapping[str, Any]) -> Configuration:
        """One configuration.

        Args:
            config: ComponentModule's parameters, and `seed`.

        Raises:
            ConfigurationError: for a parameter that does not exist, or components that do not go together.
            UnknownComponentError: for a name that no plugin offers.
            ParameterError: for a component's parameter that does not exist, or is of the wrong type or range.
        """
        if not isinstance(config, Mapping):
            raise ConfigurationError(f"a configuration is a mapping of ComponentModule's parameters, not {config!r}")
        unknown = [name for name in config if name not in _DEFAULTS and name != "seed"]
        if unknown:
            raise ConfigurationError(
                f"a configuration has no {unknown[0]!r}: it takes {', '.join(_DEFAULTS)} and seed, with the names of "
                "ComponentModule's parameters"
            )
        given = {name: value for name, value in config.items() if name != "seed"}
        seed = config.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise ConfigurationError(f"a configuration's seed is a whole number from 0 to 2³² − 1, not {seed!r}")
        whole = {**_DEFAULTS, **given}
        alone = self._why_alone(whole)
        if alone is not None:
            ComponentModule(**given)  # refuses what cannot be trained
            return Configuration(given, seed, alone=alone)
        resolved = self._components(whole)
        if resolved.is_full_batch:
            ComponentModule(**given)
            return Configuration(given, seed, alone=f"{resolved.optimizer.name} sees the whole training set")
        if resolved.why_closure is not None:
            ComponentModule(**given)
            return Configuration(given, seed, alone=resolved.why_closure)
        if resolved.optimizer.asked:
            ComponentModule(**given)
            asked = ", ".join(sorted(resolved.optimizer.asked))
            return Configuration(given, seed, alone=f"{resolved.optimizer.name} asks for {asked}")
        loss = self._once(f"loss {resolved.loss.spec.plain()}", resolved.build_loss)
        penalties = f"regularizers {[r.spec.plain() for r in resolved.regularizers]} {resolved.optimizer.name}"
        regularizers = tuple(self._once(penalties, resolved.build_regularizers))
        trial = self._once(f"optimizer {resolved.optimizer.spec.plain()}", resolved.trial_optimizer)
        decays = bool(trial.defaults.get("weight_decay"))
        key = repr((_structure(resolved, loss, regularizers), decays, whole["reduction"]))
        self._try(resolved, whole, key)
        monitor = watched_by(resolved)
        if monitor not in (None, *WATCHED):
            return Configuration(given, seed, alone=f"its schedule watches {monitor}")
        if any(True for _ in loss.parameters()):
            return Configuration(given, seed, alone=f"the loss {resolved.loss.name} has parameters of its own")
        return Configuration(given, seed, resolved, loss, regularizers, key)

    def _try(self, resolved: ResolvedConfig, whole: Mapping[str, Any], key: str) -> None:
        """Try what goes together once for each choice of components, and each scheduler's parameters."""
        scheduler = resolved.scheduler
        if (key, scheduler and scheduler.qualified_name) not in self._tried:
            ResolvedConfig.of(**{name: whole[name] for name in inspect.signature(ResolvedConfig.of).parameters})
            self._tried.add((key, scheduler and scheduler.qualified_name))
        elif scheduler is not None and resolved.takes_learning_rate:
            trial = partial(resolved.build_scheduler, resolved.trial_optimizer(), 1000, 10)
            self._once(f"scheduler {scheduler.spec.plain()}", trial)

    def _why_alone(self, whole: Mapping[str, Any]) -> str | None:
        if isinstance(whole["model"], nn.Module):
            return "its network is an nn.Module of your own"
        if whole["reduction"] not in ("mean", "sum") or whole["model"] is None:
            return "it is refused"
        return next((f"{name} is chosen" for name in HOW_STEPS_ARE_MADE if whole[name] != _DEFAULTS[name]), None)

    def _components(self, whole: Mapping[str, Any]) -> ResolvedConfig:
        families = {"model": Family.MODEL, "loss": Family.LOSS, "optimizer": Family.OPTIMIZER}
        found = {name: self._resolve(family, whole[name]) for name, family in families.items()}
        regularizers = tuple(self._resolve(Family.REGULARIZER, value) for value in whole["regularizers"])
        scheduler = None if whole["scheduler"] is None else self._resolve(Family.SCHEDULER, whole["scheduler"])
        metrics = tuple(self._resolve(Family.METRIC, value) for value in whole["metrics"])
        groups = GroupSettings(whole["groups"] or {})
        return ResolvedConfig(**found, regularizers=regularizers, scheduler=scheduler, metrics=metrics, groups=groups)

    def _resolve(self, family: Family, value: Any) -> Resolved:
        key = f"{family.value} {value!r}"
        if key not in self._resolved:
            self._resolved[key] = registry().resolve(family, value)
        return self._resolved[key]

    def _once(self, key: str, build: Any) -> Any:
        if key not in self._built:
            self._built[key] = build()
        return self._built[key]


def watched_by(resolved: ResolvedConfig) -> str | None:
    """The metric that the schedule watches, if it watches one."""
    scheduler = resolved.trial_scheduler
    return "val/loss" if getattr(scheduler, "stop_early", False) else getattr(scheduler, "monitor", None)


def _structure(resolved: ResolvedConfig, loss: Loss, regularizers: Sequence[Regularizer]) -> list[Any]:
    """What is no number in a tensor, as rates, λ, δ, dropout, seeds and schedules are."""
    assert resolved.model is not None
    of_model = getattr(resolved.model.target, "hyper", ())
    parts = [
        (resolved.model, of_model),
        (resolved.loss, numbers_of(loss) if takes_axes(loss) else ()),
        *((each, numbers_of(built)) for each, built in zip(resolved.regularizers, regularizers, strict=True)),
    ]
    # a rate of 0 leaves layers out
    used = [name for name in of_model if resolved.model.parameters.get(name)]
    described = [
        (part.qualified_name, sorted(item for item in part.parameters.items() if item[0] not in hyper))
        for part, hyper in parts
    ]
    return [resolved.optimizer.qualified_name, resolved.groups.plain(), used, *described]
