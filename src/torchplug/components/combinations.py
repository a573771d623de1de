"""Refusals of built components: uninitialized modules, losses and penalties that an optimizer cannot take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchplug.components.contracts import Loss, Regularizer, implements, is_piecewise_linear
from torchplug.errors import ConfigurationError, PluginError
from torchplug.registry import Resolved
from torchplug.registry.component import Capability
from torchplug.trial_step import trial_step


def initialized(component: Resolved, built: Any) -> Any:
    """Return what a component has built, unless it is a module whose own constructor replaced that of `nn.Module`.

    Raises:
        PluginError: naming the component.
    """
    if isinstance(built, nn.Module) and "_modules" not in vars(built):
        entry = component.entry
        raise PluginError(
            f"{entry.distribution} {entry.version} is broken: {entry.label}: its constructor does not call "
            "super().__init__()"
        )
    return built


def refuse_loss(optimizer: Resolved, loss: Loss, name: str) -> None:
    """Refuse a loss that the optimizer cannot minimize.

    Derivatives lead to minima of smooth losses only, linear programming to those of piecewise linear ones.

    Args:
        optimizer: the optimizer.
        loss: the loss.
        name: its name.

    Raises:
        ConfigurationError: naming both, and the remedy.
    """
    capabilities = optimizer.capabilities
    if Capability.RESIDUALS in capabilities and not implements(loss, "residuals"):
        raise ConfigurationError(
            f"{optimizer.name} needs a loss that is a sum of squared residuals, and {name} is none: "
            "use the loss mse, or another optimizer such as newton or lbfgs"
        )
    linear = is_piecewise_linear(loss)
    if Capability.PIECEWISE_LINEAR in capabilities:
        if not linear:
            raise ConfigurationError(
                f"{optimizer.name} needs a loss that is piecewise linear, such as l1 or quantile, and {name} is none: "
                "use another optimizer such as newton or lbfgs"
            )
    elif Capability.OBJECTIVE in capabilities and not loss.smooth:
        remedy = "use a smooth one, such as huber for l1, or an optimizer for minibatches such as adam"
        if linear:
            remedy = "with a linear model use the optimizer interior_point, else one for minibatches such as adam"
        raise ConfigurationError(f"{optimizer.name} needs a loss without kinks, and {name} has them: {remedy}")


def refuse_penalty(optimizer: Resolved, regularizer: Regularizer, name: str) -> None:
    """Refuse a penalty that the optimizer cannot minimize.

    Curvature methods see smooth penalties only, and residual methods only those that are sums of squares.

    Args:
        optimizer: the optimizer.
        regularizer: the penalty.
        name: its name.

    Raises:
        ConfigurationError: naming both, and the remedy.
    """
    capabilities = optimizer.capabilities
    if regularizer.proximal:
        if Capability.PROX not in capabilities:
            raise ConfigurationError(
                f"{name} with proximal: true needs an optimizer whose step applies the prox, and "
                f"{optimizer.name} does not: use another (`torchplug list optimizer --json` names those "
                "with the need 'prox'), or proximal: false"
            )
        if Capability.OBJECTIVE in capabilities and not regularizer.separable:
            raise _coupled(optimizer, name, "treats each by itself")
        return
    if Capability.OBJECTIVE not in capabilities:
        return
    if Capability.PIECEWISE_LINEAR in capabilities:
        if not (implements(regularizer, "residuals") and implements(regularizer, "curvature")):
            raise ConfigurationError(
                f"{optimizer.name} takes penalties that are sums of squares of single parameters, such as l2, "
                f"and {name} is none: use l2, or an optimizer for minibatches such as adam"
            )
        return
    if not regularizer.smooth:
        raise ConfigurationError(
            f"{optimizer.name} needs second derivatives, and {name} has none at zero: "
            f"use the optimizer proximal_newton with {name} and proximal: true"
        )
    if Capability.RESIDUALS in capabilities and not implements(regularizer, "residuals"):
        raise ConfigurationError(f"{optimizer.name} needs penalties that are sums of squares, unlike {name}")


def refuse_coupled_prox(optimizer: Resolved, trial: Optimizer, parameter: nn.Parameter, name: str) -> None:
    """Refuse a penalty that couples elements where the optimizer's prox has a step size for each of them.

    Args:
        optimizer: the optimizer.
        trial: built over one parameter, for a trial step; not of a full-batch optimizer.
        parameter: this parameter, of several elements.
        name: the penalty's name.

    Raises:
        ConfigurationError: naming both, and the remedy.
    """
    sizes: list[Tensor | float] = []

    def record(point: Tensor, size: Tensor | float) -> Tensor:
        sizes.append(size)
        return point

    parameter.grad = torch.ones_like(parameter)
    trial.prox = {parameter: record}  # type: ignore[attr-defined]
    trial_step(trial)
    if any(isinstance(size, Tensor) and size.numel() > 1 for size in sizes):
        raise _coupled(optimizer, name, "has a step size for each element")


def _coupled(optimizer: Resolved, name: str, obstacle: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} with proximal: true couples the elements of a parameter, and {optimizer.name} {obstacle}: "
        "use an optimizer with one step size, such as momentum, or proximal: false"
    )


def refuse_one_rate(scheduler: str, build: Callable[[Optimizer], Any]) -> None:
    """Refuse a scheduler that sets one learning rate for all parameter groups, whose factors would be lost.

    Args:
        scheduler: its name.
        build: builds it over an optimizer.

    Raises:
        ConfigurationError: naming it, and the remedy.
    """
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [p], "lr": 0.01 * factor} for p, factor in zip(parameters, (1.0, 0.5), strict=True)]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    optimizer.param_groups[1]["lr_factor"] = 0.5
    optimizer._opt_called = True  # type: ignore[attr-defined]  # or torch warns of a schedule that steps first
    trial = build(optimizer)
    if getattr(trial, "monitor", None) is not None:  # it scales what there is
        return
    for _ in range(3):
        first, second = (float(group["lr"]) for group in optimizer.param_groups)
        if first != second:
            return
        trial.step()
    raise ConfigurationError(
        f"groups: the scheduler {scheduler} sets one learning rate for all parameters, so that the factors lr would be "
        "lost: leave lr out, or use another scheduler such as cosine"
    )
