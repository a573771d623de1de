"""Components that go together, and those that do not."""

import pytest
import torch
from torch import nn

from torchplug.checked_network import check_network
from torchplug.errors import ConfigurationError, PluginError
from torchplug.objective import StepObjective
from torchplug.registry.component import use
from torchplug.resolved_config import ResolvedConfig

PLUGIN = """
    from torchplug import Component, Capability, hookimpl

    @hookimpl
    def torchplug_optimizers():
        return [
            Component("plain", "strange_parts:Plain", "no prox"),
            Component("named", "strange_parts:Named", "sees names", frozenset({Capability.NAMES})),
        ]

    @hookimpl
    def torchplug_losses():
        return [
            Component("no_kind", "strange_parts:NoKind", "a loss without kind"),
            Component("no_loss", "strange_parts:NoLoss", "not a loss at all"),
        ]

    @hookimpl
    def torchplug_regularizers():
        return [Component("no_penalty", "strange_parts:NoPenalty", "not a regularizer")]
"""

PARTS = """
    import torch
    from torchplug import Loss

    class Plain(torch.optim.SGD):
        def __init__(self, params, lr: float = 0.1):
            super().__init__(params, lr=lr)

    class Named(torch.optim.SGD):
        def __init__(self, params, lr: float = 0.1):
            self.seen = [name for group in params for name, _ in group["params"]] if "params" in params[0] else []
            super().__init__(params, lr=lr)

    class NoKind(Loss):
        def forward(self, scores, target):
            return scores.sum(1)

    class NoLoss(torch.nn.Identity):
        def __init__(self):
            super().__init__()

    class NoPenalty(torch.nn.Identity):
        def __init__(self):
            super().__init__()
"""


@pytest.fixture
def strange(distributions):
    distributions.add("strange", PLUGIN)
    distributions.module("strange_parts", PARTS)


def resolved(model="linear", loss="mse", optimizer="sgd", regularizers=(), scheduler=None):
    return ResolvedConfig.of(model, loss, optimizer, regularizers, scheduler)


def built(resolved, network):
    loss = resolved.build_loss()
    objective = StepObjective(network, loss, resolved.build_regularizers())
    return resolved.build_optimizer(resolved.parameter_groups(network, loss), objective)


def test_hyper_parameters_and_records_name_owner_and_version():
    whole = resolved(regularizers=["l2"], scheduler=use("exponential", decay=0.9))
    assert whole.plain()["scheduler"] == {"name": "torchplug:exponential", "parameters": {"decay": 0.9}}
    assert [record["family"] for record in whole.records()] == [
        "model", "loss", "optimizer", "regularizer", "scheduler"
    ]  # fmt: skip
    assert ResolvedConfig.of(**whole.plain()) == whole


def test_proximal_needs_an_optimizer_that_applies_it(strange):
    with pytest.raises(ConfigurationError, match="plain does not"):
        resolved(optimizer="plain", regularizers=[use("l1", proximal=True)])
    assert resolved(optimizer="plain", regularizers=["l1"]).optimizer.qualified_name == "strange:plain"


def test_the_prox_reaches_penalized_parameters_alone():
    network = nn.Linear(2, 1)
    optimizer = built(resolved(regularizers=[use("l1", coefficient=0.5, proximal=True)]), network)
    assert list(optimizer.prox) == [network.weight]
    torch.testing.assert_close(optimizer.prox[network.weight](torch.tensor([2.0]), 2.0), torch.tensor([1.0]))


def test_an_optimizer_that_needs_names_gets_them(strange):
    assert built(resolved(optimizer="named"), nn.Linear(2, 1)).seen == ["weight", "bias"]


def test_a_frozen_network_is_refused():
    with pytest.raises(ConfigurationError, match="no trainable parameter"):
        built(resolved(), nn.Linear(2, 1).requires_grad_(False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "no_kind"}, r"strange:no_kind must have a kind of regression, .*, and has None"),
        ({"loss": "no_loss"}, r"strange:no_loss must subclass torchplug\.Loss"),
        ({"regularizers": ["no_penalty"]}, r"strange:no_penalty must subclass torchplug\.Regularizer"),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_named(strange, arguments, message):
    with pytest.raises(PluginError, match=message):
        resolved(**arguments)


def test_a_network_is_tried_before_training():
    network = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).train()
    check_network(network, 3, 2, wanted_by="mse")
    assert network.training
    with pytest.raises(ConfigurationError, match="does not take 4 features"):
        check_network(network, 4, 2, wanted_by="mse")
    with pytest.raises(ConfigurationError, match=r"mse needs scores of shape \(n, 1\), and the network gives \(n, 2\)"):
        check_network(network, 3, 1, wanted_by="mse")
