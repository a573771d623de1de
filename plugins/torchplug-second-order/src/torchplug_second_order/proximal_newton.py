r"""Newton's method for objectives with penalties that have kinks.

    minimize  F(θ) + h(θ),    h = Σ λR of the proximal regularizers

Symbols: θ parameters (p,), g = ∇F, H = ∇²F; r = θ − prox(θ − g), which is zero at a minimum and nowhere else
where F is convex.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchplug import Objective, Outcome, validate
from torchplug_second_order.descents import Line
from torchplug_second_order.method import Descent, Failure, Memory, Point
from torchplug_second_order.proximal_subproblem import Subproblem
from torchplug_second_order.reuse import curvature, serves, start_counting
from torchplug_second_order.searches import Armijo
from torchplug_second_order.solver import Solver
from torchplug_second_order.stopping import Stopping
from torchplug_second_order.warm_start import WarmStart

_PRECISION = 1e-6
"""Of the subproblem's solution, relative."""
_FIRST = 128
"""How many may be added to the active set at once, or half as many as there are others than zero."""
_COPIES = 5
_LEAST_COSINE = 1e-10


@final
class Penalty:
    """h = Σ λR of the proximal regularizers, on flat vectors (p,).

    Attributes:
        prox: parameter → prox(parameter, step), bound to its regularizer; others have no penalty.
    """

    def __init__(self) -> None:
        self.prox: dict[Tensor, Callable[[Tensor, Tensor | float], Tensor]] = {}

    def value(self, point: Tensor, objective: Objective) -> float:
        """The value h(θ)."""
        parts: dict[int, tuple[Any, dict[str, Tensor]]] = {}
        for parameter, part in self._parts(point, objective):
            if parameter in self.prox:
                regularizer: Any = self.prox[parameter].__self__  # type: ignore[attr-defined]
                named = parts.setdefault(id(regularizer), (regularizer, {}))[1]
                named[str(len(named))] = part
        return sum(float(regularizer.coefficient * regularizer(named)) for regularizer, named in parts.values())

    def apply(self, point: Tensor, step: float, objective: Objective, units: list[float] | None = None) -> Tensor:
        """The prox of every parameter.

        Args:
            point: θ (p,).
            step: of the prox.
            objective: whose parameters they are.
            units: multiply the step of each parameter; None: 1.
        """
        parts = self._parts(point, objective)
        steps = [step] * len(parts) if units is None else [step * unit for unit in units]
        moved = [
            self.prox[p](part, own) if p in self.prox else part for (p, part), own in zip(parts, steps, strict=True)
        ]
        return torch.cat([part.reshape(-1) for part in moved])

    def refuse(self) -> None:
        """Refuse a prox whose penalty has no value that could be asked for.

        Raises:
            ValueError: saying what is missing.
        """
        for prox in self.prox.values():
            if not hasattr(getattr(prox, "__self__", None), "coefficient"):
                raise ValueError(
                    f"the prox {prox!r} must be a method of its regularizer, whose value is needed as well"
                )

    @staticmethod
    def _parts(point: Tensor, objective: Objective) -> list[tuple[Tensor, Tensor]]:
        return list(zip(objective.parameters, objective.split(point), strict=True))


@final
class ProximalDescent(Descent[Line]):
    r"""The way to the minimum of a quadratic model of F plus h itself, over an active set.

        p = argmin gᵀp + ½ pᵀBp + h(θ + p),    pⱼ = 0 outside the active set

    The active set has the parameters that are not zero, and those that are but should not stay so. B is H, or what
    BFGS made of an earlier H, restricted to it. The decrease of F + h along p is at least pᵀBp per unit of α.

    Args:
        penalty: h.
        memory_limit: > 0, in GiB.

    Reference: Lee, Sun and Saunders (2014), doi:10.1137/130921428.
    """

    def __init__(self, penalty: Penalty, memory_limit: float) -> None:
        self.penalty = penalty
        self.memory_limit = memory_limit

    def point(self, objective: Objective) -> Point:
        """The value of F + h, and in place of a gradient r."""
        position = objective.point
        residual = self._residual(position, objective.gradient(), objective)
        return Point(position, self.value(objective), residual, float(residual.abs().max()))

    def without_minimum(self, objective: Objective, value: float, initial: float) -> Outcome | None:
        """An outcome where F turns out to have no minimum; with h there is one."""
        return None if self.penalty.prox else super().without_minimum(objective, value, initial)

    def value(self, objective: Objective) -> float:
        """F + h where the parameters stand."""
        # with ∇F from the same pass, as most trials are accepted
        return objective.evaluate()[0] + self.penalty.value(objective.point, objective)

    def refuse(self, objective: Objective) -> None:
        """Refuse a prox without its penalty."""
        self.penalty.refuse()

    def path(self, here: Point, objective: Objective, memory: Memory) -> Line | Failure:
        """The line to the model's minimum."""
        gradient = objective.gradient()
        active = self._active_set(here, memory)
        if 8 * _COPIES * len(active) ** 2 > self.memory_limit * 2**30:
            return Failure(
                f"the {len(active):,} parameters that are not zero are too many for memory_limit={self.memory_limit:g}",
                "raise the penalty, or train with adam or nesterov",
            )
        model = self._model(here, gradient, active, objective, memory)
        if model is None:
            return Failure("the second derivatives are not finite", "check the loss and the model's activations")
        memory["smooth_gradient"] = gradient
        start = here.position[active]
        step = self._subproblem(here.position, gradient, model, active, objective) - start
        # together, so that all ranks follow the same line
        packed = here.position.new_zeros(len(here.position) + 1)
        packed[active] = step
        packed[-1] = -(step @ model @ step)
        packed = objective.broadcast(packed)
        if not math.isfinite(float(packed[-1])):
            return Failure("the subproblem has no finite solution", "add a penalty l2, or scale the features")
        return Line(packed[:-1], float(packed[-1]))

    def update(self, displacement: Tensor, change: Tensor, memory: Memory) -> None:
        """Keep the displacement, until ∇F at its end is known as well."""
        memory["displacement"] = displacement

    def reset(self, memory: Memory) -> bool:
        """Drop the model; worth another try unless it was fresh and in double precision."""
        worn = memory.get("reuse_steps", 0) > 1 or not memory.get("needs_double")
        known = memory.pop("model", None) is not None
        memory["needs_double"] = True
        return known and worn

    def _residual(self, position: Tensor, gradient: Tensor, objective: Objective) -> Tensor:
        return position - self.penalty.apply(position - gradient, 1.0, objective)

    def _subproblem(
        self, position: Tensor, gradient: Tensor, model: Tensor, active: Tensor, objective: Objective
    ) -> Tensor:
        """The active parameters (w,) at the model's minimum, found with every parameter's curvature near 1."""
        units = _units(model, active, objective)
        sizes = torch.tensor([p.numel() for p in objective.parameters], device=active.device)
        root = torch.tensor(units, dtype=position.dtype, device=active.device).sqrt().repeat_interleave(sizes)[active]

        def prox(point: Tensor, step: float) -> Tensor:
            whole = position.index_copy(0, active, root * point)
            return self.penalty.apply(whole, step, objective, units)[active] / root

        def penalty(point: Tensor) -> float:
            return self.penalty.value(position.index_copy(0, active, root * point), objective)

        scaled = root * model * root[:, None]
        start = position[active] / root
        return root * Subproblem(root * gradient[active], scaled, start, prox, penalty).solve(_PRECISION)

    def _active_set(self, here: Point, memory: Memory) -> Tensor:
        """Indices (w,), increasing: those of before as long as they suffice."""
        support = here.position != 0.0
        moving = (here.gradient != 0.0) | support
        known: Tensor | None = memory.get("active_set")
        if known is not None:
            known = known.long()  # a checkpoint brings it back as floating point
            inside = torch.zeros_like(moving).index_fill_(0, known, True)
            if not bool((moving & ~inside).any()):
                return known
        memory.pop("model", None)
        pull = here.gradient.abs().masked_fill(support, 0.0)
        most = max(_FIRST, int(support.sum()) // 2)
        added = torch.topk(pull, min(most, len(pull))).indices
        active = torch.nonzero(support.index_fill(0, added[pull[added] > 0.0], True)).squeeze(1)
        memory["active_set"] = active
        return active

    def _model(
        self, here: Point, gradient: Tensor, active: Tensor, objective: Objective, memory: Memory
    ) -> Tensor | None:
        """B (w, w), or None where it is not finite."""
        displacement: Tensor | None = memory.pop("displacement", None)
        before: Tensor | None = memory.pop("smooth_gradient", None)
        norm = float(here.gradient.norm())
        cost = objective.hessian_cost * len(active) / objective.size
        serving = serves(memory, norm, cost)
        model: Tensor | None = memory.get("model")
        if model is None or not serving:
            found = curvature(objective, memory, active)
            start_counting(memory)
            serves(memory, norm, cost)
            memory.pop("model", None)
            # one that had to be modified is used once
            if found.shift == 0.0:
                memory["model"] = found.matrix
            return found.matrix if math.isfinite(found.shift) else None
        if displacement is not None and before is not None:
            model = _corrected(model, displacement[active], (gradient - before)[active])
            memory["model"] = model
        return model


@final
class ProximalNewton(Solver):
    r"""Newton's method for penalties with kinks: minima with exact zeros, and F to the last digit.

        θ ← θ + αp,    p = argmin ∇Fᵀp + ½ pᵀBp + Σ λR(θ + p)

    Σ λR are the regularizers with `proximal: true`, F is all the rest. B is ∇²F over the active set: the parameters
    that are not zero, or should not stay so. It is kept, corrected by BFGS updates, while that pays.

    Args:
        params: what to optimize; given by the core.
        gradient_tolerance: ≥ 0; stop at ½ pᵀBp ≤ gradient_tolerance² · |F + Σ λR|, which bounds from below what p
            would decrease F by in the model; see `Stopping`.
        step_tolerance: ≥ 0; stop at a full step of |Δθⱼ| ≤ step_tolerance · max |θⱼ|, over all points so far.
        loss_tolerance: ≥ 0; stop at a decrease, expected and found, of at most loss_tolerance · |F|.
        max_iterations: the most steps; None: the trainer's epochs decide.
        memory_limit: > 0, in GiB, for B.
        warm_start: whether to begin on a sample of the rows, where n p² ≥ 10⁸ and 4 max(n/16, 5p) ≤ n.

    Attributes:
        prox: the proximal operator of each penalized parameter, a method of its regularizer; set by the core.

    Raises:
        ValueError: if a parameter is out of range.

    Reference: Lee, Sun and Saunders (2014), doi:10.1137/130921428; L1: Friedman, Hastie and Tibshirani (2010),
    doi:10.18637/jss.v033.i01.
    """

    def __init__(
        self,
        params: ParamsT,
        gradient_tolerance: float = 1e-9,
        step_tolerance: float = 1e-12,
        loss_tolerance: float = 1e-14,
        max_iterations: int | None = None,
        memory_limit: float = 4.0,
        warm_start: bool = True,
    ) -> None:
        validate.positive(memory_limit=memory_limit)
        self._penalty = Penalty()
        descent = ProximalDescent(self._penalty, memory_limit)
        search = Armijo(value=descent.value, point=descent.point)
        stopping = Stopping(gradient_tolerance, step_tolerance, loss_tolerance, max_iterations)
        super().__init__(params, WarmStart(descent, search) if warm_start else descent, search, stopping)

    @property
    def prox(self) -> dict[Tensor, Callable[[Tensor, Tensor | float], Tensor]]:
        """The proximal operator of each penalized parameter."""
        return self._penalty.prox

    @prox.setter
    def prox(self, prox: dict[Tensor, Callable[[Tensor, Tensor | float], Tensor]]) -> None:
        self._penalty.prox = prox


def _units(model: Tensor, active: Tensor, objective: Objective) -> list[float]:
    """For each parameter the power of 4 nearest to 1 / (mean curvature): multiplying by its root rounds nothing."""
    units, first = [], 0
    for parameter in objective.parameters:
        last = first + parameter.numel()
        own = model.diagonal()[(active >= first) & (active < last)]
        mean = float(own.mean()) if len(own) else 1.0
        first = last
        units.append(math.ldexp(1.0, -2 * round(0.5 * math.log2(mean))) if 0.0 < mean < math.inf else 1.0)
    return units


def _corrected(model: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """B − (Bs)(Bs)ᵀ/sᵀBs + yyᵀ/sᵀy, if there is curvature along s."""
    curved = s @ y
    if not float(curved) > _LEAST_COSINE * float(s.norm() * y.norm()):
        return model
    along = model @ s
    return model - torch.outer(along, along / (s @ along)) + torch.outer(y, y / curved)
