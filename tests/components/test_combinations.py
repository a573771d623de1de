"""Penalties of plugins that couple the elements of a parameter."""

import pytest
import torch
from torch import nn

from small_fits import regression, trainer
from torchplug import ComponentModule, use
from torchplug.errors import ConfigurationError

PARTS = """
import torch

from torchplug import Regularizer


class GroupLasso(Regularizer):
    separable = False

    def __init__(self, coefficient: float = 1.0, proximal: bool = True):
        super().__init__()
        self.coefficient, self.proximal = coefficient, proximal

    def forward(self, parameters):
        return torch.stack([p.norm(dim=0).sum() for p in parameters.values()]).sum()

    def prox(self, parameter, step):
        norm = parameter.norm(dim=0)
        return parameter * (1 - self.coefficient * step / norm).clamp_min(0)
"""


@pytest.fixture(autouse=True)
def acme(distributions):
    distributions.module("acme_parts", PARTS)
    distributions.offer("acme", ("regularizers", "group_lasso", "acme_parts:GroupLasso"))


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "adamw"])
def test_a_step_for_each_element_is_refused(optimizer):
    with pytest.raises(ConfigurationError, match=f"group_lasso .* couples .* and {optimizer} has a step size for each"):
        ComponentModule("linear", "mse", optimizer, ["group_lasso"])
    ComponentModule("linear", "mse", optimizer, [use("group_lasso", proximal=False)])


def test_curvature_is_refused():
    with pytest.raises(ConfigurationError, match="and proximal_newton treats each by itself"):
        ComponentModule("linear", "mse", "proximal_newton", ["group_lasso"])


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
def test_groups_vanish_together_with_one_step_size(tmp_path, optimizer):
    torch.manual_seed(0)
    network = nn.Linear(3, 4)
    module = ComponentModule(
        nn.Sequential(network, nn.Linear(4, 1)), "mse", use(optimizer, lr=0.05), [use("group_lasso", coefficient=0.5)]
    )
    trainer(tmp_path, max_epochs=150).fit(module, regression(batch_size=100))
    zero = network.weight == 0
    assert torch.equal(zero.any(dim=0), zero.all(dim=0))
    assert 0 < int(zero.any(dim=0).sum()) < 3
