"""Penalties against their formulas, proximal operators against numerical minimization."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize_scalar

from torchplug.components.builtin.regularizers import L1, L2, ElasticNet

FEW = settings(max_examples=40, deadline=None)
weights = arrays(np.float64, (3, 2), elements=st.floats(-10, 10, allow_subnormal=False))
strength = st.floats(0, 5, allow_subnormal=False)
length = st.floats(1e-3, 3)


@FEW
@given(weights, weights, strength, strength)
def test_values_are_the_formulas(a, b, l1, l2):
    named = {"a.weight": torch.tensor(a), "b.weight": torch.tensor(b)}
    magnitude = np.abs(a).sum() + np.abs(b).sum()
    square = (a**2).sum() + (b**2).sum()
    assert L1()(named).item() == pytest.approx(magnitude, rel=1e-13)
    assert L2()(named).item() == pytest.approx(square, rel=1e-13)
    both = ElasticNet(l1, l2)
    assert (both.coefficient * both(named)).item() == pytest.approx(l1 * magnitude + l2 * square, rel=1e-13)


@FEW
@given(weights, strength)
def test_squared_residuals_of_l2_sum_to_the_penalty(a, coefficient):
    penalty = L2(coefficient)
    residuals = penalty.residuals({"w": torch.tensor(a)})
    assert residuals["w"].square().sum().item() == pytest.approx(coefficient * (a**2).sum(), rel=1e-13)


@FEW
@given(st.floats(-4, 4), strength, strength, length)
def test_prox_minimizes_penalty_plus_proximity(point, l1, l2, step):
    for penalty, square in ((ElasticNet(l1, l2, proximal=True), l2), (L1(l1, proximal=True), 0.0)):

        def value(u, square=square):
            return l1 * abs(u) + square * u * u + (u - point) ** 2 / (2 * step)

        found = penalty.prox(torch.tensor([point], dtype=torch.float64), step).item()
        reference = minimize_scalar(value, bounds=(-5, 5), method="bounded", options={"xatol": 1e-10}).x
        assert value(found) <= min(value(reference), value(0.0)) + 1e-12
        assert found == pytest.approx(reference, abs=1e-4)


def test_prox_is_the_soft_threshold_with_positive_zeros():
    points = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    expected = torch.tensor([-2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    found = L1(2.0, proximal=True).prox(points, 0.5)
    assert torch.equal(found, expected)
    assert not torch.signbit(found[1:6]).any()
    torch.testing.assert_close(ElasticNet(2.0, 3.0).prox(points, 0.5), expected / (1 + 2 * 0.5 * 3.0))


@pytest.mark.parametrize("penalty", [L1(0.7), ElasticNet(0.7, 0.3)])
def test_prox_takes_steps_elementwise(penalty):
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    steps = torch.rand(4, 3, generator=generator, dtype=torch.float64)
    expected = [[penalty.prox(points[i, j], steps[i, j].item()) for j in range(3)] for i in range(4)]
    assert torch.equal(penalty.prox(points, steps), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("penalty", [L1(), L2(), ElasticNet()])
def test_dtype_is_kept_and_nothing_to_penalize_costs_nothing(penalty, dtype):
    assert penalty({"w": torch.ones(2, dtype=dtype)}).dtype == dtype
    assert penalty({}).item() == 0.0
    assert penalty({}).shape == ()


@pytest.mark.parametrize("penalty", [L1(), L2(), ElasticNet()])
def test_gradient_in_float64(penalty):
    w = torch.tensor([[1.5, -0.5], [0.25, 2.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: penalty({"w": p}), w)


def test_subgradient_at_zero_is_zero():
    w = torch.zeros(3, requires_grad=True)
    L1()({"w": w}).backward()
    assert torch.equal(w.grad, torch.zeros(3))


@pytest.mark.parametrize(
    "build",
    [
        lambda: L1(-1.0),
        lambda: L2(-1e-9),
        lambda: L2(float("nan")),
        lambda: ElasticNet(l1=-1.0),
        lambda: ElasticNet(l2=float("inf")),
        lambda: L2(include=[]),
    ],
)
def test_parameters_out_of_range_are_refused(build):
    with pytest.raises(ValueError, match="must"):
        build()
