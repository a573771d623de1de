"""Where a network's parameters lie during a fit, and as what an optimizer sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BaseFinetuning
from torch import nn
from torch.optim import Optimizer

from torchplug.chain import Chain
from torchplug.execution.grouping import FULL_STORAGE
from torchplug.flat_storage import FlatGroups, FlatStorage


class Layout:
    """The parameters of one fit: flat where that is possible and makes steps cheaper, else as they came.

    Attributes:
        storage: the flat storage; None where there is none.
    """

    def __init__(self) -> None:
        self.storage: FlatStorage | None = None
        self._groups: FlatGroups | None = None
        self._optimizer: Optimizer | None = None

    def flatten_parameters(
        self, trainer: Trainer, network: nn.Module, groups: Sequence[Mapping[str, Any]], flat: bool
    ) -> list[dict[str, Any]]:
        """Lay parameters out before an optimizer is built.

        Args:
            trainer: of the fit to come.
            network: whose parameters they are.
            groups: of the optimizer, with (name, parameter) pairs.
            flat: whether the optimizer may see a group as one tensor.

        Returns:
            the groups to build it over.
        """
        self.release()
        arranged = [dict(group) for group in groups]
        chain = Chain.of(network)  # of which every parameter takes part in every step
        members = [p for group in groups for _, p in group["params"]]
        alike = len({(p.dtype, p.device) for p in members}) == 1
        if chain is None or not alike or trainer.precision not in FULL_STORAGE:
            return arranged
        if {id(p) for p in members} != {id(p) for p in chain.trainable()}:
            return arranged
        self.storage = FlatStorage([[p for _, p in group["params"]] for group in groups])
        finetuned = any(isinstance(c, BaseFinetuning) for c in trainer.callbacks)  # type: ignore[attr-defined]
        if flat and not finetuned:  # which sorts the network's own parameters
            self._groups = FlatGroups(self.storage)
            arranged = self._groups.of(arranged)
        return arranged

    def bind_optimizer(self, optimizer: Optimizer) -> None:
        """Take up the optimizer that was built over what `arrange` gave, before its state is restored."""
        self._optimizer = optimizer
        if self._groups is not None:
            self._groups.bind_optimizer(optimizer)

    def attach(self) -> None:
        """Have gradients where the parameters' storage wants them."""
        if self.storage is not None:
            self.storage.attach()

    def zero_gradient(self, zero: Callable[[], None]) -> None:
        """Forget the last step's gradient: `zero` does it where parameters keep their own."""
        if self.storage is None:
            zero()
        else:
            self.storage.gradient.zero_()
            self.storage.attach()

    def release(self) -> None:
        """Give parameters and optimizer back as they came."""
        if self._groups is not None and self._optimizer is not None:
            self._groups.dissolve(self._optimizer)
        if self.storage is not None:
            self.storage.release()
        self.storage = self._groups = None
