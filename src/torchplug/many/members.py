"""The models of one program: F folds of M configurations, with their starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchplug.data.tabular import TabularData
from torchplug.data_dependent_start import start_from_rows, starts_from_rows
from torchplug.engine.train_step import numeric_settings
from torchplug.many.configurations import Configuration
from torchplug.objective import StepObjective
from torchplug.resolved_config import ResolvedConfig


@dataclass(frozen=True)
class Start:
    """Where a model begins.

    Args:
        parameters: by name.
        generator: what its dropout is drawn from.
        dropout: its rate; 0 without.
    """

    parameters: dict[str, Tensor]
    generator: torch.Generator
    dropout: float


class Members:
    """K = F·M models of one structure; model f·M + m is configuration m in fold f.

    Args:
        configurations: M of them, with one key.
        folds: F prepared data modules, with equal features.
        dtype: of the parameters.

    Raises:
        ConfigurationError: for penalties that do not go with the optimizer.

    Attributes:
        network: one of them, for its structure.
    """

    def __init__(
        self, configurations: Sequence[Configuration], folds: Sequence[TabularData], dtype: torch.dtype
    ) -> None:
        self.configurations = list(configurations)
        self.folds = list(folds)
        self._inputs = len(self._preprocessing(folds[0]).feature_names)
        self._categories = self._preprocessing(folds[0]).category_ranges
        self._outputs = self.loss.outputs(self._preprocessing(folds[0]).info)
        self._dtype = dtype
        self._networks: dict[tuple[str, int, int], tuple[nn.Module, Tensor]] = {}
        self.network = self._drawn(self.configurations[0], 0)[0]
        # before anything is trained, what an optimizer refuses
        self.optimizer(self.configurations[0], self.groups(), self.objective(self.configurations[0]))

    def __len__(self) -> int:
        return len(self.configurations) * len(self.folds)

    def each(self) -> list[Configuration]:
        """The configuration of every model, (K,)."""
        return self.configurations * len(self.folds)

    @property
    def loss(self) -> Any:
        """That of the first configuration."""
        return self.configurations[0].loss

    def objective(self, configuration: Configuration) -> StepObjective:
        """F of a configuration, on the network that stands for all."""
        assert configuration.loss is not None
        return StepObjective(self.network, configuration.loss, configuration.regularizers, configuration.reduction)

    def starts(self) -> list[Start]:
        """Where every model begins, (K,): as a module's own fit would after seeding torch with the seed."""
        starts = []
        own_rows = starts_from_rows(self.network)
        for number, configuration in enumerate(self.each()):
            network, state = self._drawn(configuration, number // len(self.configurations) if own_rows else 0)
            parameters = {name: p.detach() for name, p in network.named_parameters()}
            rates = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
            starts.append(Start(parameters, torch.Generator().set_state(state), rates[0] if rates else 0.0))
        return starts

    def optimizer(self, configuration: Configuration, groups: Sequence[Any], objective: StepObjective) -> Any:
        """A configuration's optimizer over groups of parameters."""
        return components_of(configuration).build_optimizer(groups, objective)

    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of the network that stands for all, with (name, parameter) pairs."""
        return components_of(self.configurations[0]).parameter_groups(self.network, self.loss)

    def _drawn(self, configuration: Configuration, fold: int) -> tuple[nn.Module, Tensor]:
        """The network as it is drawn from the seed for a fold's rows, and the state of torch's generator after it."""
        resolved = components_of(configuration)
        assert resolved.model is not None
        key = (str(resolved.model.spec.plain()), configuration.seed, fold)
        if key not in self._networks:
            build = resolved.build_network if not self._networks else resolved.model.build
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(configuration.seed)
                network = build(self._inputs, self._outputs, categories=self._categories)
                start_from_rows(network, self.folds[fold])
                self._networks[key] = network.to(self._dtype), torch.get_rng_state()
        return self._networks[key]

    @staticmethod
    def _preprocessing(data: TabularData) -> Any:
        assert data.preprocessing is not None, "folds are prepared"
        return data.preprocessing


def components_of(configuration: Configuration) -> ResolvedConfig:
    """The components of a configuration that may share a program."""
    assert configuration.resolved is not None
    return configuration.resolved


def plain_settings(optimizer: Any) -> dict[str, Any]:
    """What an optimizer is beside its settings that are numbers: equal for those that one formula serves."""
    numbers = numeric_settings(optimizer)
    own = {name: value for name, value in vars(optimizer).items() if isinstance(value, bool | int | float | str)}
    return {**own, **{name: value for name, value in optimizer.defaults.items() if name not in numbers}}
