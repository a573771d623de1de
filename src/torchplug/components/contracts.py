"""Base classes of losses and regularizers.

A plugin's loss subclasses `Loss`, sets its `kind` and defines `forward`; everything else has a
default that follows from the kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from torchplug.components.task import TASKS, Task
from torchplug.registry.component import Kind, TargetInfo, Unit


class Pieces(NamedTuple):
    r"""Knots and slopes of a loss that is piecewise linear in each score z_j, for given targets.

        ∂ℓ/∂z_j = slopes[0]  below knots[0],    slopes[i]  between knots[i − 1] and knots[i],    slopes[m]  above

    Args:
        knots: (n, k, m), in units of the scores, non-decreasing along m.
        slopes: (n, k, m + 1), non-decreasing along m, because ℓ is convex.
    """

    knots: Tensor
    slopes: Tensor


def is_piecewise_linear(loss: Loss) -> bool:
    """Whether a loss has `pieces`, tested on one row."""
    if not implements(loss, "pieces"):
        return False
    return loss.pieces(loss.task.example_target()) is not None


def implements(component: nn.Module, optional: str) -> bool:
    """Whether a component has an optional method that matches its `forward`.

    An inherited method does not match a `forward` that a subclass has replaced.

    Args:
        component: a model, loss or regularizer.
        optional: the method's name, such as `derivative`.
    """
    if optional in vars(component):
        return True
    order = type(component).__mro__
    defined = next((i for i, kind in enumerate(order) if optional in vars(kind)), None)
    valued = next(i for i, kind in enumerate(order) if "forward" in vars(kind))
    return defined is not None and defined <= valued


class LinearScores(NamedTuple):
    r"""A network whose scores are linear in its only parameters.

        z = x Wᵀ + b

    Args:
        weight: W (k, d).
        bias: b (k,), or None.
    """

    weight: Tensor
    bias: Tensor | None


def linear_scores(network: nn.Module | None) -> LinearScores | None:
    """The coefficients of a network that declares itself linear, else None.

    It does so by a method `linear_scores()`, which gives (weight, bias) as in `LinearScores`, or None where it is not
    linear after all. As every optional part it belongs to the class's `forward`, see `offers`.
    """
    if network is None or not implements(network, "linear_scores"):
        return None
    declared = network.linear_scores()  # type: ignore[operator]
    return None if declared is None else LinearScores(*declared)


class Loss(nn.Module):
    """Base class of losses: `forward` returns one value per sample, which the core weights and reduces.

    Shape:
        scores (n, k); target (n, k) floats or (n,) class indices → (n,).

    Targets are (n, k) floats for the kinds regression and count, (n, 1) floats in [0, 1] for binary
    and margin (0 and 1 are the first and second class), (n,) indices or (n, k) probabilities for
    multiclass.

    Attributes:
        kind: what it is for.
        smooth: whether ℓ is differentiable everywhere, as most full-batch optimizers require.
        units: how each prediction of a standardized target returns to the target's units: a `location` such as a mean
            is scaled and shifted, a `scale` such as a standard deviation is scaled, `none` such as a probability is
            unchanged. One entry holds for all predictions.
        leading_axes: whether value and `derivative` also take scores (…, k) and a target that broadcasts against them,
            so that many models are trained at once without copies of the target. Like every optional member it
            must be redefined together with `forward`, see `implements`.
        hyper: parameters that may differ among models that are trained at once: their attributes, of the same names,
            may be tensors that broadcast against the scores.
    """

    kind: Kind
    smooth: bool = True
    units: tuple[Unit, ...] = ("location",)
    leading_axes: bool = False
    hyper: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        """All that follows from the kind."""
        return TASKS[self.kind]

    @property
    def likelihood(self) -> bool:
        """Whether ℓ is a negative log-likelihood up to a constant; may be a class attribute instead.

        Standard errors then follow from the second derivatives of Σ wᵢ ℓᵢ. Like every optional member it
        must be redefined together with `forward`: see `implements`.
        """
        return False

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the per-sample values (n,)."""
        raise TypeError(f"{type(self).__name__} does not define forward(scores, target)")

    def pieces(self, target: Tensor) -> Pieces | None:
        """Return knots and slopes of a loss that is convex and piecewise linear in each score; None for other losses.

        Linear-programming methods use nothing else of it. Like every optional member it must be redefined
        together with `forward`: see `implements`.
        """
        return None

    def link(self, scores: Tensor) -> Tensor:
        """Return predictions from scores: identity, σ, softmax or exp, by kind."""
        return self.task.link(scores)

    def outputs(self, info: TargetInfo) -> int:
        """Return the number of scores that the network needs for a target.

        Raises:
            ValueError: if the target does not fit the kind.
        """
        return self.task.outputs(info)

    def check(self, target: Tensor) -> None:
        """Raise an error if target values are outside the loss's domain.

        Raises:
            ValueError: with the values that are outside, or those that are allowed.
        """
        self.task.check(target)

    def point(self, predictions: Tensor) -> Tensor:
        """Return the one prediction per target that metrics use; all predictions by default."""
        return predictions

    def prediction_names(self, info: TargetInfo) -> list[str]:
        """Return a name for each column of `link(scores)`, for regression and count losses."""
        return list(info.columns)


def row_losses(loss: Loss, scores: Tensor, target: Tensor) -> Tensor:
    r"""Return the loss of each row, (n,); where a network has several members, the mean of theirs.

        ℓᵢ = (1/m) Σ_j ℓ(z_ji, yᵢ)

    Args:
        loss: ℓ.
        scores: (n, k), or (m, n, k) of m members.
        target: of the n rows.
    """
    if scores.ndim == 2:
        values: Tensor = loss(scores, target)
        return values
    members, rows = scores.shape[:2]
    spread = target.expand(members, *target.shape).flatten(0, 1)
    values = loss(scores.flatten(0, 1), spread)
    return values.view(members, rows).mean(0)


class Regularizer(nn.Module):
    """Base class of regularizers: R(θ), which the core multiplies by `coefficient`.

    Attributes:
        coefficient: λ ≥ 0, the weight of R in the training objective.
        include: glob patterns of parameter names to penalize; None: all but biases and norm layers.
        proximal: whether the step applies `prox` instead of adding λR to the loss.
        smooth: whether R has a second derivative everywhere, as curvature methods require.
        separable: whether R is a sum over elements, so that `prox` may be given a step for each; that of one that is
            not, such as a group lasso, is refused with optimizers whose steps differ from element to element.
        elementwise: whether R is a sum over elements, so that `derivative` and `prox` may be given the parameters of
            many models at once, with a leading axis. Like every optional member it must be redefined together with
            `forward`.
        hyper: parameters that may differ among models that are trained at once: their attributes, of the same names,
            may be tensors that broadcast against such parameters.

    Optional methods, each a function of {name: parameter} that returns tensors by name:
        derivative: ∂R/∂θ, with autograd's subgradient; analytic gradients use it.
        curvature: ∂²R/∂θ², elementwise, of an elementwise penalty.
        residuals: tensors whose squares sum to λR, of a quadratic penalty.
    """

    coefficient: float = 1.0
    include: list[str] | None = None
    proximal: bool = False
    smooth: bool = True
    separable: bool = True
    elementwise: bool = False
    hyper: tuple[str, ...] = ()

    def forward(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return R(θ), a scalar tensor."""
        raise TypeError(f"{type(self).__name__} does not define forward(parameters)")

    def prox(self, parameter: Tensor, step: Tensor | float) -> Tensor:
        """Return argmin_u λR(u) + Σ(u − parameter)²/(2·step); `step` is a number, or elementwise if R is separable."""
        raise TypeError(f"{type(self).__name__} has no proximal operator")
