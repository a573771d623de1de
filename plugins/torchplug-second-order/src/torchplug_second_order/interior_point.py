"""Piecewise linear losses of linear models, to the last digits: an interior-point method."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, final

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from torchplug import Iteration, Objective, Outcome, validate
from torchplug_second_order.linear_solvers import EPSILON
from torchplug_second_order.piecewise_program import Program, numbers_held, refuse_concave
from torchplug_second_order.sizes import refuse_memory

_MARGIN = 0.1
"""Of a typical distance to a knot, what every distance begins with at least."""
_BACK = 0.9995
"""Of the way to the boundary."""
_SLOPE = 1e-9
"""Of the gradient's terms: what is left of the gradient at a solution."""
_SHORT = 1e-6
"""Steps of less than this share, one after another, lead nowhere."""
_PATIENCE = 5
_VANISHED = 64 * EPSILON
"""Of the first F: a loss that small consists of rounding."""


@final
class InteriorPoint(Optimizer):
    r"""Primal-dual interior-point method for convex piecewise linear losses of models that are linear in θ.

        minimize  Σₜ δₜ max(0, sₜ(θ)) + gᵀθ + ½θᵀDθ,    sₜ = pₜ − nₜ,    0 ≤ xₜ ≤ δₜ
        pₜ (δₜ − xₜ) = μ,    nₜ xₜ = μ,    ∇(Σ xₜ sₜ) + g + Dθ = 0,    μ → 0

    s are the scores' distances beyond the knots of the loss, δ the rises of its slope there, x the slopes at the
    solution, and D is from penalties such as `l2`. Each epoch is one step of Mehrotra's predictor and corrector, which
    costs about as much as one of Newton's method; there are some 10 to 40. The duality gap bounds F(θ) − F(θ*), so that
    what has `converged` is a minimum to within gap_tolerance.

    Args:
        params: what to optimize; given by the core.
        gap_tolerance: > 0; stop at a duality gap of at most gap_tolerance · |F|.
        max_iterations: the most steps; None: the trainer's epochs decide.
        memory_limit: > 0, in GiB, for the features and some vectors of the length of the table.

    Attributes:
        outcome: how it ended; None while it has not. A finished optimizer takes no further step.
        iteration: the last step that was made; None before the first.

    Raises:
        ValueError: if a parameter is out of range, or the table would not fit.

    Reference: Portnoy and Koenker (1997), doi:10.1214/ss/1030037960; Mehrotra (1992), doi:10.1137/0802028.
    Note: where the minimum is not unique, this is a point in the middle of all of them, while simplex methods such as
    scikit-learn's `highs` end at a corner. Every process computes all rows.
    """

    def __init__(
        self,
        params: ParamsT,
        gap_tolerance: float = 1e-10,
        max_iterations: int | None = None,
        memory_limit: float = 4.0,
    ) -> None:
        validate.positive(gap_tolerance=gap_tolerance, memory_limit=memory_limit)
        if max_iterations is not None and max_iterations < 0:
            raise ValueError(f"max_iterations must be at least 0, got {max_iterations}")
        super().__init__(params, {})
        self.gap_tolerance = gap_tolerance
        self.max_iterations = max_iterations
        self.memory_limit = memory_limit
        self._program: tuple[Objective, Program] | None = None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it has not."""
        saved = self.state.get("outcome")  # type: ignore[call-overload]
        return Outcome(**saved) if saved else None

    @property
    def iteration(self) -> Iteration | None:
        """The last step that was made; None before the first."""
        saved = self._memory.get("iteration")
        return Iteration(**saved) if saved else None

    @property
    def _memory(self) -> dict[str, Any]:
        memory: dict[str, Any] = self.state[self.param_groups[0]["params"][0]]
        return memory

    def refuse(self, objective: Objective) -> None:
        """Refuse what does not fit, or is not convex.

        Raises:
            ValueError: saying what it would take and what to use instead.
        """
        what = f"{objective.samples:,} rows and {objective.size:,} parameters"
        refuse_memory(2 * numbers_held(objective), self.memory_limit, what, "adam, which takes batches")
        if objective.penalty_diagonal() is None:
            raise ValueError("penalties that couple parameters cannot be handled: use l2, or an optimizer such as adam")
        refuse_concave(objective)

    @torch.no_grad()
    def step(self, *, objective: Objective) -> None:  # type: ignore[override]
        """Make one step, or come to an outcome."""
        if self.outcome is not None:
            return
        outcome = self._advance(objective, objective.evaluations)
        if outcome is not None:
            self.state["outcome"] = dict(vars(outcome))  # type: ignore[index]
            for name in ("interior", "offset", "linear"):  # as long as the table, and of no more use
                self._memory.pop(name, None)

    def _advance(self, objective: Objective, evaluated: int) -> Outcome | None:
        memory = self._memory
        program = self._of(objective)
        initial = memory.setdefault("initial_loss", objective.value())
        number = self.iteration.number if self.iteration else 0
        if self.max_iterations is not None and number >= self.max_iterations:
            return _limit(number)
        theta = objective.point[program.places]
        interior = _Interior.restored(memory, len(program.knots))
        if interior is None:
            theta = _least_squares(program)
            interior = _Interior.start(program, program.excess(theta))
        step = interior.step(program, theta)
        # together, so that all ranks take the same step
        agreed = objective.broadcast(torch.tensor([step.primal, step.dual], dtype=theta.dtype, device=theta.device))
        primal, dual = agreed.tolist()
        if not math.isfinite(primal + dual) or not bool(step.theta.isfinite().all()):
            return Outcome(
                "stalled", "the system for the step has no finite solution", "scale the features, or add a penalty l2"
            )
        theta = objective.broadcast(theta + primal * step.theta)
        interior = interior.moved(step, primal, dual)
        objective.move(program.point(theta))
        interior.keep(memory)
        value, _ = objective.evaluate()
        slope = program.slope(interior.share, theta)
        evaluations = memory.get("evaluations", 0) + objective.evaluations - evaluated
        memory["evaluations"] = evaluations
        norm = float(slope.norm())
        memory["iteration"] = dict(vars(Iteration(number + 1, value, norm, primal, None, evaluations)))
        memory["short"] = memory.get("short", 0) + 1 if max(primal, dual) < _SHORT else 0
        relative = slope.abs() / program.slope_size().clamp(min=torch.finfo(slope.dtype).tiny)
        distances = torch.stack([interior.gap(program.excess(theta)), relative.max()])
        gap, left = objective.broadcast(distances).tolist()
        return self._judge(value, initial, gap, left, number + 1)

    def _judge(self, value: float, initial: float, gap: float, left: float, number: int) -> Outcome | None:
        """How it ends after a step, if it does.

        Args:
            value: F.
            initial: F at the start.
            gap: F minus the dual function.
            left: the gradient of the conditions, relative to its terms.
            number: steps that were made.
        """
        if left <= _SLOPE and gap <= self.gap_tolerance * abs(value) + _VANISHED * abs(initial):
            return Outcome("converged", f"the loss is within {gap:.2g} of its minimum, by the duality gap")
        if self._memory["short"] >= _PATIENCE:
            return Outcome(
                "stalled",
                f"rounding leaves no step, with the loss within {gap:.2g} of its minimum by the duality gap",
                "raise gap_tolerance, scale the features, or add a penalty l2",
            )
        if self.max_iterations is not None and number >= self.max_iterations:
            return _limit(number)
        return None

    def _of(self, objective: Objective) -> Program:
        """The objective's program, built once; a resumed fit has the bits of the first, which the start has rounded."""
        if self._program is None or self._program[0] is not objective:
            program, memory = Program.build(objective), self._memory
            kept: Tensor | None = memory.get("offset")
            if kept is None or kept.shape != program.offset.shape or memory["linear"].shape != program.linear.shape:
                memory["offset"], memory["linear"] = program.offset, program.linear
                memory.pop("interior", None)
            program = dataclasses.replace(program, offset=memory["offset"], linear=memory["linear"])
            self._program = (objective, program)
        return self._program[1]


def _limit(number: int) -> Outcome:
    return Outcome("limit", f"{number} iterations are done", "raise max_iterations for more steps")


@dataclasses.dataclass(frozen=True, eq=False)
class _Step:
    """A direction, and how far it may be followed in θ, p and n, and in x."""

    theta: Tensor
    share: Tensor
    above: Tensor
    below: Tensor
    primal: float
    dual: float


@dataclasses.dataclass(frozen=True, eq=False)
class _Interior:
    """The variables beside θ, all positive (T,).

    Args:
        share: x.
        rest: δ − x, kept by itself, as a difference would lose its digits.
        above: p, how far a score is beyond its knot.
        below: n, how far it is short of it.
    """

    share: Tensor
    rest: Tensor
    above: Tensor
    below: Tensor

    @classmethod
    def start(cls, program: Program, excess: Tensor) -> _Interior:
        """In the middle of the slopes, x = ½δ, and at some distance from the knots."""
        typical = float(excess.abs().mean()) or float(program.knots.abs().max()) or 1.0
        margin = _MARGIN * typical
        half = 0.5 * program.rises
        return cls(half, half, excess.clamp(min=0.0) + margin, (-excess).clamp(min=0.0) + margin)

    @classmethod
    def restored(cls, memory: dict[str, Any], size: int) -> _Interior | None:
        """As they were kept, if there are as many as there are knots."""
        kept: Tensor | None = memory.get("interior")
        if kept is None or kept.shape[1] != size:
            memory.pop("interior", None)
            return None
        return cls(*kept)

    def keep(self, memory: dict[str, Any]) -> None:
        """Put them where a checkpoint finds them."""
        memory["interior"] = torch.stack([self.share, self.rest, self.above, self.below])

    def gap(self, excess: Tensor) -> Tensor:
        """F(θ) minus the dual function at x, for a gradient of zero."""
        return (self.rest * excess.clamp(min=0.0) + self.share * (-excess).clamp(min=0.0)).sum()

    def moved(self, step: _Step, primal: float, dual: float) -> _Interior:
        """The variables after a step."""
        return _Interior(
            self.share + dual * step.share,
            self.rest - dual * step.share,
            self.above + primal * step.above,
            self.below + primal * step.below,
        )

    def step(self, program: Program, theta: Tensor) -> _Step:
        """Mehrotra's step: how far the step to μ = 0 would lead says which μ to aim at."""
        products = self.above * self.rest, self.below * self.share
        predictor = self._towards(program, theta, -products[0], -products[1])
        reached = self.moved(predictor, predictor.primal, predictor.dual)
        before = float(products[0].sum() + products[1].sum())
        after = float((reached.above * reached.rest).sum() + (reached.below * reached.share).sum())
        aim = (after / before) ** 3 * before / (2 * len(self.share))
        return self._towards(
            program,
            theta,
            aim - products[0] + predictor.above * predictor.share,
            aim - products[1] - predictor.below * predictor.share,
        )

    def _towards(self, program: Program, theta: Tensor, above: Tensor, below: Tensor) -> _Step:
        """The solution of the linearized conditions, with changes of p(δ − x) and nx as given."""
        missing = program.excess(theta) - (self.above - self.below)
        weight = 1.0 / (self.above / self.rest + self.below / self.share)
        constant = above / self.rest - below / self.share - missing
        slope = program.slope(self.share, theta)
        direction = program.solve(weight, program.transposed(weight * constant) - slope)
        share = weight * (program.along(direction) - constant)
        up = (above + self.above * share) / self.rest
        down = (below - self.below * share) / self.share
        primal = min(_reach(self.above, up), _reach(self.below, down))
        dual = min(_reach(self.share, share), _reach(self.rest, -share))
        if bool(program.quadratic.any()):  # Dθ is in the gradient: the two cannot go apart
            primal = dual = min(primal, dual)
        return _Step(direction, share, up, down, primal, dual)


def _least_squares(program: Program) -> Tensor:
    """The Θ (q, k) that fits the scores to the knots by weighted least squares."""
    away = program.rises * program.excess(program.start)
    theta = program.start - program.solve(program.rises, program.transposed(away))
    return theta if bool(theta.isfinite().all()) else program.start


def _reach(values: Tensor, change: Tensor) -> float:
    """The share of a change, at most 1, that leaves the values positive."""
    shrinking = change < 0.0
    ratio = torch.where(shrinking, -values / torch.where(shrinking, change, -torch.ones_like(change)), torch.inf)
    return min(1.0, _BACK * float(ratio.min()))
