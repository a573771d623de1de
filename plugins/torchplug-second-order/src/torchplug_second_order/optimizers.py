"""The named full-batch optimizers, each composed of a descent and a search.

Each ends the training by itself, by the criteria of `Stopping`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchplug import Objective, validate
from torchplug_second_order.damped import DampedGaussNewton
from torchplug_second_order.descents import GaussNewton, Given, Line, Newton, Steepest
from torchplug_second_order.method import Descent, Point, Search
from torchplug_second_order.quasi_newton import BFGS, LimitedBFGS
from torchplug_second_order.refinement import Refined
from torchplug_second_order.reuse import ReusedNewton
from torchplug_second_order.searches import Armijo, Fixed, GainRatio, StrongWolfe
from torchplug_second_order.solver import Solver
from torchplug_second_order.stopping import Stopping
from torchplug_second_order.warm_start import WarmStart


def line_search(
    params: ParamsT,
    search: Literal["armijo", "strong_wolfe"] = "armijo",
    gradient_tolerance: float = 1e-9,
    step_tolerance: float = 1e-12,
    loss_tolerance: float = 1e-14,
    max_iterations: int | None = None,
    direction: Callable[[Objective], Tensor] | None = None,
) -> Solver:
    r"""Full-batch gradient descent with a line search.

        θ ← θ − α ∇F,    α ≈ argmin F(θ − α ∇F)

    Args:
        params: what to optimize; given by the core.
        search: `armijo` backtracks until F has decreased sufficiently; `strong_wolfe` also bounds the remaining slope.
        gradient_tolerance: ≥ 0; stop at ½ ∇Fᵀ B⁻¹ ∇F ≤ gradient_tolerance² · |F|, B⁻¹ = αI; see `Stopping`.
        step_tolerance: ≥ 0; stop at a full step of |Δθⱼ| ≤ step_tolerance · max |θⱼ|, over all points so far.
        loss_tolerance: ≥ 0; stop at a decrease, expected and found, of at most loss_tolerance · |F|.
        max_iterations: the most steps; None: the trainer's epochs decide.
        direction: in Python, a function from the objective to another descent direction d (p,), multiplied by α.

    Raises:
        ValueError: if a tolerance or search is out of range.

    Reference: Nocedal and Wright (2006), Numerical Optimization, chapter 3; the first α of a step: Barzilai and
    Borwein (1988), doi:10.1093/imanum/8.1.141.
    """
    descent = Steepest() if direction is None else Given(direction)
    stopping = Stopping(gradient_tolerance, step_tolerance, loss_tolerance, max_iterations)
    return Solver(params, descent, _search(search, curvature=0.1), stopping)


def newton(
    params: ParamsT,
    search: Literal["armijo", "strong_wolfe", "fixed"] = "armijo",
    linear_solver: Literal["auto", "cholesky", "cg"] = "auto",
    lr: float | None = None,
    gradient_tolerance: float = 1e-9,
    step_tolerance: float = 1e-12,
    loss_tolerance: float = 1e-14,
    max_iterations: int | None = None,
    memory_limit: float = 4.0,
    warm_start: bool = True,
    hessian_reuse: bool = True,
) -> Solver:
    r"""Newton's method, with the curvature modified where F is not convex.

        θ ← θ + αd,    (∇²F + τI) d = −∇F,    τ = 0 wherever ∇²F is positive definite

    Large models solve (∇²F) d = −∇F by conjugate gradients on products ∇²F v, which stop at the first direction
    without positive curvature. Either way d is a descent direction, and with a search no step increases F by
    more than rounding (1e-10 F).

    With many rows, the first step leads to the minimum over a sample of them; the Hessian is formed in single
    precision where the data allow it, and reused, corrected by BFGS updates, while the gradient decreases fast
    enough. F and ∇F are always those of all rows in double precision, so the minimum is exact.

    Args:
        params: what to optimize; given by the core.
        search: `armijo` and `strong_wolfe` begin at α = 1; `fixed` always takes α = lr.
        linear_solver: `cholesky` forms ∇²F; `cg` needs only a few vectors; `auto` chooses by estimated time.
        lr: α > 0 of `fixed`; None: 1.
        gradient_tolerance: ≥ 0; stop at ½ ∇Fᵀ B⁻¹ ∇F ≤ gradient_tolerance² · |F|, B = ∇²F + τI; see `Stopping`.
        step_tolerance: ≥ 0; stop at a full step of |Δθⱼ| ≤ step_tolerance · max |θⱼ|, over all points so far.
        loss_tolerance: ≥ 0; stop at a decrease, expected and found, of at most loss_tolerance · |F|.
        max_iterations: the most steps; None: the trainer's epochs decide.
        memory_limit: > 0, in GiB, beyond which `cholesky` is refused and `auto` takes `cg`.
        warm_start: whether to begin on a sample, where n p² ≥ 10⁸ and 4 max(n/16, 5p) ≤ n; not with `fixed`.
        hessian_reuse: whether to keep a Hessian, where p > 32; not with `fixed`.

    Raises:
        ValueError: if a parameter is out of range, or the Hessian would not fit.

    Reference: Nocedal and Wright (2006), Numerical Optimization, algorithms 3.3, 7.1 and section 6.1; sampled
    starts: Byrd, Chin, Neveitt and Nocedal (2011), doi:10.1137/10079923X.
    """
    if lr is not None and search != "fixed":
        raise ValueError(f"lr is the step of search fixed, and search is {search}: leave lr out")
    stopping = Stopping(gradient_tolerance, step_tolerance, loss_tolerance, max_iterations)
    exact = Newton(linear_solver, memory_limit)
    if search == "fixed":
        return Solver(params, exact, Fixed(1.0 if lr is None else lr), stopping)
    descent: Descent[Line] = ReusedNewton(exact) if hessian_reuse else exact
    chosen = _search(search)
    return Solver(params, WarmStart(descent, chosen) if warm_start else descent, chosen, stopping)


def bfgs(
    params: ParamsT,
    search: Literal["strong_wolfe", "armijo"] = "strong_wolfe",
    gradient_tolerance: float = 1e-9,
    step_tolerance: float = 1e-12,
    loss_tolerance: float = 1e-14,
    max_iterations: int | None = None,
    memory_limit: float = 4.0,
) -> Solver:
    r"""BFGS: quasi-Newton with a dense approximation H of the inverse Hessian, updated from gradients.

        θ ← θ + αd,    d = −H ∇F
        H ← (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ,    s = Δθ, y = Δ∇F, ρ = 1/(yᵀs)

    Args:
        params: what to optimize; given by the core.
        search: `strong_wolfe` makes sure that yᵀs > 0; after `armijo` a pair without that is skipped.
        gradient_tolerance: ≥ 0; stop at ½ ∇Fᵀ B⁻¹ ∇F ≤ gradient_tolerance² · |F|, B⁻¹ = H; see `Stopping`.
        step_tolerance: ≥ 0; stop at a full step of |Δθⱼ| ≤ step_tolerance · max |θⱼ|, over all points so far.
        loss_tolerance: ≥ 0; stop at a decrease, expected and found, of at most loss_tolerance · |F|.
        max_iterations: the most steps; None: the trainer's epochs decide.
        memory_limit: > 0, in GiB, for the p² numbers of H.

    Raises:
        ValueError: if a parameter is out of range, or H would not fit.

    Reference: Nocedal and Wright (2006), Numerical Optimization, algorithm 6.1.
    Note: a minimum is confirmed by a Newton step of conjugate gradients, see `Refined`.
    """
    stopping = Stopping(gradient_tolerance, step_tolerance, loss_tolerance, max_iterations)
    return Solver(params, Refined(BFGS(memory_limit)), _search(search), stopping)


def lbfgs(
    params: ParamsT,
    search: Literal["strong_wolfe", "armijo"] = "strong_wolfe",
    history_size: int = 10,
    gradient_tolerance: float = 1e-9,
    step_tolerance: float = 1e-12,
    loss_tolerance: float = 1e-14,
    max_iterations: int | None = None,
) -> Solver:
    r"""L-BFGS: quasi-Newton from the last m steps and gradient changes, for models with many parameters.

        θ ← θ + αd,    d = −H ∇F, H by m updates as in `bfgs`, never formed

    Args:
        params: what to optimize; given by the core.
        search: `strong_wolfe` makes sure that yᵀs > 0; after `armijo` a pair without that is skipped.
        history_size: m ≥ 1, the pairs that are kept.
        gradient_tolerance: ≥ 0; stop at ½ ∇Fᵀ B⁻¹ ∇F ≤ gradient_tolerance² · |F|, B⁻¹ = H; see `Stopping`.
        step_tolerance: ≥ 0; stop at a full step of |Δθⱼ| ≤ step_tolerance · max |θⱼ|, over all points so far.
        loss_tolerance: ≥ 0; stop at a decrease, expected and found, of at most loss_tolerance · |F|.
        max_iterations: the most steps; None: the trainer's epochs decide.

    Raises:
        ValueError: if a parameter is out of range.

    Reference: Liu and Nocedal (1989), doi:10.1007/BF01589116.
    Note: torch's LBFGS makes up to 20 iterations in one step; here a step is one iteration. A minimum is confirmed by a
    Newton step of conjugate gradients, see `Refined`.
    """
    stopping = Stopping(gradient_tolerance, step_tolerance, loss_tolerance, max_iterations)
    return Solver(params, Refined(LimitedBFGS(history_size)), _search(search), stopping)


def gauss_newton(
    params: ParamsT,
    search: Literal["armijo", "strong_wolfe"] = "armijo",
    linear_solver: Literal["qr", "cholesky"] = "qr",
    gradient_tolerance: float = 1e-9,
    step_tolerance: float = 1e-12,
    loss_tolerance: float = 1e-14,
    max_iterations: int | None = None,
    memory_limit: float = 4.0,
) -> Solver:
    r"""Gauss-Newton: repeated linear least squares, for losses that are sums of squares F = Σr².

        θ ← θ + αd,    (JᵀJ) d = −Jᵀr

    Args:
        params: what to optimize; given by the core.
        search: starts at α = 1, and shortens the step if F does not decrease sufficiently.
        linear_solver: `qr` factorizes J, and takes the solution of least norm if J is rank-deficient; `cholesky`
            factorizes JᵀJ, which is faster, has half the digits and stalls if it is singular.
        gradient_tolerance: ≥ 0; stop at ‖Pr‖ ≤ gradient_tolerance · ‖r‖, Pr = r's part in J's range; see `Stopping`.
        step_tolerance: ≥ 0; stop at a full step of |Δθⱼ| ≤ step_tolerance · max |θⱼ|, over all points so far.
        loss_tolerance: ≥ 0; stop at a decrease, expected and found, of at most loss_tolerance · |F|.
        max_iterations: the most steps; None: the trainer's epochs decide.
        memory_limit: > 0, in GiB, for JᵀJ, or J where that is smaller.

    Raises:
        ValueError: if a parameter is out of range.

    Reference: Nocedal and Wright (2006), Numerical Optimization, section 10.3.
    """
    stopping = Stopping(gradient_tolerance, step_tolerance, loss_tolerance, max_iterations)
    descent = GaussNewton(linear_solver, memory_limit)
    return Solver(params, descent, _search(search, point=descent.point), stopping)


def levenberg(
    params: ParamsT,
    damping: float = 1e-3,
    gradient_tolerance: float = 1e-9,
    step_tolerance: float = 1e-12,
    loss_tolerance: float = 1e-14,
    max_iterations: int | None = None,
    memory_limit: float = 4.0,
) -> Solver:
    r"""Levenberg: Gauss-Newton with equal damping of all parameters, for losses that are sums of squares F = Σr².

        θ ← θ + Δ,    (JᵀJ + μI) Δ = −Jᵀr

    μ rises until a step lowers F, and falls where the linear model foretold the decrease. F never rises by more than
    rounding can hide (1e-10 F).

    Args:
        params: what to optimize; given by the core.
        damping: > 0, the first μ relative to the largest element of diag JᵀJ.
        gradient_tolerance: ≥ 0; stop at ‖Pr‖ ≤ gradient_tolerance · ‖r‖, Pr = r's part in J's range; see `Stopping`.
        step_tolerance: ≥ 0; stop at a full step of |Δθⱼ| ≤ step_tolerance · max |θⱼ|, over all points so far.
        loss_tolerance: ≥ 0; stop at a decrease, expected and found, of at most loss_tolerance · |F|.
        max_iterations: the most steps; None: the trainer's epochs decide.
        memory_limit: > 0, in GiB, for JᵀJ, or J where that is smaller.

    Raises:
        ValueError: if a parameter is out of range.

    Reference: Levenberg (1944), doi:10.1090/qam/10666; μ: Nielsen (1999), IMM-REP-1999-05.
    """
    stopping = Stopping(gradient_tolerance, step_tolerance, loss_tolerance, max_iterations)
    descent = DampedGaussNewton("identity", memory_limit)
    return Solver(params, descent, GainRatio(damping, descent.point), stopping)


def levenberg_marquardt(
    params: ParamsT,
    damping: float = 1e-3,
    gradient_tolerance: float = 1e-9,
    step_tolerance: float = 1e-12,
    loss_tolerance: float = 1e-14,
    max_iterations: int | None = None,
    memory_limit: float = 4.0,
) -> Solver:
    r"""Levenberg-Marquardt: Gauss-Newton damped in each parameter's unit, for losses that are sums of squares F = Σr².

        θ ← θ + Δ,    (JᵀJ + μD) Δ = −Jᵀr,    D = diag JᵀJ, the largest so far

    μ rises until a step lowers F, and falls where the linear model foretold the decrease. F never rises by more than
    rounding can hide (1e-10 F).

    Args:
        params: what to optimize; given by the core.
        damping: > 0, the first μ.
        gradient_tolerance: ≥ 0; stop at ‖Pr‖ ≤ gradient_tolerance · ‖r‖, Pr = r's part in J's range; see `Stopping`.
        step_tolerance: ≥ 0; stop at a full step of |Δθⱼ| ≤ step_tolerance · max |θⱼ|, over all points so far.
        loss_tolerance: ≥ 0; stop at a decrease, expected and found, of at most loss_tolerance · |F|.
        max_iterations: the most steps; None: the trainer's epochs decide.
        memory_limit: > 0, in GiB, for JᵀJ, or J where that is smaller.

    Raises:
        ValueError: if a parameter is out of range.

    Reference: Marquardt (1963), doi:10.1137/0111030; D: Moré (1978), doi:10.1007/BFb0067700; μ: Nielsen (1999),
    IMM-REP-1999-05.
    Note: D keeps the largest of each diagonal element, as in scipy's `lm`. Marquardt takes those of the point alone,
    which on small networks needed up to four times as many steps.
    """
    stopping = Stopping(gradient_tolerance, step_tolerance, loss_tolerance, max_iterations)
    descent = DampedGaussNewton("diagonal", memory_limit)
    return Solver(params, descent, GainRatio(damping, descent.point), stopping)


def _search(
    name: Literal["armijo", "strong_wolfe"],
    curvature: float = 0.9,
    point: Callable[[Objective], Point] | None = None,
) -> Search[Line]:
    """A search by its name; without `point` a trial's pass gives ∇F as well, as most trials are accepted."""
    validate.one_of("armijo", "strong_wolfe", search=name)
    if name == "strong_wolfe":
        return StrongWolfe(curvature=curvature)
    return Armijo(value=(lambda objective: objective.evaluate()[0]) if point is None else None, point=point)
