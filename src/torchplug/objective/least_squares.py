r"""Linear least squares in one pass: the triangular factor that says all about the rows.

    F_data(Θ) = c Σᵢ wᵢ ‖[1 xᵢ] Θ − yᵢ‖² = c ‖R [Θ; −I]‖²,    RᵀR = [1 X Y]ᵀ W [1 X Y]

Symbols: n rows, d features, k outputs, b = 1 with an intercept and 0 without; X (n, d), Y (n, k), W = diag(w);
Θ (b+d, k) the coefficients, the intercepts' row first; R (b+d+k, b+d+k) upper triangular.

As the column of ones comes first, what is left of R without its first row and column is the factor of the
centred rows. All sums are in float64, whatever the rows' precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

Method = Literal["qr", "gram"]
Block = tuple[Tensor, Tensor, Tensor]
"""Some rows: features (m, d), targets (m, k), weights (m,); of any floating precision."""

_BLOCK_NUMBERS = 2**20
"""How many numbers a block should hold, 8 MiB: fewer and the calls cost more, more and they leave the cache."""
_FEWEST_ROWS, _MOST_ROWS = 2**12, 2**15
_INDEPENDENT = 1e-6
"""The share of a column's square that those before it leave, above which rounding decides nothing."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A network that is one linear map, and where its coefficients Θ (b+d, k) lie in the flat vector θ (p,).

    Args:
        intercept: whether a column of ones comes first, b = 1.
        features: d.
        outputs: k.
    """

    intercept: bool
    features: int
    outputs: int

    @property
    def columns(self) -> int:
        """Coefficients per output, b + d."""
        return int(self.intercept) + self.features

    def matrix(self, point: Tensor) -> Tensor:
        """Θ (b+d, k, …) of a flat vector (p, …): weights (k, d), then biases (k,), as `nn.Linear` has them."""
        weights = self.outputs * self.features
        slopes = point[:weights].view(self.outputs, self.features, *point.shape[1:]).transpose(0, 1)
        return torch.cat([point[None, weights:], slopes]) if self.intercept else slopes

    def flat(self, matrix: Tensor) -> Tensor:
        """The flat vector (p,) of Θ (b+d, k)."""
        if not self.intercept:
            return matrix.mT.reshape(-1)
        return torch.cat([matrix[1:].mT.reshape(-1), matrix[0]])


@dataclass(frozen=True, eq=False)
class LeastSquares(LinearMap):
    """A linear model's rows, factorized: F and ∇F at any point without another pass over them.

    Args:
        intercept: whether a column of ones comes first, b = 1.
        features: d.
        outputs: k.
        factor: R (b+d+k, b+d+k), upper triangular, the sum over all rows, not divided by n.
        samples: n, the rows of all ranks.
        scale: c, what the training objective multiplies the sum by: 1/n, or 1/(nk) for a mean over outputs.
        names: the features' names, d of them; None where there are none.
    """

    factor: Tensor
    samples: int
    scale: float
    names: tuple[str, ...] | None = None

    def evaluate(self, point: Tensor) -> tuple[float, Tensor]:
        """The data's part of F, and its gradient (p,), at a flat point (p,)."""
        columns = self.columns
        theta = self.matrix(point.to(self.factor))
        residual = self.factor[:, :columns] @ theta - self.factor[:, columns:]
        gradient = 2.0 * self.scale * (self.factor[:, :columns].mT @ residual)
        return self.scale * float(residual.square().sum()), self.flat(gradient)

    def values(self, points: Tensor) -> Tensor:
        """The data's part of F (L,) at flat points (L, p)."""
        theta = self.matrix(points.to(self.factor).mT)  # (b+d, k, L)
        scores = (self.factor[:, : self.columns] @ theta.flatten(start_dim=1)).view(-1, *theta.shape[1:])
        values: Tensor = self.scale * (scores - self.factor[:, self.columns :, None]).square_().sum(dim=(0, 1))
        return values

    def terms(self, points: Tensor) -> Tensor:
        """What each of the columns of [X Y] contributes to `values`, added up without their signs, (L,)."""
        first = int(self.intercept)
        squares = self.factor[first:, first:].square().sum(dim=0)
        theta = self.matrix(points.to(self.factor).mT).permute(2, 0, 1)[:, first:]
        features = theta.square().sum(dim=2) @ squares[: self.features]
        return self.scale * (features + squares[self.features :].sum())


class Accumulation(ABC):
    """How R comes from runs of rows: summarized one by one, combined in any tree, finished once.

    A summary is a square matrix (b+d+k, b+d+k) in float64. Equal rows give equal bits, in whatever pieces the
    runs come, as long as these are multiples of `block_rows`.

    Args:
        features: d.
        outputs: k.
        intercept: whether there is a column of ones.
        device: where the sums are made.

    Attributes:
        size: b + d + k.
        block_rows: how many rows are worked on at once.
    """

    def __init__(self, features: int, outputs: int, intercept: bool, device: torch.device | str = "cpu") -> None:
        self.features = features
        self.outputs = outputs
        self.intercept = intercept
        self.device = device
        self.size = int(intercept) + features + outputs
        fitting = 2 ** (_BLOCK_NUMBERS // self.size).bit_length() // 2
        self.block_rows = min(max(fitting, _FEWEST_ROWS), _MOST_ROWS)

    @property
    def zero(self) -> Tensor:
        """The summary of no rows."""
        return self._empty(self.size, self.size).zero_()

    @abstractmethod
    def summarize(self, blocks: Iterable[Block]) -> Tensor:
        """The summary of a run of rows; needs memory for a few blocks, however long the run."""

    @abstractmethod
    def combine(self, first: Tensor, second: Tensor) -> Tensor:
        """The summary of two runs, from theirs."""

    @abstractmethod
    def factor(self, summary: Tensor) -> Tensor:
        """R, from the summary of all rows."""

    def _pieces(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """The rows, at most `block_rows` at a time."""
        for block in blocks:
            yield from zip(*(torch.split(part, self.block_rows) for part in block), strict=True)

    def _fill(self, rows: Tensor, piece: Block, shift: Tensor | None = None) -> None:
        """Write √w [1 X Y], or √w [1 X−s Y−t] with the shift [s t] (d+k,), into `rows` (m, b+d+k)."""
        features, target, weight = piece
        first = int(self.intercept)
        middle = first + self.features
        rows[:, :first] = 1.0
        if shift is None:
            rows[:, first:middle] = features
            rows[:, middle:] = target
        else:
            torch.sub(features, shift[: self.features], out=rows[:, first:middle])
            torch.sub(target, shift[self.features :], out=rows[:, middle:])
        if not bool((weight == 1.0).all()):
            rows *= weight.to(rows).sqrt().unsqueeze(1)

    def _empty(self, *size: int) -> Tensor:
        return torch.empty(*size, dtype=torch.float64, device=self.device)


@final
class OrthogonalAccumulation(Accumulation):
    r"""By Householder's reflections of [R; block], block after block: as many digits as the rows have.

    Reference: Golub and Van Loan (2013), Matrix Computations, section 5.2; combined over runs: Demmel, Grigori,
    Hoemmen and Langou (2012), doi:10.1137/080731992.
    """

    _buffer: Tensor | None = None

    def summarize(self, blocks: Iterable[Block]) -> Tensor:
        """R of the run."""
        if self._buffer is None:
            # column by column, as LAPACK expects it: any other order would be copied once more
            self._buffer = self._empty(self.size, self.size + self.block_rows).mT
        # R lies directly above the rows that it is to take in; of fewer rows than columns it has as many rows
        known = 0
        for piece in self._pieces(blocks):
            end = self.size + len(piece[0])
            self._fill(self._buffer[self.size : end], piece)
            triangle = self._triangle(self._buffer[self.size - known : end])
            known = len(triangle)
            self._buffer[self.size - known : self.size] = triangle
        return self._square(self._buffer[self.size - known : self.size])

    def combine(self, first: Tensor, second: Tensor) -> Tensor:
        """R of [R₁; R₂]."""
        return self._square(self._triangle(torch.cat([rows[rows.any(dim=1)] for rows in (first, second)])))

    def factor(self, summary: Tensor) -> Tensor:
        """R, which the summary is."""
        return summary

    def _triangle(self, rows: Tensor) -> Tensor:
        return torch.geqrf(rows)[0][: self.size].triu()

    def _square(self, triangle: Tensor) -> Tensor:
        square = self.zero
        square[: len(triangle)] = triangle
        return square


@final
class GramAccumulation(Accumulation):
    r"""By the products [1 X Y]ᵀW[1 X Y], twice as fast: R has half the digits that the condition number leaves.

    With an intercept the summary is [Σw, mean; mean, centred products], the means of [X Y] weighted, so that
    large means cost no digits. Directions of X in which only rounding is left are zero in R.

    Reference: Higham (2002), Accuracy and Stability of Numerical Algorithms, section 20.4; the combination of
    centred products: Chan, Golub and LeVeque (1983), doi:10.1080/00031305.1983.10483115.
    """

    _buffer: Tensor | None = None

    def summarize(self, blocks: Iterable[Block]) -> Tensor:
        """The run's products, centred about its own mean."""
        if self._buffer is None:
            self._buffer = self._empty(self.block_rows, self.size)
        products = self.zero
        shift: Tensor | None = None
        for piece in self._pieces(blocks):
            if self.intercept and shift is None:
                shift = torch.cat([part.double().mean(dim=0) for part in piece[:2]], dim=0)
            rows = self._buffer[: len(piece[0])]
            self._fill(rows, piece, shift)
            products += _gram(rows)
        return products if shift is None else self._centred(products, shift)

    def combine(self, first: Tensor, second: Tensor) -> Tensor:
        """The sum, centred about the mean of both runs."""
        if not self.intercept:
            return first + second
        total = first + second
        # runs whose weights are all zero have a mean, and must not divide by their weight
        share = torch.where(total[0, 0] > 0.0, second[0, 0] / total[0, 0], torch.zeros_like(total[0, 0]))
        apart = second[0, 1:] - first[0, 1:]
        total[1:, 1:].addr_(share * first[0, 0] * apart, apart)
        total[0, 1:] = total[1:, 0] = first[0, 1:] + share * apart
        return total

    def factor(self, summary: Tensor) -> Tensor:
        """R, of columns scaled to norm 1: by Cholesky, or by eigenvalues where columns nearly depend on each other."""
        first = int(self.intercept)
        factor = self.zero
        if not bool(summary.isfinite().all()):  # LAPACK would raise, and the objective answers with NaN
            return factor.fill_(torch.nan)
        if self.intercept:
            factor[0, 0] = summary[0, 0].sqrt()
            factor[0, 1:] = summary[0, 1:] * factor[0, 0]
        middle = first + self.features
        among, across, own = (
            summary[first:middle, first:middle],
            summary[first:middle, middle:],
            summary[middle:, middle:],
        )
        norms = _norms(among)
        if (triangle := _triangle(among / torch.outer(norms, norms))) is not None:
            explained = torch.linalg.solve_triangular(triangle.mT, across / norms[:, None], upper=False)
            factor[first:middle, first:middle] = triangle * norms
            factor[first:middle, middle:] = explained
            factor[middle:, middle:] = _root(own - explained.mT @ explained)
            return factor
        values, vectors = torch.linalg.eigh(among / torch.outer(norms, norms))
        noise = 8.0 * self.size * torch.finfo(torch.float64).eps * values[-1:].clamp(min=0.0)
        known = values > noise
        roots = torch.where(known, values, torch.ones_like(values)).sqrt()
        explained = torch.where(known, 1.0 / roots, torch.zeros_like(roots))[:, None] * (
            vectors.mT @ (across / norms[:, None])
        )
        orthogonal, triangle = torch.linalg.qr((known * roots)[:, None] * vectors.mT)
        factor[first:middle, first:middle] = triangle * norms
        factor[first:middle, middle:] = orthogonal.mT @ explained
        factor[middle:, middle:] = _root(own - explained.mT @ explained)
        return factor

    @staticmethod
    def _centred(products: Tensor, shift: Tensor) -> Tensor:
        total = products[0, 0]
        mean = torch.where(total > 0.0, products[0, 1:] / total, torch.zeros_like(shift))
        products[1:, 1:].addr_(mean, products[0, 1:].clone(), alpha=-1.0)
        products[0, 1:] = products[1:, 0] = mean + shift
        return products


def accumulation(
    method: Method, features: int, outputs: int, intercept: bool, device: torch.device | str = "cpu"
) -> Accumulation:
    """How R is found: `qr` by reflections, `gram` by products.

    Args:
        method: `qr` or `gram`.
        features: d.
        outputs: k.
        intercept: whether there is a column of ones.
        device: where the sums are made.
    """
    kind = {"qr": OrthogonalAccumulation, "gram": GramAccumulation}[method]
    return kind(features, outputs, intercept, device)


def _gram(rows: Tensor) -> Tensor:
    """The symmetric product of rows (m, s) with themselves (s, s): NumPy computes half of it."""
    if rows.device.type != "cpu":
        return rows.mT @ rows
    values = rows.numpy()
    with np.errstate(invalid="ignore", over="ignore"):  # as torch does
        return torch.from_numpy(values.T @ values)


def _norms(products: Tensor) -> Tensor:
    """The columns' norms, 1 for those of zeros."""
    squares = products.diagonal()
    return torch.where(squares > 0.0, squares, torch.ones_like(squares)).sqrt()


def _triangle(products: Tensor) -> Tensor | None:
    """Upper triangular R with RᵀR the products of columns of norm 1; None where these may depend on each other."""
    triangle, failed = torch.linalg.cholesky_ex(products, upper=True)
    independent = not bool(failed) and bool((triangle.diagonal().square() > _INDEPENDENT).all())
    return triangle if independent else None


def _root(products: Tensor) -> Tensor:
    """Upper triangular R with RᵀR the nearest positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(products)
    root: Tensor = torch.linalg.qr(values.clamp(min=0.0).sqrt()[:, None] * vectors.mT, mode="r")[1]
    return root
