"""Estimated memory of training a network, before it is allocated."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import Optimizer

from torchplug.errors import ConfigurationError, PluginError, TrainingError
from torchplug.memory import available_memory, is_lack_of_memory, size
from torchplug.trial_step import trial_step

FULL_SET_COPIES = 4
"""Minimum number of parameter-sized tensors of a full-batch optimizer: values, gradient, step and trial point."""


_SMALL_BYTES = 2**24
"""There is always so much memory: finding out how much there is takes a millisecond."""
_counted: dict[str, tuple[int, int] | None] = {}


def refuse_beyond_memory(key: str, build: Callable[[], nn.Module], optimizer: str, copies: int) -> None:
    """Count a network's parameters without allocating them, and refuse more than fit into memory.

    A network that cannot be built without memory, such as one that computes with its weights, is not counted.

    Args:
        key: equal for equal networks, which are counted once.
        build: builds the network.
        optimizer: the optimizer's name, for the message.
        copies: number of parameter-sized tensors in training: values, gradients, optimizer state.

    Raises:
        ConfigurationError: with the memory that training would take, and that is available.
    """
    if key not in _counted:
        _counted[key] = _count(build)
    counted = _counted[key]
    if counted is None:
        return
    numbers, needed = counted[0], copies * counted[1]
    if needed > _SMALL_BYTES and needed > (there := available_memory()):
        raise ConfigurationError(
            f"the network has {numbers:.3g} parameters, which with gradients and the state of {optimizer} take "
            f"{size(needed)} of memory, and {size(there)} are free: choose smaller layers"
        )


def _count(build: Callable[[], nn.Module]) -> tuple[int, int] | None:
    """A network's parameters, and the bytes that they take."""
    try:
        with torch.device("meta"):
            network = build()
    except (RuntimeError, PluginError) as error:
        if "overflow" in str(error):
            raise ConfigurationError(
                "the network's layers have more numbers than can be counted: choose smaller layers"
            ) from error
        return None
    parameters = list(network.parameters())
    return sum(parameter.numel() for parameter in parameters), sum(parameter.nbytes for parameter in parameters)


def copies_held(optimizer: Optimizer, parameter: nn.Parameter) -> int:
    """Return the number of parameter-sized tensors in training: those in the optimizer's state, and training's own.

    Args:
        optimizer: over that parameter alone; it makes a step.
        parameter: of a size that differs from those of counters.
    """
    parameter.grad = torch.zeros_like(parameter)
    # An optimizer that wants a closure, or numbers beyond its precision, says so elsewhere: its state stays uncounted.
    with contextlib.suppress(Exception):
        trial_step(optimizer)
    state = optimizer.state.get(parameter, {}).values()
    # values, gradient, and the copy by which an update that is not finite is taken back
    return 3 + sum(isinstance(value, torch.Tensor) and value.shape == parameter.shape for value in state)


@contextmanager
def naming_lack_of_memory() -> Iterator[None]:
    """Convert an allocator's error into one with the requested and the available memory.

    Raises:
        TrainingError: for a lack of memory, of the machine or of a GPU; other errors pass through.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        text = " ".join(str(error).split())
        asked = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", text)
        wanted = f" for {asked[1]}" if asked else ""
        left = "" if "CUDA" in text else f", and {size(available_memory())} are free"
        raise TrainingError(f"there is not enough memory{wanted}{left}: choose smaller sizes or batches") from error
