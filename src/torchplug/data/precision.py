"""Features and targets in the precision that is trained in."""

from __future__ import annotations

import torch
from torch import Tensor

from torchplug.errors import DataError

_REMEDY = "train with --trainer.precision 64-true"


def refuse_beyond(features: Tensor, target: Tensor, dtype: torch.dtype) -> None:
    """Refuse numbers that a precision turns into infinity, or whose squares it turns into zero.

    Args:
        features: (n, d), in the precision.
        target: (n, k) in float64, or class indices.
        dtype: the precision.

    Raises:
        DataError: naming the remedy.
    """
    name = str(dtype).removeprefix("torch.")
    if features.numel() and not torch.isfinite(torch.stack(features.aminmax())).all():
        raise DataError(f"a feature is too large for {name}: standardize, or {_REMEDY}")
    if not target.is_floating_point() or not target.numel():
        return
    largest, limits = float(target.abs().max()), torch.finfo(dtype)
    if largest > limits.max:
        raise DataError(
            f"the target has values up to {largest:.3g}, too large for {name}: change its unit, or {_REMEDY}"
        )
    if 0.0 < largest < limits.smallest_normal**0.5:
        raise DataError(
            f"the target has no value beyond {largest:.3g}, whose square is 0 in {name}: change its unit, set "
            f"--data.standardize_target true, or {_REMEDY}"
        )
