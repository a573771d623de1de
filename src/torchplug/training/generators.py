"""Saving and restoring the random generators that a training step may use, for dropout for instance."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's, NumPy's and Python's default generators as tensors, for a checkpoint.

    Args:
        device: the network's device; a CUDA device has its own generator.
    """
    _, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    words_of_numpy = numpy_state["state"]
    states = {
        "torch": torch.get_rng_state(),
        "python": torch.from_numpy(np.array(words, dtype=np.int64)),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(words_of_numpy["key"].astype(np.int64)),
        "numpy_position": torch.tensor([words_of_numpy["pos"], numpy_state["has_gauss"]]),
        "numpy_gauss": torch.tensor(numpy_state["gauss"], dtype=torch.float64),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the generators to the states that `generator_states` returned."""
    torch.set_rng_state(states["torch"])
    random.setstate((3, tuple(states["python"].tolist()), next(iter(states["python_gauss"].tolist()), None)))
    position, has_gauss = states["numpy_position"].tolist()
    key = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, position, has_gauss, states["numpy_gauss"].item()))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
