"""Checks of regularizers: a penalty that is zero at zero, with the declared derivatives and proximal operator."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck

from torchplug.components.contracts import Regularizer, implements
from torchplug.registry.component import Family
from torchplug.registry.foreign_code import one_line
from torchplug.testing.compared import require_close
from torchplug.testing.kinks import largest_jump
from torchplug.testing.modules import ModuleSubject
from torchplug.testing.record import NotApplicable, NotRun, check, require

_STEPS = (0.1, 1.0, 5.0)


class RegularizerSubject(ModuleSubject):
    """A regularizer under test, on two matrices."""

    def module(self) -> Regularizer:
        """Return an instance.

        Raises:
            NotRun: if it is none.
        """
        return self.penalty()

    def penalty(self, **parameters: Any) -> Regularizer:
        """Return an instance in float64.

        Args:
            parameters: beside the declared ones.

        Raises:
            NotRun: if it is none.
        """
        made = self.make(**parameters)
        if not isinstance(made, Regularizer) or "_modules" not in vars(made):
            raise NotRun("it is no torchplug.Regularizer, see the check is_a_regularizer")
        return made.double()

    def arguments(self, module: Any) -> tuple[dict[str, Tensor]]:
        """Return parameters by name."""
        return (self.weights(),)

    def weights(self) -> dict[str, Tensor]:
        """Return parameters by name, none of whose elements is near zero."""
        generator = torch.Generator().manual_seed(3)
        drawn = {"a": (3, 4), "b": (2, 3)}
        found = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in drawn.items()}
        return {name: 2 * value + 0.1 * value.sign() for name, value in found.items()}

    def value(self, penalty: Regularizer, weights: dict[str, Tensor]) -> Tensor:
        """Return R.

        Raises:
            NotRun: if it fails.
        """
        try:
            value: Tensor = penalty(weights)
        except Exception as error:
            raise NotRun("its forward fails, see the check forward_works") from error
        return value

    def proximal(self) -> Regularizer:
        """Return an instance whose prox is used.

        Raises:
            NotApplicable: if it has no prox.
        """
        chosen = {"proximal": True} if "proximal" in self.parameters else {}
        penalty = self.penalty(**chosen)
        if not implements(penalty, "prox") or type(penalty).prox is Regularizer.prox:
            raise NotApplicable("it has no `prox`")
        return penalty


@check(Family.REGULARIZER)
def is_a_regularizer(subject: RegularizerSubject) -> None:
    """It subclasses torchplug.Regularizer; λ is finite and not negative, `include` a list or None."""
    made = subject.make()
    require(isinstance(made, Regularizer), f"it gives a {type(made).__name__}: subclass torchplug.Regularizer")
    require("_modules" in vars(made), "its constructor does not call super().__init__()")
    coefficient = made.coefficient
    require(
        isinstance(coefficient, float | int) and 0 <= coefficient < torch.inf,
        f"its coefficient is {coefficient!r}: set it to a finite number that is not negative",
    )
    require(made.include is None or (isinstance(made.include, list) and made.include), "`include` must be None or list")


@check(Family.REGULARIZER)
def penalty_is_a_number(subject: RegularizerSubject) -> None:
    """R is a scalar tensor that is not negative."""
    penalty = subject.penalty()
    for weights in (subject.weights(), {name: -value for name, value in subject.weights().items()}):
        found = penalty(weights)
        require(isinstance(found, Tensor) and found.shape == (), f"R must be a scalar tensor, and is {_shape(found)}")
        require(float(found) >= 0, f"R is negative, {float(found):.4g}")


@check(Family.REGULARIZER)
def penalty_is_zero_at_zero(subject: RegularizerSubject) -> None:
    """R is zero where all parameters are."""
    penalty = subject.penalty()
    zero = {name: torch.zeros_like(value) for name, value in subject.weights().items()}
    found = float(subject.value(penalty, zero))
    require(abs(found) <= 1e-12, f"R is {found:.4g} where all parameters are zero, and not 0")


@check(Family.REGULARIZER)
def penalty_of_no_elements_is_zero(subject: RegularizerSubject) -> None:
    """R of a parameter without elements is zero, and its gradient finite."""
    penalty = subject.penalty()
    found = penalty({"a": torch.zeros(0, 3, dtype=torch.float64)})
    require(
        float(found) == 0, f"R of a parameter without elements is {float(found):.4g}, and not 0: sum, do not average"
    )


@check(Family.REGULARIZER)
def penalty_grows_along_rays(subject: RegularizerSubject) -> None:
    """R(cθ) does not decrease while c grows from 0."""
    penalty, weights = subject.penalty(), subject.weights()
    values = [
        float(subject.value(penalty, {name: scale * value for name, value in weights.items()}))
        for scale in (0.0, 0.01, 0.3, 1.0, 2.0, 10.0)
    ]
    rising = all(b >= a * (1 - 1e-12) for a, b in pairwise(values))
    require(rising, f"R decreases while the parameters grow, {', '.join(f'{value:.3g}' for value in values)}")
    require(values[-1] > 0, "R is 0 everywhere, so that it penalizes nothing")


@check(Family.REGULARIZER)
def penalty_adds_over_parameters(subject: RegularizerSubject) -> None:
    """R of several parameters is the sum of each one's, whatever their names and order."""
    penalty, weights = subject.penalty(), subject.weights()
    together = subject.value(penalty, weights)
    apart = sum(
        (penalty({f"other.{name}": value}) for name, value in weights.items()), torch.zeros((), dtype=torch.float64)
    )
    require_close(together, apart, "R of all parameters and the sum over each", relative=1e-12)
    require_close(
        penalty(dict(reversed(weights.items()))), together, "R in another order of parameters", relative=1e-12
    )


@check(Family.REGULARIZER)
def penalty_gradient_is_right(subject: RegularizerSubject) -> None:
    """Autograd's gradient is that of finite differences, and finite at zero."""
    penalty, weights = subject.penalty(), subject.weights()
    for value in weights.values():
        point = value.clone().requires_grad_()
        if not subject.value(penalty, {"a": point}).requires_grad:
            raise NotRun("its result is cut off from autograd, see the check forward_works")
        try:
            gradcheck(lambda w: penalty({"a": w}), point)
        except RuntimeError as error:
            raise AssertionError(
                f"autograd's gradient is not that of finite differences: {one_line(error)[:200]}"
            ) from error
    zero = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(penalty({"a": zero}), zero)
    require(bool(gradient.isfinite().all()), "its gradient is not finite at zero, as of √θ²: give it the subgradient 0")


@check(Family.REGULARIZER)
def penalty_derivative_is_autograds(subject: RegularizerSubject) -> None:
    """`derivative` is ∂R/∂θ by name."""
    penalty, weights = subject.penalty(), subject.weights()
    if not implements(penalty, "derivative"):
        raise NotApplicable("it has no `derivative`")
    found = penalty.derivative(weights)  # type: ignore[operator]
    require(list(found) == list(weights), f"`derivative` gives {', '.join(found)}: one tensor for each parameter")
    for name, gradient in _gradients(penalty, weights).items():
        require_close(found[name], gradient, "`derivative` and autograd")


@check(Family.REGULARIZER)
def penalty_curvature_is_autograds(subject: RegularizerSubject) -> None:
    """`curvature` is ∂²R/∂θ² by name, of a penalty that couples no elements."""
    penalty, weights = subject.penalty(), subject.weights()
    if not implements(penalty, "curvature"):
        raise NotApplicable("it has no `curvature`")
    found = penalty.curvature(weights)  # type: ignore[operator]
    for name, value in weights.items():
        hessian = torch.autograd.functional.hessian(lambda w, n=name: penalty({n: w}), value)  # type: ignore[no-untyped-call]
        hessian = hessian.reshape(value.numel(), value.numel())
        coupled = hessian - torch.diag(hessian.diag())
        require(not bool(coupled.any()), "it couples elements, so that `curvature` must be left out")
        require_close(found[name], hessian.diag().view_as(value), "`curvature` and autograd")


@check(Family.REGULARIZER)
def penalty_residuals_are_its_value(subject: RegularizerSubject) -> None:
    """The squares of `residuals` sum to λR."""
    penalty, weights = subject.penalty(), subject.weights()
    if not implements(penalty, "residuals"):
        raise NotApplicable("it has no `residuals`")
    residuals = penalty.residuals(weights)  # type: ignore[operator]
    squares = sum((r.square().sum() for r in residuals.values()), torch.zeros((), dtype=torch.float64))
    require_close(squares, penalty.coefficient * penalty(weights), "the squares of `residuals` and λR", relative=1e-12)


@check(Family.REGULARIZER)
def penalty_is_smooth_as_declared(subject: RegularizerSubject) -> None:
    """A penalty that declares no kinks has none: its gradient is continuous along a line through zero."""
    penalty = subject.penalty()
    if not penalty.smooth:
        raise NotApplicable("it declares kinks, smooth = False")

    def slope(points: Tensor) -> Tensor:
        return torch.stack([_gradients(penalty, {"a": each * torch.ones(1, 1)})["a"].sum() for each in points])

    at, jump = largest_jump(slope, -3.0, 3.0, points=601)
    require(
        jump < 1e-4,
        f"its derivative jumps by {jump:.3g} at {at:.4g}: declare `smooth = False`, and curvature methods refuse it",
    )


@check(Family.REGULARIZER)
def prox_is_the_minimizer(subject: RegularizerSubject) -> None:
    """`prox` minimizes λR(u) + ‖u − θ‖²/(2·step): no point of a search around it, or of a grid, is lower."""
    penalty = subject.proximal()
    generator = torch.Generator().manual_seed(8)
    points = [scale * point for point in subject.weights().values() for scale in (1.0, 1e-4)]
    for step in _STEPS:
        for point in points:
            found = penalty.prox(point, step)
            lowest = _prox_value(penalty, found, point, step)
            tried = [scale * point for scale in torch.linspace(-0.5, 1.5, 41)]
            for size in (1.0, 1e-1, 1e-2, 1e-3):
                noise = torch.randn(20, *point.shape, generator=generator, dtype=torch.float64)
                size *= float(point.abs().max())
                tried += [found + size * each for each in noise]
                tried += [found + size * unit for unit in _units(point)] + [
                    found - size * unit for unit in _units(point)
                ]
            other = min(_prox_value(penalty, each, point, step) for each in tried)
            require(
                lowest <= other + 1e-9 * abs(other) + 1e-30,
                f"`prox` with step {step:g} reaches {lowest:.6g}, and another point {other:.6g}: it must minimize "
                "λR(u) + Σ(u − θ)²/(2·step), with λ = `coefficient`",
            )


@check(Family.REGULARIZER)
def prox_takes_a_step_for_each_element(subject: RegularizerSubject) -> None:
    """The prox of a separable penalty takes a step per element, and gives what each step gives."""
    penalty = subject.proximal()
    if not penalty.separable:
        raise NotApplicable("it declares separable = False")
    point = subject.weights()["a"]
    sizes = torch.linspace(0.05, 3.0, point.numel(), dtype=torch.float64).view_as(point)
    try:
        found = penalty.prox(point, sizes)
    except Exception as error:
        raise AssertionError(
            f"`prox` fails on a step per element: {one_line(error)}: declare `separable = False` if it couples them"
        ) from error
    each = torch.stack([penalty.prox(point, float(s)).reshape(-1)[i] for i, s in enumerate(sizes.reshape(-1))])
    require_close(found, each.view_as(point), "`prox` with a step per element and with each step", relative=1e-12)


@check(Family.REGULARIZER)
def separable_as_declared(subject: RegularizerSubject) -> None:
    """A penalty with a prox that does not declare `separable = False` is a sum over elements, and so is its prox."""
    penalty = subject.proximal()
    if not penalty.separable:
        raise NotApplicable("it declares separable = False")
    point = subject.weights()["a"]
    pieces = [element.view(1, 1) for element in point.reshape(-1)]
    remedy = "(declare `separable = False`)"
    total = torch.stack([penalty({"a": piece}) for piece in pieces]).sum()
    require_close(penalty({"a": point}), total, f"R and its sum over elements {remedy}", relative=1e-9)
    apart = torch.cat([penalty.prox(piece, 0.5) for piece in pieces]).view_as(point)
    require_close(penalty.prox(point, 0.5), apart, f"`prox` and that of each element {remedy}", relative=1e-9)


@check(Family.REGULARIZER)
def elementwise_as_declared(subject: RegularizerSubject) -> None:
    """With `elementwise`, `derivative` and `prox` take the parameters of many models at once."""
    penalty = subject.proximal() if "proximal" in subject.parameters else subject.penalty()
    if not penalty.elementwise:
        raise NotApplicable("it does not declare `elementwise`")
    point = subject.weights()["a"]
    many = torch.stack([point, -point, 2 * point])
    if implements(penalty, "derivative"):
        found = penalty.derivative({"a": many})["a"]  # type: ignore[operator]
        each = torch.stack([penalty.derivative({"a": one})["a"] for one in many])  # type: ignore[operator]
        require_close(found, each, "`derivative` of many models and of each", relative=1e-12)
    if type(penalty).prox is not Regularizer.prox:
        each = torch.stack([penalty.prox(one, 0.5) for one in many])
        require_close(penalty.prox(many, 0.5), each, "`prox` of many models and of each", relative=1e-12)


def _gradients(penalty: Regularizer, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    leaves = {name: value.detach().clone().double().requires_grad_() for name, value in weights.items()}
    found = torch.autograd.grad(penalty(leaves), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def _prox_value(penalty: Regularizer, u: Tensor, point: Tensor, step: float) -> float:
    return float(penalty.coefficient * penalty({"a": u}) + (u - point).square().sum() / (2 * step))


def _units(point: Tensor) -> list[Tensor]:
    return list(torch.eye(point.numel(), dtype=point.dtype).view(-1, *point.shape))


def _shape(found: Any) -> str:
    return f"of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
