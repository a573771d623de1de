"""Faults of regularizers."""

import torch

from planted.record import planted
from torchplug import Family, Regularizer

PENALTY = Family.REGULARIZER


class Squares(Regularizer):
    def forward(self, parameters):
        return torch.stack([p.square().sum() for p in parameters.values()]).sum()


class Magnitudes(Regularizer):
    smooth = False

    def __init__(self, proximal: bool = False):
        super().__init__()
        self.proximal = proximal

    def forward(self, parameters):
        return torch.stack([p.abs().sum() for p in parameters.values()]).sum()

    def prox(self, parameter, step):
        return parameter.sign() * (parameter.abs() - step).clamp(min=0)


@planted(PENALTY, "is_a_regularizer", "its coefficient is -1.0")
class Negative(Squares):
    coefficient = -1.0


@planted(PENALTY, "penalty_is_a_number", "must be a scalar tensor, and is of shape (2,)")
class Several(Squares):
    def forward(self, parameters):
        return torch.stack([p.square().sum() for p in parameters.values()])


@planted(PENALTY, "penalty_is_zero_at_zero", "R is 2 where all parameters are zero")
class Raised(Squares):
    def forward(self, parameters):
        return torch.stack([1 + p.square().sum() for p in parameters.values()]).sum()


@planted(PENALTY, "penalty_of_no_elements_is_zero", "sum, do not average")
class Averaged(Squares):
    def forward(self, parameters):
        return torch.stack([p.square().mean() for p in parameters.values()]).sum()


@planted(PENALTY, "penalty_grows_along_rays", "R decreases while the parameters grow")
class Vanishing(Squares):
    def forward(self, parameters):
        return torch.stack([(p.square() * (-p.square()).exp()).sum() for p in parameters.values()]).sum()


@planted(PENALTY, "penalty_adds_over_parameters", "R of all parameters and the sum over each: differ")
class Joint(Squares):
    def forward(self, parameters):
        return (super().forward(parameters) + 1).sqrt() - 1


@planted(PENALTY, "penalty_gradient_is_right", "not finite at zero")
class Rooted(Squares):
    def forward(self, parameters):
        return torch.stack([p.square().sqrt().sum() for p in parameters.values()]).sum()


@planted(PENALTY, "penalty_derivative_is_autograds", "`derivative` and autograd: differ")
class Halved(Squares):
    def forward(self, parameters):
        return super().forward(parameters)

    def derivative(self, parameters):
        return dict(parameters)


@planted(PENALTY, "penalty_curvature_is_autograds", "`curvature` and autograd: differ")
class Bent(Squares):
    def forward(self, parameters):
        return super().forward(parameters)

    def curvature(self, parameters):
        return {name: torch.ones_like(p) for name, p in parameters.items()}


@planted(PENALTY, "penalty_residuals_are_its_value", "the squares of `residuals` and λR: differ")
class Unscaled(Squares):
    coefficient = 0.5

    def forward(self, parameters):
        return super().forward(parameters)

    def residuals(self, parameters):
        return dict(parameters)


@planted(PENALTY, "penalty_is_smooth_as_declared", "its derivative jumps by 2 at")
class Kinked(Magnitudes):
    smooth = True


@planted(PENALTY, "prox_is_the_minimizer", "it must minimize")
class Shrinking(Magnitudes):
    def prox(self, parameter, step):
        return super().prox(parameter, 2 * step)


@planted(PENALTY, "prox_takes_a_step_for_each_element", "`prox` fails on a step per element")
class OneStep(Magnitudes):
    def prox(self, parameter, step):
        return super().prox(parameter, max(step, 0.0))


@planted(PENALTY, "separable_as_declared", "declare `separable = False`")
class Groups(Magnitudes):
    def forward(self, parameters):
        return torch.stack([p.norm() for p in parameters.values()]).sum()

    def prox(self, parameter, step):
        return parameter * (1 - step / parameter.norm()).clamp(min=0)


@planted(PENALTY, "elementwise_as_declared", "`derivative` of many models and of each: differ")
class Normalized(Squares):
    elementwise = True

    def forward(self, parameters):
        return torch.stack([p.norm() for p in parameters.values()]).sum()

    def derivative(self, parameters):
        return {name: p / p.norm() for name, p in parameters.items()}
