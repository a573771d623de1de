"""First-order optimizers of the notes.

Symbols: θ parameters, g = ∇F(θ) the gradient of the training objective on the batch, α the learning
rate `lr`. torch.optim's own classes do the work wherever their update is the one asked for.

Proximal regularizers: the core sets `optimizer.prox`, a function per parameter, and the step ends
with θ ← prox(θ, s). The step size s is the one that the update itself used: α for plain gradients, and
elementwise α/(√s + ε) where the update divides by a running root mean square. A threshold of αλ under
every update would have another fixed point than the penalized objective's minimum.

A step of torch's own classes costs several times what its kernel does: hooks, a profiler's record, lists made
anew. `update()` is that step for gradients that are there already, kernel and bits included, without the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchplug.builtin.proximal import Closure, Fused, Proximal, ProximalAfterStep, evaluated, moved
from torchplug.builtin.ranges import below_one, non_negative, positive
from torchplug.without_graph import without_graph


class SGD(ProximalAfterStep, Fused, torch.optim.SGD):
    r"""Gradient descent: from one sample to the full batch, as the data module's batch size says.

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

    @without_graph
    def update(self) -> None:
        """Advance parameters by the gradients that are there."""
        if not all(group["fused"] for group in self.param_groups):
            self.step()
            return
        for group in self.param_groups:
            parameters, gradients = moved(group)
            if not parameters:
                continue
            lr: float = group["lr"]
            torch._fused_sgd_(
                parameters,
                gradients,
                [],
                lr=lr,
                weight_decay=0.0,
                momentum=0.0,
                dampening=0.0,
                nesterov=False,
                maximize=False,
                is_first_step=False,
            )
        self.apply_prox()


class Momentum(Proximal):
    r"""Gradient descent with a velocity, Polyak's heavy ball.

        v ← β v − α g
        θ ← θ + v

    With a proximal regularizer: θ' = prox(θ + v, α), v ← θ' − θ, θ ← θ'.

    Args:
        params: what to optimize; given by the core.
        lr: α > 0, the learning rate.
        beta: β in [0, 1), the share of the velocity that is kept.

    Raises:
        ValueError: if lr or beta is out of range.

    Reference: Polyak (1964), doi:10.1016/0041-5553(64)90137-5.
    Note: torch's SGD keeps the velocity without α and multiplies by it on use: the same only while
    α is constant. Here a change of α acts on new gradients alone.
    """

    def __init__(self, params: ParamsT, lr: float = 0.01, beta: float = 0.9) -> None:
        positive(lr=lr)
        below_one(beta=beta)
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Make one update; returns what the closure, if any, returns."""
        loss = evaluated(closure)
        self.update()
        return loss

    @without_graph
    def update(self) -> None:
        """Advance velocities and parameters by the gradients that are there."""
        for group in self.param_groups:
            parameters, gradients = moved(group)
            if not parameters:
                continue
            for parameter in parameters:
                if parameter not in self.state:
                    self.state[parameter]["velocity"] = torch.zeros_like(parameter)
            velocities = [self.state[p]["velocity"] for p in parameters]
            torch._foreach_mul_(velocities, group["beta"])
            torch._foreach_add_(velocities, gradients, alpha=-group["lr"])
            torch._foreach_add_(parameters, velocities)
        self.apply_prox()

    def place(self, parameter: Tensor, point: Tensor) -> None:
        """Move a parameter, and make its velocity the way it really went."""
        self.state[parameter]["velocity"].add_(point - parameter)
        parameter.copy_(point)


class Nesterov(Momentum):
    r"""Momentum with the gradient taken where the velocity is about to lead.

        v ← β v − α ∇F(θ + β v)
        θ ← θ + v

    With a proximal regularizer: θ' = prox(θ + v, α), v ← θ' − θ, θ ← θ'.

    During training the parameters hold the look-ahead point θ + βv, where the gradient is needed;
    θ itself is kept in the state. `eval()` puts θ into the parameters for validation, prediction and
    saving, and `train()` leads back to the very same look-ahead point. Both may be called at any
    time and repeatedly. Change weights by other means only between `eval()` and `train()`.

    Args:
        params: what to optimize; given by the core.
        lr: α > 0, the learning rate.
        beta: β in [0, 1), the share of the velocity that is kept.

    Raises:
        ValueError: if lr or beta is out of range.
        RuntimeError: if step is called after eval(), without a closure that could take the gradient
            at the look-ahead point.

    Reference: Nesterov (1983), Doklady AN SSSR 269(3), 543-547; in this form Sutskever et al. (2013),
    https://proceedings.mlr.press/v28/sutskever13.html.
    Note: torch's SGD with nesterov=True stores the look-ahead point for good, so that what it saves
    and evaluates is not θ, and keeps the velocity without α (see `momentum`).
    """

    def __init__(self, params: ParamsT, lr: float = 0.01, beta: float = 0.9) -> None:
        super().__init__(params, lr=lr, beta=beta)
        for group in self.param_groups:
            # In the groups, hence in checkpoints: which point the parameters hold goes with them.
            group["look_ahead"] = True

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Make one update; returns what the closure, if any, returns."""
        if closure is not None:
            self.train()
        elif not all(group["look_ahead"] for group in self.param_groups):
            raise RuntimeError("nesterov: call train() before computing the gradient of the next step")
        loss = evaluated(closure)
        self.update()
        return loss

    @without_graph
    def update(self) -> None:
        """Advance velocities and θ by the gradients that are there, taken at the look-ahead point."""
        self.eval()
        super().update()
        self.train()

    @without_graph
    def eval(self) -> None:
        """Let the parameters hold θ."""
        for group in self.param_groups:
            moving = self._moving(group)
            if group["look_ahead"] and moving:
                torch._foreach_copy_(moving, [self.state[p]["point"] for p in moving])
            group["look_ahead"] = False

    @without_graph
    def train(self) -> None:
        """Let the parameters hold the look-ahead point θ + βv."""
        for group in self.param_groups:
            moving = self._moving(group)
            if not group["look_ahead"] and moving:
                for parameter in moving:
                    if "point" not in self.state[parameter]:
                        self.state[parameter]["point"] = torch.empty_like(parameter)
                # θ is kept, not recovered by subtracting βv: rounding would add up with every switch.
                torch._foreach_copy_([self.state[p]["point"] for p in moving], moving)
                torch._foreach_add_(moving, [self.state[p]["velocity"] for p in moving], alpha=group["beta"])
            group["look_ahead"] = True

    def _moving(self, group: dict[str, Any]) -> list[Tensor]:
        """The parameters that have a velocity; for the others θ and the look-ahead point coincide."""
        return [parameter for parameter in group["params"] if parameter in self.state]


class RMSprop(ProximalAfterStep, torch.optim.RMSprop):
    r"""Steps divided by a running root mean square of the gradient.

        s ← β s + (1 − β) g²
        θ ← θ − α g / (√s + ε)

    With a proximal regularizer the step ends with prox(θ, α / (√s + ε)), elementwise.

    Args:
        params: what to optimize; given by the core.
        lr: α > 0, the learning rate.
        beta: β in [0, 1), the share of the running mean that is kept.
        eps: ε > 0, outside the root, in units of the gradient.

    Raises:
        ValueError: if lr, beta or eps is out of range.

    Reference: Hinton, Srivastava and Swersky (2012), Neural Networks for Machine Learning, lecture 6e.
    Note: torch calls β alpha, with 0.99 for its default.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, beta: float = 0.9, eps: float = 1e-8) -> None:
        positive(lr=lr, eps=eps)
        below_one(beta=beta)
        super().__init__(params, lr=lr, alpha=beta, eps=eps, foreach=True)

    def prox_step(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        """α / (√s + ε)."""
        step: Tensor = group["lr"] / (self.state[parameter]["square_avg"].sqrt() + group["eps"])
        return step


_ONE = torch.ones(())
"""As a tensor: torch takes twice as long to add a number."""


class _FusedAdam(ProximalAfterStep, Fused):
    """What Adam and AdamW share beside torch's classes of these names."""

    kernel: Callable[..., None]

    @without_graph
    def update(self) -> None:
        """Advance running means and parameters by the gradients that are there."""
        if not self._is_ready():
            self.step()  # the first one makes the state
            return
        for group in self.param_groups:
            parameters, gradients = moved(group)
            if not parameters:
                continue
            means, squares, steps = [], [], []
            for parameter in parameters:
                state = self.state[parameter]
                means.append(state["exp_avg"])
                squares.append(state["exp_avg_sq"])
                steps.append(state["step"].add_(_ONE))
            beta1, beta2 = group["betas"]
            type(self).kernel(
                parameters,
                gradients,
                means,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )
        self.apply_prox()

    def _is_ready(self) -> bool:
        members = 0
        for group in self.param_groups:
            if not group["fused"]:
                return False
            members += len(group["params"])
        return len(self.state) >= members

    def prox_step(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        """α / (√v̂ + ε)."""
        state = self.state[parameter]
        # The count is a float32 tensor, on the device when fused: float64 keeps the digits of 1 − β₂ᵗ,
        # and staying a tensor saves a synchronization.
        correction = 1.0 - group["betas"][1] ** state["step"].double()
        step: Tensor = group["lr"] / ((state["exp_avg_sq"] / correction).sqrt() + group["eps"])
        return step


class Adam(_FusedAdam, torch.optim.Adam):
    r"""Running means of the gradient and its square, both corrected for their start at zero.

        m ← β₁ m + (1 − β₁) g,    m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²,   v̂ = v / (1 − β₂ᵗ)
        θ ← θ − α m̂ / (√v̂ + ε),   t the number of this step, from 1

    With a proximal regularizer the step ends with prox(θ, α / (√v̂ + ε)), elementwise.

    Args:
        params: what to optimize; given by the core.
        lr: α > 0, the learning rate.
        betas: (β₁, β₂), each in [0, 1), the shares of the running means that are kept.
        eps: ε > 0, outside the root, in units of the gradient.

    Raises:
        ValueError: if lr, betas or eps is out of range.

    Reference: Kingma and Ba (2015), arXiv:1412.6980.
    """

    kernel = staticmethod(torch._fused_adam_)

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(params, **_adam_settings(lr, betas, eps))


class AdamW(_FusedAdam, torch.optim.AdamW):
    r"""Adam with weight decay decoupled from the gradient's scaling.

        θ ← (1 − α w) θ,    then Adam's update

    With a proximal regularizer the step ends with prox(θ, α / (√v̂ + ε)), elementwise.

    Args:
        params: what to optimize; given by the core.
        lr: α > 0, the learning rate.
        betas: (β₁, β₂), each in [0, 1), the shares of the running means that are kept.
        eps: ε > 0, outside the root, in units of the gradient.
        weight_decay: w ≥ 0, dimensionless; the core keeps it off biases and normalization layers.

    Raises:
        ValueError: if lr, betas, eps or weight_decay is out of range.

    Reference: Loshchilov and Hutter (2019), arXiv:1711.05101.
    Note: as in torch the decay is multiplied by α, so a scheduler moves it too; the paper's is not.
    It is no penalty in the objective: the regularizer `l2` is, and Adam scales that one's gradient.
    """

    kernel = staticmethod(torch._fused_adamw_)

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        non_negative(weight_decay=weight_decay)
        super().__init__(params, weight_decay=weight_decay, **_adam_settings(lr, betas, eps))


def _adam_settings(lr: float, betas: tuple[float, float], eps: float) -> dict[str, Any]:
    positive(lr=lr, eps=eps)
    if len(betas) != 2:
        raise ValueError(f"betas must be two numbers, got {len(betas)}")
    below_one(**{"betas[0]": betas[0], "betas[1]": betas[1]})
    return {"lr": lr, "betas": (float(betas[0]), float(betas[1])), "eps": eps}
