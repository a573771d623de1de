"""Networks in evaluation mode, and whether they take and give what is expected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from torchplug.errors import ConfigurationError
from torchplug.objective import deterministic_eval
from torchplug.registry import Resolved, named_failures


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode and without gradients; then every layer is back in the mode it had."""
    with torch.no_grad(), deterministic_eval(network):
        yield


def check_network(
    network: nn.Module, inputs: int, outputs: int, wanted_by: str, components: Sequence[Resolved] = ()
) -> None:
    """Try the network on two rows of zeros, in evaluation mode.

    Raises:
        ConfigurationError: if it does not take `inputs` features or give `outputs` scores.
        PluginError: if the code of one of the components fails.
    """
    parameter = next(network.parameters(), torch.zeros(()))
    trial = torch.zeros(2, inputs, dtype=parameter.dtype, device=parameter.device)
    try:
        with evaluating(network), torch.random.fork_rng(devices=[]), named_failures(components):
            scores = network(trial)
    except RuntimeError as error:
        raise ConfigurationError(f"the network does not take {inputs} features: {error}") from error
    if not isinstance(scores, Tensor) or scores.shape != (2, outputs):
        given = (
            f"({', '.join(['n', *map(str, scores.shape[1:])])})"
            if isinstance(scores, Tensor)
            else type(scores).__name__
        )
        raise ConfigurationError(f"{wanted_by} needs scores of shape (n, {outputs}), and the network gives {given}")
