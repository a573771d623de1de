"""Losses of plugins whose mistakes would train wrongly without an error."""

import pytest
import torch
from torch.nn.functional import softplus

import torchplug
from torchplug import Family, Loss, TabularData, TargetInfo
from torchplug.checks import try_loss
from torchplug.errors import PluginError
from torchplug.registry import registry

NUMBERS = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]], dtype=torch.float64)


class Squares(Loss):
    """A sound one, from which the others deviate."""

    kind = "regression"

    def forward(self, scores, target):
        return (scores - target).square().sum(1)


class NoSum(Squares):
    def forward(self, scores, target):
        return (scores - target).square()


class OneColumn(Squares):
    def forward(self, scores, target):
        return (scores - target).square().sum(1, keepdim=True)


class Mean(Squares):
    def forward(self, scores, target):
        return (scores - target).square().mean()


class Number(Squares):
    def forward(self, scores, target):
        return float((scores - target).square().sum().detach())


class Detached(Squares):
    def forward(self, scores, target):
        return (scores.detach() - target).square().sum(1)


class Ranking(Squares):
    def forward(self, scores, target):
        wins = (target[:, :1] > target[:, 0]).double()
        return (wins * softplus(scores[:, 0] - scores[:, :1])).sum(1)


class Standardized(Squares):
    def forward(self, scores, target):
        return ((scores - target) / target.std()).square().sum(1)


class Unbounded(Squares):
    def forward(self, scores, target):
        return (scores - target).square().sum(1) / 0.0


class Broken(Squares):
    def forward(self, scores, target):
        return {}["missing"]


MISTAKES = {
    NoSum: r"shape \(3, 2\) for 3 rows, not one value per row \(3,\): sum over columns, as by .sum\(1\)",
    OneColumn: r"shape \(3, 1\) for 3 rows, not one value per row \(3,\): sum over columns",
    Mean: r"shape \(\) for 3 rows, not one value per row \(3,\)",
    Number: r"returns float for 3 rows",
    Detached: "do not depend on the scores for autograd",
    Ranking: "depends on the other rows of its batch; losses that couple samples",
    Standardized: "depends on the other rows of its batch",
    Unbounded: "not finite",
    Broken: r"forward fails on scores \(3, 2\) and targets \(3, 2\): KeyError: 'missing'",
}


@pytest.mark.parametrize("kind", MISTAKES, ids=lambda kind: kind.__name__)
def test_mistakes_are_named(kind):
    with pytest.raises(PluginError, match=f"^loss acme:mine: .*{MISTAKES[kind]}") as caught:
        try_loss(kind(), "acme:mine", NUMBERS, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [1.0, 1e100])
def test_a_sound_loss_passes(size):
    try_loss(Squares(), "acme:mine", size * NUMBERS, 2)


@pytest.mark.parametrize("name", [entry.qualified_name for entry in registry().entries(Family.LOSS)])
def test_registered_losses_pass(name):
    loss = registry().resolve(Family.LOSS, name).build()
    classes = ("a", "b", "c") if loss.task.has_indices else ("a", "b") if loss.task.has_classes else None
    outputs = loss.outputs(TargetInfo(("y",), classes))
    target = torch.cat([loss.task.example_target()] * 3)
    try_loss(loss, name, target, outputs)


def test_a_fit_is_refused_before_it_begins(distributions, tmp_path):
    distributions.module(
        "acme_losses",
        """
        from torchplug import Loss

        class NoSum(Loss):
            kind = "regression"

            def forward(self, scores, target):
                return (scores - target).square()
    """,
    )
    distributions.offer("acme", ("losses", "no_sum", "acme_losses:NoSum"))
    with pytest.raises(PluginError, match=r"^loss acme:no_sum: forward returns shape"):
        torchplug.fit({"model": "linear", "loss": "no_sum"}, TabularData("diabetes", "target"), root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
