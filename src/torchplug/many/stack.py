"""The parameters of K models as the rows of one matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class Layout:
    """Where each parameter of a model lies in its row (P,).

    Args:
        shapes: of the parameters, by name, in the order of a row.
        bias_column: whether there are two, a weight (k, d) and a bias (k,), laid out as one matrix (k, d + 1).
    """

    def __init__(self, shapes: Mapping[str, torch.Size], bias_column: bool = False) -> None:
        self.shapes = dict(shapes)
        self.bias_column = bias_column
        self.width = sum(shape.numel() for shape in shapes.values())

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Each parameter of every model as a view (K, …) of the rows (K, P)."""
        models = len(flat)
        if self.bias_column:
            weight, bias = self.shapes
            k, d = self.shapes[weight]
            matrix = flat.view(models, k, d + 1)
            return {weight: matrix[:, :, :d], bias: matrix[:, :, d]}
        pieces = torch.split(flat, [shape.numel() for shape in self.shapes.values()], dim=1)
        return {
            name: piece.view(models, *shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def rows(self, starts: Sequence[Mapping[str, Tensor]], like: Tensor) -> Tensor:
        """Models' parameters as rows (K, P), with the dtype and device of a tensor."""
        flat = like.new_empty(len(starts), self.width)
        for name, view in self.views(flat).items():
            view.copy_(torch.stack([start[name] for start in starts]))
        return flat


def column(numbers: Tensor, axes: int) -> Tensor:
    """Numbers (K,) that broadcast against tensors (K, …) of so many axes."""
    return numbers.view(-1, *[1] * (axes - 1))


def chosen(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new rows of the models that are chosen, (K,) bool, the old ones of all others."""
    return torch.where(column(which, new.ndim), new, old)
