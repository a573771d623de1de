"""A start on a sample: when there is one, and that it never costs more than its time."""

import pytest
import torch
from regression_problems import labels, linear, run, train
from test_reuse import counted

from torchplug.components.builtin.losses import BCE
from torchplug.components.builtin.regularizers import L2
from torchplug_second_order.optimizers import newton
from torchplug_second_order.warm_start import sample_size


class Sizes:
    reduction = "mean"

    def __init__(self, samples, size):
        self.samples, self.size = samples, size


@pytest.mark.parametrize(
    ("samples", "size", "expected"),
    [
        (200_000, 100, 12_500),
        (20_000, 1000, 5_000),
        (19_999, 1000, None),
        (100_000, 10, None),  # a Newton step takes no time
        (10**7, 10, 625_000),
    ],
)
def test_sizes(samples, size, expected):
    assert sample_size(Sizes(samples, size)) == expected


def test_a_sum_has_none():
    sizes = Sizes(200_000, 100)
    sizes.reduction = "sum"
    assert sample_size(sizes) is None


@pytest.fixture(scope="module")
def data():
    return labels(24_000, 72)


def minimum(data, **settings):
    objective = linear(data, BCE(), [L2(1e-3)])
    optimizer = train(newton, objective, **settings)
    assert optimizer.outcome.name == "converged"
    return objective, optimizer


@pytest.mark.parametrize("search", ["armijo", "strong_wolfe"])
@pytest.mark.parametrize("hessian_reuse", [True, False])
def test_the_same_minimum_in_fewer_steps(data, search, hessian_reuse):
    plain, slower = minimum(data, warm_start=False, hessian_reuse=False)
    objective, optimizer = minimum(data, search=search, hessian_reuse=hessian_reuse)
    torch.testing.assert_close(objective.point, plain.point, rtol=1e-7, atol=1e-9)
    assert objective.gradient().abs().max() <= 1e-9
    if not hessian_reuse:
        assert optimizer.iteration.number < slower.iteration.number


def test_no_hessian_of_all_rows_is_formed(data):
    objective = linear(data, BCE(), [L2(1e-3)])
    hessians = counted(objective)
    train(newton, objective)
    assert len(hessians) <= 1


def test_rows_in_any_order(data):
    X, y = data
    order = y[:, 0].argsort()
    plain, _ = minimum(data)
    objective, _ = minimum((X[order], y[order]))
    torch.testing.assert_close(objective.point, plain.point, rtol=1e-7, atol=1e-9)


def test_a_good_start_is_not_left(data):
    objective, _ = minimum(data)
    value, best = objective.value(), objective.point
    generator = torch.Generator().manual_seed(0)
    objective.move(best + 1e-4 * torch.randn(best.shape, generator=generator, dtype=best.dtype))
    near = objective.value()
    optimizer = newton(objective.parameters)
    run(optimizer, objective, steps=1)
    assert value <= objective.value() <= near
    run(optimizer, objective)
    assert optimizer.outcome.name == "converged"
    torch.testing.assert_close(objective.point, best, rtol=1e-6, atol=2e-8)


def test_fixed_steps_have_none(data):
    objective = linear(data, BCE(), [L2(1e-3)])
    hessians = counted(objective)
    optimizer = train(newton, objective, search="fixed")
    # and one to find that the model expects nothing more
    assert len(hessians) == optimizer.iteration.number + 1
