"""Built-in losses against their formulas in NumPy and SciPy, and their derivatives against autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import expit, log_expit, log_softmax

from torchplug.components.builtin.losses import BCE, L1, MSE, CrossEntropy
from torchplug.registry.component import TargetInfo

FEW = settings(max_examples=40, deadline=None)
finite = st.floats(-1e3, 1e3, allow_subnormal=False)
unit = st.floats(0.0, 1.0, allow_subnormal=False)


@st.composite
def score_pairs(draw, columns=(1, 4)):
    shape = draw(array_shapes(min_dims=2, max_dims=2, min_side=columns[0], max_side=columns[1]))
    return draw(arrays(np.float64, shape, elements=finite)), draw(arrays(np.float64, shape, elements=finite))


@st.composite
def binary_pairs(draw):
    shape = (draw(st.integers(1, 5)), 1)
    return draw(arrays(np.float64, shape, elements=finite)), draw(arrays(np.float64, shape, elements=unit))


def value(loss, scores, target):
    return loss(torch.tensor(scores), torch.tensor(target)).numpy()


@FEW
@given(score_pairs())
def test_l1_is_the_sum_of_absolute_errors(pair):
    z, y = pair
    np.testing.assert_allclose(value(L1(), z, y), np.abs(z - y).sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(value(L1("mean"), z, y), np.abs(z - y).mean(axis=1), rtol=1e-14)


@FEW
@given(score_pairs())
def test_mse_is_the_sum_of_squared_errors_and_of_squared_residuals(pair):
    z, y = pair
    np.testing.assert_allclose(value(MSE(), z, y), ((z - y) ** 2).sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(value(MSE("mean"), z, y), ((z - y) ** 2).mean(axis=1), rtol=1e-14)
    for loss in (MSE(), MSE("mean")):
        residuals = loss.residuals(torch.tensor(z), torch.tensor(y)).numpy()
        np.testing.assert_allclose((residuals**2).sum(axis=1), value(loss, z, y), rtol=1e-14)


@FEW
@given(binary_pairs(), st.floats(0.1, 10.0))
def test_bce_is_the_weighted_bernoulli_likelihood(pair, weight):
    z, y = pair
    expected = -(weight * y * log_expit(z) + (1 - y) * log_expit(-z))[:, 0]
    np.testing.assert_allclose(value(BCE(weight), z, y), expected, rtol=1e-12, atol=1e-300)


def test_bce_equals_the_formula_on_probabilities_and_keeps_the_digits_of_small_values():
    z = np.linspace(-12, 12, 41)[:, None]
    y = np.linspace(0, 1, 41)[:, None]
    p = expit(z)
    np.testing.assert_allclose(value(BCE(), z, y), -(y * np.log(p) + (1 - y) * np.log(1 - p))[:, 0], rtol=1e-9)
    sure = BCE()(torch.tensor([[-30.0]]), torch.tensor([[0.0]]))
    assert sure.item() == pytest.approx(np.exp(-30.0), rel=1e-6)


@FEW
@given(arrays(np.float64, (4, 3), elements=finite), arrays(np.float64, (4, 3), elements=st.floats(0.01, 1.0)))
def test_cross_entropy_takes_indices_and_probabilities(z, raw):
    y = raw / raw.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(value(CrossEntropy(), z, y), -(y * log_softmax(z, axis=1)).sum(axis=1), rtol=1e-12)
    indices = y.argmax(axis=1)
    expected = -log_softmax(z, axis=1)[np.arange(4), indices]
    np.testing.assert_allclose(value(CrossEntropy(), z, indices), expected, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(value(CrossEntropy(), z, np.eye(3)[indices]), expected, rtol=1e-12, atol=1e-300)
    smooth = 0.9 * np.eye(3)[indices] + 0.1 / 3
    expected = -(smooth * log_softmax(z, axis=1)).sum(axis=1)
    np.testing.assert_allclose(value(CrossEntropy(0.1), z, indices), expected, rtol=1e-11)


@FEW
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@given(arrays(np.float64, (5, 2), elements=st.floats(-50, 50)), arrays(np.int64, (5,), elements=st.integers(0, 1)))
def test_cross_entropy_of_two_classes_is_bce_of_the_difference(smoothing, z, y):
    difference = z[:, 1:] - z[:, :1]
    expected = value(BCE(label_smoothing=smoothing), difference, y[:, None].astype(float))
    np.testing.assert_allclose(value(CrossEntropy(smoothing), z, y), expected, rtol=1e-9, atol=1e-13)


CASES = {
    "l1": (L1(), "real"),
    "l1 mean": (L1("mean"), "real"),
    "mse": (MSE(), "real"),
    "mse mean": (MSE("mean"), "real"),
    "bce": (BCE(), "binary"),
    "bce weighted": (BCE(2.5), "binary"),
    "bce smoothed": (BCE(2.5, label_smoothing=0.2), "binary"),
    "cross_entropy indices": (CrossEntropy(), "indices"),
    "cross_entropy soft": (CrossEntropy(), "simplex"),
    "cross_entropy smoothed": (CrossEntropy(0.2), "indices"),
}


def example(target, n=6, k=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    columns = 1 if target == "binary" else k
    z = torch.randn(n, columns, generator=generator, dtype=dtype) * 2
    if target == "indices":
        return z, torch.randint(k, (n,), generator=generator)
    y = torch.rand(n, columns, generator=generator, dtype=dtype)
    return z, y / y.sum(dim=1, keepdim=True) if target == "simplex" else y


@pytest.mark.parametrize("case", CASES)
def test_gradient_in_float64(case):
    loss, target = CASES[case]
    z, y = example(target)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: loss(scores, y), z)
    assert torch.autograd.gradgradcheck(lambda scores: loss(scores, y), z)


@pytest.mark.parametrize("start", ["random", "zero"])
@pytest.mark.parametrize("case", CASES)
def test_derivative_and_curvature_agree_with_autograd(case, start):
    loss, target = CASES[case]
    z, y = example(target)
    if start == "zero":  # where linear models begin; forms with |z| have a wrong gradient there
        z = torch.zeros_like(z)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z, y).sum(), z)
    torch.testing.assert_close(loss.derivative(z.detach(), y), gradient, rtol=1e-12, atol=1e-14)
    if not isinstance(loss, L1):
        for i in range(len(z)):
            hessian = torch.autograd.functional.hessian(
                lambda row, i=i: loss(row[None], y[i : i + 1])[0], z[i].detach()
            )
            torch.testing.assert_close(loss.curvature(z.detach(), y)[i], hessian, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e3, 1e4])
@pytest.mark.parametrize("case", CASES)
def test_extreme_scores_stay_finite(case, size, dtype):
    loss, target = CASES[case]
    z, y = example(target, dtype=dtype)
    z = (torch.sign(z) * size).requires_grad_()
    values = loss(z, y)
    values.sum().backward()
    assert values.dtype == dtype
    assert torch.isfinite(values).all()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(loss.derivative(z.detach(), y)).all()


@pytest.mark.parametrize("case", CASES)
def test_no_samples_give_no_values(case):
    loss, target = CASES[case]
    z, y = example(target)
    assert loss(z[:0], y[:0]).shape == (0,)
    assert loss.derivative(z[:0], y[:0]).shape == (0, z.shape[1])


def test_outputs_follow_the_target():
    three = TargetInfo(("y",), ("a", "b", "c"))
    assert MSE().outputs(TargetInfo(("y", "z"))) == 2
    assert BCE().outputs(TargetInfo(("y",), (0, 1))) == 1
    assert CrossEntropy().outputs(three) == 3
    with pytest.raises(ValueError, match="two classes"):
        BCE().outputs(three)


@pytest.mark.parametrize(
    ("loss", "target", "message"),
    [
        (BCE(), [[0.5], [1.5]], r"\[0, 1\]"),
        (CrossEntropy(), [0, -1], "indices from 0"),
        (CrossEntropy(), [[0.5, 0.6]], "probabilities"),
        (CrossEntropy(), [[1.5, -0.5]], "probabilities"),
    ],
)
def test_targets_outside_the_domain_are_refused(loss, target, message):
    with pytest.raises(ValueError, match=message):
        loss.check(torch.tensor(target))


def test_probabilities_of_many_classes_in_float32_are_accepted():
    CrossEntropy().check(torch.softmax(torch.randn(50, 1000), dim=1))


@pytest.mark.parametrize(
    "build",
    [
        lambda: L1("max"),
        lambda: MSE("none"),
        lambda: BCE(0.0),
        lambda: BCE(float("inf")),
        lambda: BCE(float("nan")),
        lambda: BCE(label_smoothing=1.1),
        lambda: CrossEntropy(-0.1),
        lambda: CrossEntropy(1.1),
    ],
)
def test_parameters_out_of_range_are_refused(build):
    with pytest.raises(ValueError, match="must be"):
        build()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("rows", "classes"), [(7, 3), (400, 3), (512, 2), (256, 15), (256, 16), (3, 1000)])
def test_cross_entropy_of_many_rows_and_few_classes(rows, classes, soft, smoothing):
    """However it goes through the scores, it is the same."""
    generator = np.random.default_rng(rows)
    scores = 5.0 * generator.normal(size=(rows, classes))
    indices = generator.integers(classes, size=rows)
    y = generator.dirichlet(np.ones(classes), size=rows) if soft else np.eye(classes)[indices]
    smoothed = (1 - smoothing) * y + smoothing / classes
    log_probability = log_softmax(scores, axis=1)
    loss = CrossEntropy(label_smoothing=smoothing)
    z, target = torch.tensor(scores, requires_grad=True), torch.tensor(y if soft else indices)
    values = loss(z, target)
    (gradient,) = torch.autograd.grad(values.sum(), z)
    derivative = np.exp(log_probability) - smoothed
    np.testing.assert_allclose(values.detach(), -(smoothed * log_probability).sum(1), rtol=1e-12)
    np.testing.assert_allclose(gradient, derivative, atol=1e-12)
    np.testing.assert_allclose(loss.derivative(z.detach(), target), derivative, atol=1e-12)
