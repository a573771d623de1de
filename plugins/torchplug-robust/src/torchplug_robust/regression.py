"""Losses for real-valued targets and counts.

Symbols: z scores, y targets, e = z − y errors, k outputs. `derivative` = ∂ℓ/∂z (n, k) and `curvature` =
∂²ℓ/∂z² (n, k, k) are given where they exist.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from torchplug import Loss, Pieces, TargetInfo, validate


class Huber(Loss):
    r"""Huber loss: quadratic near zero, linear in the tails.

        ℓ(z, y) = Σ_k  ½e²  if |e| ≤ δ  else  δ(|e| − ½δ),    e = z − y

    Args:
        delta: δ > 0, where the tails begin, in units of the target.

    Shape:
        scores (n, k), target (n, k) → (n,), in squared units of the target.

    Raises:
        ValueError: if delta is not positive.

    Reference: Huber (1964), doi:10.1214/aoms/1177703732.
    Note: torch's HuberLoss averages over k; its SmoothL1Loss is this divided by δ, averaged over k.
    """

    kind = "regression"
    leading_axes = True
    hyper = ("delta",)

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        validate.positive(delta=delta)
        self.delta = delta

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """The value of each sample, summed over outputs."""
        # With c = e cut off at ±δ both branches are c(e − ½c), smooth at zero where |e| is not.
        error = scores - target
        capped = error.clamp(-self.delta, self.delta)
        return (capped * (error - 0.5 * capped)).sum(dim=-1)

    def derivative(self, scores: Tensor, target: Tensor) -> Tensor:
        """The error e, cut off at ±δ, (n, k)."""
        return (scores - target).clamp(-self.delta, self.delta)


class LogCosh(Loss):
    r"""Logarithm of the hyperbolic cosine: about ½e² near zero, |e| − log 2 in the tails.

        ℓ(z, y) = Σ_k log cosh e,    e = z − y

    Shape:
        scores (n, k), target (n, k) → (n,); e counts in units of the target, the bend lies near 1.

    Reference: Green (1990), doi:10.1109/42.52985.
    """

    kind = "regression"
    leading_axes = True

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """The value of each sample, summed over outputs."""
        error = scores - target
        size = error.abs()
        near = size < 1.0
        # ½ log(1 + sinh²e) keeps the digits of small errors, |e| + log(1 + e^(−2|e|)) − log 2 does not
        # overflow on large ones. Each is fed a harmless error where the other holds: a gradient
        # of inf·0 would be NaN.
        inner = 0.5 * torch.log1p(torch.sinh(torch.where(near, error, 0.0)).square())
        far = torch.where(near, 1.0, size)
        outer = far + torch.log1p(torch.exp(-2.0 * far)) - math.log(2.0)
        return torch.where(near, inner, outer).sum(dim=-1)

    def derivative(self, scores: Tensor, target: Tensor) -> Tensor:
        """The hyperbolic tangent of e, (n, k)."""
        return torch.tanh(scores - target)

    def curvature(self, scores: Tensor, target: Tensor) -> Tensor:
        """1 − tanh²e on the diagonal, (n, k, k)."""
        return torch.diag_embed(1.0 - torch.tanh(scores - target).square())


class Tukey(Loss):
    r"""Tukey's biweight: errors beyond c cost the same, so that gross outliers have no influence.

        ℓ(z, y) = Σ_k  c²/6 (1 − (1 − (e/c)²)³)  if |e| ≤ c  else  c²/6,    e = z − y

    Args:
        c: c > 0, in units of the target. 4.685 standard deviations of the noise give 95 % efficiency
            where it is Gaussian, so scale c by that deviation.

    Shape:
        scores (n, k), target (n, k) → (n,), in squared units of the target.

    Raises:
        ValueError: if c is not positive.

    Reference: Beaton and Tukey (1974), doi:10.1080/00401706.1974.10489171.
    Note: it is not convex, and a sample that starts beyond c has gradient zero: begin from the
    solution of a convex loss such as `huber`, or standardize the target.
    """

    kind = "regression"
    leading_axes = True
    hyper = ("c",)

    def __init__(self, c: float = 4.685) -> None:
        super().__init__()
        validate.positive(c=c)
        self.c = c

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """The value of each sample, summed over outputs."""
        u = ((scores - target) / self.c).square().clamp(max=1.0)
        # 1 − (1 − u)³ multiplied out, which keeps the digits of small errors.
        return (u * (3.0 - 3.0 * u + u.square()) * (self.c**2 / 6.0)).sum(dim=-1)

    def derivative(self, scores: Tensor, target: Tensor) -> Tensor:
        """The error e times (1 − (e/c)²)² within c, 0 beyond, (n, k)."""
        error = scores - target
        inside = (1.0 - (error / self.c).square()).clamp(min=0.0)
        return error * inside.square()


class Quantile(Loss):
    r"""Quantile (pinball) loss: the network predicts several quantiles of each target.

        ℓ(z, y) = Σ_k Σ_q  max(q e, (q − 1) e),    e = y_k − z_kq

    Args:
        quantiles: the orders q, each in (0, 1), increasing.

    Shape:
        scores (n, k·Q), those of the first target first, each target's in the order of `quantiles`;
        target (n, k) → (n,), in units of the target.

    Raises:
        ValueError: if there is no quantile, one is outside (0, 1), or they do not increase.

    Reference: Koenker and Bassett (1978), doi:10.2307/1913643.
    Note: quantiles are fitted independently and may cross, a lower order above a higher; predictions are not
    reordered. Metrics use the quantile whose order is nearest ½.
    """

    kind = "regression"
    smooth = False

    def __init__(self, quantiles: list[float] = [0.1, 0.5, 0.9]) -> None:  # noqa: B006 - only read
        super().__init__()
        if not quantiles or not all(0 < q < 1 for q in quantiles):
            raise ValueError(f"quantiles must lie in (0, 1), at least one, got {list(quantiles)}")
        if any(after <= before for before, after in pairwise(quantiles)):
            raise ValueError(f"quantiles must increase, got {list(quantiles)}")
        self.quantiles = list(quantiles)

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """The value of each sample, summed over targets and quantiles."""
        error, order = self._errors(scores, target)
        return torch.maximum(order * error, (order - 1.0) * error).sum(dim=(1, 2))

    def outputs(self, info: TargetInfo) -> int:
        """One score per target and quantile."""
        return super().outputs(info) * len(self.quantiles)

    def point(self, predictions: Tensor) -> Tensor:
        """The quantile nearest the median, (n, k)."""
        nearest = min(range(len(self.quantiles)), key=lambda i: abs(self.quantiles[i] - 0.5))
        return predictions[:, nearest :: len(self.quantiles)]

    def prediction_names(self, info: TargetInfo) -> list[str]:
        """`price_q0.1`, `price_q0.5`, and so on, target by target."""
        return [f"{column}_q{q:g}" for column in info.columns for q in self.quantiles]

    def derivative(self, scores: Tensor, target: Tensor) -> Tensor:
        """1 − q above the target, −q below, ½ − q on it, (n, k·Q)."""
        error, order = self._errors(scores, target)
        return (0.5 * (1.0 - torch.sign(error)) - order).flatten(1)

    def pieces(self, target: Tensor) -> Pieces:
        """Slopes −q and 1 − q for each quantile, with the knot y."""
        order = torch.tensor(self.quantiles, dtype=target.dtype, device=target.device).repeat(target.shape[1])
        knots = target.repeat_interleave(len(self.quantiles), dim=1)
        return Pieces(knots.unsqueeze(2), torch.stack([-order, 1.0 - order], dim=1).expand(len(target), -1, -1))

    def _errors(self, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.tensor(self.quantiles, dtype=scores.dtype, device=scores.device)
        error = target.unsqueeze(2) - scores.reshape(*target.shape, len(self.quantiles))
        return error, order


class PoissonNLL(Loss):
    r"""Negative log-likelihood of counts, from the logarithm of their rate.

        ℓ(z, y) = Σ_k  e^z − y z  (+ log y! with full)

    Args:
        full: whether log y!, which does not depend on parameters, is added, for the value of the likelihood.

    Shape:
        scores (n, k), target (n, k) not negative → (n,), in nats.

    Reference: Nelder and Wedderburn (1972), doi:10.2307/2344614.
    Note: targets need not be whole numbers: for rates the loss is a quasi-likelihood, and log y! is log Γ(y + 1).
    torch's PoissonNLLLoss adds Stirling's approximation instead, and averages. e^z overflows for
    scores above 88 in float32: the training stops with the step named.
    """

    kind = "count"
    likelihood = True

    def __init__(self, full: bool = False) -> None:
        super().__init__()
        self.full = full

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """The value of each sample, summed over outputs."""
        value = torch.exp(scores) - target * scores
        if self.full:
            value = value + torch.lgamma(target + 1.0)
        return value.sum(dim=1)

    def derivative(self, scores: Tensor, target: Tensor) -> Tensor:
        """e^z − y, (n, k)."""
        return torch.exp(scores) - target

    def curvature(self, scores: Tensor, target: Tensor) -> Tensor:
        """e^z on the diagonal, (n, k, k)."""
        return torch.diag_embed(torch.exp(scores))
