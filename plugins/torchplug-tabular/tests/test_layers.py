"""Layers against their formulas, and their start."""

import numpy as np
import torch
from torch.nn.functional import mish

from torchplug_tabular.layers import NTKLinear, ParametricActivation, Scaling


def test_a_linear_map_divides_by_the_root_of_its_inputs():
    torch.manual_seed(0)
    layer, x = NTKLinear(4, 3).double(), torch.randn(5, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.bias.normal_()
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach(), x.numpy() @ weight / 2.0 + bias, rtol=1e-12)


def test_scaling_and_activation_start_neutral():
    x = torch.randn(5, 4)
    torch.testing.assert_close(Scaling(4)(x), x)
    torch.testing.assert_close(ParametricActivation(4, mish)(x), mish(x))


def test_an_activation_lies_between_the_identity_and_the_given_one():
    layer, x = ParametricActivation(2, mish), torch.randn(5, 2)
    with torch.no_grad():
        layer.mix.copy_(torch.tensor([0.0, 0.5]))
    expected = torch.stack([x[:, 0], 0.5 * x[:, 1] + 0.5 * mish(x[:, 1])], dim=1)
    torch.testing.assert_close(layer(x), expected)


def test_initial_outputs_have_deviation_one_and_zeros_within_their_range():
    torch.manual_seed(0)
    layer, sample = NTKLinear(6, 200), 3.0 * torch.randn(500, 6) + 1.0
    outputs = layer.initialize(sample)
    torch.testing.assert_close(outputs, layer(sample).detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs.std(0, correction=0), torch.ones(200), rtol=1e-4, atol=1e-4)
    assert (outputs.min(0).values < 0).all()
    assert (outputs.max(0).values > 0).all()
