"""Losses of `torch.nn` as torchplug's: one value per sample.

A class of this module is made for each of `KINDS` when it is asked for; `Elementwise` wraps any other.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from torchplug import Loss
from torchplug_zoo.kinds import KINDS, KINKED, Kind

_LEFT_OUT = ("size_average", "reduce", "reduction", "weight", "pos_weight", "ignore_index", "log_input")
"""Arguments that the core decides on, and tensors."""


class Elementwise(Loss):
    r"""A loss of torch whose values are those of single samples.

        ℓ(z, y) = Σ_k ℓ_torch(z_k, y_k)

    Args:
        loss: the loss, with `reduction="none"`.
        kind: what it is for: regression, binary, margin (whose targets 0 and 1 are −1 and 1 for torch), count (of the
            logarithm of the rate) or multiclass.
        smooth: whether it is differentiable everywhere.

    Shape:
        scores (n, k), target as the kind has it → (n,).

    Raises:
        ValueError: if the loss reduces its values.

    Note: several columns of a target are added, where torch averages over them.
    """

    def __init__(self, loss: nn.Module, kind: Kind, smooth: bool = True) -> None:
        super().__init__()
        if getattr(loss, "reduction", "none") != "none":
            raise ValueError(f'{type(loss).__name__} must have reduction="none", and has {loss.reduction!r}')
        self.loss = loss
        self.kind = kind
        self.smooth = smooth

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the per-sample values (n,)."""
        if self.kind == "margin":
            target = 2 * target - 1
        values: Tensor = self.loss(scores, target)
        return values.flatten(1).sum(dim=1) if values.ndim > 1 else values


def __getattr__(name: str) -> Any:
    if name not in KINDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = _made(getattr(nn, name), KINDS[name])
    globals()[name] = made  # so that every copy and pickle finds this class
    return made


def _made(torch_loss: type[nn.Module], kind: Kind) -> type[Elementwise]:
    """The loss as a class whose parameters are those of torch's."""
    own = [p for p in inspect.signature(torch_loss).parameters.values() if p.name not in _LEFT_OUT]

    def __init__(self: Elementwise, **parameters: Any) -> None:  # noqa: N807
        Elementwise.__init__(self, torch_loss(**parameters, reduction="none"), kind, torch_loss.__name__ not in KINKED)

    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    __init__.__signature__ = inspect.Signature([itself, *own])  # type: ignore[attr-defined]
    __init__.__wrapped__ = torch_loss.__init__  # type: ignore[attr-defined]  # whose annotations these are
    members = {"__init__": __init__, "__doc__": torch_loss.__doc__, "__module__": __name__}
    return type(torch_loss.__name__, (Elementwise,), members)
