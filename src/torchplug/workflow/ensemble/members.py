"""What the members of an ensemble differ in: seed, bootstrap sample or fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from torchplug.data.folds import Fold
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.many.configurations import Configuration
from torchplug.workflow.folds import divided

By = Literal["seed", "bootstrap", "folds"]
"""What members differ in."""
_OTHERWISE = "choose bootstrap or folds"


def configurations(config: Mapping[str, Any], members: int, by: By, seed: int) -> list[dict[str, Any]]:
    """The configurations of `fit_many`: one for each seed, or one for all samples or folds."""
    return [{**config, "seed": seed + member} for member in range(members if by == "seed" else 1)]


def rows(data: TabularData, members: int, by: By, seed: int, configuration: Configuration) -> list[Fold] | None:
    """The rows that train and validate, of each member; None where all have those of the split.

    Raises:
        ConfigurationError: if members of different seeds would be equal.
        DataError: if the rows cannot be divided so.
    """
    if by == "seed":
        _refuse_equal(configuration)
        return None
    kind = configuration.module().loss.kind
    if by == "bootstrap":
        return data.bootstrap(members, seed=seed, kind=kind)
    return divided(data, members, kind=kind, seed=seed)


def _refuse_equal(configuration: Configuration) -> None:
    """Refuse models that are equal for every seed, which decides where networks start and what dropout draws.

    Raises:
        ConfigurationError: saying why they are.
    """
    own, components = configuration.given.get("model"), configuration.components
    if isinstance(own, nn.Module):
        if not _drops(own):
            raise ConfigurationError(
                "members by seed would be equal, because a network of your own starts each of them at its own "
                f"parameters: {_OTHERWISE}"
            )
        return
    if components.linear is not None and components.is_full_batch:
        raise ConfigurationError(
            f"members by seed would be equal, because {components.optimizer.name} finds the one solution of a linear "
            f"model from every start: {_OTHERWISE}"
        )
    with torch.random.fork_rng(devices=[]):
        networks = [_built(configuration, seed) for seed in (0, 1)]
    first, second = (list(network.parameters()) for network in networks)
    if not _drops(networks[0]) and all(map(torch.equal, first, second)):
        assert components.model is not None, "it is built by name"
        raise ConfigurationError(
            f"members by seed would be equal, because {components.model.name} starts at the same parameters from every "
            f"seed: {_OTHERWISE}"
        )


def _built(configuration: Configuration, seed: int) -> nn.Module:
    """The network for three features and one score."""
    torch.manual_seed(seed)
    return configuration.components.build_network(3, 1)


def _drops(network: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in network.modules())
