"""The networks: shapes, starting weights, and what is refused."""

import math

import numpy as np
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


class TestPeriodicEmbedding:
    def test_each_feature_has_itself_and_mixtures_of_its_cosines(self):
        torch.manual_seed(0)
        embedding = MLP(3, 1, hidden=[4], embedding="periodic").double().layers[0]
        x = torch.randn(5, 3, dtype=torch.float64)
        out = embedding(x).detach().numpy().reshape(5, 3, 4)
        f, phase, V, c = (p.detach().numpy() for p in embedding.parameters())
        for i in range(5):
            for j in range(3):
                cosines = np.cos(2 * np.pi * f[j] * float(x[i, j]) + phase[j])
                np.testing.assert_allclose(
                    out[i, j], [float(x[i, j]), *(cosines @ V[j] + c[j])], rtol=1e-13, atol=1e-14
                )

    def test_the_network_takes_the_embedded_width(self):
        model = MLP(6, 2, hidden=[5], embedding="periodic")
        assert model.layers[1].in_features == 24
        assert model(torch.randn(7, 6)).shape == (7, 2)
        assert MLP(6, 2, hidden=[], embedding="periodic")(torch.randn(7, 6)).shape == (7, 2)

    def test_frequencies_start_at_the_scale(self):
        torch.manual_seed(0)
        frequency = MLP(500, 1, embedding="periodic", frequency_scale=2.0).layers[0].frequency
        assert frequency.detach().std().item() == pytest.approx(2.0, rel=0.03)
        assert frequency.detach().mean().item() == pytest.approx(0.0, abs=0.1)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [({"embedding": "fourier"}, "embedding must be periodic"), ({"frequency_scale": 0.0}, "must be positive")],
    )
    def test_what_cannot_be_is_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            MLP(3, 1, **settings)

    def test_it_learns_what_oscillates_where_a_plain_network_does_not(self):
        x = torch.linspace(-2, 2, 64).unsqueeze(1)
        y = torch.sin(12 * x)
        losses = {}
        for embedding in (None, "periodic"):
            torch.manual_seed(0)
            model = MLP(1, 1, hidden=[32], activation="silu", embedding=embedding, frequency_scale=1.0)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            for _ in range(300):
                loss = (model(x) - y).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            losses[embedding] = loss.item()
        assert losses["periodic"] < 0.01 < losses[None]
