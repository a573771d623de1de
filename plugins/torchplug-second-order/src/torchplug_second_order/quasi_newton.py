"""Directions from the changes of the gradient alone.

Symbols: s a displacement, y the change of ∇F over it; Hₖ approximates the inverse of ∇²F.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from torchplug import Objective, validate
from torchplug_second_order.descents import Line, descending, first_length
from torchplug_second_order.method import Descent, Failure, Memory, Point
from torchplug_second_order.sizes import refuse_memory

_LEAST_COSINE = 1e-10
"""A pair with less curvature than this share of ‖s‖‖y‖ would spoil the approximation, and is skipped."""
_REMEDY = "check the loss's derivative"


def _is_bad(displacement: Tensor, change: Tensor) -> bool:
    least = _LEAST_COSINE * float(displacement.norm() * change.norm())
    return not float(displacement @ change) > least


@final
class BFGS(Descent[Line]):
    r"""Broyden, Fletcher, Goldfarb and Shanno's direction, with a dense approximation of the inverse Hessian.

        d = −Hₖ g
        Hₖ₊₁ = (I − ρ s yᵀ) Hₖ (I − ρ y sᵀ) + ρ s sᵀ,    ρ = 1/(yᵀs)

    The first Hₖ is (sᵀy / yᵀy) I. A pair without positive curvature is skipped.

    Args:
        memory_limit: > 0, in GiB.

    Raises:
        ValueError: if memory_limit is out of range.

    Reference: Nocedal and Wright (2006), Numerical Optimization, algorithm 6.1 and equation 6.20.
    """

    def __init__(self, memory_limit: float = 4.0) -> None:
        validate.positive(memory_limit=memory_limit)
        self.memory_limit = memory_limit

    def refuse_size(self, size: int) -> None:
        """Refuse approximations that do not fit."""
        refuse_memory(
            2 * size**2, self.memory_limit, f"the inverse Hessian of {size:,} parameters", "the optimizer lbfgs"
        )

    def path(self, here: Point, objective: Objective, memory: Memory) -> Line | Failure:
        """The line along −Hₖ g; before anything is learnt, along −g."""
        inverse: Tensor | None = memory.get("inverse_hessian")
        if inverse is None:
            return descending(-here.gradient, here, objective, _REMEDY, first_length(here.gradient))
        return descending(-(inverse @ here.gradient), here, objective, _REMEDY)

    def update(self, displacement: Tensor, change: Tensor, memory: Memory) -> None:
        """Update the approximation, unless the pair is bad."""
        s, y = displacement, change
        if _is_bad(s, y):
            return
        inverse: Tensor | None = memory.get("inverse_hessian")
        if inverse is None:
            inverse = torch.diag(((s @ y) / (y @ y)).expand(len(s)))
        curvature = s @ y
        product = inverse @ y
        # written as H − s uᵀ − u sᵀ, so that symmetry is kept
        u = product / curvature - s * (0.5 * (1.0 + (y @ product) / curvature) / curvature)
        memory["inverse_hessian"] = inverse.addr_(s, u, alpha=-1.0).addr_(u, s, alpha=-1.0)

    def reset(self, memory: Memory) -> bool:
        """Drop the approximation."""
        return memory.pop("inverse_hessian", None) is not None


@final
class LimitedBFGS(Descent[Line]):
    r"""The BFGS direction from the last m pairs alone, in 4mp operations.

    Args:
        history_size: m ≥ 1, how many pairs are kept: 16mp bytes.

    Raises:
        ValueError: if history_size is not positive.

    Reference: Nocedal (1980), doi:10.1090/S0025-5718-1980-0572855-7; Nocedal and Wright (2006), algorithm 7.4.
    """

    def __init__(self, history_size: int = 10) -> None:
        if history_size < 1:
            raise ValueError(f"history_size must be at least 1, got {history_size}")
        self.history_size = history_size

    def path(self, here: Point, objective: Objective, memory: Memory) -> Line | Failure:
        """The line along the two loops' result; before anything is learnt, along −g."""
        if not memory.get("changes"):
            return descending(-here.gradient, here, objective, _REMEDY, first_length(here.gradient))
        pairs = list(zip(memory["displacements"], memory["changes"], strict=True))
        s, y = pairs[-1]
        unit = (s @ y) / (y @ y)
        return descending(two_loops(here.gradient, pairs, lambda v: unit * v).neg_(), here, objective, _REMEDY)

    def update(self, displacement: Tensor, change: Tensor, memory: Memory) -> None:
        """Keep the pair, unless it is bad, and let the oldest go."""
        if _is_bad(displacement, change):
            return
        memory["displacements"] = [*memory.get("displacements", []), displacement][-self.history_size :]
        memory["changes"] = [*memory.get("changes", []), change][-self.history_size :]

    def reset(self, memory: Memory) -> bool:
        """Drop the pairs."""
        memory.pop("displacements", None)
        return bool(memory.pop("changes", None))


def two_loops(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]], initial: Callable[[Tensor], Tensor]) -> Tensor:
    """Hₖ g (p,), from H₀ and the pairs (s, y) that were met since, oldest first.

    Args:
        gradient: g (p,).
        pairs: each with yᵀs > 0.
        initial: v ↦ H₀ v.
    """
    result = gradient.clone()
    kept = []
    for s, y in reversed(pairs):
        curvature = s @ y
        weight = (s @ result) / curvature
        result.sub_(weight * y)
        kept.append((weight, curvature))
    result = initial(result)
    for (s, y), (weight, curvature) in zip(pairs, reversed(kept), strict=True):
        result.add_((weight - (y @ result) / curvature) * s)
    return result
