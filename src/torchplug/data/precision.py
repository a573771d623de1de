"""Features in the precision that is trained in."""

from __future__ import annotations

import torch
from torch import Tensor

from torchplug.errors import DataError


def refuse_infinite(features: Tensor) -> None:
    """Refuse features (n, d) that the precision they were converted to has turned into infinity.

    Raises:
        DataError: naming the remedy.
    """
    if features.numel() and not torch.isfinite(torch.stack(features.aminmax())).all():
        name = str(features.dtype).removeprefix("torch.")
        raise DataError(f"a feature is too large for {name}: standardize, or train with --trainer.precision 64-true")
