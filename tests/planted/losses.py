"""Faults of losses."""

import torch
from torch import nn
from torch.nn.functional import log_softmax

from planted.anything import Squared
from planted.record import planted
from torchplug import Family, Loss, Pieces

LOSS = Family.LOSS


@planted(LOSS, "is_a_loss", "subclass torchplug.Loss")
class Foreign(nn.MSELoss):
    pass


@planted(LOSS, "value_per_row", "returns (5, 1) for 5 rows, and not (5,): sum over columns, as by .sum(1)")
class Column(Squared):
    def forward(self, scores, target):
        return (scores - target).square().sum(1, keepdim=True)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


@planted(LOSS, "gradient_is_right", "gradient is not that of finite differences")
class Steeper(Squared):
    def forward(self, scores, target):
        return super().forward(_Doubled.apply(scores), target)


@planted(LOSS, "second_derivative_is_right", "second derivative is not that of finite differences")
class Flat(Squared):
    def forward(self, scores, target):
        error = scores - target
        at = error.detach()
        return (2 * at * error - at * at).sum(1)


@planted(LOSS, "derivative_is_autograds", "`derivative` and autograd: differ")
class Half(Squared):
    def forward(self, scores, target):
        return super().forward(scores, target)

    def derivative(self, scores, target):
        return scores - target


@planted(LOSS, "residuals_are_the_loss", "the squares of `residuals` and the loss: differ")
class Scaled(Squared):
    def forward(self, scores, target):
        return super().forward(scores, target)

    def residuals(self, scores, target):
        return 0.5 * (scores - target)


@planted(LOSS, "curvature_is_autograds", "`curvature` and autograd: differ")
class Bent(Squared):
    def forward(self, scores, target):
        return super().forward(scores, target)

    def curvature(self, scores, target):
        return torch.diag_embed(torch.ones_like(scores))


@planted(LOSS, "pieces_are_the_slopes", "the slopes of `pieces` and autograd: differ")
class Tilted(Loss):
    kind = "regression"
    smooth = False

    def forward(self, scores, target):
        return (scores - target).abs().sum(1)

    def pieces(self, target):
        slopes = torch.tensor([-2.0, 2.0], dtype=target.dtype)
        return Pieces(target.unsqueeze(2), slopes.expand(*target.shape, 2))


@planted(LOSS, "extreme_scores_stay_finite", "not finite at scores of ±10000")
class Overflowing(Loss):
    kind = "binary"

    def forward(self, scores, target):
        return (torch.log(1 + torch.exp(scores)) - target * scores).sum(1)


@planted(LOSS, "smooth_as_declared", "its derivative jumps by 2 at the score")
class Kinked(Loss):
    kind = "regression"

    def forward(self, scores, target):
        return (scores - target).abs().sum(1)


@planted(LOSS, "leading_axes_as_declared", "`forward` with leading axes and without: shapes differ")
class FirstAxis(Squared):
    leading_axes = True


@planted(LOSS, "hyper_parameters_may_be_tensors", "forward fails where delta are tensors")
class Filling(Squared):
    hyper = ("delta",)

    def __init__(self, delta: float = 2.0):
        super().__init__()
        self.delta = delta

    def forward(self, scores, target):
        return super().forward(scores, target) * torch.full((1,), self.delta, dtype=scores.dtype)


@planted(LOSS, "targets_are_checked", "`check` accepts targets of -1")
class Credulous(Loss):
    kind = "count"

    def check(self, target):
        pass

    def forward(self, scores, target):
        return (scores.exp() - target * scores).sum(1)


@planted(LOSS, "predictions_fit_the_target", "`prediction_names` gives ['y'] for 2 columns")
class Misnamed(Squared):
    def prediction_names(self, info):
        return ["y"]


@planted(LOSS, "probabilities_may_be_targets", "fails on class probabilities")
class Indexing(Loss):
    kind = "multiclass"

    def forward(self, scores, target):
        return -log_softmax(scores, 1).gather(1, target[:, None]).squeeze(1)


@planted(LOSS, "own_parameters_are_trained", "its parameter width gets no gradient")
class Untrained(Squared):
    def __init__(self):
        super().__init__()
        self.width = nn.Parameter(torch.ones(()))
