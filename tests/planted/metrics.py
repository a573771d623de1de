"""Faults of metrics."""

import torch
import torchmetrics

from planted.record import planted
from torchplug import Family

METRIC = Family.METRIC
NUMBERS = {"kinds": frozenset({"regression"}), "view": "values", "direction": "min"}


class MeanDistance(torchmetrics.Metric):
    """Mean absolute error, with a place for each fault."""

    reduction = "sum"

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx=self.reduction)
        self.add_state("rows", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, predicted, target):
        self.total += (predicted - target).abs().sum()
        self.rows += len(target)

    def compute(self):
        return self.total / self.rows


@planted(METRIC, "is_a_metric", "return a torchmetrics.Metric", **NUMBERS)
def no_metric():
    return torch.nn.functional.l1_loss


@planted(METRIC, "value_is_a_number", "`compute` returns str", **NUMBERS)
class Words(MeanDistance):
    def compute(self):
        return "small"


@planted(METRIC, "direction_as_declared", "says direction='max'", **{**NUMBERS, "direction": "max"})
class Reversed(MeanDistance):
    pass


@planted(METRIC, "exact_over_batches", "accumulate sums, and divide in `compute`", **NUMBERS)
class MeanOfMeans(MeanDistance):
    def update(self, predicted, target):
        if len(target):
            self.total += (predicted - target).abs().mean()
            self.rows += 1


@planted(METRIC, "exact_over_ranks", "give every state a dist_reduce_fx that sums or joins", **NUMBERS)
class LargestRank(MeanDistance):
    reduction = "max"


@planted(METRIC, "rows_may_come_in_any_order", "let no row depend on others", **NUMBERS)
class Ordered(MeanDistance):
    def update(self, predicted, target):
        super().update(predicted * torch.linspace(0, 1, len(target), dtype=predicted.dtype), target)


@planted(METRIC, "empty_batch_counts_nothing", "add nothing for no rows", **NUMBERS)
class Dividing(MeanDistance):
    def update(self, predicted, target):
        self.total += (predicted - target).abs().mean() * len(target)
        self.rows += len(target)


@planted(METRIC, "single_row_works", "return NaN if it is undefined", **NUMBERS)
class Several(MeanDistance):
    def update(self, predicted, target):
        if len(target) == 1:
            raise ValueError("needs two rows")
        super().update(predicted, target)


@planted(METRIC, "reset_forgets", "keep rows in states of `add_state` only", **NUMBERS)
class Hoarding(MeanDistance):
    def __init__(self):
        super().__init__()
        self.errors = []

    def update(self, predicted, target):
        self.errors.append((predicted - target).abs())

    def compute(self):
        return torch.cat(self.errors).mean()


@planted(METRIC, "compute_changes_nothing", "change no state in it", **NUMBERS)
class Consuming(MeanDistance):
    def compute(self):
        value = super().compute()
        self.total = torch.zeros_like(self.total)
        return value


@planted(METRIC, "metric_inputs_stay_unchanged", "`update` changes its arguments", **NUMBERS)
class InPlace(MeanDistance):
    def update(self, predicted, target):
        super().update(predicted.sub_(target), torch.zeros_like(target))


@planted(METRIC, "equal_targets_as_declared", "declare needs_variation=True", **NUMBERS)
class Relative(MeanDistance):
    def __init__(self):
        super().__init__()
        self.add_state("low", torch.tensor(torch.inf), dist_reduce_fx="min")
        self.add_state("high", torch.tensor(-torch.inf), dist_reduce_fx="max")

    def update(self, predicted, target):
        super().update(predicted, target)
        if len(target):
            self.low, self.high = torch.minimum(self.low, target.min()), torch.maximum(self.high, target.max())

    def compute(self):
        return super().compute() / (self.high - self.low)


@planted(METRIC, "metric_on_cuda_is_the_same", "raises", **NUMBERS)
class OfTheCPU(MeanDistance):
    def update(self, predicted, target):
        super().update(predicted * torch.ones(len(target), dtype=predicted.dtype), target)
