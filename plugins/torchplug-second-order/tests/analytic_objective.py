"""The surface of an objective over a function of θ that is written down: no network, no data, no ranks."""

import torch
from torch import Tensor, nn

from torchplug.components.builtin.losses import MSE


class AnalyticObjective:
    """F(θ) = function(θ), or Σ residuals(θ)², with everything else by torch.func.

    Args:
        start: θ at the beginning.
        function: a scalar function of θ (p,).
        residuals: a function of θ (p,) with values (m,), for residual methods.
    """

    def __init__(self, start, function=None, *, residuals=None):
        self.parameter = nn.Parameter(torch.as_tensor(start, dtype=torch.float64).clone())
        self.residuals = residuals
        self.function = function or (lambda theta: residuals(theta).square().sum())
        self.size = self.parameter.numel()
        self.samples = 1
        self.loss = MSE()
        self.has_residuals = residuals is not None
        self.is_chain = False
        self.is_penalized = True  # what the penalties are is not known, so there are no standard errors
        self.linear_map = None
        self.network = nn.ParameterList([self.parameter])
        self.hessian_cost = 2.0 * self.size
        self.evaluations = 0
        self.values = []
        self._version = None
        self._known = {}

    @property
    def outputs(self) -> int:
        return len(self.jacobian()[1])

    @property
    def point(self) -> Tensor:
        return self.parameter.detach().clone()

    @torch.no_grad()
    def move(self, point: Tensor) -> None:
        self.parameter.copy_(point)

    def broadcast(self, tensor: Tensor) -> Tensor:
        return tensor

    def _remembered(self, what, compute):
        if self._version != self.parameter._version:
            self._version, self._known = self.parameter._version, {}
            self.evaluations += 1
        if what not in self._known:
            self._known[what] = compute()
        return self._known[what]

    def value(self) -> float:
        return self._remembered("value", lambda: float(self.function(self.point)))

    def gradient(self) -> Tensor:
        return self.evaluate()[1]

    def evaluate(self) -> tuple[float, Tensor]:
        return self._remembered("both", self._evaluate)

    def _evaluate(self) -> tuple[float, Tensor]:
        if self.residuals is not None:
            jacobian, residuals = self.jacobian()
            return float(residuals @ residuals), 2.0 * (residuals @ jacobian)
        gradient, value = torch.func.grad_and_value(self.function)(self.point)
        return float(value), gradient

    def hvp(self, vector: Tensor) -> Tensor:
        return torch.func.jvp(torch.func.grad(self.function), (self.point,), (vector,))[1]

    def hessian(self) -> Tensor:
        return torch.func.hessian(self.function)(self.point)

    def jacobian(self) -> tuple[Tensor, Tensor]:
        return self._remembered("rows", self._rows)

    def _rows(self) -> tuple[Tensor, Tensor]:
        def twice(theta):
            residuals = self.residuals(theta)
            return residuals, residuals

        return torch.func.jacfwd(twice, has_aux=True)(self.point)

    def normal_equations(self) -> tuple[Tensor, Tensor]:
        jacobian, residuals = self.jacobian()
        return jacobian.mT @ jacobian, jacobian.mT @ residuals

    def gnvp(self, vector: Tensor) -> Tensor:
        return self.normal_equations()[0] @ vector

    def qr_factor(self) -> Tensor:
        jacobian, residuals = self.jacobian()
        both = torch.cat([jacobian, residuals[:, None]], dim=1)
        padded = torch.cat([both, both.new_zeros(max(0, self.size + 1 - len(both)), self.size + 1)])
        return torch.linalg.qr(padded, mode="r")[1]

    def penalty_diagonal(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(self.size, dtype=torch.float64), torch.zeros(self.size, dtype=torch.float64)


def minimize(make, objective, steps=500):
    """Step until there is an outcome; returns the optimizer."""
    optimizer = make([objective.parameter])
    for _ in range(steps):
        objective.values.append(objective.evaluate()[0])
        optimizer.step(objective=objective)
        if optimizer.outcome is not None:
            break
    return optimizer
