r"""Ridge regression in double precision whose λ is chosen by leaving out each row once.

    Θ, b = argmin (1/n) Σᵢ wᵢ ‖xᵢΘ + b − yᵢ‖² + λ ‖Θ‖²

Symbols: n rows of weights w of mean 1, d features, k outputs. λ is at least a millionth of the features' mean variance,
so that products of rows, which have half the digits of their condition number, are exact enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from torchplug.objective.least_squares import Block, GramAccumulation
from torchplug.objective.leave_one_out import DecomposedRows
from torchplug.objective.linear_model import LinearModel

STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-12, 3))
"""λ in units of the features' mean variance: 1e-6 to 10, two to a power of ten."""

Read = Callable[[], Iterable[Block]]


def ridge(read: Read, samples: int, features: int, outputs: int) -> LinearModel:
    """Fit, with the λ of `STRENGTHS` that has the smallest mean squared error over rows left out one at a time.

    Reads the rows twice where they are more than the features, and holds a block of them at a time; else all at once.

    Args:
        read: gives the rows in blocks (features, target, weight), equal ones at each call.
        samples: n.
        features: d.
        outputs: k.
    """
    return _wide(read, samples) if samples <= features else _tall(read, samples, features, outputs)


def _tall(read: Read, samples: int, features: int, outputs: int) -> LinearModel:
    """By eigenvectors of the features' products (d, d)."""
    sums = GramAccumulation(features, outputs, intercept=True)
    summary = sums.summarize(read())
    mean, products = summary[0, 1:], summary[1:, 1:]
    squares, vectors = _directions(products[:features, :features], samples)
    pull = vectors.mT @ products[:features, features:] / squares.sqrt()[:, None]
    ridges = _ridges(products[:features, :features].trace(), features)
    errors = torch.zeros_like(ridges)
    for rows, target, weight in read():
        root = weight.double().sqrt()[:, None]
        left = (root * (rows.double() - mean[:features])) @ vectors / squares.sqrt()
        errors += _left_out(left, squares, root * (target.double() - mean[features:]), weight, pull, samples, ridges)
    best = ridges[errors.argmin()]
    slopes = vectors @ (squares.sqrt()[:, None] * pull / (squares + best)[:, None])
    return _model(slopes, mean[:features], mean[features:], float(best) / samples)


def _wide(read: Read, samples: int) -> LinearModel:
    """By eigenvectors of the rows' products (n, n)."""
    rows, target, weight = (torch.cat(parts).double() for parts in zip(*read(), strict=True))
    root, total = weight.sqrt()[:, None], weight.sum()
    centre, middle = weight @ rows / total, weight @ target / total
    rows, target = root * (rows - centre), root * (target - middle)
    products = rows @ rows.mT
    squares, left = _directions(products, samples)
    pull = left.mT @ target
    ridges = _ridges(products.trace(), rows.shape[1])
    errors = _left_out(left, squares, target, weight, pull, samples, ridges)
    best = ridges[errors.argmin()]
    return _model(rows.mT @ (left @ (pull / (squares + best)[:, None])), centre, middle, float(best) / samples)


def _directions(products: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a symmetric matrix, without those that are rounding."""
    values, vectors = torch.linalg.eigh(products)
    known = values > torch.finfo(values.dtype).eps * max(samples, len(values)) * values.max().clamp(min=0.0)
    return values[known], vectors[:, known]


def _ridges(trace: Tensor, features: int) -> Tensor:
    """What `STRENGTHS` add to the squares (L,); 1 in place of a mean variance of zero."""
    unit = trace / features
    return torch.tensor(STRENGTHS, dtype=torch.float64) * torch.where(unit > 0.0, unit, torch.ones_like(unit))


def _left_out(
    left: Tensor, squares: Tensor, target: Tensor, weight: Tensor, pull: Tensor, samples: int, ridges: Tensor
) -> Tensor:
    """The sum of the rows' errors (L,), each row's by the model of all others."""
    weight = weight.double()
    rows = DecomposedRows(left, squares, target, weight[:, None] / samples, weight, pull, samples)
    return rows.left_out(ridges).sum(dim=1)


def _model(slopes: Tensor, centre: Tensor, middle: Tensor, coefficient: float) -> LinearModel:
    return LinearModel(slopes.mT, middle - centre @ slopes, coefficient)
