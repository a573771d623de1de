"""Least squares in closed form: one pass over the rows, one step."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from torchplug import Iteration, Objective, Outcome
from torchplug_second_order.least_squares import Solution, solve
from torchplug_second_order.linear_solvers import EPSILON
from torchplug_second_order.parameter_table import ParameterTable, keep_table, kept_table
from torchplug_second_order.regression_table import RegressionTable, regression_table

if TYPE_CHECKING:
    from torchplug import LeastSquares

_GRAM_CONDITION = 1e5
"""Where products of features leave 6 of 16 digits."""
_ROUNDING = 1e-12
"""A rise of the loss by this much, of itself and of what it is at zero, is none: training may begin at the solution."""
_NAMED = 8
"""How many dependent columns a warning names."""


class ClosedForm(Optimizer):
    r"""Least squares solved at once, for squared losses of models that are linear in their parameters.

        θ = argmin (1/n) Σᵢ wᵢ ‖yᵢ − ŷᵢ‖² + Σⱼ λⱼ θⱼ²

    One pass over the rows, a block at a time, in float64. Where the features are linearly dependent, θ is the
    solution whose slopes have the least norm, and a warning names the columns. The intercept is free of `l2`.

    Args:
        params: what to optimize; given by the core.
        method: `qr` factorizes the rows themselves, by orthogonal reflections; `gram` their products, which takes
            half the time and leaves half the digits, with a warning where these are few.

    Attributes:
        outcome: how it ended; None before the step. A finished optimizer takes no further step.
        iteration: the step that was made; None before.
        statistics: standard errors and what follows from them, of the coefficients as they were trained; None
            before the step, with penalties, below full rank, or without more rows than coefficients.

    Raises:
        ValueError: if method is neither.

    Reference: Golub and Van Loan (2013), Matrix Computations, chapter 5.
    Note: a network that is linear in its parameters but no single linear map is solved by the orthogonal
    factorization of its Jacobian, whatever `method` says: there the change of θ has the least norm.
    """

    def __init__(self, params: ParamsT, method: Literal["qr", "gram"] = "qr") -> None:
        if method not in ("qr", "gram"):
            raise ValueError(f"method must be qr or gram, got {method!r}")
        super().__init__(params, {})
        self.method: Literal["qr", "gram"] = method

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None before the step."""
        kept = self._kept("outcome")
        return Outcome(**kept) if kept else None

    @property
    def iteration(self) -> Iteration | None:
        """The step that was made; None before."""
        kept = self._kept("iteration")
        return Iteration(**kept) if kept else None

    @property
    def statistics(self) -> RegressionTable | ParameterTable | None:
        """Standard errors of the coefficients as they were trained, on the CPU, where there are any."""
        return kept_table(self)

    @torch.no_grad()
    def step(self, *, objective: Objective) -> None:  # type: ignore[override]
        """Solve, and come to an outcome."""
        if self.outcome is not None:
            return
        evaluated = objective.evaluations
        system = _System.of(objective, self.method)
        solution = self._advance(objective, system, evaluated)
        trouble = None if solution is None else self._trouble(objective, system.design, solution)
        if trouble:
            warnings.warn(trouble, stacklevel=2)

    def _advance(self, objective: Objective, system: _System, evaluated: int) -> Solution | None:
        """Move to the solution, or else say why not."""
        start, before = objective.point, objective.value()
        if not (math.isfinite(before) and bool(system.factor.isfinite().all())):
            self._end("stalled", "the loss or its derivatives are not finite", "check data and initial weights")
            return None
        solution, point = system.solve(start)
        objective.move(point)
        value, gradient = objective.evaluate()
        norm = float(gradient.norm())
        if not (value <= before + _ROUNDING * (before + system.at_zero(start)) and math.isfinite(norm)):
            objective.move(start)
            remedy = "use method: qr" if self.method == "gram" else "rescale or leave out features"
            found = f"the loss would go from {before:.6g} to {value:.6g}"
            self._end("stalled", found if math.isfinite(norm) else "the gradient overflows at the solution", remedy)
            return None
        self._keep("iteration", Iteration(1, value, norm, None, None, objective.evaluations - evaluated))
        keep_table(self, system.table(solution))
        found = f"solved for {objective.size} coefficients from {objective.samples} rows"
        self._end("converged", f"{found}; the features' condition number is {solution.condition:.2g}")
        return solution

    def _trouble(self, objective: Objective, design: LeastSquares | None, solution: Solution) -> str | None:
        """What the user should know of the solution."""
        if solution.dependent:
            names = self._names(objective, design)
            few = ", ".join(names[j] for j in solution.dependent[:_NAMED])
            more = len(solution.dependent) - _NAMED
            if more > 0:
                few += f" and {more} more"
            least = "change" if design is None else "slopes"
            remedy = "leave columns out or add an l2 penalty to make it unique"
            if design is not None and self.method == "gram":
                remedy += "; method: qr distinguishes nearly dependent columns"
            return (
                f"closed_form: {few} can be had linearly from the other columns, so many solutions are equally good, "
                f"and this one has the least {least}; {remedy}"
            )
        if design is not None and self.method == "gram" and solution.condition > _GRAM_CONDITION:
            digits = max(0, round(-math.log10(EPSILON * solution.condition**2)))
            return (
                f"closed_form: with method: gram only about {digits} digits of the coefficients are right, as the "
                f"features' condition number is {solution.condition:.1g}: use method: qr"
            )
        return None

    def _names(self, objective: Objective, design: LeastSquares | None) -> list[str]:
        """What to call the columns of the factor."""
        if design is not None:
            features = design.names or [f"feature {j}" for j in range(design.features)]
            return ["intercept", *features] if design.intercept else [*features]
        names = [name for group in self.param_groups for name in group.get("param_names", ())]
        if len(names) != len(objective.parameters):
            return [f"parameter {j}" for j in range(objective.size)]
        pairs = zip(names, objective.parameters, strict=True)
        return [f"{name}[{j}]" for name, parameter in pairs for j in range(parameter.numel())]

    def _end(self, name: Literal["converged", "stalled"], reason: str, remedy: str = "") -> None:
        self._keep("outcome", Outcome(name, reason, remedy))

    def _keep(self, key: str, value: Any) -> None:
        # Under keys of their own: what is kept per parameter comes back from a checkpoint with its texts spoilt.
        plain = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        self.state[key] = plain  # type: ignore[index]

    def _kept(self, key: str) -> dict[str, Any] | None:
        kept: dict[str, Any] | None = self.state.get(key)  # type: ignore[call-overload]
        return kept


@dataclasses.dataclass(frozen=True, eq=False)
class _System:
    """The least-squares problem at the point where the parameters stand.

    Args:
        factor: R, on the CPU.
        design: of a single linear map with elementwise penalties; None: R is that of [J r], penalties included.
        penalty: half the second derivatives and half the gradient of the penalties, each (p,), beside a design.
        rows: how many residuals there are of each output.
    """

    factor: Tensor
    design: LeastSquares | None
    penalty: tuple[Tensor, Tensor]
    rows: int

    @classmethod
    def of(cls, objective: Objective, method: Literal["qr", "gram"]) -> _System:
        """The objective's system: over the columns of features where it can, else over those of the Jacobian."""
        penalty = objective.penalty_diagonal()
        design = None if penalty is None else objective.least_squares(method)
        if penalty is None or design is None:
            nothing = torch.zeros(0, dtype=torch.float64)
            rows = objective.samples * objective.outputs
            return cls(objective.qr_factor().double().cpu(), None, (nothing, nothing), rows)
        curvature, gradient = penalty
        return cls(design.factor.cpu(), design, (curvature.double().cpu(), gradient.double().cpu()), design.samples)

    def at_zero(self, start: Tensor) -> float:
        """F at θ = 0, its penalties left out beside a design."""
        if self.design is None:
            return float((self.factor[:, -1] - self.factor[:, :-1] @ start.to(self.factor)).square().sum())
        return self.design.scale * float(self.factor[:, self.design.columns :].square().sum())

    def solve(self, start: Tensor) -> tuple[Solution, Tensor]:
        """The solution, and the point (p,) to which it leads from the start (p,)."""
        design = self.design
        if design is None:  # r(θ + Δ) = r + JΔ
            solution = solve(self.factor, 1, intercept=False, rows=self.rows)
            return solution, start - solution.coefficients[:, 0].to(start)
        curvature, gradient = self.penalty
        # Σλ(θ − c)² has half the second derivative λ and half the gradient λ(θ − c)
        center = torch.where(curvature > 0.0, start.double().cpu() - gradient / curvature, 0.0)
        solution = solve(
            self.factor,
            design.outputs,
            intercept=design.intercept,
            rows=self.rows,
            penalty=design.matrix(curvature / design.scale),
            center=design.matrix(center),
        )
        return solution, design.flat(solution.coefficients).to(start)

    def table(self, solution: Solution) -> RegressionTable | None:
        """The statistics, where coefficients are unpenalized, determined, and fewer than the rows."""
        design = self.design
        if design is None or bool(self.penalty[0].any()) or solution.dependent or design.samples <= design.columns:
            return None
        return regression_table(self.factor, solution.coefficients, intercept=design.intercept, samples=design.samples)
