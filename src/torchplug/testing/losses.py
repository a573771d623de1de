"""Checks of losses: a value per row, with the declared derivatives and properties."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import one_hot

from torchplug.components.contracts import Loss, implements, is_piecewise_linear
from torchplug.components.task import TASKS
from torchplug.objective.function import numbers_of, with_numbers
from torchplug.registry.component import Family, TargetInfo, Unit
from torchplug.registry.foreign_code import one_line
from torchplug.testing.compared import require_close
from torchplug.testing.kinks import largest_jump
from torchplug.testing.modules import ModuleSubject
from torchplug.testing.record import NotApplicable, NotRun, check, require

_LABELS = {"binary": (0, 1), "margin": (0, 1), "multiclass": (0, 1, 2)}
_EXTREME = 1e4
_EXTREME_LOGARITHM = 50.0
"""Of a count's rate, which is e^score."""


class LossSubject(ModuleSubject):
    """A loss under test, on five rows: two target columns if it takes them, or three classes."""

    def loss(self, **parameters: Any) -> Loss:
        """Return an instance in float64.

        Raises:
            NotRun: if it is none.
        """
        made = self.make(**parameters)
        if not isinstance(made, Loss) or getattr(made, "kind", None) not in TASKS or "_modules" not in vars(made):
            raise NotRun("it is no torchplug.Loss of a known kind, see the check is_a_loss")
        return made.double()

    def module(self) -> Loss:
        """Return an instance."""
        return self.loss().eval()

    def info(self, loss: Loss) -> TargetInfo:
        """Return the target's columns: two where the loss takes them."""
        if loss.kind in _LABELS:
            return TargetInfo(("y",), _LABELS[loss.kind])
        try:
            loss.outputs(TargetInfo(("a", "b")))
        except ValueError:
            return TargetInfo(("a",))
        return TargetInfo(("a", "b"))

    def arguments(self, module: Any) -> tuple[Tensor, Tensor]:
        """Return scores and a target of its kind."""
        info = self.info(module)
        generator = torch.Generator().manual_seed(12)
        scores = torch.randn(self.rows, module.outputs(info), generator=generator, dtype=torch.float64)
        if module.kind == "multiclass":
            return scores, torch.tensor([2, 0, 1, 1, 0])
        target = 3 * torch.rand(self.rows, len(info.columns), generator=generator, dtype=torch.float64)
        if module.kind in ("binary", "margin"):
            target = torch.tensor([[1.0], [0.0], [0.0], [1.0], [1.0]], dtype=torch.float64)
        return scores, target.floor() if module.kind == "count" else target

    def sample(self) -> tuple[Loss, Tensor, Tensor]:
        """Return a loss with scores and target.

        Raises:
            NotRun: if it gives no value per row for them.
        """
        loss = self.module()
        scores, target = self.arguments(loss)
        try:
            values = loss(scores, target)
        except Exception as error:
            raise NotRun("its forward fails, see the check forward_works") from error
        if not isinstance(values, Tensor) or values.shape != (len(scores),):
            raise NotRun("it gives no value per row, see the check value_per_row")
        return loss, scores, target


@check(Family.LOSS)
def is_a_loss(subject: LossSubject) -> None:
    """It subclasses torchplug.Loss, and its kind is a known one."""
    made = subject.make()
    require(isinstance(made, Loss), f"it gives a {type(made).__name__}: subclass torchplug.Loss")
    require("_modules" in vars(made), "its constructor does not call super().__init__()")
    require(getattr(made, "kind", None) in TASKS, f"its kind must be one of {', '.join(TASKS)}: set it in the class")


@check(Family.LOSS)
def value_per_row(subject: LossSubject) -> None:
    """`forward` returns one value per row, (n,)."""
    loss = subject.module()
    scores, target = subject.arguments(loss)
    values = loss(scores, target)
    n = len(scores)
    require(isinstance(values, Tensor), f"forward returns {type(values).__name__}, and not a tensor ({n},)")
    remedy = "sum over columns, as by .sum(1)" if values.ndim > 1 else "leave the mean over rows to the core"
    require(values.shape == (n,), f"forward returns {tuple(values.shape)} for {n} rows, and not ({n},): {remedy}")


@check(Family.LOSS)
def gradient_is_right(subject: LossSubject) -> None:
    """Autograd's gradient is that of finite differences."""
    loss, scores, target = subject.sample()
    _differentiated(gradcheck, lambda z: loss(z, target), scores, "gradient")


@check(Family.LOSS)
def second_derivative_is_right(subject: LossSubject) -> None:
    """Autograd's second derivatives are those of finite differences."""
    loss, scores, target = subject.sample()
    if not loss.smooth:
        raise NotApplicable("it declares kinks, smooth = False")
    _differentiated(gradgradcheck, lambda z: loss(z, target), scores, "second derivative")


@check(Family.LOSS)
def derivative_is_autograds(subject: LossSubject) -> None:
    """`derivative` is ∂ℓ/∂scores."""
    loss, scores, target = subject.sample()
    if not implements(loss, "derivative"):
        raise NotApplicable("it has no `derivative`")
    found = loss.derivative(scores, target)  # type: ignore[operator]
    require_close(found, _gradient(loss, scores, target), "`derivative` and autograd", relative=1e-9)


@check(Family.LOSS)
def residuals_are_the_loss(subject: LossSubject) -> None:
    """`residuals` are (n, m) with ℓ = Σr²."""
    loss, scores, target = subject.sample()
    if not implements(loss, "residuals"):
        raise NotApplicable("it has no `residuals`")
    residuals = loss.residuals(scores, target)  # type: ignore[operator]
    require(residuals.ndim == 2 and len(residuals) == len(scores), "`residuals` must be (n, m)")
    require_close(residuals.square().sum(1), loss(scores, target), "the squares of `residuals` and the loss")


@check(Family.LOSS)
def curvature_is_autograds(subject: LossSubject) -> None:
    """`curvature` is ∂²ℓ/∂scores², (n, k, k)."""
    loss, scores, target = subject.sample()
    if not implements(loss, "curvature"):
        raise NotApplicable("it has no `curvature`")
    hessian = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda z: loss(z, target).sum(), scores
    )
    own = torch.stack([hessian[i, :, i, :] for i in range(len(scores))])
    found = loss.curvature(scores, target)  # type: ignore[operator]
    require_close(found, own, "`curvature` and autograd", relative=1e-9)


@check(Family.LOSS)
def pieces_are_the_slopes(subject: LossSubject) -> None:
    """`pieces` gives knots and slopes in order, and the slopes are the derivative."""
    loss, scores, target = subject.sample()
    if not is_piecewise_linear(loss):
        raise NotApplicable("it declares no `pieces`")
    pieces = loss.pieces(target)
    assert pieces is not None
    knots, slopes = pieces
    require(knots.shape[:2] == slopes.shape[:2] == scores.shape, "`pieces`: knots and slopes must begin with (n, k)")
    require(slopes.shape[2] == knots.shape[2] + 1, "`pieces`: there must be one slope more than there are knots")
    require(bool((knots.diff(dim=2) >= 0).all()), "`pieces`: knots must not decrease")
    require(bool((slopes.diff(dim=2) >= 0).all()), "`pieces`: slopes must not decrease, because ℓ is convex")
    place = (scores.unsqueeze(2) > knots).sum(dim=2, keepdim=True)
    found = slopes.gather(2, place).squeeze(2)
    require_close(found, _gradient(loss, scores, target), "the slopes of `pieces` and autograd", relative=1e-9)


@check(Family.LOSS)
def extreme_scores_stay_finite(subject: LossSubject) -> None:
    """Value and gradient are finite at scores of ±10⁴ in float32 and float64; ±50 for counts."""
    for dtype in (torch.float32, torch.float64):
        loss, scores, target = subject.sample()
        size = _EXTREME_LOGARITHM if loss.kind == "count" else _EXTREME
        for sign in (scores.sign(), -scores.sign()):
            far = (sign * size).to(dtype).requires_grad_()
            values = loss.to(dtype)(far, target.to(dtype) if target.is_floating_point() else target)
            (gradient,) = torch.autograd.grad(values.sum(), far)
            finite = bool(values.isfinite().all()) and bool(gradient.isfinite().all())
            require(
                finite,
                f"value or gradient is not finite at scores of ±{size:g} in {dtype}: use logsigmoid or logaddexp, "
                "and torch.where on the argument as well",
            )


@check(Family.LOSS)
def smooth_as_declared(subject: LossSubject) -> None:
    """A loss that declares no kinks has none: its gradient is continuous."""
    loss, scores, target = subject.sample()
    if not loss.smooth:
        raise NotApplicable("it declares kinks, smooth = False")
    for column in range(scores.shape[1]):

        def slope(points: Tensor, column: int = column) -> Tensor:
            many = scores[:1].repeat(len(points), 1)
            many[:, column] = points
            return _gradient(loss, many, target[:1].expand(len(points), *target.shape[1:]))[:, column]

        at, jump = largest_jump(slope, -6.0, 6.0)
        require(
            jump < 1e-4,
            f"its derivative jumps by {jump:.3g} at the score {at:.4g}: declare `smooth = False`, so that full-batch "
            "optimizers refuse it",
        )


@check(Family.LOSS)
def leading_axes_as_declared(subject: LossSubject) -> None:
    """With `leading_axes`, scores (…, n, k) give the values of each, and so does `derivative`."""
    loss, scores, target = subject.sample()
    if not loss.leading_axes:
        raise NotApplicable("it does not declare `leading_axes`")
    many = torch.stack([scores, scores.flip(0), -scores])
    methods = {"forward": loss.forward}
    if implements(loss, "derivative"):
        methods["derivative"] = loss.derivative  # type: ignore[assignment]
    for name, method in methods.items():
        each = torch.stack([method(one, target) for one in many])
        try:
            found = method(many, target)
        except Exception as error:
            raise AssertionError(f"`{name}` fails on leading axes: {one_line(error)}: use dim=-1, not dim=1") from error
        require_close(found, each, f"`{name}` with leading axes and without")


@check(Family.LOSS)
def hyper_parameters_may_be_tensors(subject: LossSubject) -> None:
    """What `hyper` names are attributes that may be tensors, as for many models at once."""
    loss, scores, target = subject.sample()
    if not loss.hyper:
        raise NotApplicable("it declares no `hyper`")
    expected = loss(scores, target)
    absent = [name for name in loss.hyper if not hasattr(loss, name)]
    require(not absent, f"`hyper` names {', '.join(absent)}, and there is no such attribute: keep it on self")
    numbers = {name: scores.new_tensor([value]) for name, value in numbers_of(loss).items()}
    try:
        found = with_numbers(loss, numbers)(scores, target)
    except Exception as error:
        raise AssertionError(f"forward fails where {', '.join(numbers)} are tensors: {one_line(error)}") from error
    require_close(found, expected, "values with hyper-parameters as tensors and as numbers")


@check(Family.LOSS)
def targets_are_checked(subject: LossSubject) -> None:
    """`check` accepts targets of the kind, and refuses those outside its domain."""
    loss, _, target = subject.sample()
    try:
        loss.check(target)
    except Exception as error:
        raise AssertionError(f"`check` refuses an ordinary target of kind {loss.kind}: {one_line(error)}") from error
    low, high = loss.task.domain
    outside = [bound + step for bound, step in ((low, -1.0), (high, 1.0)) if abs(bound) != torch.inf]
    for value in outside:
        try:
            loss.check(torch.full_like(target, value))
        except ValueError:
            continue
        raise AssertionError(f"`check` accepts targets of {value:g}: call super().check(target)")


@check(Family.LOSS)
def predictions_fit_the_target(subject: LossSubject) -> None:
    """`link`, `point`, `prediction_names` and `units` fit each other and the target."""
    loss, scores, target = subject.sample()
    info = subject.info(loss)
    predictions = loss.link(scores)
    require(predictions.shape == scores.shape, f"`link` gives {tuple(predictions.shape)} for {tuple(scores.shape)}")
    if loss.task.has_classes:
        return
    names = loss.prediction_names(info)
    require(
        len(names) == len(set(names)) == scores.shape[1],
        f"`prediction_names` gives {names} for {scores.shape[1]} columns of predictions: one name for each",
    )
    point = loss.point(predictions)
    require(point.shape == target.shape, f"`point` gives {tuple(point.shape)} for a target of {tuple(target.shape)}")
    each = scores.shape[1] // len(info.columns)
    require(
        len(loss.units) in (1, each) and set(loss.units) <= set(get_args(Unit)),
        f"`units` is {loss.units}: give one of {', '.join(get_args(Unit))} for all predictions, or {each} of them",
    )


@check(Family.LOSS)
def probabilities_may_be_targets(subject: LossSubject) -> None:
    """A loss over several classes takes probabilities (n, k), and gives the same for certain ones."""
    loss, scores, target = subject.sample()
    if loss.kind != "multiclass":
        raise NotApplicable(f"its kind is {loss.kind}")
    certain = one_hot(target, scores.shape[1]).double()
    try:
        found = loss(scores, certain)
    except Exception as error:
        raise AssertionError(f"forward fails on class probabilities (n, k): {one_line(error)[:200]}") from error
    require_close(found, loss(scores, target), "values for certain probabilities and for class indices")


@check(Family.LOSS)
def own_parameters_are_trained(subject: LossSubject) -> None:
    """Every parameter of the loss gets a finite gradient."""
    loss, scores, target = subject.sample()
    named = dict(loss.named_parameters())
    if not named:
        raise NotApplicable("it has no parameters of its own")
    loss(scores.requires_grad_(), target).sum().backward()
    for name, parameter in named.items():
        gradient = parameter.grad
        require(gradient is not None, f"its parameter {name} gets no gradient: use it in forward, or leave it out")
        require(bool(gradient.isfinite().all()), f"the gradient of its parameter {name} is not finite")  # type: ignore[union-attr]


def _gradient(loss: Loss, scores: Tensor, target: Tensor) -> Tensor:
    point = scores.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(point, target).sum(), point)
    return gradient


def _differentiated(by: Any, function: Any, scores: Tensor, what: str) -> None:
    point = scores.clone().requires_grad_()
    if not function(point).requires_grad:
        raise NotRun("its result is cut off from autograd, see the check forward_works")
    try:
        by(function, point)
    except RuntimeError as error:
        raise AssertionError(f"autograd's {what} is not that of finite differences: {one_line(error)[:200]}") from error
