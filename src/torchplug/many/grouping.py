"""Which models share a program, and why the others do not."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from torchplug.chain import stages_of
from torchplug.data.tabular import TabularData
from torchplug.many.configurations import Configuration, watched_by
from torchplug.many.members import Members, components_of
from torchplug.many.settings import TrainerSettings
from torchplug.preprocessing import DataRequirements
from torchplug.training.annealing import anneals


@dataclass(frozen=True)
class Share:
    """Models that share a program.

    Args:
        members: the models.
        configurations: the number of each of the M configurations.
        folds: the number of each of the F folds.
    """

    members: Members
    configurations: list[int]
    folds: list[int]


@dataclass
class Grouping:
    """Every configuration in every fold, once.

    Args:
        shares: those that share programs.
        alone: configuration and fold of those that train by themselves.
        reasons: why they do.
    """

    shares: list[Share] = field(default_factory=list)
    alone: list[tuple[int, int]] = field(default_factory=list)
    reasons: dict[str, None] = field(default_factory=dict)

    def leave(self, numbers: Sequence[int], folds: Sequence[int], reason: str) -> None:
        """Some train by themselves."""
        self.alone += [(number, fold) for number in numbers for fold in folds]
        self.reasons[reason] = None

    def note(self) -> str:
        """How many models run in how many programs, and why."""
        shared = Shared()
        shared.add(self)
        return f"training {shared}"


@dataclass
class Shared:
    """How many models run in how many programs, over one grouping or several.

    Args:
        models: that share programs.
        programs: which they share.
        alone: models that train by themselves.
        reasons: why they do.
    """

    models: int = 0
    programs: int = 0
    alone: int = 0
    reasons: dict[str, None] = field(default_factory=dict)

    def add(self, grouping: Grouping) -> None:
        """Count those of a grouping."""
        self.models += sum(len(share.members) for share in grouping.shares)
        self.programs += len(grouping.shares)
        self.alone += len(grouping.alone)
        self.reasons |= grouping.reasons

    def __bool__(self) -> bool:
        return bool(self.models or self.alone)

    def __str__(self) -> str:
        parts = []
        if self.models:
            parts.append(f"{_counted(self.models, 'model')} in {_counted(self.programs, 'program')}")
        if self.alone:
            parts.append(f"{_counted(self.alone, 'model')} one by one ({'; '.join(self.reasons)})")
        return " and ".join(parts)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


class Grouper:
    """Prepares data and groups models; what cannot be trained is refused before anything is.

    Args:
        folds: data modules, one per fold.
        settings: the Trainer's.
    """

    def __init__(self, folds: Sequence[TabularData], settings: TrainerSettings) -> None:
        self._folds = list(folds)
        self._settings = settings
        self._prepared: list[tuple[DataRequirements, list[TabularData]]] = []

    def group(self, configurations: Sequence[Configuration]) -> Grouping:
        """Group them.

        Raises:
            DataError: for data that cannot be used.
            ConfigurationError: for components that do not go with the data.
        """
        everywhere = self._settings.obstacle
        if everywhere is None and self._folds[0].stream:
            everywhere = "the tables are streamed"
        grouping, alike = Grouping(), dict[Hashable, list[int]]()
        for number, configuration in enumerate(configurations):
            reason = everywhere or configuration.alone
            if reason is None:
                alike.setdefault(configuration.key, []).append(number)
            else:
                grouping.leave([number], range(len(self._folds)), reason)
        for numbers in alike.values():
            self._divide(grouping, numbers, [configurations[number] for number in numbers])
        return grouping

    def _divide(self, grouping: Grouping, numbers: list[int], members: Sequence[Configuration]) -> None:
        """Folds in which features have the same names share a program, if their network can."""
        module = members[0].module()
        folds = self.prepared(module.data_request())
        shares: dict[Hashable, list[int]] = {}
        for number, data in enumerate(folds):
            module = members[0].module()
            with torch.random.fork_rng(devices=[]):
                module.configure(data)
            network: Any = module.network
            validated = bool(data.sizes["validation"])
            reason = _obstacle(network, data)
            if reason is None and not validated and self._watches_validation(members):
                reason = "a validation metric is watched, and there is no validation"
            if reason is not None:
                grouping.leave(numbers, [number], reason)
                continue
            preprocessing: Any = data.preprocessing
            names = (preprocessing.feature_names, preprocessing.info, validated)
            # other networks are batched over the models of one fold
            shares.setdefault(repr(names) if stages_of(network) is not None else number, []).append(number)
        for chosen in shares.values():
            prepared = [folds[number] for number in chosen]
            shared = Members(members, prepared, self._settings.plan().dtype)
            grouping.shares.append(Share(shared, numbers, chosen))

    def _watches_validation(self, members: Sequence[Configuration]) -> bool:
        monitors = [*self._settings.monitors, *(watched_by(components_of(member)) for member in members)]
        return any(monitor is not None and monitor.startswith("val/") for monitor in monitors)

    def prepared(self, request: DataRequirements) -> list[TabularData]:
        """The folds as a request wants them, each with parts of its own."""
        for known, folds in self._prepared:
            if known == request:
                return folds
        folds = [data.copied() for data in self._folds]
        for data in folds:
            data.trainer = self._settings.trainer
            data.prepare(request)
            data.refuse_range()
        self._prepared.append((request, folds))
        return folds


def _obstacle(network: nn.Module, data: TabularData) -> str | None:
    """Why a network cannot share a program; None if it can."""
    if any(not p.requires_grad for p in network.parameters()):
        return "the network has parameters that are not trained"
    if stages_of(network) is not None:
        return "the network changes while it is trained" if anneals(network) else None
    modules = list(network.modules())
    if any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in modules):
        return "the network drops units and is no chain of linear maps and activations"
    loader: Any = data.train_dataloader()
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in modules) and loader.smallest_batch < 2:
        return "a batch of one row would be normalized"
    return None
