"""Initial parameters that a network draws for its training rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_ROWS = 1024
"""About how many rows a network sees."""


def starts_from_rows(network: nn.Module) -> bool:
    """Whether a network draws its initial parameters for the training rows: whether it has `initialize_from`."""
    return callable(getattr(network, "initialize_from", None))


@torch.no_grad()
def start_from_rows(network: nn.Module, data: Any) -> None:
    """Let a new network draw its initial parameters for a sample of the training rows, if it has `initialize_from`.

    Args:
        network: as it was built, on the CPU.
        data: the prepared `TabularData`; every rank has the same rows.
    """
    if starts_from_rows(network):
        features = data.sampled_features(_ROWS)
        network.initialize_from(features.to(next(network.parameters()).dtype))  # type: ignore[operator]
