"""First-order optimizers that scale each element of the gradient by a running mean of its square.

Symbols and conventions are those of `optimizers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.optimizer import ParamsT
from torch.optim.rmsprop import rmsprop

from torchplug.components.optimizer import FusedOptimizer, ProximalOptimizer, State, coefficients
from torchplug.components.validate import below_one, non_negative, positive


class RMSprop(ProximalOptimizer, torch.optim.RMSprop):
    r"""Steps divided by a running root mean square of the gradient.

        s ← β s + (1 − β) g²
        θ ← θ − α g / (√s + ε)

    With a proximal regularizer the step ends with prox(θ, α / (√s + ε)), elementwise.

    Args:
        params: what to optimize; given by the core.
        lr: α > 0, the learning rate.
        beta: β in [0, 1), the decay of the running mean.
        eps: ε > 0, outside the root, in units of the gradient.

    Raises:
        ValueError: if lr, beta or eps is out of range.

    Reference: Hinton, Srivastava and Swersky (2012), Neural Networks for Machine Learning, lecture 6e.
    Note: torch's RMSprop calls β alpha; its default is 0.99.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, beta: float = 0.9, eps: float = 1e-8) -> None:
        positive(lr=lr, eps=eps)
        below_one(beta=beta)
        super().__init__(params, lr=lr, alpha=beta, eps=eps, foreach=True)

    def init_state(self, parameter: Tensor) -> State:
        """Return a zero mean and a step count of zero, as in torch."""
        return {"step": torch.zeros((), dtype=torch.float32), "square_avg": torch.zeros_like(parameter)}

    def advance(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Advance running means and parameters."""
        states = self.states(parameters)
        rmsprop(
            parameters,
            gradients,
            [state["square_avg"] for state in states],
            [],
            [],
            [state["step"] for state in states],
            foreach=group["foreach"],
            lr=group["lr"],
            alpha=group["alpha"],
            eps=group["eps"],
            weight_decay=0.0,
            momentum=0.0,
            centered=False,
        )

    def update_fn(
        self, parameter: Tensor, gradient: Tensor, state: State, settings: Mapping[str, Any]
    ) -> tuple[Tensor, State]:
        """The update of one parameter."""
        beta, rate, eps = settings["alpha"], settings["lr"], settings["eps"]
        kept, taken, rate, eps = coefficients(parameter, beta, 1.0 - beta, rate, eps)
        square = kept * state["square_avg"] + taken * gradient.square()
        moved = rate * gradient / (square.sqrt() + eps)
        return parameter - moved, {"step": state["step"] + 1.0, "square_avg": square}

    def prox_size(self, state: State, settings: Mapping[str, Any]) -> Tensor:
        """α / (√s + ε)."""
        rate, eps = coefficients(state["square_avg"], settings["lr"], settings["eps"])
        size: Tensor = rate / (state["square_avg"].sqrt() + eps)
        return size


_ONE = torch.ones(())
"""As a tensor: torch takes twice as long to add a number."""


class _FusedAdam(FusedOptimizer):
    """Base class of Adam and AdamW, with the update shared by both."""

    decoupled: bool
    """Whether weight decay is decoupled from the gradient."""

    def init_state(self, parameter: Tensor) -> State:
        """Return zero means and a step count of zero, which other kernels than CUDA's read as a number."""
        device = parameter.device if parameter.is_cuda else None
        step = torch.zeros((), dtype=torch.float32, device=device)
        return {"step": step, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}

    def advance(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Advance running means and parameters."""
        means, squares, steps = [], [], []
        for state in self.states(parameters):
            means.append(state["exp_avg"])
            squares.append(state["exp_avg_sq"])
            steps.append(state["step"])
        beta1, beta2 = group["betas"]
        settings = {
            "lr": group["lr"],
            "beta1": beta1,
            "beta2": beta2,
            "weight_decay": group["weight_decay"],
            "eps": group["eps"],
            "amsgrad": False,
            "maximize": False,
        }
        if not group["fused"]:
            adam(parameters, gradients, means, squares, [], steps, decoupled_weight_decay=self.decoupled, **settings)
            return
        for step in steps:
            step.add_(_ONE)
        kernel = torch._fused_adamw_ if self.decoupled else torch._fused_adam_
        kernel(parameters, gradients, means, squares, [], steps, **settings)

    def update_fn(
        self, parameter: Tensor, gradient: Tensor, state: State, settings: Mapping[str, Any]
    ) -> tuple[Tensor, State]:
        """The update of one parameter."""
        (beta1, beta2), lr = settings["betas"], settings["lr"]
        steps = state["step"] + 1.0
        # the count is in single precision, in which 1 − β₂ᵗ would lose digits
        first, second = 1.0 - beta1 ** steps.double(), 1.0 - beta2 ** steps.double()
        numbers = (1.0 - beta1, beta2, 1.0 - beta2, lr / first, second.sqrt(), settings["eps"])
        taken1, kept2, taken2, rate, root, eps = coefficients(parameter, *numbers)
        if self.decoupled:
            (decay,) = coefficients(parameter, 1.0 - lr * settings["weight_decay"])
            parameter = parameter * decay
        mean = torch.lerp(state["exp_avg"], gradient, taken1)
        square = torch.addcmul(kept2 * state["exp_avg_sq"], taken2 * gradient, gradient)
        moved = rate * mean / (square.sqrt() / root + eps)
        return parameter - moved, {"step": steps, "exp_avg": mean, "exp_avg_sq": square}

    def prox_size(self, state: State, settings: Mapping[str, Any]) -> Tensor:
        """α / (√v̂ + ε)."""
        square = state["exp_avg_sq"]
        # The count is a float32 tensor, on the device when fused: float64 keeps the digits of 1 − β₂ᵗ,
        # and staying a tensor saves a synchronization.
        correction = 1.0 - settings["betas"][1] ** state["step"].double()
        correction, rate, eps = coefficients(square, correction, settings["lr"], settings["eps"])
        size: Tensor = rate / ((square / correction).sqrt() + eps)
        return size


class Adam(_FusedAdam, torch.optim.Adam):
    r"""Adam: running means of the gradient and its square, both corrected for their bias towards zero.

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

    decoupled = False

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(params, **_adam_settings(lr, betas, eps))


class AdamW(_FusedAdam, torch.optim.AdamW):
    r"""AdamW: Adam with weight decay decoupled from the gradient's scaling.

        θ ← (1 − α w) θ,    then Adam's update

    With a proximal regularizer the step ends with prox(θ, α / (√v̂ + ε)), elementwise.

    Args:
        params: what to optimize; given by the core.
        lr: α > 0, the learning rate.
        betas: (β₁, β₂), each in [0, 1), the shares of the running means that are kept.
        eps: ε > 0, outside the root, in units of the gradient.
        weight_decay: w ≥ 0, dimensionless; not applied to biases and normalization layers.

    Raises:
        ValueError: if lr, betas, eps or weight_decay is out of range.

    Reference: Loshchilov and Hutter (2019), arXiv:1711.05101.
    Note: as in torch, the decay is multiplied by α, so that a scheduler changes it too; in the paper it is not.
    It is not a penalty in the objective, unlike the regularizer `l2`, whose gradient Adam scales.
    """

    decoupled = True

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
