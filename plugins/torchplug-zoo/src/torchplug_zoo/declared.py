"""What signatures and docstrings do not say of the libraries' components, by the components' names."""

from __future__ import annotations

from typing import Literal

from torchplug import Capability

TARGETS: dict[str, str] = {}
GROUPS: dict[str, str] = {}
INTERVALS: dict[str, Literal["epoch", "step"]] = {}
LICENCES = {"po_fromage": "CC BY-NC-SA 4.0", "po_nero": "CC BY-NC-SA 4.0"}


def capabilities(name: str) -> frozenset[Capability]:
    """Return what an optimizer supports or needs beyond gradients."""
    return frozenset()
