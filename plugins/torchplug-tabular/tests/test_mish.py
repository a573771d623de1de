"""The mixture of identity and mish: values against NumPy, derivatives against finite differences and torch's mish."""

import numpy as np
import pytest
import torch
from torch.func import grad, vmap
from torch.nn.functional import mish

from torchplug_tabular.mish import mixed_mish


def inputs(n=9, m=4):
    torch.manual_seed(0)
    units = 3.0 * torch.randn(n, m, dtype=torch.float64)
    return units.requires_grad_(), torch.randn(m, dtype=torch.float64, requires_grad=True)


def test_values_are_those_of_the_formula():
    units, mix = inputs()
    u, a = units.detach().numpy(), mix.detach().numpy()
    expected = u + a * (u * np.tanh(np.log1p(np.exp(u))) - u)
    np.testing.assert_allclose(mixed_mish(units, mix).detach(), expected, rtol=1e-13, atol=1e-14)


def test_first_and_second_derivatives_are_those_of_finite_differences():
    assert torch.autograd.gradcheck(mixed_mish, inputs())
    assert torch.autograd.gradgradcheck(mixed_mish, inputs())


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_units_of_any_size_have_mish_and_its_derivative(dtype, within):
    exact = torch.cat([torch.linspace(-150.0, 150.0, 3001), torch.tensor([1e-30, 1e30])]).double().unsqueeze(1)
    exact.requires_grad_()
    (slope,) = torch.autograd.grad(mish(exact).sum(), exact)
    units = exact.detach().to(dtype).requires_grad_()
    found = mixed_mish(units, torch.ones(1, dtype=dtype))
    (found_slope,) = torch.autograd.grad(found.sum(), units)
    torch.testing.assert_close(found.double(), mish(exact), rtol=within, atol=within)
    torch.testing.assert_close(found_slope.double(), slope, rtol=within, atol=within)


def test_many_models_at_once_have_the_gradients_of_each():
    units, mix = inputs()
    mixes = torch.stack([mix, 2.0 * mix, -mix]).detach()

    def value(a, u):
        return mixed_mish(u, a).square().sum()

    expected = []
    for each in mixes:
        own = each.clone().requires_grad_()
        expected.append(torch.autograd.grad(value(own, units.detach()), own)[0])
    torch.testing.assert_close(vmap(grad(value), (0, None))(mixes, units.detach()), torch.stack(expected))


def test_units_without_a_gradient_leave_that_of_the_mixture():
    units, mix = inputs()
    mixed_mish(units.detach(), mix).sum().backward()
    torch.testing.assert_close(mix.grad, (mish(units) - units).detach().sum(0))
    assert units.grad is None


def test_units_that_autocast_has_rounded_stay_so():
    mix = torch.ones(2, requires_grad=True)
    found = mixed_mish(torch.randn(3, 2, dtype=torch.bfloat16), mix)
    found.sum().backward()
    assert (found.dtype, mix.grad.dtype) == (torch.bfloat16, torch.float32)
