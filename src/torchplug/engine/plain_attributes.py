"""What code reads of modules that is no tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import nn

_Plain = bool | int | float | str
_R = TypeVar("_R")


class PlainAttributes:
    """Flags, numbers and words of modules and of those within, which may be changed while a fit goes on.

    Args:
        modules: whose they are.

    Attributes:
        version: a number for what they were when last looked at: the same number for the same values.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = list(modules)
        self._moving: set[tuple[int, str]] = set()
        self._versions: dict[tuple[tuple[tuple[int, str], _Plain], ...], int] = {}
        self.look()

    def look(self) -> None:
        """See whether somebody has changed one."""
        found = tuple(item for item in self._found().items() if item[0] not in self._moving)
        self.version = self._versions.setdefault(found, len(self._versions))

    def leave_out_what_moves(self, forward: Callable[[], _R]) -> _R:
        """Make a forward pass, and no more look at what it changes by itself, such as a count of calls."""
        before = self._found()
        result = forward()
        after = self._found()
        self._moving |= {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        self.look()
        return result

    def _found(self) -> dict[tuple[int, str], _Plain]:
        inner = (module for outer in self._modules for module in outer.modules())
        return {
            (place, name): value
            for place, module in enumerate(inner)
            for name, value in vars(module).items()
            if isinstance(value, _Plain)
        }
