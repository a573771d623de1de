"""Quadratic functions with an l1 penalty, along λ: exactly, by the features that are not zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_ROUNDING = 1e-11
"""By how much of the largest correlation one may be above λ₁ by rounding alone."""
_STEPS = 50
"""Steps per feature before an active set counts as cycling: each lowers F, so that far fewer are needed."""
_TRIED = 16
"""For how many values of λ a line is tried at once."""


@dataclass(frozen=True, eq=False)
class Line:
    """The minimum over some features as long as they keep their signs: it is linear in λ₁.

    Args:
        active: which features (a,).
        signs: theirs (a,).
        values: u and v (a, 2) of x = u − λ₁ v.
        slopes: r and t (d, 2) of the gradient r − λ₁ t of ½ xᵀQx − qᵀx there.
    """

    active: Indices
    signs: Array
    values: Array
    slopes: Array

    def at(self, l1: Array) -> tuple[Array, Array]:
        """X (a, m) and the gradient (d, m) for m values of λ₁."""
        return self.values[:, :1] - self.values[:, 1:] * l1, self.slopes[:, :1] - self.slopes[:, 1:] * l1


class ActiveSet:
    r"""Minimizes ½ xᵀQx − qᵀx + λ₁ Σ|x| + λ₂ Σ x² for one λ after another.

    While the features that are not zero stay the same, with their signs, the minimum moves along a line. Where that
    ends, features whose gradient exceeds λ₁ enter; one that reaches zero on the way to the new minimum leaves. F falls
    with every step, so that no set of signs comes twice at a λ.

    Args:
        gram: Q (d, d), positive semidefinite.
        pull: q (d,).
        l1: L values of λ₁ ≥ 0, from large to small.
        l2: L values of λ₂ ≥ 0.

    Reference: Osborne, Presnell and Turlach (2000), doi:10.1093/imanum/20.3.389; several features at once: Lee, Battle,
    Raina and Ng (2007), Efficient sparse coding algorithms.
    """

    def __init__(self, gram: Array, pull: Array, l1: Array, l2: Array) -> None:
        self._gram, self._pull, self._l1, self._l2 = gram, pull, l1, l2
        self._slack = _ROUNDING * float(np.abs(pull).max(initial=0.0))
        self._here, self._signs = np.zeros_like(pull), np.zeros_like(pull)
        self._entered: Indices = np.zeros(0, dtype=np.intp)
        ends = np.append(np.flatnonzero(np.diff(l2)) + 1, len(l2))
        self._until = ends[np.searchsorted(ends, np.arange(len(l2)), side="right")]  # where λ₂ changes next

    @torch.no_grad()
    def path(self) -> Array:
        """Minima (m, d), up to the first λ where none is found, m ≤ L."""
        found = np.zeros((len(self._l1), len(self._pull)))
        done = steps = 0
        while done < len(found) and steps <= _STEPS * len(self._pull) + _STEPS:
            line = self._line(self._l1[done], self._l2[done])
            if line is None and len(self._entered) < 2:
                break
            held = self._follow(line, done, found) if line is not None else self._enter_fewer()
            done, steps = done + held, 0 if held else steps + 1
        return found[:done]

    def _line(self, l1: float, l2: float) -> Line | None:
        """The minimum over the active features; None where rounding hides it."""
        (active,) = self._signs.nonzero()
        rows, signs = self._gram[active], self._signs[active]
        matrix = rows[:, active]
        if l2:
            matrix.flat[:: len(active) + 1] += 2.0 * l2
        right = np.array([self._pull[active], signs]).T
        triangle, failed = torch.linalg.cholesky_ex(torch.from_numpy(matrix))
        if failed:
            return None
        values = torch.cholesky_solve(torch.from_numpy(right), triangle).numpy()
        slopes = rows.T @ values
        rest = slopes[active] - right + 2.0 * l2 * values
        slopes[:, 0] -= self._pull
        known = (np.abs(rest) @ np.array([1.0, l1]) <= self._slack).all()
        return Line(active, signs, values, slopes) if known else None

    def _follow(self, line: Line, done: int, found: Array) -> int:
        """Write the minima that the line has from a λ on, and change the active set where it ends; how many."""
        l1 = self._l1[done : min(done + _TRIED, self._until[done])]
        values, slopes = line.at(l1)
        stays = np.logical_and.reduce(values * line.signs[:, None] > 0.0)
        outside = np.abs(slopes) > l1 + self._slack
        outside[line.active] = False
        holds = stays & ~np.logical_or.reduce(outside)
        held = len(l1) if holds.all() else int(holds.argmin())
        found[done : done + held, line.active] = values[:, :held].T
        if held:
            self._here = found[done + held - 1].copy()
        if held < len(l1):
            if stays[held]:
                self._enter(line, values[:, held], slopes[:, held], outside[:, held])
            else:
                self._leave(line, values[:, held])
        return held

    def _enter(self, line: Line, values: Array, slopes: Array, outside: NDArray[np.bool_]) -> None:
        """Go to the line's end, from where features enter."""
        self._here[line.active] = values
        entered = np.flatnonzero(outside)
        self._entered = entered[np.argsort(-np.abs(slopes[entered]), kind="stable")]
        self._signs[entered] = -np.sign(slopes[entered])

    def _enter_fewer(self) -> int:
        """Keep half of the features that entered together and depend on each other, those with the largest gradient."""
        half = len(self._entered) // 2
        self._signs[self._entered[half:]] = 0.0
        self._entered = self._entered[:half]
        return 0

    def _leave(self, line: Line, values: Array) -> None:
        """Go towards the line's end until a feature reaches zero, and leaves.

        Those that entered and would have the wrong sign leave at once.
        """
        here, wrong = self._here[line.active], values * line.signs <= 0.0
        leaving = wrong & (here == 0.0)
        if not leaving.any():
            shares = np.where(wrong, here / np.where(wrong, here - values, 1.0), np.inf)
            leaving = shares <= shares.min()
            self._here[line.active] = np.where(leaving, 0.0, here + shares.min() * (values - here))
        self._signs[line.active[leaving]] = 0.0
