"""An optimizer step outside training, to inspect the resulting state."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer


def trial_step(optimizer: Optimizer, *arguments: Any) -> None:
    """Make a step without the hooks that were registered for it or for all optimizers."""
    step: Any = type(optimizer).step
    unhooked = step.__wrapped__ if getattr(step, "hooked", False) else step
    unhooked(optimizer, *arguments)
