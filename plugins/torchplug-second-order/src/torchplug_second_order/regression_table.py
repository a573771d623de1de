r"""What a regression's table says besides the coefficients: standard errors, t, p and R².

    σ² = ‖Y − AΘ‖² / (n − q),    Cov Θ = σ² (AᵀA)⁻¹ = σ² S Sᵀ,    S = R⁻¹,    t = Θ / √diag Cov Θ

Symbols: A (n, q) the weighted design, Y (n, k), Θ (q, k) the coefficients, RᵀR = [A Y]ᵀ[A Y].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import scipy.special
import torch
from torch import Tensor

_UPPER = 0.975
"""The probability below the upper end of the interval."""


@dataclass(frozen=True, eq=False)
class RegressionTable:
    """Coefficients and how sure they are, each output by itself.

    Args:
        coefficients: Θ (q, k), the intercepts' row first where there are any.
        inverse_factor: S (q, q) with (AᵀA)⁻¹ = S Sᵀ.
        deviation: σ (k,), the residual standard deviations.
        r_squared: R² (k,), about the mean with an intercept, about zero without; NaN for a constant target.
        degrees_of_freedom: n minus the coefficients of an output.

    Note: weights are taken as inverse variances up to a common factor, and n counts rows, as in weighted least squares.
    """

    coefficients: Tensor
    inverse_factor: Tensor
    deviation: Tensor
    r_squared: Tensor
    degrees_of_freedom: int

    @property
    def standard_error(self) -> Tensor:
        """The coefficients' standard deviations (q, k)."""
        return torch.outer(self.inverse_factor.norm(dim=1), self.deviation)

    def covariance(self, output: int = 0) -> Tensor:
        """Cov Θ (q, q) of one output's coefficients."""
        return self.deviation[output] ** 2 * (self.inverse_factor @ self.inverse_factor.mT)

    def columns(self, coefficients: Tensor, linear: Tensor, units: Tensor) -> Mapping[str, Tensor]:
        """`standard_error`, `t`, `p`, `lower_95`, `upper_95`, `r_squared`, each (m, k), of coefficients in other units.

        Args:
            coefficients: Θ′ = (L Θ) diag(u) + const (m, k); a constant that was added does not matter for the errors.
            linear: L (m, q).
            units: u (k,).
        """
        error = torch.outer((linear @ self.inverse_factor).norm(dim=1), self.deviation * units.abs())
        r_squared = self.r_squared.expand_as(error)
        return {**inference(coefficients, error, self.degrees_of_freedom), "r_squared": r_squared}

    def parameter_columns(self) -> None:
        """Nothing: the coefficients are those of a linear map, which `columns` gives."""


def inference(coefficients: Tensor, error: Tensor, degrees_of_freedom: int | None) -> dict[str, Tensor]:
    """`standard_error`, `t` or `z`, the two-sided `p`, and the ends of the 95 % interval, each of the same shape.

    Args:
        coefficients: any shape; `t` is infinite where their error is zero.
        error: their standard deviations.
        degrees_of_freedom: of Student's distribution; None: the normal distribution.
    """
    ratio = coefficients / error
    tail = -ratio.abs().numpy()
    if degrees_of_freedom is None:
        p, quantile = scipy.special.ndtr(tail), scipy.special.ndtri(_UPPER)
    else:
        p = scipy.special.stdtr(degrees_of_freedom, tail)
        quantile = scipy.special.stdtrit(degrees_of_freedom, _UPPER)
    return {
        "standard_error": error,
        "z" if degrees_of_freedom is None else "t": ratio,
        "p": 2.0 * torch.from_numpy(p),
        "lower_95": coefficients - quantile * error,
        "upper_95": coefficients + quantile * error,
    }


def regression_table(factor: Tensor, coefficients: Tensor, *, intercept: bool, samples: int) -> RegressionTable:
    """The table of an unpenalized least-squares solution.

    Args:
        factor: R (q+k, q+k) in float64 on the CPU; its leading (q, q) block is regular.
        coefficients: Θ (q, k).
        intercept: whether the first column of the design is all ones.
        samples: n > q.
    """
    columns = len(coefficients)
    triangle, target = factor[:columns, :columns], factor[:, columns:]
    identity = torch.eye(columns, dtype=factor.dtype)
    residual, total = factor[columns:, columns:].norm(dim=0), target[int(intercept) :].norm(dim=0)
    freedom = samples - columns
    return RegressionTable(
        coefficients,
        torch.linalg.solve_triangular(triangle, identity, upper=True),
        residual / freedom**0.5,
        torch.where(total > 0.0, 1.0 - (residual / total) ** 2, torch.nan),
        freedom,
    )
