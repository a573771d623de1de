"""Faults of full-batch optimizers."""

import random

import torch

from planted.record import planted
from torchplug import Capability, Family, Iteration, Outcome

OPTIMIZER = Family.OPTIMIZER
OBJECTIVE = {"capabilities": frozenset({Capability.OBJECTIVE})}


class Descent(torch.optim.Optimizer):
    """Gradient descent over all rows, with a place for each fault; its steps are counted in its state."""

    def __init__(self, params):
        super().__init__(params, {})
        self.outcome = self.iteration = None

    def remembered(self):
        return self.state["torchplug"]

    def step(self, *, objective):
        if self.outcome is not None:
            return
        self.descend(objective)

    def descend(self, objective):
        memory = self.remembered()
        number = memory["number"] = memory.get("number", 0) + 1
        point = torch.cat([p.detach().reshape(-1) for group in self.param_groups for p in group["params"]])
        value, gradient = objective.evaluate()
        objective.move(point - self.rate(number) * gradient)
        size = float(gradient.norm())
        self.iteration = Iteration(number, value, size, None, None, number)
        if self.small(size):
            self.outcome = Outcome("converged", f"the gradient is {size:.3g}")

    def rate(self, number):
        return 0.3

    def small(self, size):
        return size < 1e-7

    def load_state_dict(self, state):
        super().load_state_dict(state)
        for p in [key for key in self.state if key != "torchplug"]:
            del self.state[p]


@planted(OPTIMIZER, "reaches_the_minimum", "coefficients at convergence and by least squares", **OBJECTIVE)
class Content(Descent):
    def small(self, size):
        return size < 1.0


@planted(OPTIMIZER, "outcome_and_iteration_are_given", "`iteration` is None after a step", **OBJECTIVE)
class Silent(Descent):
    def step(self, *, objective):
        super().step(objective=objective)
        self.iteration = None


@planted(OPTIMIZER, "full_batch_state_is_plain", "does not survive", **OBJECTIVE)
class Objects(Descent):
    def descend(self, objective):
        super().descend(objective)
        self.remembered()["generator"] = random.Random(0)


@planted(OPTIMIZER, "full_batch_resumes", "resumed from its state it ends elsewhere", **OBJECTIVE)
class Forgetful(Descent):
    def __init__(self, params):
        super().__init__(params)
        self.memory = {}

    def remembered(self):
        return self.memory


@planted(OPTIMIZER, "stays_where_it_has_converged", "changes weights or outcome", **OBJECTIVE)
class Restless(Descent):
    def step(self, *, objective):
        self.descend(objective)

    def rate(self, number):
        return 0.3 if self.outcome is None else 0.5
