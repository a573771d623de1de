"""The networks: shapes, starting weights, and what is refused."""

import math

import pytest
import torch
from torch import nn

from torchplug.components.models import MLP, Linear


def test_linear_is_a_map_that_starts_at_zero():
    model = Linear(3, 2)
    features = torch.randn(5, 3)
    assert torch.equal(model(features), torch.zeros(5, 2))
    with torch.no_grad():
        model.map.weight.copy_(torch.arange(6.0).view(2, 3))
        model.map.bias.copy_(torch.tensor([1.0, -1.0]))
    expected = features @ torch.arange(6.0).view(2, 3).T + torch.tensor([1.0, -1.0])
    torch.testing.assert_close(model(features), expected)


def test_linear_without_bias_has_the_weights_alone():
    assert [name for name, _ in Linear(3, 1, bias=False).named_parameters()] == ["map.weight"]


def test_mlp_is_a_chain_of_maps_and_activations():
    model = MLP(4, 3, hidden=[5, 6], activation="tanh")
    assert [type(layer) for layer in model.layers] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    hidden = torch.randn(7, 4)
    expected = hidden
    for layer in (model.layers[0], model.layers[2]):
        expected = torch.tanh(expected @ layer.weight.T + layer.bias)
    expected = expected @ model.layers[4].weight.T + model.layers[4].bias
    torch.testing.assert_close(model(hidden), expected)


def test_mlp_with_dropout_and_batch_norm():
    model = MLP(4, 1, hidden=[5], dropout=0.5, batch_norm=True)
    kinds = [type(layer) for layer in model.layers]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout, nn.Linear]
    assert model.layers[0].bias is None
    assert model.layers[4].bias is not None


def test_mlp_without_hidden_layers_is_linear_and_bias_can_be_off():
    assert [type(layer) for layer in MLP(4, 2, hidden=[]).layers] == [nn.Linear]
    assert all("bias" not in name for name, _ in MLP(4, 2, bias=False).named_parameters())


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh", "sigmoid", "softplus", "identity"])
def test_starting_weights_follow_the_activation(activation):
    torch.manual_seed(3)
    model = MLP(200, 10, hidden=[300], activation=activation)
    hidden, last = model.layers[0], model.layers[2]
    if activation in ("relu", "gelu", "silu"):
        deviation = math.sqrt(2 / 200)
    else:
        deviation = math.sqrt(2 / (200 + 300))
        assert hidden.weight.abs().max() <= math.sqrt(6 / (200 + 300))
    assert hidden.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert last.weight.abs().max() <= math.sqrt(6 / (300 + 10))
    assert torch.equal(hidden.bias, torch.zeros(300))
    assert torch.equal(last.bias, torch.zeros(10))


@pytest.mark.parametrize("activation", ["gelu", "silu", "tanh", "sigmoid", "softplus", "identity"])
def test_gradient_in_float64(activation):
    torch.manual_seed(2)
    model = MLP(3, 2, hidden=[4], activation=activation).double()
    features = torch.randn(3, 3, dtype=torch.float64)
    names = [name for name, _ in model.named_parameters()]

    def scores(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), features)

    assert torch.autograd.gradcheck(scores, tuple(model.parameters()))


@pytest.mark.parametrize("model", [Linear(3, 2), MLP(3, 2)])
def test_no_samples_give_no_scores(model):
    assert model(torch.empty(0, 3)).shape == (0, 2)


@pytest.mark.parametrize(
    "parameters", [{"hidden": [4, 0]}, {"activation": "swish"}, {"dropout": 1.0}, {"dropout": -0.1}]
)
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(ValueError, match="must be"):
        MLP(3, 1, **parameters)
