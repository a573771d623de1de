"""Functions on which optimizers have always been compared, as sums of squared residuals."""

import torch


def rosenbrock(theta):
    """Rosenbrock (1960): a curved valley; minimum 0 at (1, 1), from (−1.2, 1)."""
    return torch.stack([10.0 * (theta[1] - theta[0] ** 2), 1.0 - theta[0]])


def beale(theta):
    """Beale (1958): flat, with steep corners; minimum 0 at (3, 0.5), from (1, 1)."""
    x, y = theta
    return torch.stack([1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3])


_GENERATOR = torch.Generator().manual_seed(0)
_LEFT = torch.linalg.qr(torch.randn(8, 8, generator=_GENERATOR, dtype=torch.float64))[0]
_RIGHT = torch.linalg.qr(torch.randn(8, 8, generator=_GENERATOR, dtype=torch.float64))[0]
# the Hessian's condition number is the square: 1e6
MATRIX = _LEFT @ torch.diag(torch.logspace(0, -3, 8, dtype=torch.float64)) @ _RIGHT
TARGET = torch.arange(1.0, 9.0, dtype=torch.float64)


def quadratic(theta):
    """A convex quadratic with a minimum above zero, whose Hessian has condition number 1e6; from 0."""
    return torch.cat([MATRIX @ (theta - TARGET), torch.ones(1, dtype=torch.float64)])


_INPUTS = torch.linspace(-1.0, 1.0, 40, dtype=torch.float64)
_OUTPUTS = torch.sin(3.0 * _INPUTS) + 0.3 * torch.cos(17.0 * _INPUTS)


def network(theta):
    """An MLP 1-4-1 with tanh, 40 rows, and a penalty that makes its minima proper ones."""
    hidden = torch.tanh(_INPUTS[:, None] * theta[:4] + theta[4:8])
    error = (hidden @ theta[8:12] + theta[12] - _OUTPUTS) / 40**0.5
    return torch.cat([error, 0.03 * theta])


START = {
    rosenbrock: torch.tensor([-1.2, 1.0], dtype=torch.float64),
    beale: torch.tensor([1.0, 1.0], dtype=torch.float64),
    quadratic: torch.zeros(8, dtype=torch.float64),
    network: 0.5 * torch.randn(13, generator=_GENERATOR, dtype=torch.float64),
}


def squares(residuals):
    """The function that sums the squares of some residuals."""
    return lambda theta: residuals(theta).square().sum()
