"""Temperature scaling: one number that makes the probabilities of classes more or less certain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torchplug.components.builtin.metrics import CalibrationError
from torchplug.components.contracts import Loss

_MOST_STEPS = 200
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Temperature:
    r"""The T > 0 for which probabilities of scores z / T have the smallest log loss on m rows that did not train.

        T = argmin  (1/Σ wᵢ) Σᵢ wᵢ [log Σ_c e^{z_ic / T} − Σ_c t_ic z_ic / T]
        t_ic = (1 − ε) y_ic + ε/k,    ε = k / ((k − 1)(m + 2))

    with scores (0, z) where two classes have one score. The targets t give a true class the probability
    (m + 1)/(m + 2), what is expected of an event that came to pass m times out of m: where all rows are predicted
    rightly, y would make T zero, and the first wrong prediction would cost without bound. The predicted labels stay
    as they are.

    Args:
        value: T; 1 where there is no minimum: scores that do not rise with the classes.
        rows: m.
        log_loss: before and after, of y, in nats, rows by their weights.
        calibration_error: before and after, in 15 bins; None where targets are probabilities.
        found: whether there is a minimum.

    Reference: Guo et al. (2017), arXiv 1706.04599; for t, Platt (1999), Probabilistic outputs for support vector
    machines, who has it by class.
    """

    value: float
    rows: int
    log_loss: tuple[float, float]
    calibration_error: tuple[float, float] | None
    found: bool

    @classmethod
    def of(cls, scores: Tensor, target: Tensor, weight: Tensor) -> Temperature:
        """Find T.

        Args:
            scores: (m, c), or (m, 1) of the second of two classes.
            target: (m,) class indices; (m, c) probabilities, or (m, 1) of the second class.
            weight: (m,), positive.
        """
        by_class, chosen = _by_class(scores.double(), target)
        problem = _Problem(by_class, chosen, weight.double() / weight.double().sum())
        inverse = problem.smoothed().minimizer()
        each = (1.0, 1.0 if inverse is None else inverse)
        losses = problem.value(each[0]), problem.value(each[1])
        errors = None
        if _are_labels(target):
            errors = _error(scores.double(), target, each[0]), _error(scores.double(), target, each[1])
        return cls(1.0 / each[1], len(scores), losses, errors, inverse is not None)

    def state(self) -> dict[str, Any]:
        """T and how it was found, as plain data."""
        return {**vars(self), "log_loss": list(self.log_loss), "calibration_error": _listed(self.calibration_error)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Temperature:
        """The temperature that `state` describes.

        Raises:
            ValueError: if T is no positive number.
        """
        value, errors = float(state["value"]), state["calibration_error"]
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"its temperature is {value}")
        return cls(
            value,
            int(state["rows"]),
            _pair(state["log_loss"]),
            None if errors is None else _pair(errors),
            bool(state["found"]),
        )


def takes_temperature(loss: Loss) -> bool:
    """Whether probabilities are σ or the softmax of a loss's scores."""
    return loss.task.probabilities is not None and type(loss).link is Loss.link


@dataclass(frozen=True)
class _Problem:
    """The log loss as a convex function of β = 1/T.

    Args:
        scores: (m, c) float64.
        chosen: (m,) Σ_c y_ic z_ic.
        weight: (m,), of sum 1.
    """

    scores: Tensor
    chosen: Tensor
    weight: Tensor

    def smoothed(self) -> _Problem:
        """The problem with the targets t."""
        rows, classes = self.scores.shape
        share = min(1.0, classes / ((classes - 1) * (rows + 2)))
        return replace(self, chosen=(1.0 - share) * self.chosen + share * self.scores.mean(dim=1))

    def value(self, inverse: float) -> float:
        """The log loss."""
        return float(self.weight @ (torch.logsumexp(inverse * self.scores, dim=1) - inverse * self.chosen))

    def slopes(self, inverse: float) -> tuple[float, float]:
        """First and second derivative: mean of E z − Σ y z, and of Var z, under the softmax of βz."""
        shares = torch.softmax(inverse * self.scores, dim=1)
        mean = (shares * self.scores).sum(dim=1)
        spread = (shares * (self.scores - mean.unsqueeze(1)).square()).sum(dim=1)
        return float(self.weight @ (mean - self.chosen)), float(self.weight @ spread)

    def minimizer(self) -> float | None:
        """β where the first derivative is zero, by Newton's method within a bracket; None where it is nowhere."""
        flattest = float(self.weight @ (self.scores.mean(dim=1) - self.chosen))
        steepest = float(self.weight @ (self.scores.amax(dim=1) - self.chosen))
        if not flattest < 0.0 < steepest:  # the derivatives at β = 0 and for β → ∞
            return None
        low, high = 0.0, 1.0
        while self.slopes(high)[0] < 0.0 and math.isfinite(high):
            low, high = high, 2.0 * high
        inverse = high
        for _ in range(_MOST_STEPS):
            slope, curvature = self.slopes(inverse)
            low, high = (inverse, high) if slope < 0.0 else (low, inverse)
            step = inverse - slope / curvature if curvature > 0.0 else math.nan
            following = step if low < step < high else 0.5 * (low + high)
            if abs(following - inverse) <= _TOLERANCE * inverse:
                return following
            inverse = following
        return inverse


def _by_class(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A score for each class, and Σ_c y_ic z_ic."""
    if scores.shape[1] == 1:
        return torch.cat([torch.zeros_like(scores), scores], dim=1), (target.double() * scores).squeeze(1)
    if target.ndim == 1:
        return scores, scores.gather(1, target.unsqueeze(1)).squeeze(1)
    return scores, (target.double() * scores).sum(dim=1)


def _are_labels(target: Tensor) -> bool:
    return target.ndim == 1 or (target.shape[1] == 1 and bool(((target == 0) | (target == 1)).all()))


def _error(scores: Tensor, target: Tensor, inverse: float) -> float:
    """The calibration error of the probabilities of βz."""
    metric = CalibrationError().set_dtype(torch.float64)
    metric.distributed_available_fn = lambda: False  # each rank has all rows
    if scores.shape[1] == 1:
        metric.update(torch.sigmoid(inverse * scores).squeeze(1), target.squeeze(1))
    else:
        metric.update(torch.softmax(inverse * scores, dim=1), target)
    return float(metric.compute())


def _listed(values: tuple[float, float] | None) -> list[float] | None:
    return None if values is None else list(values)


def _pair(values: Any) -> tuple[float, float]:
    before, after = values
    return float(before), float(after)
