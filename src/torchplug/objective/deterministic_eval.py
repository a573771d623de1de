"""The network as a function of its parameters alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def deterministic_eval(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and full precision; then every layer is back in the mode it had.

    The closure of a step may run under autocast and its trials would not: solvers stall on the difference.
    """
    device = next((p.device.type for p in network.parameters()), "cpu")
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for module in training:
            module.training = True
