"""A trial of a loss on a few rows: the mistakes of a plugin's `forward` that would train wrongly without an error."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor

from torchplug.components.contracts import Loss
from torchplug.errors import PluginError
from torchplug.registry.component import TargetInfo, Unit


def try_loss(loss: Loss, name: str, target: Tensor, outputs: int) -> None:
    """Refuse a loss that breaks the contract on a few rows of a target.

    The values of n rows are (n,) and finite, and depend on their own row alone and on the scores. They are computed in
    float64, as the range of the target is checked elsewhere.

    Args:
        loss: the loss.
        name: its qualified name.
        target: (n, k) numbers or (n,) class indices, at least one row.
        outputs: the number of scores.

    Raises:
        PluginError: naming the loss, what it returned and what the contract asks for.
    """
    generator = torch.Generator().manual_seed(0)
    scores = (0.5 * torch.randn(len(target), outputs, generator=generator, dtype=torch.float64)).requires_grad_()
    target = target.double() if target.is_floating_point() else target
    n = len(target)
    values = _values(loss, name, scores, target)
    if not isinstance(values, Tensor) or values.shape != (n,):
        given = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        remedy = ": sum over columns, as by .sum(1)" if isinstance(values, Tensor) and values.ndim > 1 else ""
        raise PluginError(f"loss {name}: forward returns {given} for {n} rows, not one value per row ({n},){remedy}")
    if not values.requires_grad:
        raise PluginError(
            f"loss {name}: its values do not depend on the scores for autograd: compute them by torch, without "
            "detach, numpy or item"
        )
    if not bool(values.isfinite().all()):
        raise PluginError(f"loss {name}: forward returns {values.detach().tolist()} at scores near 0: not finite")
    for row in range(n):
        alone = _values(loss, name, scores[row : row + 1], target[row : row + 1])
        if not torch.allclose(alone, values[row : row + 1], rtol=1e-3, atol=1e-5):
            raise PluginError(
                f"loss {name}: the value of a row depends on the other rows of its batch; losses that couple samples, "
                "such as pairwise ranking or Cox, are not supported, as weights, ranks and accumulation divide batches"
            )


def check_units(loss: Loss, name: str, info: TargetInfo) -> None:
    """Refuse a loss whose `units` do not fit its predictions.

    Args:
        loss: the loss.
        name: its qualified name.
        info: the target.

    Raises:
        PluginError: naming the loss and its units.
    """
    each = len(loss.prediction_names(info)) // len(info.columns)
    if loss.task.standardizes and (len(loss.units) not in (1, each) or not set(loss.units) <= set(get_args(Unit))):
        raise PluginError(
            f"loss {name}: its units {loss.units} are no tuple of {', '.join(get_args(Unit))} with one entry, or one "
            f"for each of a target's {each} predictions"
        )


def _values(loss: Loss, name: str, scores: Tensor, target: Tensor) -> Any:
    try:
        return loss(scores, target)
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        shapes = f"scores {tuple(scores.shape)} and targets {tuple(target.shape)}"
        raise PluginError(f"loss {name}: forward fails on {shapes}: {type(error).__name__}: {reason}") from error
