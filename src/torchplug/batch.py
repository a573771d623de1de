"""What travels from a loader to a training or evaluation step."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """This rank's share of one global batch.

    Args:
        features: any pytree; the core never opens it.
        target: (n, k) floats or (n,) class indices.
        weight: (n,) sample weights, of mean 1 over the training part.
        samples: |B|, the samples of the whole optimizer step: all ranks, all micro-batches of the
            accumulation window.
        micro_batches: how many micro-batches this window has (the last of an epoch may be shorter).
    """

    features: Any
    target: Tensor
    weight: Tensor
    samples: int
    micro_batches: int = 1
