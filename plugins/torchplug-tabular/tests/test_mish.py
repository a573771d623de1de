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
    with torch.no_grad():
        np.testing.assert_allclose(mixed_mish(units, mix), expected, rtol=1e-13, atol=1e-14)


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


@pytest.mark.parametrize("batched", [(0, 0), (None, 0), (0, None), (1, 1)])
def test_many_models_at_once_have_the_values_and_derivatives_of_torch(batched):
    torch.manual_seed(0)
    sizes = [(9, 4), (4,)]
    units, mix = (
        torch.randn(size if place is None else (*size[:place], 3, *size[place:]), dtype=torch.float64)
        for size, place in zip(sizes, batched, strict=True)
    )

    def by_torch(u, a):
        return torch.lerp(u, mish(u), a)

    def values(function):
        def squares(u, a):
            return function(u, a).square().sum()

        def slopes(u, a):
            return sum(slope.square().sum() for slope in grad(squares, (0, 1))(u, a))

        each = (function, grad(squares, (0, 1)), grad(slopes, (0, 1)))
        return [vmap(one, batched)(units, mix) for one in each]

    torch.testing.assert_close(values(mixed_mish), values(by_torch))


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
