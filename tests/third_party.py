"""A small third-party distribution with metrics and a linear model, as tests install it."""

METRICS = """
from torchplug import Component, Metric, hookimpl

SEVERAL, TWO = frozenset({"multiclass"}), frozenset({"binary", "margin"})
NUMBERS = frozenset({"regression", "count"})
CLASSES = "torchmetrics.classification"


@hookimpl
def torchplug_metrics():
    return [
        Metric(
            "macro_auc",
            f"{CLASSES}:MulticlassAUROC",
            "ROC area",
            kinds=SEVERAL,
            view="probabilities",
            direction="max",
        ),
        Metric("ranked", f"{CLASSES}:BinaryAUROC", "ROC area", kinds=TWO, view="scores", direction="max"),
        Metric("fbeta", f"{CLASSES}:BinaryFBetaScore", "F beta", kinds=TWO, view="labels", direction="max"),
        Metric("share", "acme_parts:Share", "share of the second class", kinds=TWO, view="labels", direction="max"),
        Metric("largest", "acme_parts:Largest", "largest error", kinds=NUMBERS, view="values", direction="min"),
        Metric("words", "acme_parts:Words", "no number", kinds=NUMBERS, view="values", direction="min"),
        Metric("wrong", "acme_parts:nothing", "no metric", kinds=NUMBERS, view="values", direction="min"),
        Metric("unfit", "acme_parts:Share", "no such view", kinds=NUMBERS, view="labels", direction="min"),
    ]


@hookimpl
def torchplug_models():
    return [
        Component("affine", "acme_parts:Affine", "x A + c"),
        Component("squared", "acme_parts:Squared", "(x A + c)²"),
        Component("misdeclared", "acme_parts:Misdeclared", "x A, declared with twice the weight"),
    ]
"""

PARTS = """
import torch
from torch import nn
from torchmetrics import Metric


class Share(Metric):
    def __init__(self):
        super().__init__()
        self.add_state("second", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("rows", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, predicted, target):
        self.second += predicted.sum()
        self.rows += len(target)

    def compute(self):
        return self.second / self.rows


class Largest(Metric):
    def __init__(self, scale: float = 1.0):
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.scale = scale
        self.add_state("error", torch.tensor(0.0), dist_reduce_fx="max")

    def update(self, predicted, target):
        if len(target):
            self.error = torch.maximum(self.error, (predicted - target).abs().max())

    def compute(self):
        return self.error / self.scale


def nothing():
    return None


class Words(Largest):
    def compute(self):
        return "large"


class Affine(nn.Module):
    def __init__(self, inputs, outputs, shift: bool = True):
        super().__init__()
        self.slopes = nn.Parameter(torch.zeros(outputs, inputs))
        self.shift = nn.Parameter(torch.zeros(outputs)) if shift else None

    def forward(self, features):
        scores = features @ self.slopes.mT
        return scores if self.shift is None else scores + self.shift

    def linear_scores(self):
        return self.slopes, self.shift


class Squared(Affine):
    def forward(self, features):
        return super().forward(features) ** 2


class Misdeclared(Affine):
    def forward(self, features):
        return super().forward(features)

    def linear_scores(self):
        return 2 * self.slopes, self.shift
"""


def install(distributions):
    """Install it: plugin module and parts."""
    distributions.module("acme_parts", PARTS)
    distributions.add("acme", METRICS)
