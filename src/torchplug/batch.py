"""Batches, as loaders pass them to training and evaluation steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

SplitName = Literal["train", "validation", "test"]


class Batch(NamedTuple):
    """One rank's rows of a global batch.

    Args:
        features: any pytree; the core never inspects it.
        target: (n, k) floats or (n,) class indices.
        weight: (n,) sample weights, of mean 1 over the training split.
        samples: |B|, the samples of the whole optimizer step: all ranks, all micro-batches of the
            accumulation window.
        micro_batches: number of micro-batches in this window (the last of an epoch may be shorter).
    """

    features: Any
    target: Tensor
    weight: Tensor
    samples: int
    micro_batches: int = 1


class Rows(NamedTuple):
    """Some rows of the training split, in the order in which they lie there.

    Args:
        features: any pytree; the core never opens it.
        target: (n, k) floats or (n,) class indices.
        weight: (n,) sample weights, of mean 1 over the training split.
    """

    features: Any
    target: Tensor
    weight: Tensor


class BatchBlock(NamedTuple):
    """Consecutive batches that were read together.

    Args:
        batches: each of one optimizer step.
        uniform: whether every weight in them is 1.
    """

    batches: list[Batch]
    uniform: bool


class StepGroup(Protocol):
    """Batches of consecutive optimizer steps: the leading ones are trained on without the trainer, the last by it."""

    leading: int
    """How many batches come before the last."""

    @property
    def aligned(self) -> bool:
        """Whether several leading batches may be read as one tensor; may change once some were read."""

    def blocks(self, start: int, count: int, place: Callable[[Rows], Rows]) -> Iterator[BatchBlock]:
        """`count` of the leading batches from the `start`-th on; `place` puts rows where the network is."""

    def concatenated(self, start: int, count: int) -> Rows:
        """The rows of `count` leading batches from the `start`-th on, one batch after the other."""

    def last(self) -> Batch:
        """Read the last batch, once the leading ones were trained on."""


Groups = Callable[[Callable[[], int]], Iterator[StepGroup]]
"""Gives an epoch's groups of batches; its argument is asked for each group's size."""


class TrainingSet(Protocol):
    """The whole training split, read in blocks; a full-batch optimizer's loader yields it once per epoch.

    Not iterable and without `to`: Lightning would traverse it or copy it to a device. `feature_names`, for
    messages, is optional.
    """

    samples: int
    """n, the rows of all ranks together."""

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`, counted over the whole training split; any rank may read any of them, in float64."""
        ...


def as_batch(batch: Any, index: int, *, world: int, window: int, batches: float, indices: bool = False) -> Batch:
    """Read a batch of any loader: (features, target) or (features, target, weight).

    Other ranks and micro-batches are assumed to be of equal size.

    Args:
        batch: a `Batch`, which is returned unchanged, or a sequence of two or three tensors.
        index: its position in the epoch, from 0.
        world: the number of ranks.
        window: how many batches an optimizer step accumulates.
        batches: how many batches the epoch has; its last window may be shorter.
        indices: whether a target (n,) holds class indices; any other is taken for (n, 1) numbers.
    """
    if isinstance(batch, Batch):
        return batch
    features, target, *rest = batch
    if target.ndim == 1 and not indices:
        target = target.unsqueeze(1)
    if not indices and not target.is_floating_point():
        target = target.to(torch.get_default_dtype())
    weight = rest[0] if rest else torch.ones(len(target), device=target.device)
    micro_batches = int(min(window, batches - index // window * window))
    return Batch(features, target, weight, len(target) * world * micro_batches, micro_batches)
