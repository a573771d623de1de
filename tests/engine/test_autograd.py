"""Gradients by autograd: by either entrance, on flat storage and without."""

import pytest
import torch
from torch import nn

from compared_fits import differences
from engine_steps import autograd, batch, gradients, network, objective_of, stored
from torchplug import Loss
from torchplug.components.builtin.regularizers import L1, L2

PENALTIES = [[], [L2(0.1), L1(0.2, include=["*bias"])], [L1(0.1, proximal=True)]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("b", [(5, False), (5, True), (1, False), (0, False)])
def test_both_entrances_give_the_same_bits(dtype, penalties, flat, b):
    objective = objective_of(network(dtype), penalties)
    storage = stored(objective) if flat else None
    engine, told = autograd(objective, storage)
    rows, uniform = b
    data = batch(rows, dtype, uniform=uniform, samples=6)
    with torch.no_grad():
        engine.gradient(data, 2, uniform)
    direct = gradients(objective)
    for p in objective.parameters():
        p.grad = None
    engine.with_precomputed_grad(data, 2, 1).backward()
    assert differences(direct, gradients(objective)) == []
    assert told.rows == 2 * rows
    value = objective.scaled_loss(data, 2, 1)[0]
    wanted = torch.autograd.grad(value, objective.parameters())
    assert differences(direct, list(wanted)) == []


@pytest.mark.parametrize("flat", [True, False])
def test_gradients_do_not_add_up_over_steps(flat):
    objective = objective_of(network())
    storage = stored(objective) if flat else None
    engine, _ = autograd(objective, storage)
    for seed in range(3):
        engine.gradient(batch(seed=seed), 1, False)
    value = objective.scaled_loss(batch(seed=2), 1, 1)[0]
    assert differences(gradients(objective), list(torch.autograd.grad(value, objective.parameters()))) == []
    if flat:
        assert torch.equal(storage.gradient, torch.cat([p.grad.reshape(-1) for p in objective.parameters()]))
        views = storage.gradients(storage.parameters)
        assert all(p.grad.data_ptr() == g.data_ptr() for p, g in zip(storage.parameters, views, strict=True))


class Gated(nn.Module):
    """Whose second layer takes part only sometimes."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
        self.open = True

    def forward(self, features):
        return self.first(features) + (self.second(features) if self.open else 0.0)


def test_a_layer_that_takes_no_part_has_no_gradient():
    """As Lightning's own steps leave it: an optimizer must not move it."""
    net = Gated()
    objective = objective_of(net)
    engine, _ = autograd(objective)
    engine.gradient(batch(), 1, False)
    assert all(p.grad is not None for p in net.parameters())
    net.open = False
    engine.gradient(batch(), 1, False)
    assert [p.grad is None for p in net.parameters()] == [False, False, True, True]


def test_a_losss_own_parameters_get_gradients():
    class Scaled(Loss):
        kind = "regression"

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

        def outputs(self, info):
            return len(info.columns)

        def forward(self, scores, target):
            return (self.scale * scores - target).square().sum(1)

    objective = objective_of(network(), loss=Scaled())
    engine, _ = autograd(objective)
    engine.gradient(batch(), 1, False)
    assert objective.loss.scale.grad is not None
    assert objective.loss.scale.grad != 0
