"""Optimizers of a small third-party distribution that evaluate the loss themselves."""

PLUGIN = """
from torchplug import Capability, Component, hookimpl

CLOSURE = frozenset({Capability.CLOSURE})


@hookimpl
def torchplug_optimizers():
    return [
        Component("sam", "closing_parts:SAM", "two gradients per step", CLOSURE),
        Component("undeclared", "closing_parts:SAM", "the same, without saying so"),
        Component("quasi", "closing_parts:quasi", "torch's L-BFGS", CLOSURE),
        Component("helper", "closing_parts:Helper", "has a method update of its own"),
    ]
"""
PARTS = """
import torch


class SAM(torch.optim.Optimizer):
    def __init__(self, params, lr: float = 0.1, rho: float = 0.5):
        super().__init__(params, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            norm = torch.stack([p.grad.norm() for p in group["params"]]).norm()
            moves = [group["rho"] * p.grad / norm for p in group["params"]]
            for p, move in zip(group["params"], moves):
                p.add_(move)
            if closure is not None:
                with torch.enable_grad():
                    closure()
            for p, move in zip(group["params"], moves):
                p.sub_(move)
                p.sub_(p.grad, alpha=group["lr"])
        return loss


class Helper(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)

    def update(self, parameter, ratio):
        raise AssertionError("this is not a step")


def quasi(params, lr: float = 1.0, max_iter: int = 6):
    return torch.optim.LBFGS(params, lr=lr, max_iter=max_iter, line_search_fn="strong_wolfe")
"""


def install(distributions):
    """Install it: plugin module and parts."""
    distributions.module("closing_parts", PARTS)
    distributions.add("closing", PLUGIN)
