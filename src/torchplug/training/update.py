"""The optimizer's update, as a part of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim.optimizer import Optimizer, _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from torchplug.no_grad import unwrapped


class Update:
    """Calls the optimizer's update directly, bypassing `Optimizer.step` hooks, or a replacement of it.

    Args:
        optimizer: the optimizer as built; the hooks that it has at this time are its own.
        declared: whether it is declared that `update()` is its step (`Capability.UPDATE`).

    Attributes:
        switch: the optimizer, if it has `train` and `eval` because it evaluates at another point, else None.
    """

    def __init__(self, optimizer: Optimizer, declared: bool = False) -> None:
        self.optimizer: Any = optimizer
        self.declared = declared
        self.switch: Any = optimizer if hasattr(optimizer, "train") and hasattr(optimizer, "eval") else None
        self._own_hooks = self._hooks()

    def is_hooked(self) -> bool:
        """Whether step hooks were registered on the optimizer, or globally."""
        return self._hooks() != self._own_hooks or bool(_global_optimizer_pre_hooks or _global_optimizer_post_hooks)

    def leanest(self) -> Callable[[], Any]:
        """Return the cheapest function that makes an update from the gradients."""
        if self.is_hooked() or not self.declared:
            step: Callable[[], Any] = self.optimizer.step
            return step
        self.optimizer._opt_called = True  # set by `step`; torch's schedulers warn without it
        return unwrapped(self.optimizer.update)

    def replace(self, update: Callable[[], None]) -> None:
        """Replace the update of all of the optimizer's steps, including Lightning's."""
        self.optimizer.update = update

    def restore(self) -> None:
        """Restore the optimizer's own update."""
        vars(self.optimizer).pop("update", None)

    def _hooks(self) -> int:
        return len(self.optimizer._optimizer_step_pre_hooks) + len(self.optimizer._optimizer_step_post_hooks)
