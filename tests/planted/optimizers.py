"""Faults of optimizers that see minibatches."""

import random

import torch

from planted.record import planted
from torchplug import Capability, Family

OPTIMIZER = Family.OPTIMIZER
CLOSURE = frozenset({Capability.CLOSURE})


class Plain(torch.optim.Optimizer):
    """Gradient descent, with a place for each fault."""

    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, p.grad, group)
        return loss

    def move(self, p, gradient, group):
        p.sub_(gradient, alpha=group["lr"])


@planted(OPTIMIZER, "is_an_optimizer", "its groups do not hold each parameter once")
class Partial(Plain):
    def __init__(self, params, lr: float = 0.1):
        super().__init__([{**group, "params": group["params"][1:]} for group in params], lr)


@planted(OPTIMIZER, "decreases_a_quadratic", "F must decrease")
class Ascent(Plain):
    def move(self, p, gradient, group):
        p.add_(gradient, alpha=group["lr"])


@planted(OPTIMIZER, "decreases_a_logistic_loss", "F must decrease")
class AfraidOfSmallGradients(Plain):
    def move(self, p, gradient, group):
        p.sub_(gradient * torch.where(gradient.norm() > 0.7, 1.0, -1.0), alpha=group["lr"])


@planted(OPTIMIZER, "groups_keep_their_settings", "a group of learning rate 0 moves: read group['lr']")
class OneRate(Plain):
    def move(self, p, gradient, group):
        p.sub_(gradient, alpha=self.defaults["lr"])


@planted(OPTIMIZER, "missing_gradients_are_skipped", "parameters without gradient move")
class Decaying(Plain):
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(1 - 0.1 * group["lr"])
        return loss


@planted(OPTIMIZER, "zero_rate_changes_nothing", "weights change at learning rate 0")
class Shrinking(Plain):
    def move(self, p, gradient, group):
        p.mul_(0.99).sub_(gradient, alpha=group["lr"])


@planted(OPTIMIZER, "zero_gradients_stay_finite", "divide by √v + ε")
class Normalized(Plain):
    def move(self, p, gradient, group):
        p.sub_(gradient / gradient.norm(), alpha=group["lr"])


@planted(OPTIMIZER, "optimizer_state_is_plain", "keep tensors, numbers, texts, lists and mappings only")
class Objects(Plain):
    def move(self, p, gradient, group):
        super().move(p, gradient, group)
        self.state[p]["generator"] = random.Random(0)


@planted(OPTIMIZER, "optimizer_resumes", "resumed from its state it goes elsewhere")
class Forgetful(Plain):
    def move(self, p, gradient, group):
        self.__dict__.setdefault("velocities", {})
        velocity = self.velocities[p] = 0.9 * self.velocities.get(p, 0.0) + gradient
        p.sub_(velocity, alpha=group["lr"])


@planted(OPTIMIZER, "steps_repeat", "the same steps give other weights")
class Random(Plain):
    def move(self, p, gradient, group):
        p.sub_(gradient * random.SystemRandom().uniform(0.5, 1.5), alpha=group["lr"])


@planted(OPTIMIZER, "gradients_stay_unchanged", "its step changes the gradients")
class InPlace(Plain):
    def move(self, p, gradient, group):
        p.sub_(gradient.mul_(group["lr"]))


@planted(OPTIMIZER, "closure_as_declared", "evaluates the closure 2 times: declare Capability.CLOSURE")
class Twice(Plain):
    def step(self, closure=None):
        loss = super().step(closure)
        closure()
        return loss


@planted(OPTIMIZER, "optimizer_keeps_dtypes", "weights in torch.float32 become torch.float64")
class Widening(Plain):
    def move(self, p, gradient, group):
        p.data = p.data.double() - group["lr"] * gradient.double()


@planted(OPTIMIZER, "takes_every_shape", "it fails on a scalar, vector, matrix or kernel")
class NoScalars(Plain):
    def move(self, p, gradient, group):
        p.sub_(gradient / gradient.norm() * gradient[0].norm(), alpha=group["lr"])


@planted(OPTIMIZER, "groups_may_be_added", "a group that is added after some steps fails")
class EarlyState(Plain):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr)
        self.scales = {p: 1.0 for group in self.param_groups for p in group["params"]}

    def move(self, p, gradient, group):
        p.sub_(gradient, alpha=group["lr"] * self.scales[p])


@planted(OPTIMIZER, "evaluation_point_is_kept", "a second `eval` moves the weights: remember the mode")
class Wandering(Plain):
    def eval(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(0.999)

    def train(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.div_(0.999)


@planted(OPTIMIZER, "steps_on_meta_device", "do not read values, as by item")
class Reading(Plain):
    def move(self, p, gradient, group):
        p.sub_(gradient, alpha=group["lr"] * min(1.0, gradient.norm().item()))


@planted(OPTIMIZER, "steps_on_cuda", "raises")
class OfTheCPU(Plain):
    def move(self, p, gradient, group):
        p.sub_(gradient * torch.ones(p.shape, dtype=p.dtype), alpha=group["lr"])


@planted(OPTIMIZER, "kernels_agree", "weights with foreach kernels and one tensor at a time: differ")
class Hurried(Plain):
    def __init__(self, params, lr: float = 0.1, foreach: bool = False):
        torch.optim.Optimizer.__init__(self, params, {"lr": lr, "foreach": foreach})

    def move(self, p, gradient, group):
        p.sub_(gradient, alpha=group["lr"] * (2 if group["foreach"] else 1))


@planted(OPTIMIZER, "two_ranks_are_one", "two ranks reach other", capabilities=CLOSURE)
class OwnNoise(Plain):
    def move(self, p, gradient, group):
        p.sub_(gradient * random.SystemRandom().uniform(0.5, 1.5), alpha=group["lr"])
