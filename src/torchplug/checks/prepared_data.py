"""What checks ask of prepared data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torchplug.batch import SplitName


class PreparedData(Protocol):
    """Data whose splits are known, such as `TabularData`."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """The number of rows of each split."""
        ...

    def batches(self, split: SplitName, world: int = 1) -> int:
        """How many batches of a split an epoch has on each of `world` ranks."""
        ...
