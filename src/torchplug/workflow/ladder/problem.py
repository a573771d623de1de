"""What the rungs train on: encoded rows, the network at its start, and how steps are made."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchplug.batch import Rows, SplitName
from torchplug.components.contracts import Loss
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.many.settings import TrainerSettings
from torchplug.module import ComponentModule
from torchplug.workflow.diagnosis.baselines import least_losses

_DTYPES = {"32-true": torch.float32, "64-true": torch.float64}


@dataclass(frozen=True)
class Problem:
    """A configuration and its data, ready to be trained on some of the rows.

    Args:
        module: configured; its network is never trained.
        train: the training split.
        validation: the validation split; None where that has no rows.
        batch_size: rows of a minibatch.
        clip: the Trainer's gradient_clip_val.
        clip_by_norm: whether that bounds the norm, or else each element.
        steps: the most steps of a rung.
        seed: of networks, batches and shuffled targets.
    """

    module: ComponentModule
    train: Rows
    validation: Rows | None
    batch_size: int
    clip: float | None
    clip_by_norm: bool
    steps: int
    seed: int

    @classmethod
    def of(
        cls, module: ComponentModule, data: TabularData, settings: TrainerSettings, steps: int, seed: int
    ) -> Problem:
        """Read the splits.

        Raises:
            ConfigurationError: for streamed tables, and a precision that rounds within the network.
            DataError: if the table cannot be used.
        """
        if data.stream:
            raise ConfigurationError("ladder holds the training split in memory: leave out --data.stream")
        trainer = settings.trainer
        if str(trainer.precision) not in _DTYPES:
            raise ConfigurationError(f"ladder trains in 32-true or 64-true precision, not {trainer.precision}")
        data.prepare(module.data_request())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module.configure(data)
        is_double = module.resolved.is_full_batch or str(trainer.precision) == "64-true"
        dtype = torch.float64 if is_double else torch.float32
        network = module.network
        assert network is not None, "it is configured"
        network.cpu().to(dtype)
        module.loss.to(dtype)
        train = _rows(data, "train", dtype)
        assert train is not None, "a table without training rows is refused"
        return cls(
            module=module,
            train=train,
            validation=_rows(data, "validation", dtype),
            batch_size=train.features.shape[0] if data.batch_size == "full" else int(data.batch_size),
            clip=trainer.gradient_clip_val,
            clip_by_norm=str(getattr(trainer.gradient_clip_algorithm, "value", "norm") or "norm") == "norm",
            steps=steps,
            seed=seed,
        )

    @property
    def loss(self) -> Loss:
        """The loss, as it is before training."""
        return self.module.loss

    @property
    def has_classes(self) -> bool:
        """Whether targets are classes."""
        return self.loss.task.has_classes

    @property
    def parameters(self) -> int:
        """How many parameters the network has, frozen ones included."""
        return sum(p.numel() for p in self.network().parameters())

    def network(self) -> nn.Module:
        """The network at its start, a new copy."""
        assert self.module.network is not None, "it is configured"
        return copy.deepcopy(self.module.network)

    def least_loss(self, rows: Rows) -> float:
        """The mean loss of these rows that no scores fall below; for classes."""
        preprocessing = self.module.preprocessing
        assert preprocessing is not None, "it is configured"
        least = least_losses(self.loss, rows.target, self.loss.outputs(preprocessing.info))
        return float((least * rows.weight).mean())

    def spread(self) -> Tensor:
        """Mean squared deviation of each target column over the training split, (k,); for numbers."""
        return self.train.target.double().var(dim=0, correction=0)

    def order(self) -> Tensor:
        """The rows of the training split in the order in which rungs take them: classes in turn, else at random."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randperm(len(self.train.weight), generator=generator)
        target = self.train.target[drawn]
        if not self.has_classes or (target.ndim > 1 and target.shape[1] > 1):
            return drawn
        labels = target.reshape(-1)
        place = torch.zeros(len(labels), dtype=torch.int64)
        for label in torch.unique(labels):
            members = (labels == label).nonzero().reshape(-1)
            place[members] = torch.arange(len(members))
        return drawn[torch.argsort(place, stable=True)]


def subset(rows: Rows, index: Tensor) -> Rows:
    """Some rows, with weights of mean 1."""
    weight = rows.weight[index]
    return Rows(rows.features[index], rows.target[index], weight / weight.mean())


def shuffled(rows: Rows, seed: int) -> Rows:
    """The rows with their targets in random order."""
    order = torch.randperm(len(rows.weight), generator=torch.Generator().manual_seed(seed + 1))
    return Rows(rows.features, rows.target[order], rows.weight)


def _rows(data: TabularData, split: SplitName, dtype: torch.dtype) -> Rows | None:
    split_rows = data.rows_of(split)
    if not split_rows.samples:
        return None
    read: Any = split_rows.read(0, split_rows.samples)
    target = read.target.to(dtype) if read.target.is_floating_point() else read.target
    return Rows(read.features.to(dtype), target, read.weight.to(dtype))
