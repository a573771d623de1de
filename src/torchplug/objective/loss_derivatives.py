"""Derivatives of a loss and of its residuals by the scores."""

from __future__ import annotations

import torch
from torch import Tensor

from torchplug.components.contracts import Loss, implements


def score_derivative(loss: Loss, scores: Tensor, target: Tensor) -> Tensor:
    """∂ℓ/∂z (m, k), by the loss itself where it can."""
    if implements(loss, "derivative"):
        derivative: Tensor = loss.derivative(scores, target)  # type: ignore[operator]
        return derivative
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        return torch.autograd.grad(loss(scores, target).sum(), scores)[0]


def residuals_and_slope(loss: Loss, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The residuals r (m, q), and ∂r/∂z: (m, k) where each depends on its own score alone, else (m, q, k)."""
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        residuals = loss.residuals(scores, target)  # type: ignore[operator]
        outputs = range(residuals.shape[1])
        slopes = [torch.autograd.grad(residuals[:, j].sum(), scores, retain_graph=True)[0] for j in outputs]
    slope = torch.stack(slopes, dim=1)
    if slope.shape[1] == slope.shape[2]:
        own = slope.diagonal(dim1=1, dim2=2)
        if slope.shape[1] == 1 or bool((slope == torch.diag_embed(own)).all()):
            return residuals.detach(), own
    return residuals.detach(), slope


@torch.no_grad()
def residual_slope(loss: Loss, ones: Tensor) -> float | None:
    """c, if the residuals are c(z − y): tried at a few points."""
    slope = float(loss.residuals(ones, 0.0 * ones)[0, 0])  # type: ignore[operator]
    for z, y in ((ones, 0.0 * ones), (0.0 * ones, ones), (2.5 * ones, -0.5 * ones), (ones, ones)):
        expected = slope * (z - y)
        residuals = loss.residuals(z, y)  # type: ignore[operator]
        if residuals.shape != z.shape or not torch.allclose(residuals, expected, rtol=1e-12, atol=0.0):
            return None
    return slope
