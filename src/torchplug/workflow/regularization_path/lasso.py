r"""Penalized least squares along λ, from the triangular factor of the rows.

    minimize  c ‖X B − Y‖² + λ₁ Σ |B| + λ₂ Σ B²,    X (n, d) and Y (n, k) centred where there is an intercept

Nothing here is of the size of the rows: all comes from one pass over them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from torchplug.objective.least_squares import LeastSquares
from torchplug.workflow.regularization_path.active_set import ActiveSet
from torchplug.workflow.regularization_path.penalty import SlopeStrengths


def least_squares_path(design: LeastSquares, strengths: SlopeStrengths) -> Tensor:
    """Return minima (m, p) along the path, as far as they are found, m ≤ L.

    Args:
        design: the rows, factorized.
        strengths: L values of λ₁ and λ₂, from large to small.
    """
    first = int(design.intercept)
    middle = first + design.features
    among, across = design.factor[first:middle, first:middle], design.factor[first:middle, middle:]
    find = _sparse if any(strengths.l1) else _ridge
    slopes = find(among, across, design.scale, strengths)
    return _flat(design, slopes)


def _flat(design: LeastSquares, slopes: Tensor) -> Tensor:
    """Points (m, p) of slopes (m, d, k): intercepts are the means that they leave."""
    flat = slopes.mT.flatten(start_dim=1)
    if not design.intercept:
        return flat
    first = design.factor[0]
    middle = 1 + design.features
    return torch.cat([flat, (first[middle:] - first[1:middle] @ slopes) / first[0]], dim=1)


def _ridge(among: Tensor, across: Tensor, scale: float, strengths: SlopeStrengths) -> Tensor:
    """Slopes (L, d, k) from one singular value decomposition; those of least norm where λ₂ is 0."""
    left, values, right = torch.linalg.svd(among)
    shrunk = values / (values.square() + among.new_tensor(strengths.l2)[:, None] / scale)
    negligible = values <= torch.finfo(values.dtype).eps * len(values) * values.max()
    shrunk = torch.where(negligible, 0.0, shrunk)
    slopes: Tensor = right.mT @ (shrunk[:, :, None] * (left.mT @ across))
    return slopes


def _sparse(among: Tensor, across: Tensor, scale: float, strengths: SlopeStrengths) -> Tensor:
    """Slopes (m, d, k), each output by itself; up to the first λ that has no minimum."""
    gram = (2.0 * scale * (among.mT @ among)).numpy()
    pull = (2.0 * scale * (among.mT @ across)).numpy()
    l1, l2 = np.array(strengths.l1), np.array(strengths.l2)
    paths = [ActiveSet(gram, own, l1, l2).path() for own in pull.T]
    solved = min(map(len, paths))
    return torch.from_numpy(np.stack([path[:solved] for path in paths], axis=2))
