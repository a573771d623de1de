"""Derivatives by autograd, by all parameters, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

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


def per_row_jacobian(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """The derivatives (m, q, p) of a module's outputs by its trainable parameters, and the outputs (m, q)."""
    plain = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    def outputs(values: dict[str, Tensor], row: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        one = tree_map(lambda leaf: leaf.unsqueeze(0), row)
        given: Tensor = torch.func.functional_call(module, values, one)[0]
        return given, given

    blocks, values = torch.func.vmap(torch.func.jacrev(outputs, has_aux=True), (None, 0))(plain, inputs)
    return torch.cat([block.reshape(*values.shape, -1) for block in blocks.values()], dim=2), values
