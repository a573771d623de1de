"""Faults of what optimizers declare."""

import torch

from planted.optimizers import Plain
from planted.record import planted
from torchplug import Capability, Family, ProximalOptimizer

OPTIMIZER = Family.OPTIMIZER
UPDATE = frozenset({Capability.UPDATE})


class Updated(ProximalOptimizer):
    """Gradient descent whose step is its update."""

    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, {"lr": lr})

    def advance(self, group, parameters, gradients):
        for p, gradient in zip(parameters, gradients, strict=True):
            p.sub_(gradient, alpha=group["lr"])


class Functional(Updated):
    """The same, as a function, too."""

    def update_fn(self, parameter, gradient, state, settings):
        return parameter - settings["lr"].to(parameter.dtype) * gradient, state


@planted(OPTIMIZER, "update_is_the_step", "`update()` reaches other weights than `step()`", capabilities=UPDATE)
class Halving(Plain):
    @torch.no_grad()
    def update(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad, alpha=0.5 * group["lr"])


@planted(OPTIMIZER, "several_steps_are_single_steps", "`update` is not `step`", capabilities=UPDATE)
class Quartering(Halving):
    pass


@planted(OPTIMIZER, "update_fn_is_the_update", "weights by `update_fn` and by `update`: differ", capabilities=UPDATE)
class Another(Updated):
    def update_fn(self, parameter, gradient, state, settings):
        return parameter - 0.5 * settings["lr"] * gradient, state


@planted(OPTIMIZER, "step_goes_through_update", "`step` calls self.update() 0 times", capabilities=UPDATE)
class Beside(Functional):
    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else closure()
        Functional.update(self)
        return loss


@planted(OPTIMIZER, "update_fn_compiles", "makes no whole graph of `update_fn`", capabilities=UPDATE)
class Reporting(Functional):
    def update_fn(self, parameter, gradient, state, settings):
        print(end="")
        return super().update_fn(parameter, gradient, state, settings)


@planted(
    OPTIMIZER,
    "one_flat_tensor_is_several",
    "leave Capability.ELEMENTWISE out if elements are coupled",
    capabilities=frozenset({Capability.ELEMENTWISE}),
)
class Coupled(Plain):
    def move(self, p, gradient, group):
        p.sub_(gradient / (1 + gradient.norm()), alpha=group["lr"])


@planted(
    OPTIMIZER,
    "prox_as_declared",
    "a step does not end with the prox",
    capabilities=frozenset({Capability.PROX}),
)
class Ignoring(Plain):
    prox = None
