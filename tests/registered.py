"""Every registered component of the project, whichever distribution owns it: what conformance tests share.

Those of torchplug-zoo are other libraries', which owe the project no contract: it has tests of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from torchplug import Capability, Family
from torchplug.registry import Entry, registry

ZOO = "torchplug-zoo"

# Values for parameters that have no default.
GIVEN = {("scheduler", "manual"): {"table": {2: 0.01}}}


def components(*families: Family, having: Callable[[Entry], bool] = lambda _: True) -> pytest.MarkDecorator:
    """Run a test for each of these."""
    entries = [
        entry
        for family in families
        for entry in registry().entries(family)
        if entry.distribution != ZOO and having(entry)
    ]
    return pytest.mark.parametrize("entry", entries, ids=lambda e: f"{e.family.value}-{e.name}")


def parameters_for(entry: Entry) -> dict[str, object]:
    """What must be given to build it."""
    return dict(GIVEN.get((entry.family.value, entry.name), {}))


def resolved(entry: Entry, **parameters: object):
    """The component with these parameters."""
    spec = {"name": entry.qualified_name, "parameters": parameters_for(entry) | parameters}
    return registry().resolve(entry.family, spec)


def weights(count: int = 1) -> list[nn.Parameter]:
    """Small matrices to optimize."""
    generator = torch.Generator().manual_seed(11)
    return [nn.Parameter(torch.randn(2, 3, generator=generator, dtype=torch.float64)) for _ in range(count)]


def is_full_batch(entry: Entry) -> bool:
    """Whether it is an optimizer that sees the whole training set."""
    return Capability.OBJECTIVE in entry.component.capabilities
