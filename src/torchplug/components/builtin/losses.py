"""Losses: one value per sample, from raw scores.

Symbols: n samples, k outputs, z scores (n, k), y targets, ŷ = link(z) predictions. Each loss has
`derivative` = ∂ℓ/∂z (n, k) and, where it exists, `curvature` = ∂²ℓ/∂z² (n, k, k); a loss that is a
sum of squares has `residuals`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from torchplug.components.contracts import Loss, Pieces
from torchplug.components.validate import one_of, positive

PerOutput = Literal["sum", "mean"]


class L1(Loss):
    r"""Absolute error: robust to outliers; minimized by the conditional median.

        ℓ(z, y) = Σ_k |z − y|

    Args:
        per_output: `sum` over the k outputs, as in the formula, or their `mean`, which divides by k.

    Shape:
        scores (n, k), target (n, k) → (n,), in units of the target.

    Raises:
        ValueError: if per_output is neither.

    Reference: Boyd and Vandenberghe (2004), Convex Optimization, section 6.1.
    Note: torch's L1Loss also divides by k; `per_output="mean"` gives that. There is no curvature:
    the second derivative vanishes wherever it exists. The derivative at zero error is 0.
    """

    kind = "regression"
    smooth = False
    leading_axes = True

    def __init__(self, per_output: PerOutput = "sum") -> None:
        super().__init__()
        one_of("sum", "mean", per_output=per_output)
        self.per_output = per_output

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """The absolute errors of each sample, summed or averaged over outputs."""
        return (scores - target).abs().sum(dim=-1) * _share(self.per_output, scores)

    def derivative(self, scores: Tensor, target: Tensor) -> Tensor:
        """The signs of the errors (n, k), divided by k for `mean`."""
        return torch.sign(scores - target) * _share(self.per_output, scores)

    def pieces(self, target: Tensor) -> Pieces:
        """Slopes −1 and 1, divided by k for `mean`, with the knot y."""
        slope = torch.full_like(target, _share(self.per_output, target))
        return Pieces(target.unsqueeze(2), torch.stack([-slope, slope], dim=2))


class MSE(Loss):
    r"""Squared error: penalizes large errors; minimized by the conditional mean.

        ℓ(z, y) = Σ_k (z − y)²

    Args:
        per_output: `sum` over the k outputs, as in the formula, or their `mean`, which divides by k.

    Shape:
        scores (n, k), target (n, k) → (n,), in squared units of the target.

    Raises:
        ValueError: if per_output is neither.

    Reference: Gauss (1809), Theoria motus corporum coelestium, sections 175-186.
    Note: torch's MSELoss also divides by k; `per_output="mean"` gives that.
    """

    kind = "regression"
    leading_axes = True

    def __init__(self, per_output: PerOutput = "sum") -> None:
        super().__init__()
        one_of("sum", "mean", per_output=per_output)
        self.per_output = per_output

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """The squared errors of each sample, summed or averaged over outputs."""
        return (scores - target).square().sum(dim=-1) * _share(self.per_output, scores)

    def residuals(self, scores: Tensor, target: Tensor) -> Tensor:
        """The errors r = z − y (n, k), divided by √k for `mean`, so that the value is Σ_k r²."""
        return (scores - target) * math.sqrt(_share(self.per_output, scores))

    def derivative(self, scores: Tensor, target: Tensor) -> Tensor:
        """2(z − y) (n, k), divided by k for `mean`."""
        error = scores - target
        # added to itself: torch needs twice as long for a product with a number
        return error.add_(error) if self.per_output == "sum" else error * (2.0 * _share(self.per_output, scores))

    def curvature(self, scores: Tensor, target: Tensor) -> Tensor:
        """2I (n, k, k), divided by k for `mean`."""
        return torch.diag_embed(torch.full_like(scores, 2.0 * _share(self.per_output, scores)))


class BCE(Loss):
    r"""Binary cross entropy of logits: the negative log-likelihood of a Bernoulli variable.

        ℓ(z, y) = −[w y log ŷ + (1 − y) log(1 − ŷ)],    ŷ = σ(z)

    Args:
        positive_weight: w > 0, the weight of the second class, dimensionless.
        label_smoothing: ε in [0, 1]; y is replaced by (1 − ε) y + ε/2.

    Shape:
        scores (n, 1), target (n, 1) in [0, 1] → (n,), in nats.

    Raises:
        ValueError: if positive_weight is not positive, or label_smoothing outside [0, 1].

    Reference: Cox (1958), doi:10.1111/j.2517-6161.1958.tb00292.x; label smoothing: Szegedy et al. (2016),
    doi:10.1109/CVPR.2016.308.
    Note: log ŷ is computed from the logit, so log 0 cannot occur. torch's BCEWithLogitsLoss calls
    the weight pos_weight and computes a difference, which loses digits of small values.
    """

    kind = "binary"
    leading_axes = True

    def __init__(self, positive_weight: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        positive(positive_weight=positive_weight)
        _check_smoothing(label_smoothing)
        self.positive_weight = positive_weight
        self.label_smoothing = label_smoothing

    @property
    def likelihood(self) -> bool:
        """Whether the second class has weight 1, and targets are not smoothed."""
        return self.positive_weight == 1.0 and self.label_smoothing == 0.0

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """The weighted negative log-likelihood of each sample."""
        target = _smoothed(target, self.label_smoothing, classes=2)
        # Two terms of one sign: nothing cancels, however confident the prediction.
        weighted = target if self.positive_weight == 1.0 else self.positive_weight * target
        positive_part = weighted * nn.functional.logsigmoid(scores)
        negative_part = (target - 1.0) * nn.functional.logsigmoid(-scores)
        return (negative_part - positive_part).sum(dim=-1)

    def derivative(self, scores: Tensor, target: Tensor) -> Tensor:
        """(1 − y) σ(z) − w y σ(−z), which is σ(z) − y where w = 1, (n, 1)."""
        target = _smoothed(target, self.label_smoothing, classes=2)
        if self.positive_weight == 1.0:
            return torch.sigmoid(scores) - target
        return (1.0 - target) * torch.sigmoid(scores) - self.positive_weight * target * torch.sigmoid(-scores)

    def curvature(self, scores: Tensor, target: Tensor) -> Tensor:
        """(1 − y + w y) σ(z) σ(−z), (n, 1, 1)."""
        target = _smoothed(target, self.label_smoothing, classes=2)
        weight = 1.0 - target + self.positive_weight * target
        return torch.diag_embed(weight * torch.sigmoid(scores) * torch.sigmoid(-scores))


class CrossEntropy(Loss):
    r"""Cross entropy of logits over k classes: the negative log-likelihood of a categorical variable.

        ℓ(z, y) = −Σ_k y_k log ŷ_k,    ŷ = softmax(z)

    Args:
        label_smoothing: ε in [0, 1]; y is replaced by (1 − ε) y + ε/k.

    Shape:
        scores (n, k), target (n,) class indices or (n, k) probabilities → (n,), in nats.

    Raises:
        ValueError: if label_smoothing is outside [0, 1].

    Reference: Bishop (2006), Pattern Recognition and Machine Learning, section 4.3.4; label smoothing:
    Szegedy et al. (2016), doi:10.1109/CVPR.2016.308.
    Note: for two classes it equals `bce` of the difference z₂ − z₁. There is no equivalent of
    torch's ignore_index: negative indices are refused.
    """

    kind = "multiclass"

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        _check_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    @property
    def likelihood(self) -> bool:
        """Whether targets are not smoothed."""
        return self.label_smoothing == 0.0

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """The negative log-likelihood of each sample."""
        across = _goes_across(scores)
        if across:
            scores = scores.t().unsqueeze(0)
            target = (target.t() if target.is_floating_point() else target).unsqueeze(0)
        values = nn.functional.cross_entropy(scores, target, reduction="none", label_smoothing=self.label_smoothing)
        return values[0] if across else values

    def check(self, target: Tensor) -> None:
        """Refuse negative indices, and rows that are not probabilities."""
        if not target.is_floating_point():
            if bool((target < 0).any()):
                raise ValueError("needs class indices from 0, the target has negative ones")
            return
        off = (target.sum(dim=1) - 1.0).abs() > 1e-4  # float32 sums of many classes have such errors
        if bool((target < 0).any()) or bool(off.any()):
            raise ValueError("needs class probabilities: in each row not negative and summing to 1")

    def derivative(self, scores: Tensor, target: Tensor) -> Tensor:
        """ŷ Σ_j y_j − y, (n, k)."""
        probability = scores.t().softmax(dim=0).t() if _goes_across(scores) else scores.softmax(dim=1)
        if not target.is_floating_point() and not self.label_smoothing:
            return probability.scatter_add(1, target.unsqueeze(1), probability.new_full((len(target), 1), -1.0))
        y = self._distribution(scores, target)
        return probability * y.sum(dim=1, keepdim=True) - y

    def curvature(self, scores: Tensor, target: Tensor) -> Tensor:
        """(diag ŷ − ŷ ŷᵀ) Σ_j y_j, (n, k, k)."""
        probability = torch.softmax(scores, dim=1)
        total = self._distribution(scores, target).sum(dim=1)[:, None, None]
        return (torch.diag_embed(probability) - probability[:, :, None] * probability[:, None, :]) * total

    def _distribution(self, scores: Tensor, target: Tensor) -> Tensor:
        """The smoothed targets y (n, k)."""
        classes = scores.shape[1]
        y = target if target.is_floating_point() else nn.functional.one_hot(target, classes).to(scores.dtype)
        return _smoothed(y, self.label_smoothing, classes)


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")


def _smoothed(target: Tensor, smoothing: float, classes: int) -> Tensor:
    """(1 − ε) y + ε/k."""
    return (1.0 - smoothing) * target + smoothing / classes if smoothing else target


def _goes_across(scores: Tensor) -> bool:
    """Whether softmax is faster class by class over many rows, because a row is shorter than a vector register."""
    return scores.device.type == "cpu" and scores.shape[1] < 16 and scores.numel() >= 1024


def _share(per_output: PerOutput, scores: Tensor) -> float:
    """The factor of each output's term."""
    return 1.0 if per_output == "sum" else 1.0 / scores.shape[-1]
