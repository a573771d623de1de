"""From names to components that fit together, before there are data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from torchplug.components.combinations import (
    initialized,
    refuse_coupled_prox,
    refuse_loss,
    refuse_one_rate,
    refuse_penalty,
)
from torchplug.components.contracts import LinearScores, Loss, Regularizer, linear_scores
from torchplug.components.metrics import MetricChoice
from torchplug.components.optimizer import grouped, steps_by_gradients
from torchplug.components.parameter_groups import (
    GroupSettings,
    PatternSettings,
    factor_of,
    label,
    unlabelled,
    with_rates,
)
from torchplug.components.task import TASKS
from torchplug.errors import ConfigurationError, PluginError
from torchplug.network_memory import FULL_SET_COPIES, copies_held, refuse_beyond_memory
from torchplug.objective import StepObjective, penalized
from torchplug.registry import Resolved, named_failures, registry
from torchplug.registry.component import Capability, Family, Spec

SpecLike = Spec | str | Mapping[str, Any]


@dataclass(frozen=True)
class ResolvedConfig:
    """The components of one module, resolved and checked; `model` is None for a user's own network.

    `groups` are settings of parameters by patterns of their names.
    """

    model: Resolved | None
    loss: Resolved
    optimizer: Resolved
    regularizers: tuple[Resolved, ...]
    scheduler: Resolved | None
    metrics: tuple[Resolved, ...] = ()
    groups: GroupSettings = field(default_factory=GroupSettings)

    @classmethod
    def of(
        cls,
        model: SpecLike | None,
        loss: SpecLike,
        optimizer: SpecLike,
        regularizers: Sequence[SpecLike],
        scheduler: SpecLike | None,
        metrics: Sequence[SpecLike] = (),
        groups: PatternSettings | None = None,
    ) -> ResolvedConfig:
        """Resolve every name and try every parameter, so that mistakes surface here.

        Raises:
            UnknownComponentError: for a name that no plugin has.
            ParameterError: for a parameter that does not exist, or is of the wrong type or range.
            ConfigurationError: for components that cannot be combined.
        """
        find = registry().resolve
        resolved = cls(
            model=None if model is None else find(Family.MODEL, model),
            loss=find(Family.LOSS, loss),
            optimizer=find(Family.OPTIMIZER, optimizer),
            regularizers=tuple(find(Family.REGULARIZER, regularizer) for regularizer in regularizers),
            scheduler=None if scheduler is None else find(Family.SCHEDULER, scheduler),
            metrics=tuple(find(Family.METRIC, metric) for metric in metrics),
            groups=GroupSettings(groups or {}),
        )
        with named_failures(resolved.components):
            resolved._try()
        return resolved

    @property
    def components(self) -> list[Resolved]:
        """All of them, in the order model, loss, optimizer, regularizers, scheduler, metrics."""
        chosen = [self.model, self.loss, self.optimizer, *self.regularizers, self.scheduler, *self.metrics]
        return [component for component in chosen if component is not None]

    @property
    def is_full_batch(self) -> bool:
        """Whether the optimizer is full-batch."""
        return Capability.OBJECTIVE in self.optimizer.capabilities

    @property
    def has_update(self) -> bool:
        """Whether `update()` is declared to be the optimizer's step."""
        return Capability.UPDATE in self.optimizer.capabilities

    @property
    def needs_graph(self) -> bool:
        """Whether the optimizer differentiates the gradient."""
        return Capability.GRAPH in self.optimizer.capabilities

    @cached_property
    def why_closure(self) -> str | None:
        """Why the optimizer must have a closure at every step; None for an update, and for torch's own steps."""
        if Capability.CLOSURE in self.optimizer.capabilities:
            return f"the optimizer {self.optimizer.name} evaluates the loss by itself"
        if self.needs_graph:
            return f"the optimizer {self.optimizer.name} differentiates the gradient"
        by_gradients = Capability.GRADIENTS in self.optimizer.capabilities
        if by_gradients or self.has_update or self.is_full_batch or steps_by_gradients(type(self.trial_optimizer())):
            return None
        return f"the optimizer {self.optimizer.name} may evaluate the loss by itself: it does not declare an update"

    @cached_property
    def takes_learning_rate(self) -> bool:
        """Whether there is a learning rate for a scheduler to change."""
        return any("lr" in group for group in self.trial_optimizer().param_groups)

    def notes(self, network: nn.Module | None) -> list[str]:
        """Notes for the user.

        Args:
            network: the network, if it is built.
        """
        notes = registry().notes(component.entry for component in self.components)
        if self.scheduler is not None and not self.takes_learning_rate:
            optimizer, scheduler = self.optimizer.name, self.scheduler.name
            notes.append(f"{optimizer} finds its own step sizes, so the scheduler {scheduler} is left out")
        layers = network.modules() if network is not None else ()
        if self.is_full_batch and any(isinstance(m, nn.Dropout) and m.p > 0 for m in layers):
            notes.append(f"{self.optimizer.name} minimizes a fixed function, so dropout is off")
        return [*notes, *self._repeated_penalties(network)]

    def _repeated_penalties(self, network: nn.Module | None) -> list[str]:
        """A note for each kind of penalty that acts more than once on a parameter."""
        notes = []
        for name in dict.fromkeys(component.name for component in self.regularizers):
            built = [component.build() for component in self.regularizers if component.name == name]
            if len(built) < 2 or network is None:
                continue
            acted_on = [set(penalized(network, regularizer.include)) for regularizer in built]
            shared = set.union(*(a & b for a, b in combinations(acted_on, 2)))
            if shared:
                values = " and ".join(f"{regularizer.coefficient:g}" for regularizer in built)
                notes.append(
                    f"{name} acts {len(built)} times on {min(shared)}, with coefficients {values}, which add up: "
                    f"--model.regularizers+={name} adds to those of the recipe; to replace them give the whole list, "
                    f"--model.regularizers '[{{class_path: {name}, init_args: {{coefficient: "
                    f"{built[-1].coefficient:g}}}}}]'"
                )
        return notes

    def plain(self) -> dict[str, Any]:
        """The qualified names and parameters as plain types: a checkpoint's hyper-parameters."""
        return {
            "model": None if self.model is None else self.model.spec.plain(),
            "loss": self.loss.spec.plain(),
            "optimizer": self.optimizer.spec.plain(),
            "regularizers": [regularizer.spec.plain() for regularizer in self.regularizers],
            "scheduler": None if self.scheduler is None else self.scheduler.spec.plain(),
            "metrics": [metric.spec.plain() for metric in self.metrics],
            "groups": self.groups.plain(),
        }

    def records(self) -> list[dict[str, str]]:
        """Family, qualified name and version of each component."""
        return [
            {
                "family": component.entry.family.value,
                "name": component.qualified_name,
                "distribution": component.entry.distribution,
                "version": component.entry.version,
            }
            for component in self.components
        ]

    def build_network(self, inputs: int, outputs: int, categories: Sequence[tuple[int, int]] = ()) -> nn.Module:
        """The network for a number of encoded features and of scores.

        Args:
            inputs: d.
            outputs: k.
            categories: the features of each column of categories, for a model that asks for them.

        Raises:
            ConfigurationError: if training it takes more memory than there is.
        """
        assert self.model is not None, "a network is built only where a model was named"
        model = self.model
        build = partial(model.build, inputs, outputs, categories=list(categories))
        key = f"{model.qualified_name} {model.parameters} {inputs} {outputs}"
        refuse_beyond_memory(key, build, self.optimizer.name, self._copies)
        network: nn.Module = initialized(model, build())
        return network

    @cached_property
    def _copies(self) -> int:
        """How often training holds the parameters; a full-batch optimizer's first step would need an objective."""
        parameter = nn.Parameter(torch.zeros(2, 3))
        return FULL_SET_COPIES if self.is_full_batch else copies_held(self.trial_optimizer(parameter), parameter)

    @cached_property
    def trial_scheduler(self) -> LRScheduler | ReduceLROnPlateau | None:
        """The scheduler over a trial optimizer, if there is one that is used."""
        if self.scheduler is None or not self.takes_learning_rate:
            return None
        return self.build_scheduler(self.trial_optimizer(), total_steps=1000, steps_per_epoch=10)

    @cached_property
    def metric_choice(self) -> MetricChoice:
        """The metrics of evaluations: those of the loss's kind, and those that were asked for."""
        return MetricChoice(self.build_loss().task, self.metrics)

    def build_loss(self) -> Loss:
        """The loss.

        Raises:
            PluginError: if the plugin's class violates the contract.
        """
        loss = initialized(self.loss, self.loss.build())
        if not isinstance(loss, Loss):
            given = type(loss).__name__
            raise PluginError(f"loss {self.loss.qualified_name} must subclass torchplug.Loss, and gives a {given}")
        if (kind := getattr(loss, "kind", None)) not in TASKS:
            raise PluginError(
                f"loss {self.loss.qualified_name} must have a kind of {', '.join(TASKS)}, and has {kind!r}"
            )
        return loss

    def build_regularizers(self) -> list[Regularizer]:
        """The regularizers.

        Raises:
            PluginError: if a plugin's class violates the contract.
            ConfigurationError: if one is proximal and the optimizer's step applies no prox.
        """
        built = []
        for component in self.regularizers:
            regularizer = initialized(component, component.build())
            if not isinstance(regularizer, Regularizer):
                raise PluginError(f"regularizer {component.qualified_name} must subclass torchplug.Regularizer")
            refuse_penalty(self.optimizer, regularizer, component.name)
            if regularizer.proximal and not regularizer.separable:
                trial = nn.Parameter(torch.zeros(2, 3))
                refuse_coupled_prox(self.optimizer, self.trial_optimizer(trial), trial, component.name)
            built.append(regularizer)
        return built

    def set_precision(self, network: nn.Module, loss: nn.Module) -> None:
        """Double precision for a full-batch optimizer: it decides by digits that single precision does not have."""
        if self.is_full_batch:
            network.double()
            loss.double()

    def parameter_groups(self, network: nn.Module, loss: nn.Module) -> list[dict[str, Any]]:
        """All trainable parameters, with names: by the optimizer's rule, or weight decay kept off biases and norms.

        Settings by patterns of names divide these groups, and come before both: the user's before those that the
        network declares as `group_settings`.

        Raises:
            ConfigurationError: if there is none, or a pattern matches none.
            PluginError: if the rule does not return each of them once.
        """
        everything = [*network.named_parameters(), *((f"loss.{name}", p) for name, p in loss.named_parameters())]
        named = [(name, parameter) for name, parameter in everything if parameter.requires_grad]
        if not named:
            raise ConfigurationError("the network has no trainable parameter")
        settings = self._group_settings(network, [name for name, _ in named])
        return settings.divided(self._groups_of(network, named))

    def _group_settings(self, network: nn.Module, names: Sequence[str]) -> GroupSettings:
        """The user's settings by patterns, over those that the network declares and the optimizer has.

        A network's weight decay is left out where the optimizer's own is 0.
        """
        declared = getattr(network, "group_settings", None)
        if not isinstance(declared, Mapping) or self.is_full_batch or self.optimizer.groups is not None:
            return self.groups
        decays = bool(self.trial_optimizer().defaults.get("weight_decay"))
        keys = [key for key in self._settings_of_groups if key != "weight_decay" or decays]
        settings = self.groups.over(declared, keys, names)
        if settings.sets("lr"):
            self._refuse_one_rate()
        return settings

    @cached_property
    def _settings_of_groups(self) -> list[str]:
        """What can be set by patterns of names: the learning rate where it is a number, and weight decay."""
        rate = self.trial_optimizer().param_groups[0].get("lr")
        is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
        takes_decay = "weight_decay" in registry().parameters(self.optimizer.entry)
        return [*(["lr"] if is_number else []), *(["weight_decay"] if takes_decay else [])]

    def _refuse_one_rate(self) -> None:
        """Refuse a scheduler that would undo the factors of the learning rate."""
        if self.trial_scheduler is not None:
            refuse_one_rate(self.scheduler.name, partial(self.build_scheduler, total_steps=1000, steps_per_epoch=10))  # type: ignore[union-attr]

    def _groups_of(self, network: nn.Module, named: Sequence[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        if self.optimizer.groups is not None or not self.trial_optimizer().defaults.get("weight_decay"):
            return grouped(self.optimizer, named)
        decayed = penalized(network)
        groups: list[dict[str, Any]] = [
            {"params": [(name, p) for name, p in named if name in decayed]},
            {"params": [(name, p) for name, p in named if name not in decayed], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def takes_flat(self, objective: StepObjective) -> bool:
        """Whether a group of parameters may be passed to the optimizer as one tensor."""
        capabilities = self.optimizer.capabilities
        return Capability.ELEMENTWISE in capabilities and Capability.NAMES not in capabilities and not _prox(objective)

    def build_optimizer(
        self, groups: Sequence[Mapping[str, Any]], objective: StepObjective, **planned: int | None
    ) -> Optimizer:
        """The optimizer over groups of parameters, these with names or flat.

        Args:
            groups: of parameters.
            objective: F on a minibatch.
            planned: `total_steps` and `num_data`, for an optimizer that asks for them; None if training has no end.
        """
        known = {name: number for name, number in planned.items() if number is not None}
        optimizer = self._built_over(groups, model=objective.network, **known)
        prox = _prox(objective)
        if prox:
            optimizer.prox = prox  # type: ignore[attr-defined]
        return optimizer

    def build_scheduler(
        self, optimizer: Optimizer, total_steps: int | None, steps_per_epoch: int | None
    ) -> LRScheduler | ReduceLROnPlateau | None:
        """The scheduler; a number of steps is None if training, or an epoch, has no planned end."""
        if self.scheduler is None:
            return None
        planned = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        supplied = {name: steps for name, steps in planned.items() if steps is not None}
        scheduler: LRScheduler | ReduceLROnPlateau = self.scheduler.build(optimizer, **supplied)
        return scheduler

    def _named_if_needed(self, members: Sequence[tuple[str, Tensor] | Tensor]) -> list[Any]:
        if Capability.NAMES in self.optimizer.capabilities:
            return list(members)
        return [member if isinstance(member, Tensor) else member[1] for member in members]

    def trial_optimizer(self, parameter: nn.Parameter | None = None) -> Optimizer:
        """The optimizer before there is a network, over one matrix; by its rule of groups over a vector, too."""
        trial = nn.Module()
        trial.register_parameter("weight", nn.Parameter(torch.zeros(2, 3)) if parameter is None else parameter)
        if self.optimizer.groups is not None:
            trial.register_parameter("bias", nn.Parameter(torch.zeros(3)))
        groups = grouped(self.optimizer, list(trial.named_parameters()))
        return self._built_over(groups, model=trial, total_steps=1000, num_data=1000)

    def _built_over(self, groups: Sequence[Mapping[str, Any]], **supplied: Any) -> Optimizer:
        optimizer = self._constructed(groups, **supplied)
        if any(factor_of(group) != 1.0 for group in groups):
            optimizer = self._constructed(with_rates(groups, optimizer), **supplied)
        label(optimizer, groups)
        return optimizer

    def _constructed(self, groups: Sequence[Mapping[str, Any]], **supplied: Any) -> Optimizer:
        given = [{**unlabelled(group), "params": self._named_if_needed(group["params"])} for group in groups]
        optimizer: Optimizer = self.optimizer.build(given, **supplied)
        return optimizer

    @cached_property
    def linear(self) -> LinearScores | None:
        """The coefficients of a trial network of three features and one score, if the model is linear.

        Raises:
            PluginError: if they are not those of its scores.
        """
        if self.model is None:
            return None
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network = self.build_network(3, 1).eval()
            linear = linear_scores(network)
            if linear is None:
                return None
            for parameter in network.parameters():
                nn.init.normal_(parameter)
            features = torch.randn(4, 3).to(linear.weight)
            declared = linear.weight.shape == (1, 3) and nn.functional.linear(features, *linear)
            if not (isinstance(declared, Tensor) and torch.allclose(network(features), declared, rtol=1e-3, atol=1e-4)):
                name = self.model.qualified_name
                raise PluginError(f"model {name}: linear_scores() gives other coefficients than its scores have")
        return linear

    def _try(self) -> None:
        """Build everything once at the smallest size, because components check their ranges."""
        self.linear  # noqa: B018 it refuses parameters that are out of range
        loss = self.build_loss()
        refuse_loss(self.optimizer, loss, self.loss.name)
        self.build_regularizers()
        self.metric_choice  # noqa: B018 it refuses metrics that do not go with the loss
        if self.groups:
            self.groups.refuse(self.optimizer.name, self._settings_of_groups, self.is_full_batch)
        self.trial_scheduler  # noqa: B018 it refuses parameters that are out of range
        if self.groups.sets("lr"):
            self._refuse_one_rate()


def _prox(objective: StepObjective) -> dict[nn.Parameter, Any]:
    """Parameter → prox(parameter, step) of the one proximal regularizer that acts on it."""
    prox: dict[nn.Parameter, Any] = {}
    for regularizer, named in objective.penalties:
        if not regularizer.proximal:
            continue
        for name, parameter in named.items():
            if parameter in prox:
                raise ConfigurationError(
                    f"two proximal regularizers act on {name}, and the prox of their sum is neither's: "
                    "use elastic_net, or separate them by `include`"
                )
            prox[parameter] = regularizer.prox
    return prox
