"""A mixture of the identity and mish, with a backward pass written by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mish


def mixed_mish(units: Tensor, mix: Tensor) -> Tensor:
    r"""Return u + a (mish(u) − u), mish(u) = u tanh(ln(1 + eᵘ)).

    On a CPU tanh is written as a rational function of q = 1/(1 + eᵘ): mish(u) = u (1 − 2v) with v = q²/(1 + q²), so
    that a pass takes one exponential function. Elsewhere, and where torch compiles it, it is torch's `mish`.

    Args:
        units: u, (…, m).
        mix: a, (m,).

    Reference: Misra (2019), arXiv 1908.08681.
    """
    if units.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.lerp(units, mish(units), mix.to(units.dtype))
    mixed: Tensor = _MixedMish.apply(units, mix.to(units.dtype))[0]  # type: ignore[no-untyped-call]
    return mixed


class _MixedMish(torch.autograd.Function):
    """y = u − 2auv, and q, which the backward pass uses again unless it is to be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(units: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
        q = units.neg().sigmoid_()
        square = q * q
        v = square.div_(square + 1.0)
        return (v * (-2.0 * mix)).add_(1.0).mul_(units), q

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """∂y/∂u = 1 − 2av (1 − 2us/(1 + q²)) and ∂y/∂a = −2uv, from dv/du = −2sv/(1 + q²), s = 1 − q."""
        if gradient is None:
            return None, None
        units, mix, q = ctx.saved_tensors
        mul, div, add = Tensor.mul_, Tensor.div_, Tensor.add_
        if torch.is_grad_enabled():  # a second derivative is wanted
            q, mul, div, add = torch.sigmoid(-units), Tensor.mul, Tensor.div, Tensor.add
        square = q * q
        divisor = square + 1.0
        part = gradient * div(square, divisor)
        scaled = part * (2.0 * mix)
        by_mix = -2.0 * mul(part, units).reshape(-1, units.shape[-1]).sum(0)
        slope = div(mul(q - 1.0, units), divisor)  # −us/(1 + q²)
        return torch.addcmul(gradient, scaled, add(mul(slope, 2.0), 1.0), value=-1.0), by_mix
