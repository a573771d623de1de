"""Losses for two classes; targets are 0 and 1, for the first and the second class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchplug import Loss, Pieces, validate


class Hinge(Loss):
    r"""Hinge loss of support vector machines: samples beyond the margin cost nothing.

        ℓ(z, y) = max(0, 1 − s z),    s = 2y − 1

    Args:
        squared: whether the value is squared, which makes it smooth.

    Shape:
        scores (n, 1), target (n, 1) of 0 and 1 → (n,), dimensionless.

    Reference: Cortes and Vapnik (1995), doi:10.1007/BF00994018.
    Note: scores are margins, not log-odds, so there are no probabilities. scikit-learn's LinearSVC with
    its parameter C minimizes this plus `l2` with coefficient 1/(2nC), acting on the intercept too.
    """

    kind = "margin"
    smooth = False
    leading_axes = True

    def __init__(self, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return each sample's distance to the margin, 0 beyond it."""
        short = torch.relu(1.0 - (2.0 * target - 1.0) * scores)
        return (short.square() if self.squared else short).sum(dim=-1)

    def check(self, target: Tensor) -> None:
        """Refuse anything but 0 and 1: a margin has a side."""
        if bool(((target != 0) & (target != 1)).any()):
            raise ValueError("needs targets that are 0 or 1, without shades between")

    def derivative(self, scores: Tensor, target: Tensor) -> Tensor:
        """−s short of the margin (−2s(1 − s z) if squared), 0 beyond, (n, 1)."""
        side = 2.0 * target - 1.0
        short = torch.relu(1.0 - side * scores)
        return -2.0 * side * short if self.squared else -side * torch.sign(short)

    def pieces(self, target: Tensor) -> Pieces | None:
        """Slope −s short of the margin and 0 beyond, with the knot s = ±1; None if squared."""
        if self.squared:
            return None
        side = 2.0 * target - 1.0
        return Pieces(side.unsqueeze(2), torch.stack([(-side).clamp(max=0.0), (-side).clamp(min=0.0)], dim=2))


class Focal(Loss):
    r"""Focal loss: binary cross entropy that gives less weight to samples that are already classified correctly.

        ℓ(z, y) = −a y (1 − p)^γ log p − (1 − a)(1 − y) p^γ log(1 − p),    p = σ(z)

    Args:
        gamma: γ ≥ 0; 0 gives the cross entropy, larger values give easy samples less weight.
        alpha: a in (0, 1), the weight of the second class; None: both weights are 1.

    Shape:
        scores (n, 1), target (n, 1) in [0, 1] → (n,), in nats.

    Raises:
        ValueError: if gamma is negative, or alpha outside (0, 1).

    Reference: Lin et al. (2017), doi:10.1109/ICCV.2017.324.
    Note: its σ(z) is not a calibrated probability: the minimum is shifted towards ½.
    """

    kind = "binary"
    leading_axes = True
    hyper = ("gamma",)

    def __init__(self, gamma: float = 2.0, alpha: float | None = 0.25) -> None:
        super().__init__()
        validate.non_negative(gamma=gamma)
        if alpha is not None and not 0 < alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), or left out, got {alpha}")
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """The value of each sample."""
        positive, negative = (1.0, 1.0) if self.alpha is None else (self.alpha, 1.0 - self.alpha)
        log_p = nn.functional.logsigmoid(scores)
        log_q = nn.functional.logsigmoid(-scores)
        # Powers by way of the logarithm: the gradient of 0^γ would be infinite for γ < 1.
        value = positive * target * torch.exp(self.gamma * log_q) * log_p
        return -(value + negative * (1.0 - target) * torch.exp(self.gamma * log_p) * log_q).sum(dim=-1)
