"""Changes of modules' plain attributes, which compiled code contains as constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import nn

_Plain = bool | int | float | str
_R = TypeVar("_R")


class PlainAttributes:
    """Booleans, numbers and strings of modules and their submodules, which may change during a fit.

    Args:
        modules: the modules.

    Attributes:
        version: identifies the values at the last refresh: equal numbers for equal values.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = list(modules)
        self._ignored: set[tuple[int, str]] = set()
        self._versions: dict[tuple[tuple[tuple[int, str], _Plain], ...], int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the values and update `version`."""
        found = tuple(item for item in self._found().items() if item[0] not in self._ignored)
        self.version = self._versions.setdefault(found, len(self._versions))

    def ignore_changed_by(self, forward: Callable[[], _R]) -> _R:
        """Make a forward pass, and ignore the attributes that it changes from then on, such as a call count."""
        before = self._found()
        result = forward()
        after = self._found()
        self._ignored |= {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        self.refresh()
        return result

    def _found(self) -> dict[tuple[int, str], _Plain]:
        inner = (module for outer in self._modules for module in outer.modules())
        return {
            (place, name): value
            for place, module in enumerate(inner)
            for name, value in vars(module).items()
            if isinstance(value, _Plain)
        }
