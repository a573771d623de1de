"""Losses of two classes against their formulas in NumPy and SciPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, log_expit

from torchplug import TargetInfo
from torchplug_robust.classification import Focal, Hinge

FEW = settings(max_examples=40, deadline=None)
scores = arrays(np.float64, (5, 1), elements=st.floats(-30, 30, allow_subnormal=False))
sides = arrays(np.int64, (5, 1), elements=st.integers(0, 1))
shares = arrays(np.float64, (5, 1), elements=st.floats(0, 1, allow_subnormal=False))


def value(loss, z, y):
    return loss(torch.tensor(z), torch.tensor(y)).numpy()


@FEW
@given(scores, sides)
def test_hinge(z, y):
    short = np.maximum(0, 1 - np.where(y == 1, 1, -1) * z)[:, 0]
    np.testing.assert_allclose(value(Hinge(), z, y.astype(float)), short, rtol=1e-13)
    np.testing.assert_allclose(value(Hinge(squared=True), z, y.astype(float)), short**2, rtol=1e-13)


@FEW
@given(scores, shares, st.floats(0, 5), st.one_of(st.none(), st.floats(0.05, 0.95)))
def test_focal(z, y, gamma, alpha):
    positive, negative = (1, 1) if alpha is None else (alpha, 1 - alpha)
    p, q = expit(z), expit(-z)
    expected = -(positive * y * q**gamma * log_expit(z) + negative * (1 - y) * p**gamma * log_expit(-z))
    np.testing.assert_allclose(value(Focal(gamma, alpha), z, y), expected[:, 0], rtol=1e-10, atol=1e-300)


@FEW
@given(scores, shares)
def test_focal_without_focus_is_the_cross_entropy(z, y):
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(z), torch.tensor(y), reduction="none")
    np.testing.assert_allclose(value(Focal(0.0, None), z, y), expected[:, 0].numpy(), rtol=1e-9, atol=1e-13)


CASES = {
    "hinge": Hinge(),
    "hinge squared": Hinge(squared=True),
    "focal": Focal(),
    "focal sharp": Focal(gamma=0.5, alpha=None),
}


def example(dtype=torch.float64):
    z = torch.tensor([[0.5], [-2.0], [3.0], [-0.3], [0.0]], dtype=dtype)
    return z, torch.tensor([[1.0], [1.0], [0.0], [0.0], [1.0]], dtype=dtype)


@pytest.mark.parametrize("case", CASES)
def test_gradient_in_float64(case):
    loss = CASES[case]
    z, y = example()
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: loss(scores, y), z)
    assert torch.autograd.gradgradcheck(lambda scores: loss(scores, y), z)


@pytest.mark.parametrize("case", ["hinge", "hinge squared"])
def test_derivative_agrees_with_autograd(case):
    loss = CASES[case]
    z, y = example()
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z, y).sum(), z)
    torch.testing.assert_close(loss.derivative(z.detach(), y), gradient, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e3, 1e4])
@pytest.mark.parametrize("case", CASES)
def test_extreme_scores_stay_finite(case, size, dtype):
    loss = CASES[case]
    z, y = example(dtype)
    z = (torch.sign(z) * size).requires_grad_()
    values = loss(z, y)
    values.sum().backward()
    assert values.dtype == dtype
    assert torch.isfinite(values).all()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("case", CASES)
def test_no_samples_give_no_values(case):
    z, y = example()
    assert CASES[case](z[:0], y[:0]).shape == (0,)


def test_targets_and_outputs():
    Hinge().check(torch.tensor([[0.0], [1.0]]))
    with pytest.raises(ValueError, match="0 or 1"):
        Hinge().check(torch.tensor([[0.5]]))
    with pytest.raises(ValueError, match="two classes"):
        Focal().outputs(TargetInfo(("y",), ("a", "b", "c")))
    assert Hinge().outputs(TargetInfo(("y",), ("a", "b"))) == 1
    assert torch.equal(Hinge().link(torch.tensor([[3.0]])), torch.tensor([[3.0]]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Focal(gamma=-1.0), "gamma"),
        (lambda: Focal(gamma=float("inf")), "gamma"),
        (lambda: Focal(alpha=0.0), "alpha"),
        (lambda: Focal(alpha=1.0), "alpha"),
    ],
)
def test_parameters_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
