r"""Standard errors of an iterative fit's parameters, from the curvature at the minimum.

    likelihoods       Cov θ = (∇² Σ wᵢ ℓᵢ)⁻¹
    least squares     Cov θ = σ² (JᵀJ)⁻¹,    σ² = ‖r‖² / (m − p)

Symbols: θ parameters (p,), J (m, p) and r (m,) the residuals' Jacobian and values, S (p, p) with Cov θ = S Sᵀ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer
from torch.utils._pytree import tree_map_only

from torchplug import Objective
from torchplug_second_order.least_squares import solve
from torchplug_second_order.linear_solvers import EPSILON
from torchplug_second_order.regression_table import RegressionTable, inference, regression_table
from torchplug_second_order.sizes import can_examine

_INDEPENDENT = 1e-11
"""The least share of a diagonal element of ∇²F that the elements before do not explain, for five digits of S."""


@dataclass(frozen=True, eq=False)
class ParameterTable:
    """Parameters and how sure they are.

    Args:
        point: θ (p,).
        root: S, as (p, p), or (q, k, p) for Θ (q, k) of a linear map.
        degrees_of_freedom: m − p of Student's distribution; None: the normal distribution.
        relative: whether the coefficients are differences to those of the first class, whose errors are then unknown.
    """

    point: Tensor
    root: Tensor
    degrees_of_freedom: int | None
    relative: bool

    @property
    def standard_error(self) -> Tensor:
        """The standard deviations of θ (p,), or of Θ (q, k)."""
        error: Tensor = torch.linalg.vector_norm(self.root, dim=-1)
        return error

    def columns(self, coefficients: Tensor, linear: Tensor, units: Tensor) -> Mapping[str, Tensor]:
        """`standard_error`, `z` or `t`, `p`, `lower_95` and `upper_95`, each (m, k), of coefficients in other units.

        With k classes, a shift that is common to all of them changes no probability. The coefficients are then those
        relative to the first class, as `coefficient`; its own are zero, and their errors NaN.

        Args:
            coefficients: Θ′ = (L Θ) diag(u) + const of a linear map (m, k).
            linear: L (m, q).
            units: u (k,).
        """
        root = torch.einsum("mq,qkp->mkp", linear, self.root) * units[:, None]
        error: Tensor = torch.linalg.vector_norm(root, dim=-1)
        if not self.relative:
            return inference(coefficients, error, self.degrees_of_freedom)
        coefficients = coefficients - coefficients[:, :1]
        error[:, 0] = torch.nan
        return {"coefficient": coefficients, **inference(coefficients, error, self.degrees_of_freedom)}

    def parameter_columns(self) -> Mapping[str, Tensor] | None:
        """`coefficient` and the columns of `columns`, each (p,), of θ; None for a linear map, whose Θ has `columns`."""
        if self.root.ndim != 2:
            return None
        return {"coefficient": self.point, **inference(self.point, self.standard_error, self.degrees_of_freedom)}


def keep_table(optimizer: Optimizer, table: RegressionTable | ParameterTable | None) -> None:
    """Put a table into the state of an optimizer, as plain values that a checkpoint holds; None puts nothing."""
    if table is not None:
        plain = {field.name: getattr(table, field.name) for field in dataclasses.fields(table)}
        # Under a key of its own: torch casts what is kept per parameter.
        optimizer.state["statistics"] = plain  # type: ignore[index]


def kept_table(optimizer: Optimizer) -> RegressionTable | ParameterTable | None:
    """The table that was put into the state of an optimizer, on the CPU; None where there is none."""
    kept: dict[str, Any] | None = optimizer.state.get("statistics")  # type: ignore[call-overload]
    if not kept:
        return None
    # restoring a checkpoint may have moved it to where the parameters are
    on_cpu = tree_map_only(Tensor, Tensor.cpu, kept)
    return ParameterTable(**on_cpu) if "root" in kept else RegressionTable(**on_cpu)


def parameter_table(objective: Objective) -> RegressionTable | ParameterTable | None:
    """The table at a minimum of F; None where standard errors have no meaning or would take too long.

    That is with penalties, for losses that are neither likelihoods nor sums of squares, for perceptrons, where the data
    do not determine the parameters, and with more than 2,000 parameters.

    Args:
        objective: F, at a minimum.

    Reference: Davison (2003), Statistical Models, section 4.4; least squares: Bates and Watts (1988), Nonlinear
    Regression Analysis and Its Applications, section 2.3.
    Note: weights are multiplied so that their mean is 1. Residuals of several outputs are taken to have one variance
    unless the network is a linear map, where each output has its own.
    """
    is_perceptron = objective.is_chain and objective.linear_map is None
    if objective.is_penalized or is_perceptron or not can_examine(objective):
        return None
    if objective.has_residuals:
        return _of_residuals(objective)
    return _of_likelihood(objective) if objective.is_likelihood else None


def _of_residuals(objective: Objective) -> RegressionTable | ParameterTable | None:
    design = objective.design()
    if design is not None:
        factor = design.factor.cpu()
        rank = solve(factor, design.outputs, intercept=design.intercept, rows=design.samples).rank
        if rank < design.columns or design.samples <= design.columns:
            return None
        coefficients = design.matrix(objective.point.cpu())
        return regression_table(factor, coefficients, intercept=design.intercept, samples=design.samples)
    size = objective.size
    freedom = objective.samples * objective.outputs - size
    factor = objective.factor().cpu()
    if freedom <= 0 or not bool(factor.isfinite().all()):
        return None
    norms = factor[:size, :size].norm(dim=0)
    triangle = factor[:size, :size] / norms
    if not float(norms.min()) > 0.0:
        return None
    singular = torch.linalg.svdvals(triangle)
    if float(singular[-1]) <= (freedom + size) * EPSILON * float(singular[0]):
        return None
    identity = torch.eye(size, dtype=factor.dtype)
    root = torch.linalg.solve_triangular(triangle, identity, upper=True) / norms[:, None]
    deviation = factor[:, size].norm() / freedom**0.5
    return ParameterTable(objective.point.cpu(), root * deviation, freedom, relative=False)


def _of_likelihood(objective: Objective) -> ParameterTable | None:
    shape = objective.linear_map
    hessian = objective.hessian().cpu() / objective.scale
    if shape is None:
        root = _inverse_root(hessian)
        return None if root is None else ParameterTable(objective.point.cpu(), root, None, relative=False)
    # a shift common to all classes has no curvature: with the first class's coefficients fixed, the rest is determined
    relative = objective.loss.task.has_indices
    place = torch.ones(shape.columns, shape.outputs, dtype=torch.bool)
    place[:, : int(relative)] = False
    free = torch.nonzero(shape.flat(place)).squeeze(1)
    root = _inverse_root(hessian[free][:, free])
    if root is None:
        return None
    whole = hessian.new_zeros(len(hessian), len(free))
    whole[free] = root
    return ParameterTable(objective.point.cpu(), shape.matrix(whole), None, relative)


def _inverse_root(matrix: Tensor) -> Tensor | None:
    """S (p, p) with A⁻¹ = S Sᵀ; None where A is not positive definite, or nearly so."""
    diagonal = matrix.diagonal()
    if not (bool(matrix.isfinite().all()) and float(diagonal.min()) > 0.0):
        return None
    unit = diagonal.rsqrt()
    factor, trouble = torch.linalg.cholesky_ex(matrix * unit * unit[:, None])
    if int(trouble) or float(factor.diagonal().min()) ** 2 < _INDEPENDENT:
        return None
    identity = torch.eye(len(matrix), dtype=matrix.dtype)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return unit[:, None] * inverse.mT
