r"""Penalized least squares along λ, from the triangular factor of the rows.

    minimize  c ‖X B − Y‖² + λ₁ Σ |B| + λ₂ Σ B²,    X (n, d) and Y (n, k) centred where there is an intercept

Nothing here is of the size of the rows: all comes from one pass over them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchplug.objective.least_squares import LeastSquares
from torchplug.workflow.regularization_path.penalty import SlopeStrengths

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_ROUNDING = 1e-11
"""By how much of the largest correlation one may be above λ₁ by rounding alone."""
_STEPS = 50
"""Steps per feature before an active set counts as cycling: each lowers F, so that far fewer are needed."""


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
    """Slopes (m, d, k), each output by itself, each λ from the one before; up to the first that has no minimum."""
    gram = (2.0 * scale * (among.mT @ among)).numpy()
    pull = (2.0 * scale * (among.mT @ across)).numpy()
    found = np.zeros((len(strengths.l1), *pull.shape))
    solved = len(found)
    for output in range(pull.shape[1]):
        slopes, active = np.zeros(len(gram)), ActiveFeatures(gram)
        for place, (l1, l2) in enumerate(zip(strengths.l1[:solved], strengths.l2[:solved], strict=True)):
            following = active_set(active, pull[:, output], l1, l2, slopes)
            if following is None:
                solved = place
                break
            found[place, :, output] = slopes = following
    return torch.from_numpy(found[:solved])


class ActiveFeatures:
    """Newton's steps over some features.

    Their inverse matrix is kept: neighbours in λ mostly have the same features, and the same λ₂ but for elastic nets.

    Args:
        gram: Q (d, d), positive semidefinite.
    """

    def __init__(self, gram: Array) -> None:
        self.gram = gram
        self._key: tuple[bytes, float] | None = None
        self._inverse: Array | None = None

    def step(self, active: Indices, l2: float, slope: Array) -> Array | None:
        """Return −(Q + 2λ₂)⁻¹ g over the active features; None where that is singular.

        Args:
            active: which features.
            l2: λ₂ ≥ 0.
            slope: g of these.
        """
        if self._key != (key := (active.tobytes(), l2)):
            matrix = self.gram[np.ix_(active, active)]
            matrix.flat[:: len(active) + 1] += 2.0 * l2
            try:
                self._key, self._inverse = key, np.linalg.inv(matrix).astype(np.float64, copy=False)
            except np.linalg.LinAlgError:
                self._key = None
                return None
        assert self._inverse is not None, "it is known"
        way: Array = -(self._inverse @ slope)
        return way if np.isfinite(way).all() else None


def active_set(features: ActiveFeatures, pull: Array, l1: float, l2: float, start: Array) -> Array | None:
    r"""Minimize ½ xᵀQx − qᵀx + λ₁ Σ|x| + λ₂ Σ x²; None where an active set has no unique minimum.

    Newton's step over the features that are not zero, or should not stay so, within the signs they have: it ends at
    the first feature that reaches zero, which leaves the set. F falls with every step, and no set of signs comes twice.

    Args:
        features: with Q (d, d).
        pull: q (d,).
        l1: λ₁ ≥ 0.
        l2: λ₂ ≥ 0.
        start: x (d,), such as the minimum at a larger λ.

    Reference: Osborne, Presnell and Turlach (2000), doi:10.1093/imanum/20.3.389; several features at once: Lee, Battle,
    Raina and Ng (2007), Efficient sparse coding algorithms.
    """
    x = start.copy()
    slack = _ROUNDING * float(np.abs(pull).max(initial=0.0))
    for _ in range(_STEPS * len(x) + _STEPS):
        slope = features.gram @ x - pull + 2.0 * l2 * x
        signs = np.sign(x)
        entering = (x == 0.0) & (np.abs(slope) > l1 + slack)
        settled = np.abs(slope + l1 * signs)[x != 0.0].max(initial=0.0) <= slack
        if settled and not entering.any():
            return x
        signs[entering] = -np.sign(slope[entering])
        step = _step(features, slope, signs, l1, l2, entering)
        if step is None:
            return None
        active, way = step
        _move(x, active, way)
    return None


def _step(
    features: ActiveFeatures, slope: Array, signs: Array, l1: float, l2: float, entering: NDArray[np.bool_]
) -> tuple[Indices, Array] | None:
    """The active features and Newton's step for them; those that would enter with the wrong sign stay out."""
    while True:
        active: Indices = np.flatnonzero(signs)
        way = features.step(active, l2, slope[active] + l1 * signs[active])
        if way is None:
            return None
        wrong = active[entering[active] & (way * signs[active] <= 0.0)]
        if not len(wrong):
            return active, way
        if len(wrong) == len(active):
            return None
        signs[wrong] = 0.0


def _move(x: Array, active: Indices, way: Array) -> None:
    """Go along the way, to its end or to the first feature that reaches zero on it."""
    here = x[active]
    crossing = here * (here + way) < 0.0
    shares = np.where(crossing, here / np.where(crossing, -way, 1.0), np.inf)
    share = min(1.0, float(shares.min(initial=np.inf)))
    x[active] = here + share * way
    x[active[shares <= share]] = 0.0
