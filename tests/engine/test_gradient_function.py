"""The gradient as a function without side effects."""

import pytest
import torch
from torch import nn

from engine_steps import batch, network, objective_of
from torchplug.engine.gradient_function import buffers_of, factors, gradient_function, tried


class Normalized(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.double()


@pytest.mark.parametrize("make", [network, Normalized])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_it_is_autograds_and_changes_nothing(make, reduction):
    torch.manual_seed(5)
    objective, b = objective_of(make(), reduction=reduction), batch()
    state = {name: value.clone() for name, value in objective.network.state_dict().items()}
    scale = factors(objective, b.samples, 2, 1.0, b.weight)
    here = (list(objective.parameters()), buffers_of(objective))
    value, weighted, gradients, buffers = gradient_function(objective)(*here, *b[:3], scale)
    assert all(torch.equal(value, state[name]) for name, value in objective.network.state_dict().items())
    expected, expected_weighted = objective.scaled_loss(b, 2, 1)  # which moves buffers
    torch.testing.assert_close([value, weighted], [expected, expected_weighted])
    torch.testing.assert_close(gradients, list(torch.autograd.grad(expected, objective.parameters())))
    torch.testing.assert_close(buffers, buffers_of(objective))


@pytest.mark.parametrize("drops", [True, False])
def test_a_trial_leaves_no_trace(drops):
    net = nn.Sequential(Normalized(), nn.Dropout(0.5 if drops else 0.0))
    objective, features = objective_of(net), batch().features
    state, drawn = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    scores, uses_rng = tried(objective, features)
    assert uses_rng == drops
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(scores, net(features))
    assert not scores.requires_grad
