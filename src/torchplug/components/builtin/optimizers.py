"""First-order optimizers that use the gradient unscaled; `adaptive_optimizers` has those that scale it.

Symbols: θ parameters, g = ∇F(θ) the gradient of the training objective on the batch, α the learning
rate `lr`. torch.optim's kernels are used wherever they compute this update.

Proximal regularizers: the core sets `optimizer.prox`, a function per parameter, and the step ends
with θ ← prox(θ, s). The step size s is the one that the update used: α for plain gradients, and
elementwise α/(√s + ε) where the update divides by a running root mean square. With a threshold of αλ
for every update, the fixed point would not be the penalized objective's minimum.

A step of torch's classes costs several times its kernel: hooks, profiler records, new lists. These classes
therefore use torch's kernels, settings and state, and define their own step around `update()`.

`formula` says the same update once more as a function of one tensor without side effects, which a compiler can
put into a graph, and which makes the updates of many models at once: it agrees with the kernel to rounding.
Its settings are tensors in float64, of which `coefficients` makes what multiplies the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from torchplug.components.optimizer import Closure, FusedOptimizer, ProximalOptimizer, State, coefficients, evaluated
from torchplug.components.validate import below_one, positive
from torchplug.no_grad import no_grad_if_enabled


class SGD(FusedOptimizer, torch.optim.SGD):
    r"""Gradient descent; stochastic or full-batch, depending on the batch size.

        θ ← θ − α g

    Args:
        params: what to optimize; given by the core.
        lr: α > 0, the learning rate.

    Raises:
        ValueError: if lr is not positive.

    Reference: Robbins and Monro (1951), doi:10.1214/aoms/1177729586.
    """

    def __init__(self, params: ParamsT, lr: float = 0.01) -> None:
        positive(lr=lr)
        super().__init__(params, lr=lr)

    def advance(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Advance parameters."""
        settings = {"lr": group["lr"], "weight_decay": 0.0, "momentum": 0.0, "dampening": 0.0, "nesterov": False}
        if group["fused"]:
            torch._fused_sgd_(parameters, gradients, [], **settings, maximize=False, is_first_step=False)
        else:
            sgd(parameters, gradients, [None] * len(parameters), **settings, maximize=False)

    def update_fn(
        self, parameter: Tensor, gradient: Tensor, state: State, settings: Mapping[str, Any]
    ) -> tuple[Tensor, State]:
        """The update of one parameter."""
        (rate,) = coefficients(parameter, settings["lr"])
        return parameter - rate * gradient, state


class _Velocity(ProximalOptimizer):
    """Base class of momentum and nesterov."""

    def __init__(self, params: ParamsT, lr: float = 0.01, beta: float = 0.9) -> None:
        positive(lr=lr)
        below_one(beta=beta)
        super().__init__(params, {"lr": lr, "beta": beta})

    def init_state(self, parameter: Tensor) -> State:
        """Return a zero velocity."""
        return {"velocity": torch.zeros_like(parameter)}

    def advance(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Advance velocities and parameters."""
        velocities = [state["velocity"] for state in self.states(parameters)]
        torch._foreach_mul_(velocities, group["beta"])
        torch._foreach_add_(velocities, gradients, alpha=-group["lr"])
        torch._foreach_add_(parameters, velocities)

    def update_fn(
        self, parameter: Tensor, gradient: Tensor, state: State, settings: Mapping[str, Any]
    ) -> tuple[Tensor, State]:
        """The update of one parameter."""
        beta, rate = coefficients(parameter, settings["beta"], settings["lr"])
        velocity = beta * state["velocity"] - rate * gradient
        return parameter + velocity, {"velocity": velocity}

    def placed(self, parameter: Tensor, point: Tensor, state: State) -> State:
        """Return the state with the velocity set to the actual displacement."""
        return {**state, "velocity": state["velocity"] + (point - parameter)}


class Momentum(_Velocity):
    r"""Gradient descent with momentum (Polyak's heavy ball).

        v ← β v − α g
        θ ← θ + v

    With a proximal regularizer: θ' = prox(θ + v, α), v ← θ' − θ, θ ← θ'.

    Args:
        params: what to optimize; given by the core.
        lr: α > 0, the learning rate.
        beta: β in [0, 1), the momentum coefficient.

    Raises:
        ValueError: if lr or beta is out of range.

    Reference: Polyak (1964), doi:10.1016/0041-5553(64)90137-5.
    Note: torch's SGD stores the velocity without α and multiplies by α on use, which is equal only while
    α is constant. Here a change of α affects new gradients only.
    """


class Nesterov(_Velocity):
    r"""Nesterov's accelerated gradient: momentum with the gradient at the look-ahead point.

        v ← β v − α ∇F(θ + β v)
        θ ← θ + v

    With a proximal regularizer: θ' = prox(θ + v, α), v ← θ' − θ, θ ← θ'.

    During training the parameters hold the look-ahead point θ + βv, where the gradient is needed;
    θ itself is in the state. `eval()` sets the parameters to θ for validation, prediction and
    saving, and `train()` restores the identical look-ahead point. Both are idempotent and may be called
    at any time. Weights may be changed by other means only between `eval()` and `train()`.

    Args:
        params: what to optimize; given by the core.
        lr: α > 0, the learning rate.
        beta: β in [0, 1), the momentum coefficient.

    Raises:
        ValueError: if lr or beta is out of range.
        RuntimeError: if step is called after eval(), without a closure to compute the gradient at the
            look-ahead point.

    Reference: Nesterov (1983), Doklady AN SSSR 269(3), 543-547; in this form Sutskever et al. (2013),
    https://proceedings.mlr.press/v28/sutskever13.html.
    Note: torch's SGD with nesterov=True stores only the look-ahead point, so that it saves and evaluates
    that instead of θ, and stores the velocity without α (see `momentum`).
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, which hold the point that those of the first group hold."""
        super().add_param_group(param_group)
        first, added = self.param_groups[0], self.param_groups[-1]
        # In the groups, hence in checkpoints: which point the parameters hold.
        added["look_ahead"] = first.get("look_ahead", True)

    def gradient_point(self, parameter: Tensor, state: State, settings: Mapping[str, Any]) -> Tensor:
        """The look-ahead point θ + βv, where the formula's gradient is taken."""
        (beta,) = coefficients(parameter, settings["beta"])
        return parameter + beta * state["velocity"]

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Make one update; return the closure's result, if there is one."""
        if closure is not None:
            self.train()
        elif not all(group["look_ahead"] for group in self.param_groups):
            raise RuntimeError("nesterov: call train() before computing the gradient of the next step")
        loss = evaluated(closure)
        self.update()
        return loss

    @no_grad_if_enabled
    def update(self) -> None:
        """Advance velocities and θ by the present gradients, computed at the look-ahead point."""
        self.eval()
        super().update()
        self.train()

    @no_grad_if_enabled
    def eval(self) -> None:
        """Set the parameters to θ."""
        for group in self.param_groups:
            moving = self._moving(group)
            if group["look_ahead"] and moving:
                torch._foreach_copy_(moving, [self.state[p]["point"] for p in moving])
            group["look_ahead"] = False

    @no_grad_if_enabled
    def train(self) -> None:
        """Set the parameters to the look-ahead point θ + βv."""
        for group in self.param_groups:
            moving = self._moving(group)
            if not group["look_ahead"] and moving:
                for parameter in moving:
                    if "point" not in self.state[parameter]:
                        self.state[parameter]["point"] = torch.empty_like(parameter)
                # θ is stored, not recovered by subtracting βv: rounding errors would accumulate.
                torch._foreach_copy_([self.state[p]["point"] for p in moving], moving)
                torch._foreach_add_(moving, [self.state[p]["velocity"] for p in moving], alpha=group["beta"])
            group["look_ahead"] = True

    def _moving(self, group: dict[str, Any]) -> list[Tensor]:
        """The parameters that have a velocity; for the others θ and the look-ahead point coincide."""
        return [parameter for parameter in group["params"] if parameter in self.state]
