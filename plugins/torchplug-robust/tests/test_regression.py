"""Regression and count losses against their formulas in NumPy and SciPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import gammaln

from torchplug import TargetInfo
from torchplug_robust.regression import Huber, LogCosh, PoissonNLL, Quantile, Tukey

FEW = settings(max_examples=40, deadline=None)
finite = st.floats(-1e3, 1e3, allow_subnormal=False)
scale = st.floats(1e-2, 1e2)


@st.composite
def pairs(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=2, max_side=4))
    return draw(arrays(np.float64, shape, elements=finite)), draw(arrays(np.float64, shape, elements=finite))


def value(loss, scores, target):
    return loss(torch.tensor(scores), torch.tensor(target)).numpy()


@FEW
@given(pairs(), scale)
def test_huber(pair, delta):
    e = np.abs(pair[0] - pair[1])
    expected = np.where(e <= delta, 0.5 * e**2, delta * (e - 0.5 * delta)).sum(axis=1)
    np.testing.assert_allclose(value(Huber(delta), *pair), expected, rtol=1e-12, atol=1e-300)  # subnormals round


@FEW
@given(pairs())
def test_log_cosh(pair):
    e = pair[0] - pair[1]
    expected = (np.logaddexp(e, -e) - np.log(2)).sum(axis=1)
    np.testing.assert_allclose(value(LogCosh(), *pair), expected, rtol=1e-12, atol=1e-15)


def test_log_cosh_keeps_the_digits_of_small_errors():
    e = np.logspace(-8, -3, 20)[:, None]
    series = (e**2 / 2 - e**4 / 12 + e**6 / 45)[:, 0]
    np.testing.assert_allclose(value(LogCosh(), e, np.zeros_like(e)), series, rtol=1e-12)
    near, far = value(LogCosh(), np.array([[np.nextafter(1.0, 0)], [1.0]]), np.zeros((2, 1)))
    assert near == pytest.approx(far, rel=1e-14)


@FEW
@given(pairs(), scale)
def test_tukey(pair, c):
    e = pair[0] - pair[1]
    inside = c**2 / 6 * (1 - (1 - np.minimum((e / c) ** 2, 1)) ** 3)
    np.testing.assert_allclose(value(Tukey(c), *pair), inside.sum(axis=1), rtol=1e-9, atol=1e-13 * c**2)
    assert (value(Tukey(c), *pair) <= e.shape[1] * c**2 / 6 * (1 + 1e-12)).all()


@FEW
@given(
    arrays(np.float64, (3, 6), elements=finite),
    arrays(np.float64, (3, 2), elements=finite),
    st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3, unique=True).map(sorted),
)
def test_quantile_is_target_major(z, y, orders):
    expected = np.zeros(3)
    for target in range(2):
        for i, q in enumerate(orders):
            e = y[:, target] - z[:, 3 * target + i]
            expected += np.where(e >= 0, q * e, (q - 1) * e)
    np.testing.assert_allclose(value(Quantile(orders), z, y), expected, rtol=1e-12)


def test_quantile_gives_names_and_the_point_nearest_the_median():
    loss = Quantile([0.05, 0.4, 0.95])
    info = TargetInfo(("price", "rent"))
    assert loss.outputs(info) == 6
    assert loss.prediction_names(info) == [
        "price_q0.05", "price_q0.4", "price_q0.95", "rent_q0.05", "rent_q0.4", "rent_q0.95",
    ]  # fmt: skip
    predictions = torch.arange(12.0).view(2, 6)
    assert torch.equal(loss.point(predictions), torch.tensor([[1.0, 4.0], [7.0, 10.0]]))
    assert torch.equal(Quantile([0.5]).point(predictions), predictions)


def test_quantile_minimum_is_the_sample_quantile():
    y = np.random.default_rng(4).exponential(size=201)
    grid = np.sort(y)[:, None]
    for q in (0.1, 0.5, 0.9):
        totals = [value(Quantile([q]), np.full((201, 1), z), y[:, None]).sum() for z in grid[:, 0]]
        assert grid[np.argmin(totals), 0] == pytest.approx(np.quantile(y, q))


@FEW
@given(
    arrays(np.float64, (4, 2), elements=st.floats(-20, 20)),
    arrays(np.int64, (4, 2), elements=st.integers(0, 10_000)),
)
def test_poisson_nll(z, counts):
    y = counts.astype(float)
    short = (np.exp(z) - y * z).sum(axis=1)
    np.testing.assert_allclose(value(PoissonNLL(), z, y), short, rtol=1e-12, atol=1e-9)
    full = (np.exp(z) - y * z + gammaln(y + 1)).sum(axis=1)
    np.testing.assert_allclose(value(PoissonNLL(full=True), z, y), full, rtol=1e-12, atol=1e-9)


def test_poisson_counts():
    loss = PoissonNLL()
    assert torch.equal(loss.link(torch.zeros(2, 1)), torch.ones(2, 1))
    loss.check(torch.tensor([[0.0], [2.5]]))
    with pytest.raises(ValueError, match="negative"):
        loss.check(torch.tensor([[1.0], [-1.0]]))


CASES = {
    "huber": (Huber(0.7), 1),
    "log_cosh": (LogCosh(), 1),
    "tukey": (Tukey(1.5), 1),
    "quantile": (Quantile([0.2, 0.5, 0.7]), 3),
    "poisson_nll": (PoissonNLL(), 1),
    "poisson_nll full": (PoissonNLL(full=True), 1),
}
CURVED = ("log_cosh", "poisson_nll", "poisson_nll full")


def example(per_target, dtype=torch.float64):
    generator = torch.Generator().manual_seed(6)
    y = torch.rand(5, 2, generator=generator, dtype=dtype) * 3
    return torch.randn(5, 2 * per_target, generator=generator, dtype=dtype) * 2, y


@pytest.mark.parametrize("case", CASES)
def test_gradient_in_float64(case):
    loss, per_target = CASES[case]
    z, y = example(per_target)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: loss(scores, y), z)
    assert torch.autograd.gradgradcheck(lambda scores: loss(scores, y), z)
    (gradient,) = torch.autograd.grad(loss(z, y).sum(), z)
    torch.testing.assert_close(loss.derivative(z.detach(), y), gradient, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("where", ["random", "on the target"])
@pytest.mark.parametrize("case", CURVED)
def test_curvature_agrees_with_autograd(case, where):
    loss, _ = CASES[case]
    z, y = example(1)
    if where == "on the target":
        z = y.clone()
    for i in range(len(z)):
        hessian = torch.autograd.functional.hessian(lambda row, i=i: loss(row[None], y[i : i + 1])[0], z[i])
        torch.testing.assert_close(loss.curvature(z, y)[i], hessian, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("case", ["huber", "log_cosh", "tukey"])
def test_an_error_of_zero_has_gradient_zero_and_curvature_one(case):
    loss, _ = CASES[case]
    z = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(z, torch.zeros_like(z)).sum(), z, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.sum(), z)
    assert gradient.item() == 0.0
    assert curvature.item() == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e3, 1e4])
@pytest.mark.parametrize("case", CASES)
def test_extreme_scores_stay_finite(case, size, dtype):
    loss, per_target = CASES[case]
    z, y = example(per_target, dtype)
    # e^z overflows on purpose: a rate of e^1000 is no number, and the core stops there
    z = (-size * torch.ones_like(z) if "poisson" in case else torch.sign(z) * size).requires_grad_()
    values = loss(z, y)
    values.sum().backward()
    assert values.dtype == dtype
    assert torch.isfinite(values).all()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("case", CASES)
def test_no_samples_give_no_values(case):
    loss, per_target = CASES[case]
    z, y = example(per_target)
    assert loss(z[:0], y[:0]).shape == (0,)
    assert loss.derivative(z[:0], y[:0]).shape == (0, z.shape[1])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Huber(0.0), "delta must be positive"),
        (lambda: Huber(float("nan")), "delta must be positive"),
        (lambda: Tukey(-1.0), "c must be positive"),
        (lambda: Quantile([]), "quantiles must lie"),
        (lambda: Quantile([0.0, 0.5]), "quantiles must lie"),
        (lambda: Quantile([0.5, 0.5]), "quantiles must increase"),
        (lambda: Quantile([0.9, 0.1]), "quantiles must increase"),
    ],
)
def test_parameters_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
