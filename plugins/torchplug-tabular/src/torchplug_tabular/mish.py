"""A mixture of the identity and mish, with a backward pass written by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mish


def mixed_mish(units: Tensor, mix: Tensor) -> Tensor:
    r"""Return u + a (mish(u) − u), mish(u) = u tanh(ln(1 + eᵘ)).

    On a CPU tanh is written as a rational function of q = 1/(1 + eᵘ): mish(u) = u (1 − 2v) with v = q²/(1 + q²), so
    that both passes together take one exponential function. Elsewhere, and where torch compiles it, it is torch's
    `mish`.

    Args:
        units: u, (…, m).
        mix: a, (m,).

    Reference: Misra (2019), arXiv 1908.08681.
    """
    mix = mix.to(units.dtype)
    if units.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.lerp(units, mish(units), mix)
    if not torch.is_grad_enabled():
        return torch.addcmul(units, _part(torch.sigmoid(units)).mul_(units), mix, value=-2.0)
    mixed: Tensor = _MixedMish.apply(units, mix)[0]  # type: ignore[no-untyped-call]
    return mixed


def _part(s: Tensor) -> Tensor:
    """v = q²/(1 + q²), from s = 1 − q."""
    square = (1.0 - s).square_()
    return square.div_(square + 1.0)


class _MixedMish(torch.autograd.Function):
    """y = u − 2ar, r = uv, and its derivatives ∂y/∂u = 1 − 2ak, k = v − 2sr (1 − v), from dv/du = −2sv (1 − v).

    They are computed with y, while what they need is in the cache, and again if they are to be differentiated.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(units: Tensor, mix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = torch.sigmoid(units)
        k = _part(s)
        r = units * k
        s.mul_(r)
        k.sub_(s.addcmul_(s, k, value=-1.0), alpha=2.0)
        del s  # tensors that are made next take its memory, and then that of k
        k = (k * (-2.0 * mix)).add_(1.0)
        return torch.addcmul(units, r, mix, value=-2.0), k, r

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if gradient is None:
            return None, None
        units, mix, slope, r = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted
            s = torch.sigmoid(units)
            square = (1.0 - s).square()
            v = square / (square + 1.0)
            r = units * v
            slope = 1.0 - 2.0 * mix * (v - 2.0 * s * r * (1.0 - v))
        return gradient * slope, -2.0 * (gradient * r).reshape(-1, units.shape[-1]).sum(0)
