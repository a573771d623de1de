"""The memory layout of parameters during a fit, and the optimizer over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BaseFinetuning
from torch import nn
from torch.optim import Optimizer

from torchplug.chain import Chain
from torchplug.flat_storage import FlatGroups, FlatStorage
from torchplug.training.grouping import FULL_STORAGE
from torchplug.training.strategy import Build, ParameterGroups
from torchplug.training.update import Update


class Layout:
    """Parameters, stored flat where that is possible, and the optimizer over them.

    Args:
        optimizer: over the parameters, or over the groups' flat tensors.
        storage: the flat storage of the parameters; None if they are not flat.
        groups: the flat tensors as the optimizer's parameter groups; None if it has the parameters themselves.
        declared: whether `update()` is declared to be the optimizer's step.

    Attributes:
        optimizer: the optimizer.
        storage: the flat storage; None if there is none or it was released.
        update: the optimizer's part of a step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        storage: FlatStorage | None = None,
        groups: FlatGroups | None = None,
        declared: bool = False,
    ) -> None:
        self.optimizer = optimizer
        self.storage = storage
        self.update = Update(optimizer, declared)
        self._groups = groups
        if groups is not None:
            groups.bind_optimizer(optimizer)
        if storage is not None:
            optimizer.zero_grad = self._zero_gradient  # type: ignore[method-assign]

    @classmethod
    def of(
        cls,
        trainer: Trainer,
        network: nn.Module,
        groups: ParameterGroups,
        build: Build,
        elementwise: bool,
        declared: bool,
    ) -> Layout:
        """Flatten parameters where possible, and build the optimizer; arguments as for `Strategy.configure`."""
        storage = _storage(trainer, network, groups)
        finetuned = any(isinstance(c, BaseFinetuning) for c in trainer.callbacks)  # type: ignore[attr-defined]
        if storage is None or not elementwise or finetuned:  # it sorts the network's own parameters
            return cls(build(groups), storage, declared=declared)
        flat = FlatGroups(storage)
        return cls(build(flat.of(groups)), storage, flat, declared)

    def attach(self) -> None:
        """Make gradients views of the flat storage."""
        if self.storage is not None:
            self.storage.attach()

    def _zero_gradient(self, set_to_none: bool = True) -> None:
        """Replacement of the optimizer's `zero_grad` for flat gradients."""
        assert self.storage is not None, "it is installed only with a storage"
        self.storage.gradient.zero_()
        self.storage.attach()

    def release(self) -> None:
        """Restore parameters and optimizer to memory of their own."""
        if self.storage is None:
            return
        if self._groups is not None:
            self._groups.dissolve(self.optimizer)
        vars(self.optimizer).pop("zero_grad")
        self.storage.release()
        self.storage = self._groups = None


def _storage(trainer: Trainer, network: nn.Module, groups: Sequence[Any]) -> FlatStorage | None:
    """Flatten the groups' parameters if every one of them takes part in every step; else return None."""
    members = [p for group in groups for _, p in group["params"]]
    chain = Chain.of(network)
    uniform = len({(p.dtype, p.device) for p in members}) == 1
    if chain is None or not uniform or trainer.precision not in FULL_STORAGE:
        return None
    if {id(p) for p in members} != {id(p) for p in chain.trainable()}:
        return None
    return FlatStorage([[p for _, p in group["params"]] for group in groups])
