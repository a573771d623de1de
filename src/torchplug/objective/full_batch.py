"""F over the whole training set, at the network's current parameters: what full-batch optimizers ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from torchplug.batch import Rows, TrainingSet
from torchplug.components.contracts import Loss, Regularizer, implements
from torchplug.objective.analytic_derivatives import derivatives_of
from torchplug.objective.least_squares import Block, LeastSquares, LinearMap, Method, accumulation
from torchplug.objective.penalties import FlatPenalties, penalized
from torchplug.objective.reductions import Ranks
from torchplug.objective.row_sums import RowSums
from torchplug.objective.sample import Sample
from torchplug.objective.step import Reduction

T = TypeVar("T")


class Objective:
    r"""F(θ) = (1/n) Σ wᵢ ℓᵢ + Σ λR on all n training rows, with its derivatives.

    θ is one flat vector (p,) of all trainable parameters, in the order of `named_parameters`, the network's
    before the loss's. Every rank calls every method together and gets the same bits. What was computed at a
    point is kept until the parameters move, so asking twice costs nothing. F is a function of θ alone: dropout
    is off and autocast has no effect. Proximal penalties are the optimizer's, and no part of this F.

    For losses with residuals F is a sum of squares Σ r²: its rows are √(wᵢ/n) r, and √λ θ for an L2 penalty, so that
    ∇F = 2Jᵀr and the Gauss-Newton curvature is 2JᵀJ.

    Args:
        network: gives scores (n, k) from features; double precision is what the tolerances of solvers suppose.
        loss: gives a value per sample.
        regularizers: penalties.
        rows: the training set.
        reduction: `sum` drops the 1/n.
        ranks: who computes together; None: as torch.distributed has it.
        block_rows: how many rows are worked on at once; None: as many as some 16 MiB hold.

    Raises:
        ConfigurationError: if a regularizer's patterns match no parameter.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        regularizers: Iterable[Regularizer],
        rows: TrainingSet,
        reduction: Reduction = "mean",
        *,
        ranks: Ranks | None = None,
        block_rows: int | None = None,
    ) -> None:
        self.network = network
        self.loss = loss
        self.parameters = [p for m in (network, loss) for p in m.parameters() if p.requires_grad]
        self.training_set = rows
        self.samples = rows.samples
        self.size = sum(p.numel() for p in self.parameters)
        self.reduction: Reduction = reduction
        self.evaluations = 0
        self.scale = 1.0 / rows.samples if reduction == "mean" else 1.0
        self._regularizers = list(regularizers)
        smooth = [(r, penalized(network, r.include)) for r in self._regularizers if not r.proximal]
        self.penalties = FlatPenalties(smooth, self.parameters)
        self._derivatives = derivatives_of(network, loss, self.parameters)
        ranks = Ranks.current() if ranks is None else ranks
        self._rows = RowSums(rows, ranks, self.parameters[0], self._derivatives.width, block_rows)
        self._known: dict[str, Any] = {}
        self._known_at: tuple[tuple[int, int], ...] = ()
        self._outputs: int | None = None
        self._design: tuple[Method, LeastSquares] | None = None

    def sample(self, samples: int) -> Objective:
        """F on evenly spaced rows in place of all, at the same parameters; with `reduction: mean` its minimum is near.

        Args:
            samples: how many rows, at least 1.
        """
        return Objective(
            self.network,
            self.loss,
            self._regularizers,
            Sample(self.training_set, samples),
            self.reduction,
            ranks=self._rows.ranks,
            block_rows=self._rows.block_rows,
        )

    @property
    def is_penalized(self) -> bool:
        """Whether any penalty acts on the parameters, proximal ones included."""
        return bool(self._regularizers)

    @property
    def is_chain(self) -> bool:
        """Whether the network is a chain of linear maps and activations, as a perceptron is."""
        return self._derivatives.is_chain

    @property
    def has_residuals(self) -> bool:
        """Whether the loss is a sum of squared residuals."""
        return implements(self.loss, "residuals")

    @property
    def is_likelihood(self) -> bool:
        """Whether the loss is the negative logarithm of a likelihood."""
        return implements(self.loss, "likelihood") and self.loss.likelihood

    # ------------------------------------------------------------------ where

    @property
    def point(self) -> Tensor:
        """θ, a copy (p,)."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    @torch.no_grad()
    def move(self, point: Tensor) -> None:
        """Let the parameters take the values of rank 0's `point` (p,)."""
        parts = torch.split(self.broadcast(point), [p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.copy_(part.view_as(parameter))

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's tensor, on every rank."""
        return self._rows.ranks.broadcast(tensor)

    def split(self, vector: Tensor) -> list[Tensor]:
        """A flat vector (p,) as tensors of the parameters' shapes."""
        parts = torch.split(vector, [p.numel() for p in self.parameters])
        return [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]

    def penalties_changed(self) -> None:
        """Forget what was computed at the current parameters, after a penalty's λ was changed."""
        self._known.clear()

    # ------------------------------------------------------------------ value and first derivatives

    def value(self) -> float:
        """F, perhaps infinite or NaN."""
        return self._remembered("value", lambda: self._value_alone())

    def gradient(self) -> Tensor:
        """∇F (p,)."""
        return self.evaluate()[1]

    def evaluate(self) -> tuple[float, Tensor]:
        """F and ∇F (p,), in one pass over the rows."""
        return self._remembered("value and gradient", self._evaluate)

    def loss_value(self) -> float:
        """The data's part of F: (1/n) Σ wᵢ ℓᵢ."""
        return self.value() - self._penalty()[0]

    def _value_alone(self) -> float:
        if self._design is not None or "value and gradient" in self._known:
            return self.evaluate()[0]
        total = self._rows.sum(lambda rows: self._derivatives.value(rows).reshape(1), (1,))
        return float(total) * self.scale + self._penalty()[0]

    def _evaluate(self) -> tuple[float, Tensor]:
        if self._design is not None:
            value, gradient = self._design[1].evaluate(self.point)
        else:
            packed = self._rows.sum(_packed(self._derivatives.value_and_gradient), (1 + self.size,))
            value, gradient = float(packed[0]) * self.scale, packed[1:] * self.scale
        penalty, its_gradient = self._penalty()
        return value + penalty, gradient + its_gradient

    def _penalty(self) -> tuple[float, Tensor]:
        """Σ λR and its gradient (p,)."""
        if not self.penalties:
            return 0.0, self._rows.zeros(self.size)
        return self._remembered("penalty", self.penalties.value_and_gradient)

    # ------------------------------------------------------------------ second derivatives

    def hvp(self, vector: Tensor) -> Tensor:
        """∇²F v (p,)."""
        product = self._rows.sum(lambda rows: self._derivatives.hvp(rows, vector), (self.size,)) * self.scale
        return product + self.penalties.hvp(vector) if self.penalties else product

    def gnvp(self, vector: Tensor) -> Tensor:
        """JᵀJ v (p,), the penalties' rows included; half of what Gauss-Newton takes for ∇²F v."""
        product = self._rows.sum(lambda rows: self._derivatives.gnvp(rows, vector), (self.size,)) * self.scale
        return product + 0.5 * self.penalties.hvp(vector) if self.penalties else product

    @property
    def hessian_cost(self) -> float:
        """About how many gradients can be computed in the time of a Hessian."""
        return self._derivatives.hessian_cost

    def hessian(self, dtype: torch.dtype = torch.float64, subset: Tensor | None = None) -> Tensor:
        """∇²F (p, p), or that of some elements of θ alone (s, s).

        Args:
            dtype: what products of features are computed in; float32 halves the time and leaves 7 digits.
            subset: increasing indices (s,) of elements of θ; None: all. What is asked for some is not remembered.
        """
        if subset is not None:
            return self._hessian(dtype, subset)
        return self._remembered(f"hessian {dtype}", lambda: self._hessian(dtype, None))

    def _hessian(self, dtype: torch.dtype, subset: Tensor | None) -> Tensor:
        square = (self.size, self.size) if subset is None else (len(subset), len(subset))
        hessian = self._rows.sum(lambda rows: self._derivatives.hessian(rows, dtype, subset), square) * self.scale
        if not self.penalties:
            return hessian
        return hessian + self.penalties.hessian(subset)

    # ------------------------------------------------------------------ residuals

    @property
    def outputs(self) -> int:
        """q, the residuals of one row."""
        if self._outputs is None:
            rows = self._rows.read(0, 1)
            residuals: Tensor = self.loss.residuals(self._derivatives.scores(rows), rows.target)  # type: ignore[operator]
            self._outputs = residuals.shape[1]
        return self._outputs

    def has_linear_residuals(self) -> bool:
        """Whether r(θ + δ) = r(θ) + J δ, tried on the first rows with a δ of the size of 1."""
        return self._is_linear(self._derivatives.residual_jacobian)

    def has_linear_scores(self) -> bool:
        """Whether the scores are z(θ + δ) = z(θ) + J δ, and the loss has no parameters; tried as for residuals."""
        if any(True for _ in self.loss.parameters()):
            return False
        return self.linear_map is not None or self._is_linear(self._derivatives.score_jacobian)

    def _is_linear(self, function: Callable[[Rows], tuple[Tensor, Tensor]]) -> bool:
        """Whether a function that gives a Jacobian and values is linear in θ."""
        rows = self._rows.read(0, min(self.samples, 64))
        generator = torch.Generator().manual_seed(0)
        shift = torch.randn(self.size, generator=generator, dtype=torch.float64).to(self._rows.zeros(0))
        start = self.point
        jacobian, values = function(rows)
        expected = values + jacobian @ shift
        try:
            self.move(start + shift)
            _, shifted = function(rows)
        finally:
            self.move(start)
        return bool((shifted - expected).norm() <= 1e-9 * (values.norm() + (jacobian @ shift).norm()))

    def first_rows(self, most: int | None = None) -> Rows:
        """The first rows of the training set, None: all, on every rank, on the device of the parameters."""
        return self._rows.read(0, self.samples if most is None else min(most, self.samples))

    def score_jacobian(self) -> Tensor:
        """∂z/∂θ (n·k, p) of all scores, the first row's k first, on every rank."""
        blocks = self._rows.blocks(0, self.samples, self.size)
        return torch.cat([self._derivatives.score_jacobian(rows)[0] for rows in blocks])

    def score_cosines(self) -> Tensor:
        """|Jⱼᵀs| / (‖Jⱼ‖ ‖s‖) (p,) with J = ∂z/∂θ and s = ∂ℓ/∂z, both weighted; NaN where Jⱼ is zero.

        Zero at a minimum without penalties, in any units of the target and of a parameter.
        """
        packed = self._rows.sum(self._derivatives.score_moments, (2 * self.size + 1,), numbers=self.size)
        products, squares, total = packed[: self.size], packed[self.size : -1], packed[-1]
        return products.abs() / (squares * total).sqrt()

    @property
    def scores_per_row(self) -> int:
        """The network's outputs k."""
        return self._derivatives.scores(self._rows.read(0, 1)).shape[1]

    def scores(self) -> Tensor:
        """The scores z (n, k) of all rows, on every rank."""
        return torch.cat([self._derivatives.scores(rows) for rows in self._rows.blocks(0, self.samples, 1)])

    def normal_equations(self) -> tuple[Tensor, Tensor]:
        """JᵀJ (p, p) and Jᵀr (p,), the penalties' rows included; F and ∇F follow from the same pass."""
        return self._remembered("gram", self._gram)

    def _gram(self) -> tuple[Tensor, Tensor]:
        p = self.size

        def products(rows: Rows) -> Tensor:
            jacobian, residuals = self._derivatives.residual_jacobian(rows)
            packed = torch.empty(p + 1, p + 1, dtype=jacobian.dtype, device=jacobian.device)
            torch.mm(jacobian.mT, jacobian, out=packed[:p, :p])
            packed[p, :p] = residuals @ jacobian
            packed[p, p] = residuals @ residuals
            return packed

        packed = self._rows.sum(products, (p + 1, p + 1), numbers=self.outputs * p) * self.scale
        squares, product, value = packed[:p, :p], packed[p, :p], float(packed[p, p])
        penalty, gradient = self._penalty()
        if self.penalties:
            squares, product = squares + 0.5 * self.penalties.hessian(), product + 0.5 * gradient
        self._known["value and gradient"] = (value + penalty, 2.0 * product)
        return squares, product

    def qr_factor(self) -> Tensor:
        """R (p+1, p+1), upper triangular with RᵀR = [J r]ᵀ[J r], by streamed orthogonal factorization.

        As many digits as J has, where `gram` squares its condition number.
        """
        return self._remembered("factor", self._factor)

    def _factor(self) -> Tensor:
        p = self.size
        sums = accumulation("qr", p, 1, intercept=False, device=self.parameters[0].device)

        def blocks(start: int, stop: int) -> Iterator[Block]:
            for rows in self._rows.blocks(start, stop, self.outputs * p):
                jacobian, residuals = self._derivatives.residual_jacobian(rows)
                yield jacobian, residuals[:, None], torch.ones_like(residuals)

        factor: Tensor = self._rows.accumulated(sums, blocks) * self.scale**0.5
        if self.penalties:
            matrix, values = self.penalties.residual_rows()
            factor = sums.combine(factor, torch.cat([matrix, values[:, None]], dim=1))
        last = factor[:, p]
        self._known["value and gradient"] = (float(last @ last), 2.0 * (factor[:, :p].mT @ last))
        return factor

    @property
    def factorized(self) -> tuple[Method, LeastSquares] | None:
        """The rows as `least_squares` has factorized them last."""
        return self._design

    @property
    def linear_map(self) -> LinearMap | None:
        """Where the coefficients lie in θ, if the network is one linear map and all of it is trained; else None."""
        return self._derivatives.linear_map

    def least_squares(
        self, method: Method = "qr", known: Callable[[Method], Tensor | None] = lambda method: None
    ) -> LeastSquares | None:
        """The rows of a single linear map with a squared loss, factorized in one pass; None for anything else.

        They do not depend on θ: from then on F and ∇F come from the factor, without another pass.

        Args:
            method: `qr`, or `gram`, which is faster and has half the digits.
            known: R, where no pass is needed for it.
        """
        if self._design is None or self._design[0] != method:
            problem = self._derivatives.linear_residuals
            if problem is None:
                return None
            shape = problem.map
            if (factor := known(method)) is None:
                sums = accumulation(method, shape.features, shape.outputs, shape.intercept, self.parameters[0].device)
                factor = self._rows.accumulated(sums, partial(self._rows.blocks_of, size=sums.block_rows))
            names = getattr(self.training_set, "feature_names", None)
            scale = self.scale * problem.slope**2
            size = (shape.intercept, shape.features, shape.outputs)
            self._design = (method, LeastSquares(*size, factor, self.samples, scale, names))
        return self._design[1]

    def jacobian(self) -> tuple[Tensor, Tensor]:
        """J (n·q, p) and r (n·q,) of all data rows, the penalties' left out: for fewer rows than parameters.

        Every rank computes all of them: they fit, and sending them would take longer.
        """
        return self._remembered("rows", self._all_rows)

    def _all_rows(self) -> tuple[Tensor, Tensor]:
        blocks = self._rows.blocks(0, self.samples, self.outputs * self.size)
        jacobians, residuals = zip(*(self._derivatives.residual_jacobian(rows) for rows in blocks), strict=True)
        root = self.scale**0.5
        jacobian, residual = torch.cat(jacobians).mul_(root), torch.cat(residuals) * root
        penalty, gradient = self._penalty()
        value = float(residual @ residual) + penalty
        self._known["value and gradient"] = (value, 2.0 * (residual @ jacobian) + gradient)
        return jacobian, residual

    def penalty_diagonal(self) -> tuple[Tensor, Tensor] | None:
        """½∇²ΣλR (its diagonal) and ½∇ΣλR, each (p,); None where a penalty is not elementwise."""
        if not self.penalties:
            return self._rows.zeros(self.size), self._rows.zeros(self.size)
        if not self.penalties.elementwise:
            return None
        return 0.5 * self.penalties.diagonal(), 0.5 * self._penalty()[1]

    def _remembered(self, what: str, compute: Callable[[], T]) -> T:
        """What is known at the current parameters, computed if it is not."""
        at = tuple((p.data_ptr(), p._version) for p in self.parameters)
        if at != self._known_at:
            self._known, self._known_at = {}, at
            self.evaluations += 1
        if what not in self._known:
            self._known[what] = compute()
        known: T = self._known[what]
        return known


def _packed(function: Callable[[Rows], tuple[Tensor, Tensor]]) -> Callable[[Rows], Tensor]:
    def packed(rows: Rows) -> Tensor:
        value, gradient = function(rows)
        return torch.cat([value.reshape(1), gradient])

    return packed
