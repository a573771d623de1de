"""Optimizers for torchplug that see the whole training set: from a line search to Levenberg-Marquardt."""

from __future__ import annotations

from torchplug import Capability, Component, hookimpl

_OBJECTIVE = frozenset({Capability.OBJECTIVE})
_RESIDUALS = _OBJECTIVE | {Capability.RESIDUALS}


@hookimpl
def torchplug_optimizers() -> list[Component]:
    """The optimizers of this distribution; named by strings, so that listing them imports no torch."""
    package = "torchplug_second_order"
    iterative = f"{package}.optimizers"
    return [
        Component(
            "closed_form",
            f"{package}.closed_form:ClosedForm",
            "least squares in one pass over the data, by orthogonal factorization",
            _RESIDUALS | {Capability.LINEAR_RESIDUALS, Capability.NAMES},
        ),
        Component("line_search", f"{iterative}:line_search", "gradient descent that searches its step", _OBJECTIVE),
        Component("newton", f"{iterative}:newton", "Newton's method, never uphill; exact or by CG", _OBJECTIVE),
        Component("bfgs", f"{iterative}:bfgs", "quasi-Newton with a dense inverse Hessian", _OBJECTIVE),
        Component("lbfgs", f"{iterative}:lbfgs", "quasi-Newton from the last few steps, for many weights", _OBJECTIVE),
        Component("gauss_newton", f"{iterative}:gauss_newton", "linear least squares, again and again", _RESIDUALS),
        Component("levenberg", f"{iterative}:levenberg", "Gauss-Newton damped by μI", _RESIDUALS),
        Component(
            "levenberg_marquardt",
            f"{iterative}:levenberg_marquardt",
            "Gauss-Newton damped by μ diag JᵀJ, whatever the units",
            _RESIDUALS,
        ),
        Component(
            "interior_point",
            f"{package}.interior_point:InteriorPoint",
            "quantile, l1, hinge and other piecewise linear losses of linear models",
            _OBJECTIVE | {Capability.PIECEWISE_LINEAR},
        ),
        Component(
            "proximal_newton",
            f"{package}.proximal_newton:ProximalNewton",
            "Newton's method for proximal penalties: exact zeros",
            _OBJECTIVE | {Capability.PROX},
        ),
    ]
