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
        square = (1.0 - torch.sigmoid(units)).square()
        return torch.addcmul(units, square.div_(square + 1.0).mul_(units), mix, value=-2.0)
    mixed: Tensor = _MixedMish.apply(units, mix)[0]  # type: ignore[no-untyped-call]
    return mixed


class _MixedMish(torch.autograd.Function):
    """y = u − 2ar with r = uv, and its derivatives: ∂y/∂u = 1 − 2av (1 − 2us (1 − v)), s = 1 − q, and ∂y/∂a = −2r.

    They follow from dv/du = −2sv (1 − v). They are computed with y, while what they need is in the cache, and again if
    they are to be differentiated. What can be is computed in place: memory that is allocated is in no cache.
    """

    @staticmethod
    def forward(units: Tensor, mix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        one = mix.new_ones(())  # as a tensor: torch takes twice as long to add a number
        s = torch.sigmoid(units)
        r = torch.sub(one, s)  # q
        r.mul_(r)
        k = torch.add(r, one).reciprocal_()  # 1 − v
        r.mul_(k)  # v
        k.mul_(s.mul_(units)).sub_(0.5).mul_(r)  # −½v (1 − 2us (1 − v))
        r.mul_(units)
        slope = torch.addcmul(one, k, mix, value=4.0, out=k)
        return torch.addcmul(units, r, mix, value=-2.0, out=s), slope, r

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, int | None], units: Tensor, mix: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], int]:
        """For b models: u (b, …, m) and a (b, 1 …, m), of which an unbatched one is repeated."""
        units, mix = (
            value.expand(info.batch_size, *value.shape) if place is None else value.movedim(place, 0)
            for value, place in zip((units, mix), in_dims, strict=True)
        )
        mix = mix.reshape(info.batch_size, *[1] * (units.ndim - mix.ndim), *mix.shape[1:])
        return _MixedMish.apply(units, mix), 0  # type: ignore[no-untyped-call]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if gradient is None:
            return None, None
        units, mix, slope, r = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted
            s = torch.sigmoid(units)
            square = (1.0 - s).square()
            v = square / (square + 1.0)
            slope = 1.0 - 2.0 * mix * v * (1.0 - 2.0 * units * s * (1.0 - v))
            r = units * v
        return gradient * slope, -2.0 * (gradient * r).sum_to_size(mix.shape)
