"""Optimizers of plugins that differentiate the gradient, or treat matrices otherwise than vectors."""

import pytest
import torch

from small_fits import regression, trainer
from torchplug import ComponentModule, use
from torchplug.errors import ConfigurationError, ParameterError, PluginError

PLUGIN = """
from torchplug import Capability, Component, hookimpl


@hookimpl
def torchplug_optimizers():
    here = "shaped_parts"
    return [
        Component("newton_like", f"{here}:Diagonal", "by the Hessian's row sums", frozenset({Capability.GRAPH})),
        Component("bare_muon", f"{here}:Matrices", "matrices only"),
        Component("muon_like", f"{here}:Companion", "matrices and the rest", groups=f"{here}:by_shape"),
        Component("forgetful", f"{here}:Companion", "loses the rest", groups=f"{here}:matrices_only"),
        Component("planned", f"{here}:Planned", "asks for the fit's numbers"),
        Component("failing", f"{here}:Companion", "its rule fails", groups=f"{here}:fail"),
    ]
"""
PARTS = """
import torch


class Diagonal(torch.optim.Optimizer):
    def __init__(self, params, lr: float = 0.5):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        loss = closure()
        params = [p for group in self.param_groups for p in group["params"]]
        grads = [p.grad for p in params]
        rows = torch.autograd.grad(sum(g.sum() for g in grads), params)
        with torch.no_grad():
            for p, g, h in zip(params, grads, rows):
                p.sub_(0.5 * g / (h.abs() + 1.0))
        return loss


class Matrices(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            if any(p.ndim != 2 for p in group["params"]):
                raise ValueError("takes matrices only")


class Companion(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            if any((p.ndim == 2) != group["is_matrix"] for p in group["params"]):
                raise ValueError("mixed shapes")


class Planned(torch.optim.SGD):
    def __init__(self, params, total_steps: int, num_data: int, model: torch.nn.Module, lr: float = 0.1):
        super().__init__(params, lr=lr)
        self.planned = (total_steps, num_data, model)


def by_shape(named):
    return [
        {"params": [(n, p) for n, p in named if p.ndim == 2], "is_matrix": True},
        {"params": [(n, p) for n, p in named if p.ndim != 2], "is_matrix": False, "lr": 0.01},
    ]


def matrices_only(named):
    return by_shape(named)[:1]


def fail(named):
    raise KeyError("missing")
"""


@pytest.fixture(autouse=True)
def shaped(distributions):
    distributions.module("shaped_parts", PARTS)
    distributions.add("shaped", PLUGIN)


def fitted(tmp_path, optimizer, **options):
    torch.manual_seed(0)
    module = ComponentModule("linear", "mse", optimizer, **options)
    run = trainer(tmp_path, max_epochs=2, precision="64-true")
    run.fit(module, regression(batch_size=100))
    return module, run.optimizers[0]


def test_the_gradient_has_its_graph(tmp_path):
    module, _ = fitted(tmp_path, "newton_like")
    torch.manual_seed(0)
    other = ComponentModule("linear", "mse", "sgd")
    data = regression(batch_size=100)
    data.prepare(other.data_request())
    other.configure(data)
    rows = data.training_set.read(0, data.training_set.samples)
    weight, bias = (p.detach().double().requires_grad_() for p in other.network.parameters())
    for _ in range(2):
        residual = rows.features.double() @ weight.mT + bias - rows.target.double()
        X = rows.features.double()
        g, gb = 2 * (residual * X).mean(0, keepdim=True), 2 * residual.mean(0)
        ones = torch.cat([X, torch.ones(len(X), 1, dtype=X.dtype)], 1)
        sums = 2 * (ones.mT @ ones / len(X)).sum(1)
        with torch.no_grad():
            weight.sub_(0.5 * g / (sums[:3].abs() + 1))
            bias.sub_(0.5 * gb / (sums[3:].abs() + 1))
    torch.testing.assert_close(module.network.map.weight.detach(), weight.detach(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(module.network.map.bias.detach(), bias.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("engine", ["analytic", "compiled"])
def test_another_engine_has_no_graph(tmp_path, engine):
    with pytest.raises(ConfigurationError, match="newton_like differentiates the gradient, which only autograd can"):
        ComponentModule("linear", "mse", "newton_like", engine=engine)


def test_a_rule_makes_the_groups(tmp_path):
    _, optimizer = fitted(tmp_path, "muon_like")
    assert [(group["is_matrix"], group["lr"], len(group["params"])) for group in optimizer.param_groups] == [
        (True, 0.1, 1),
        (False, 0.01, 1),
    ]


def test_the_numbers_of_a_fit_and_the_network_are_supplied(tmp_path):
    module, optimizer = fitted(tmp_path, "planned")
    total_steps, num_data, network = optimizer.planned
    assert (total_steps, num_data) == (2, module.trainer.datamodule.sizes["train"])
    assert network is module.network
    with pytest.raises(ParameterError, match="unknown parameter 'total_steps'"):
        ComponentModule("linear", "mse", use("planned", total_steps=3))


def test_real_shapes_are_refused_before_training(tmp_path):
    data, module = regression(), ComponentModule("linear", "mse", "bare_muon")
    data.prepare(module.data_request())
    with pytest.raises(ParameterError, match=r"shaped:bare_muon \(optimizer\): takes matrices only"):
        module.configure(data)


def test_faulty_rules_are_named():
    with pytest.raises(PluginError, match=r"^optimizer shaped:forgetful: .* returns weight, and not each of"):
        ComponentModule("linear", "mse", "forgetful", (), "exponential")
    with pytest.raises(PluginError, match=r"^shaped 1.0: shaped:failing \(optimizer\) failed in fail"):
        ComponentModule("linear", "mse", "failing", (), "exponential")
