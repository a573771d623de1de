"""The optimizer's part of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim.optimizer import Optimizer, _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from torchplug.no_grad import unwrapped


class Update:
    """An optimizer's update, past what torch wraps around it, and what may take its place.

    Args:
        optimizer: as it was built: hooks that it has now are its own.

    Attributes:
        switch: the optimizer, if it trains at another point than it evaluates at (`train` and `eval`), else None.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer: Any = optimizer
        self.switch: Any = optimizer if hasattr(optimizer, "train") and hasattr(optimizer, "eval") else None
        self._own_hooks = self._hooks()

    def is_hooked(self) -> bool:
        """Whether somebody looks at its steps."""
        return self._hooks() != self._own_hooks or bool(_global_optimizer_pre_hooks or _global_optimizer_post_hooks)

    def leanest(self) -> Callable[[], Any]:
        """What makes one where gradients are there."""
        if self.is_hooked() or not hasattr(self.optimizer, "update"):
            step: Callable[[], Any] = self.optimizer.step
            return step
        self.optimizer._opt_called = True  # as `step` would tell torch's schedulers, which warn without
        return unwrapped(self.optimizer.update)

    def replace(self, update: Callable[[], None]) -> None:
        """Have all of the optimizer's steps, Lightning's as well, go through another update."""
        self.optimizer.update = update

    def restore(self) -> None:
        """Have them go through its own again."""
        vars(self.optimizer).pop("update", None)

    def _hooks(self) -> int:
        return len(self.optimizer._optimizer_step_pre_hooks) + len(self.optimizer._optimizer_step_post_hooks)
