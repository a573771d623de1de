"""Derivatives by autograd, as flat vectors over all parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_AT_ONCE = 64
"""How many columns of a Hessian are computed at once."""


def flat_gradient(value: Tensor, parameters: Sequence[nn.Parameter], create_graph: bool = False) -> Tensor:
    """∂value/∂θ (p,), zero where it does not depend on a parameter."""
    if not value.requires_grad:
        return torch.cat([torch.zeros_like(p).reshape(-1) for p in parameters])
    gradients = torch.autograd.grad(
        value, parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return torch.cat([g.reshape(-1) for g in gradients])


def vector_products(gradient: Tensor, parameters: Sequence[nn.Parameter], vectors: Tensor) -> Tensor:
    """∂(gradient·v)/∂θ for each row v of `vectors` (m, p), several at once: products with the Hessian (m, p)."""
    if not gradient.requires_grad:
        return torch.zeros_like(vectors)
    results = []
    for some in torch.split(vectors, _AT_ONCE):
        products = torch.autograd.grad(
            gradient, parameters, some, retain_graph=True, is_grads_batched=True, allow_unused=True
        )
        blocks = [
            some.new_zeros(len(some), p.numel()) if block is None else block.reshape(len(some), -1)
            for block, p in zip(products, parameters, strict=True)
        ]
        results.append(torch.cat(blocks, dim=1))
    return torch.cat(results)
