"""The training objective: shares of batches, ranks and windows add up to F and its gradient."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchplug.batch import Batch
from torchplug.components.contracts import Loss, Regularizer
from torchplug.errors import ConfigurationError
from torchplug.objective import StepObjective, check_shapes, penalized
from torchplug.objective.function import ObjectiveFunction
from torchplug.registry import registry
from torchplug.registry.component import Family


class Squared(Loss):
    kind = "regression"

    def forward(self, scores, target):
        return (scores - target).square().sum(1)


class Ridge(Regularizer):
    coefficient = 0.3

    def forward(self, parameters):
        return sum(p.square().sum() for p in parameters.values())


def problem(n, seed):
    rng = np.random.default_rng(seed)
    X, y, w = rng.normal(size=(n, 3)), rng.normal(size=(n, 1)), rng.uniform(0.5, 2, n)
    network = nn.Linear(3, 1, dtype=torch.float64)
    return X, y, w, network


def gradient_of_f(X, y, w, network):
    """(1/n) Σ w r² + 0.3 Σ θ², by hand in NumPy: the slope's gradient and the intercept's."""
    theta, bias = network.weight.detach().numpy()[0], network.bias.detach().numpy()
    residual = X @ theta + bias - y[:, 0]
    return 2 * X.T @ (w * residual) / len(X) + 0.6 * theta, 2 * np.sum(w * residual) / len(X)


@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(lambda s: sum(s) > 0),
    window=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_shares_of_ranks_and_windows_make_the_gradient_of_f(sizes, window, seed):
    """`sizes` are the slices of one step: rank after rank, micro-batch after micro-batch."""
    n, world = sum(sizes), len(sizes)
    X, y, w, network = problem(n, seed)
    objective = StepObjective(network, Squared(), [Ridge()])
    bounds = np.cumsum([0, *sizes])
    for rank in range(world):
        rows = slice(bounds[rank], bounds[rank + 1])
        batch = Batch(torch.tensor(X[rows]), torch.tensor(y[rows]), torch.tensor(w[rows]), n, 1)
        value, _ = objective.scaled_loss(batch, world, window)
        (value / window / world).backward()  # what Lightning and DDP divide by
    slope, intercept = gradient_of_f(X, y, w, network)
    np.testing.assert_allclose(network.weight.grad.numpy()[0], slope, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(network.bias.grad.numpy()[0], intercept, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("window", "micro_batches"), [(3, 3), (3, 2), (4, 1)])
def test_a_short_window_counts_the_penalty_once(window, micro_batches):
    X, y, w, network = problem(12, 0)
    objective = StepObjective(network, Squared(), [Ridge()])
    for rows in np.array_split(np.arange(12), micro_batches):
        batch = Batch(torch.tensor(X[rows]), torch.tensor(y[rows]), torch.tensor(w[rows]), 12, micro_batches)
        (objective.scaled_loss(batch, 1, window)[0] / window).backward()
    slope, _ = gradient_of_f(X, y, w, network)
    np.testing.assert_allclose(network.weight.grad.numpy()[0], slope, rtol=1e-12)


def test_reduction_sum_drops_the_division():
    X, y, w, network = problem(7, 1)
    batch = Batch(torch.tensor(X), torch.tensor(y), torch.tensor(w), 7)
    value, weighted = StepObjective(network, Squared(), [], "sum").scaled_loss(batch, 1, 1)
    residual = X @ network.weight.detach().numpy()[0] + network.bias.item() - y[:, 0]
    assert value.item() == pytest.approx(np.sum(w * residual**2), rel=1e-12)
    assert weighted.item() == pytest.approx(value.item())


def test_a_proximal_penalty_is_reported_but_not_backpropagated():
    X, y, w, network = problem(5, 2)
    regularizer = Ridge()
    regularizer.proximal = True
    objective = StepObjective(network, Squared(), [regularizer])
    batch = Batch(torch.tensor(X), torch.tensor(y), torch.tensor(w), 5)
    assert (
        objective.scaled_loss(batch, 1, 1)[0].item()
        == StepObjective(network, Squared(), []).scaled_loss(batch, 1, 1)[0].item()
    )
    assert objective.penalty().item() == pytest.approx(0.3 * network.weight.square().sum().item())


def test_penalties_leave_out_biases_and_normalization():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.LayerNorm(3), nn.Linear(3, 1))
    assert list(penalized(network)) == ["0.weight", "3.weight"]
    assert list(penalized(network, ["0.*", "3.bias"])) == ["0.weight", "0.bias", "3.bias"]
    network[0].weight.requires_grad_(False)
    assert list(penalized(network)) == ["3.weight"]


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(ConfigurationError, match=r"matches no parameter; the network has weight, bias"):
        penalized(nn.Linear(2, 1), ["layers.*"])


class Several(Squared):
    """Wants two scores for each target."""

    def outputs(self, info):
        return 2 * super().outputs(info)


class Classes(Loss):
    kind = "multiclass"


class Two(Loss):
    kind = "binary"


@pytest.mark.parametrize(
    ("loss", "scores", "target", "fit"),
    [
        (Squared(), (5, 1), (5, 1), True),
        (Squared(), (5, 1), (5, 2), False),
        (Squared(), (5, 2), (5, 1), False),
        (Squared(), (5,), (5, 1), False),
        (Several(), (5, 4), (5, 2), True),
        (Several(), (5, 2), (5, 2), False),
        (Classes(), (5, 3), (5,), True),
        (Classes(), (5, 3), (5, 3), True),
        (Classes(), (5, 3), (5, 2), False),
        (Two(), (5, 1), (5, 1), True),
        (Two(), (5, 2), (5, 2), False),
    ],
)
def test_shapes_that_would_broadcast_are_refused(loss, scores, target, fit):
    with nullcontext() if fit else pytest.raises(ConfigurationError, match=r"scores of shape .* do not fit"):
        check_shapes(loss, torch.zeros(scores), torch.zeros(target))


class Members(nn.Module):
    """Three linear maps: scores (3, n, k) in training, their mean in evaluation."""

    def __init__(self, k):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, k, dtype=torch.float64))

    def forward(self, features):
        scores = features @ self.weight
        return scores if self.training else scores.mean(0)


@pytest.mark.parametrize(("name", "k"), [("mse", 2), ("bce", 1), ("cross_entropy", 3)])
def test_members_of_a_network_are_trained_by_the_mean_of_their_losses(name, k):
    torch.manual_seed(0)
    loss, network = registry().resolve(Family.LOSS, name).build(), Members(k)
    features, weight = torch.randn(6, 4, dtype=torch.float64), torch.rand(6, dtype=torch.float64)
    target = {
        "mse": torch.randn(6, 2, dtype=torch.float64),
        "bce": torch.tensor([[0.0], [1.0]] * 3, dtype=torch.float64),
        "cross_entropy": torch.tensor([0, 1, 2, 2, 1, 0]),
    }[name]
    expected = sum((loss(features @ w, target) * weight).sum() for w in network.weight) / (3 * 6)
    objective = StepObjective(network, loss, [])
    value, _ = objective.scaled_loss(Batch(features, target, weight, 6), 1, 1)
    torch.testing.assert_close(value, expected)
    function = ObjectiveFunction(objective)
    found = function({"network.weight": network.weight}, {}, (features, target, weight), 1 / 6)
    torch.testing.assert_close(found.value, expected)
