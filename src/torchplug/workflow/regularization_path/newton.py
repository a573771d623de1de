r"""Smooth losses of one linear score with an l2 penalty, along λ: Newton's method for many λ at once.

    F_λ(θ) = c Σᵢ wᵢ ℓ(xᵢᵀw + b, yᵢ) + λ ‖w‖²,    θ = (w, b)

At a minimum already found, ∇²F without its penalty is factorized once, by eigenvectors. That gives Newton's step for
every further λ in the time of a product; gradients of a batch of λ are products of matrices. The batch is as long as
this Hessian serves. The minima of all rows lead to those of a fold: there all λ are one batch, and Hessians of all rows
serve, interpolated along λ.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from torchplug.batch import TrainingSet
from torchplug.components.contracts import Loss

Pair = tuple[Tensor, Tensor]
"""Displacements (m, p) and the changes of ∇F (m, p) over them, of m values of λ."""

_BLOCK = 2**19
"""How many scores are worked on at once: 4 MiB, which caches hold."""
_PRECISION = 1e-7
"""½ gᵀB⁻¹g relative to F is below its square at a minimum, before the last step."""
_ROUNDS = 16
_FEW_ROUNDS = 7
_FIRST_BATCH = 8
_APART = 12
"""How many values of λ lie between two Hessians of a guide."""
_CONTRACTION = 0.25
"""What ½ gᵀB⁻¹g must fall to in a round, or the Hessian serves no more."""


@dataclass(frozen=True, eq=False)
class RowLosses:
    """The rows, and a loss of one linear score of each.

    Args:
        rows: the training set.
        loss: with `derivative` and `curvature`, and with leading axes.
        scale: c.
        intercept: whether b is trained.
    """

    rows: TrainingSet
    loss: Loss
    scale: float
    intercept: bool

    def gradient(self, points: Tensor) -> Tensor:
        """The data's part of ∇F (m, p) at each of m points (m, p)."""
        total = torch.zeros_like(points)
        size = max(256, _BLOCK // len(points))
        for start in range(0, self.rows.samples, size):
            features, target, weight = self.rows.read(start, min(start + size, self.rows.samples))
            own: Tensor = self.loss.derivative(self._scores(features, points), target)  # type: ignore[operator]
            each = own.squeeze(-1) * (weight * self.scale)
            total += self._collected(each @ features, each.sum(dim=1, keepdim=True))
        return total

    def value(self, point: Tensor) -> float:
        """The data's part of F at a point (p,)."""
        features, target, weight = self.rows.read(0, self.rows.samples)
        losses: Tensor = self.loss(self._scores(features, point.unsqueeze(0)), target)
        return float((losses * weight).sum()) * self.scale

    def hessian(self, point: Tensor) -> Tensor:
        """The data's part of ∇²F (p, p) at a point (p,), in single precision: it is a preconditioner."""
        p = len(point)
        total = torch.zeros(p, p, dtype=torch.float64)
        size = max(256, _BLOCK // p)
        for start in range(0, self.rows.samples, size):
            features, target, weight = self.rows.read(start, min(start + size, self.rows.samples))
            scores = self._scores(features, point.unsqueeze(0))[0]
            curvature: Tensor = self.loss.curvature(scores, target)  # type: ignore[operator]
            root = (curvature.reshape(-1) * weight * self.scale).clamp(min=0.0).sqrt().unsqueeze(1)
            scaled = self._collected(features * root, root).float()
            total += (scaled.mT @ scaled).double()
        return total

    def _scores(self, features: Tensor, points: Tensor) -> Tensor:
        """Scores (m, rows, 1)."""
        d = features.shape[1]
        scores = points[:, :d] @ features.mT
        return (scores + points[:, d:] if self.intercept else scores).unsqueeze(-1)

    def _collected(self, slopes: Tensor, intercept: Tensor) -> Tensor:
        return torch.cat([slopes, intercept], dim=1) if self.intercept else slopes


@dataclass(frozen=True, eq=False)
class Anchor:
    """The Hessian at a point, by which all steps of a batch are made.

    Args:
        problem: the rows and their loss.
        point: θ (p,).
    """

    problem: RowLosses
    point: Tensor

    def __post_init__(self) -> None:
        hessian, d = self.problem.hessian(self.point), len(self.point) - int(self.problem.intercept)
        slopes, mixed, own = hessian[:d, :d], hessian[:d, d:], hessian[d:, d:]
        if self.problem.intercept:
            slopes = slopes - mixed @ mixed.mT / own
        values, vectors = torch.linalg.eigh(slopes)
        object.__setattr__(self, "_parts", (values.clamp(min=0.0), vectors, mixed, own))

    def solve(self, right: Tensor, ridge: Tensor) -> Tensor:
        """B⁻¹ g (m, p) for each g (m, p) of another λ (m,)."""
        values, vectors, mixed, own = self._parts  # type: ignore[attr-defined]
        d = len(values)
        slopes, last = right[:, :d], right[:, d:]
        if self.problem.intercept:
            slopes = slopes - (last / own) @ mixed.mT
        shifted = values + 2.0 * ridge[:, None]
        shifted = shifted.clamp(min=torch.finfo(values.dtype).eps * float(values.max()))
        found = ((slopes @ vectors) / shifted) @ vectors.mT
        return torch.cat([found, (last - found @ mixed) / own], dim=1) if self.problem.intercept else found


@dataclass(frozen=True, eq=False)
class Batch:
    """Several λ, with the anchors by which their steps are made.

    Args:
        problem: the rows and their loss.
        anchors: the Hessians.
        ridge: λ (m,).
        shares: of each λ in B⁻¹ of the anchors, (m, anchors), of sum 1.
    """

    problem: RowLosses
    anchors: Sequence[Anchor]
    ridge: Tensor
    shares: Tensor

    def minimize(self, start: Tensor, gradient: Tensor, floor: float) -> tuple[Tensor, Tensor, int]:
        """Return the points (m, p), which of them are minima (m,), and the rounds made.

        Args:
            start: points (m, p).
            gradient: the data's part of ∇F (m, p) there.
            floor: the ½ gᵀB⁻¹g below which a point is a minimum.
        """
        points, going = start.clone(), torch.arange(len(start))
        solved = torch.zeros(len(start), dtype=torch.bool)
        slopes, before = gradient, torch.full((len(start),), torch.inf, dtype=points.dtype)
        pairs: list[Pair] = []
        last, step, stays = slopes, slopes, solved  # of the round before
        for rounds in range(_ROUNDS):
            whole = slopes + self._penalty(points[going], self.ridge[going])
            if rounds:
                pairs.append((-step[stays], whole - last))
            step = self._direction(whole, going, pairs)
            decrement = 0.5 * (whole * step).sum(dim=1)
            improves = decrement <= _CONTRACTION * before
            points[going[improves]] -= step[improves]
            done = improves & (decrement <= floor)
            solved[going[done]] = True
            stays = improves & ~done
            if not bool(stays.any()):
                break
            going, before, last = going[stays], decrement[stays], whole[stays]
            pairs = [(displacement[stays], change[stays]) for displacement, change in pairs]
            slopes = self.problem.gradient(points[going])
        return points, solved, rounds + 1

    def _direction(self, gradient: Tensor, going: Tensor, pairs: Sequence[Pair]) -> Tensor:
        """B⁻¹ g (m, p), B the Hessian as BFGS's updates have corrected it for each λ."""
        found, shares = gradient, []
        for displacement, change in reversed(pairs):
            curved = (displacement * change).sum(dim=1, keepdim=True)
            inverse = torch.where(curved > 0.0, 1.0 / curved, 0.0)
            shares.append(inverse * (displacement * found).sum(dim=1, keepdim=True))
            found = found - shares[-1] * change
        found = self._solve(found, going)
        for (displacement, change), share in zip(pairs, reversed(shares), strict=True):
            curved = (displacement * change).sum(dim=1, keepdim=True)
            inverse = torch.where(curved > 0.0, 1.0 / curved, 0.0)
            found = found + (share - inverse * (change * found).sum(dim=1, keepdim=True)) * displacement
        return found

    def _solve(self, right: Tensor, going: Tensor) -> Tensor:
        total = torch.zeros_like(right)
        for anchor, shares in zip(self.anchors, self.shares[going].T, strict=True):
            (own,) = shares.nonzero(as_tuple=True)
            total[own] += shares[own, None] * anchor.solve(right[own], self.ridge[going[own]])
        return total

    def _penalty(self, points: Tensor, ridge: Tensor) -> Tensor:
        found = 2.0 * ridge[:, None] * points
        if self.problem.intercept:
            found[:, -1] = 0.0
        return found


@dataclass(frozen=True, eq=False)
class Guide:
    """The minima of a problem with nearly the same rows, from which others start.

    Args:
        problem: the rows and their loss.
        points: minima (L, p), those of large λ first.
    """

    problem: RowLosses
    points: Tensor

    @cached_property
    def _places(self) -> Tensor:
        """Which minima have anchors: every few of them, and both ends."""
        last = len(self.points) - 1
        return torch.linspace(0, last, 1 + -(-last // _APART)).round()

    @cached_property
    def _anchors(self) -> list[Anchor]:
        return [Anchor(self.problem, self.points[int(place)]) for place in self._places]

    @cached_property
    def _shares(self) -> Tensor:
        """Linear interpolation between the anchors on both sides of each minimum, (L, anchors)."""
        shares = torch.zeros(len(self.points), len(self._places), dtype=self.points.dtype)
        for place, (low, high) in enumerate(itertools.pairwise(self._places.int().tolist())):
            rising = torch.linspace(0.0, 1.0, high - low + 1, dtype=shares.dtype)
            shares[low : high + 1, place], shares[low : high + 1, place + 1] = 1.0 - rising, rising
        return shares

    def lead(self, problem: RowLosses, ridge: Tensor) -> tuple[Tensor, int]:
        """Return points (L, p) of another problem, and how many of them, from the first on, are minima."""
        batch = Batch(problem, self._anchors, ridge, self._shares)
        floor = _PRECISION**2 * abs(problem.value(self.points[-1]))
        points, solved, _ = batch.minimize(self.points, problem.gradient(self.points), floor)
        return points, int(solved.long().cumprod(0).sum())


def ridge_path(
    problem: RowLosses, ridge: Sequence[float], start: Tensor, guide: Guide | None = None
) -> Iterator[Tensor]:
    """Yield minima (m, p) for further values of λ; ends early where no step is found.

    Args:
        problem: the rows and their loss.
        ridge: L values of λ, from large to small.
        start: θ (p,).
        guide: with minima for all of λ.
    """
    strengths = torch.tensor(ridge, dtype=torch.float64)
    here, done, size = start.double(), 0, _FIRST_BATCH
    if guide is not None and guide.points.shape[1] == len(start):  # a fold may have other categories
        points, done = guide.lead(problem, strengths)
        yield points[:done]
        here = points[done - 1] if done else here
    while done < len(ridge):
        anchor, gradient = Anchor(problem, here), problem.gradient(here.unsqueeze(0))
        floor = _PRECISION**2 * abs(problem.value(here))
        own = strengths[done : done + size]
        batch = Batch(problem, [anchor], own, torch.ones(len(own), 1, dtype=own.dtype))
        points, solved, rounds = batch.minimize(here.expand(len(own), -1), gradient.expand(len(own), -1), floor)
        good = int(solved.long().cumprod(0).sum())
        if good == 0:
            if size == 1 and not _is_closer(problem, anchor, points[0], own):
                return
            here, size = (points[0], 1) if size == 1 else (here, max(1, size // 4))
            continue
        yield points[:good]
        here, done = points[good - 1], done + good
        if good == len(own) and rounds <= _FEW_ROUNDS:
            size *= 2
        elif good < len(own):
            size = max(1, good)


def _is_closer(problem: RowLosses, anchor: Anchor, point: Tensor, ridge: Tensor) -> bool:
    """Whether F is lower at a point than at the anchor's."""
    slopes = slice(0, len(point) - int(problem.intercept))
    there, here = (problem.value(at) + float(ridge[0] * at[slopes].square().sum()) for at in (point, anchor.point))
    return there < here
