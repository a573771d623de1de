"""Features and target in the precision that is trained in."""

from __future__ import annotations

import torch
from torch import Tensor

from torchplug.errors import DataError
from torchplug.preprocessing.target import TargetCoding


def refuse_infinite(features: Tensor) -> None:
    """Refuse features (n, d) that the precision they were converted to has turned into infinity.

    Raises:
        DataError: naming the remedy.
    """
    if features.numel() and not torch.isfinite(torch.stack(features.aminmax())).all():
        name = str(features.dtype).removeprefix("torch.")
        raise DataError(
            f"a feature is too large for {name}: set --data.scale standard or robust, or train with "
            "--trainer.precision 64-true"
        )


def refuse_range(coding: TargetCoding, location: Tensor, spread: Tensor, *, squared: bool) -> None:
    """Refuse a target that single precision takes for 0 or infinity.

    Args:
        coding: of the target.
        location: mean of each of its k columns, (k,), in its own units.
        spread: their standard deviations (k,).
        squared: whether squares are taken in single precision as well, as losses do; the full-batch optimizers compute
            in double precision, and their network does not.

    Raises:
        DataError: naming the column, its size and the remedy.
    """
    sizes = torch.hypot((location - coding.center) / coding.scale, spread / coding.scale)
    power, of = (0.5, "squares") if squared else (1.0, "values")
    limits = torch.finfo(torch.float32)
    for column, size in zip(coding.info.columns, sizes.tolist(), strict=True):
        if 0 < size < limits.smallest_normal**power or size > limits.max**power:
            taken_for = "0" if size < 1 else "infinity"
            raise DataError(
                f"target '{column}' has a size of about {size:.1e}, and single precision takes such {of} for "
                f"{taken_for}: set --data.standardize_target true, give it in another unit, or train with "
                "--trainer.precision 64-true"
            )
