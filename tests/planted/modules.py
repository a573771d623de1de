"""Faults of modules: of losses, a penalty and models."""

import itertools

import torch
from torch import nn

from planted.anything import Squared
from planted.record import planted
from torchplug import Family, Regularizer

LOSS, MODEL, PENALTY = Family.LOSS, Family.MODEL, Family.REGULARIZER


@planted(LOSS, "forward_works", "cut off from autograd")
class Detached(Squared):
    def forward(self, scores, target):
        return super().forward(scores.detach(), target)


@planted(LOSS, "dtypes_are_kept", "torch.float32 arguments give torch.float64")
class Widening(Squared):
    def forward(self, scores, target):
        return super().forward(scores, target) * torch.ones(1, dtype=torch.float64)


@planted(PENALTY, "meta_device_works", "fails on the device meta")
class Deciding(Regularizer):
    def forward(self, parameters):
        total = sum(p.square().sum() for p in parameters.values())
        return total if total > 0 else 0 * total


@planted(LOSS, "cuda_gives_the_same", "fails on the device cuda")
class OfTheCPU(Squared):
    def forward(self, scores, target):
        return super().forward(scores, target) * torch.ones(len(scores), dtype=scores.dtype)


@planted(LOSS, "inputs_stay_unchanged", "forward changes its arguments")
class InPlace(Squared):
    def forward(self, scores, target):
        return scores.sub_(target).square().sum(1)


@planted(LOSS, "values_repeat", "a second call gives other values")
class Noisy(Squared):
    def forward(self, scores, target):
        return super().forward(scores + torch.randn_like(scores), target)


@planted(LOSS, "module_state_survives", "a new instance with the saved state gives other values")
class Forgetful(Squared):
    def __init__(self):
        super().__init__()
        self.shift = torch.randn(())

    def forward(self, scores, target):
        return super().forward(scores - self.shift, target)


@planted(LOSS, "empty_batch_works", "no rows: forward fails")
class Reshaping(Squared):
    def forward(self, scores, target):
        return (scores - target).square().view(len(scores), -1).sum(1)


@planted(LOSS, "rows_are_independent", "a row alone and among others")
class Centred(Squared):
    def forward(self, scores, target):
        return super().forward(scores - scores.mean(0), target)


@planted(LOSS, "rows_may_be_permuted", "permuted rows and their values")
class Counting(Squared):
    def forward(self, scores, target):
        return super().forward(scores, target) * torch.arange(len(scores), dtype=scores.dtype, device=scores.device)


@planted(LOSS, "vmap_works", "torch.func.vmap fails")
class Branching(Squared):
    def forward(self, scores, target):
        values = super().forward(scores, target)
        return values if bool((values >= 0).all()) else -values


@planted(LOSS, "compiles_whole", "makes no whole graph")
class Reporting(Squared):
    def forward(self, scores, target):
        print(end="")
        return super().forward(scores, target)


class Plain(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)


@planted(MODEL, "is_a_module", "return a torch.nn.Module")
def no_module(inputs, outputs):
    return lambda features: features[:, :outputs]


@planted(MODEL, "sizes_follow_arguments", "6 rows give scores (6, 3), and not (6, 1)")
class Fixed(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, 3)


@planted(MODEL, "every_parameter_is_trained", "the parameter unused.weight gets no gradient")
class Idle(Plain):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.unused = nn.Linear(2, 2)


@planted(MODEL, "seed_decides_the_start", "the same seed gives other initial weights")
class Unseeded(Plain):
    def reset_parameters(self):
        generator = torch.Generator()
        generator.seed()
        nn.init.normal_(self.weight, generator=generator)
        nn.init.zeros_(self.bias)


@planted(MODEL, "training_scores_are_rows", "in training mode 6 rows give scores (6, 2, 3)")
class MembersLast(Plain):
    def forward(self, features):
        scores = super().forward(features)
        return torch.stack([scores, scores], dim=1) if self.training else scores


@planted(MODEL, "group_settings_are_settings", "the pattern 'slope' of `group_settings` matches no parameter")
class Misnamed(Plain):
    group_settings = {"weight": {"lr": 2.0}, "slope": {"lr": 0.1}}  # noqa: RUF012


@planted(MODEL, "annealing_is_for_training", "anneal(0.25) changes the scores in evaluation mode")
class Cooling(Plain):
    temperature = 1.0

    def anneal(self, passed):
        self.temperature = 1 - 0.5 * passed

    def forward(self, features):
        return super().forward(features) / self.temperature


@planted(MODEL, "annealing_follows_the_run", "anneal(0.75) gives other scores after other calls")
class Halving(Plain):
    noise = 1.0

    def anneal(self, passed):
        self.noise *= 1 - 0.5 * passed

    def forward(self, features):
        scores = super().forward(features)
        return scores + self.noise * torch.randn_like(scores) if self.training else scores


@planted(MODEL, "any_rows_give_a_start", "initialize_from one row: the network is not finite")
class Standardizing(Plain):
    def initialize_from(self, features):
        self.weight.data /= features.std(0)


@planted(MODEL, "seed_and_rows_decide_the_start", "the same seed and rows give another start")
class Restless(Plain):
    count = itertools.count()

    def initialize_from(self, features):
        self.bias.data += next(self.count)


@planted(MODEL, "linear_as_declared", "scores and the linear map of `linear_scores`: differ")
class Misdeclared(Plain):
    def forward(self, features):
        return super().forward(features)

    def linear_scores(self):
        return 2 * self.weight, self.bias
