"""Precomputed gradients in an autograd graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def with_precomputed_grad(value: Tensor, gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """Return the value with a backward pass that gives each parameter its gradient, bit for bit.

    Args:
        value: a scalar.
        gradients: shaped like the parameters.
        parameters: leaf tensors that require gradients.
    """
    result: Tensor = _Precomputed.apply(value, gradients, *parameters)  # type: ignore[no-untyped-call]
    return result


class _Precomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (factor,) = grad_outputs
        if factor.device.type == "cpu" and factor.item() == 1.0:  # the usual factor; a product would cost another pass
            return None, None, *ctx.gradients
        return None, None, *(gradient * factor for gradient in ctx.gradients)
