"""Newton with a Hessian that is kept, against Newton without; the test of what pays."""

import copy

import pytest
import torch
from regression_problems import DOUBLE, features, labels, linear, numbers, run, train
from simulated_ranks import on_ranks

from torchplug.components.builtin.losses import BCE, MSE
from torchplug.components.builtin.regularizers import L2
from torchplug.components.models import MLP
from torchplug_second_order.optimizers import newton
from torchplug_second_order.reuse import curvature, serves, start_counting


def counted(objective):
    """How often the objective forms a Hessian, as a list of precisions that grows."""
    asked, form = [], objective.hessian

    def hessian(dtype=DOUBLE, subset=None):
        asked.append(dtype)
        return form(dtype, subset)

    objective.hessian = hessian
    return asked


def test_what_pays():
    memory = {}
    # a Hessian for nine gradients: each step must shorten the gradient by 10^(−2/10)
    assert [serves(memory, norm, 9.0) for norm in (1.0, 0.9, 0.39, 0.26)] == [True, True, True, False]
    start_counting(memory)
    assert [serves(memory, norm, 9.0) for norm in (5.0, 4.0, 1.9)] == [True, True, True]


@pytest.mark.parametrize("search", ["armijo", "strong_wolfe"])
def test_the_same_minimum_with_fewer_hessians(search):
    data = labels(3000, 60)
    plain = linear(data, BCE(), [L2(1e-3)])
    hessians = counted(plain)
    train(newton, plain, hessian_reuse=False, search=search)
    kept = linear(data, BCE(), [L2(1e-3)])
    fewer = counted(kept)
    optimizer = train(newton, kept, search=search)
    assert optimizer.outcome.name == "converged"
    torch.testing.assert_close(kept.point, plain.point, rtol=1e-7, atol=1e-8)
    assert 0 < len(fewer) < len(hessians)


def test_few_parameters_have_a_hessian_at_every_step():
    objective = linear(labels(500, 8), BCE(), [L2(1e-3)])
    hessians = counted(objective)
    optimizer = train(newton, objective)
    assert len(hessians) >= optimizer.iteration.number


def test_single_precision_where_the_data_allow():
    objective = linear(labels(4000, 60), BCE(), [L2(1e-3)])
    memory = {}
    found = curvature(objective, memory)
    assert memory == {}
    torch.testing.assert_close(found.matrix, objective.hessian(), rtol=0, atol=1e-5)
    assert not torch.equal(found.matrix, objective.hessian())
    torch.testing.assert_close(found.factor @ found.factor.mT, found.matrix)


def test_double_precision_where_they_do_not():
    X, y = labels(4000, 60)
    X[:, 1] = X[:, 0] + 1e-5 * X[:, 1]
    objective = linear((X, y), BCE(), [])
    memory = {}
    found = curvature(objective, memory)
    assert memory == {"needs_double": True}
    torch.testing.assert_close(found.matrix, objective.hessian(), rtol=1e-12, atol=0)


def test_features_beyond_single_precision():
    X, y = labels(4000, 60)
    objective = linear((1e25 * X, y), BCE(), [])
    memory = {}
    assert curvature(objective, memory).shift == 0.0
    assert memory == {"needs_double": True}


def test_a_combination_of_columns():
    X, y = numbers(100, 5)
    X[:, 4] = X[:, 0] - 2.0 * X[:, 1]
    found = curvature(linear((X, y), MSE(), []), {})
    assert found.shift >= 0.0
    assert found.factor.isfinite().all()
    assert found.independence > 1e-9


def test_a_part():
    objective = linear(labels(500, 60), BCE(), [L2(1e-3)])
    subset = torch.tensor([2, 7, 60])
    torch.testing.assert_close(curvature(objective, {}, subset).matrix, objective.hessian()[subset][:, subset])


def test_a_network_of_any_curvature():
    X, y = numbers(200, 6)
    torch.manual_seed(0)
    objective = linear((X, y), MSE(), [L2(1e-3)], network=MLP(6, 1, [8], "tanh").double())
    optimizer = train(newton, objective, steps=300)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert objective.gradient().abs().max() < 1e-6


def test_any_number_of_ranks_gives_the_same_bits():
    data = labels(20_000, 72)

    def point(ranks):
        objective = linear(data, BCE(), [L2(1e-3)], ranks=ranks)
        assert train(newton, objective).outcome.name == "converged"
        return objective.point

    with torch.no_grad():
        (alone,) = on_ranks(1, point)
        for together in on_ranks(3, point):
            assert torch.equal(together, alone)


def test_a_checkpoint_goes_on_where_it_was():
    data = labels(3000, 60)
    objective = linear(data, BCE(), [L2(1e-3)])
    optimizer = newton(objective.parameters)
    run(optimizer, objective, steps=3)
    saved, point = copy.deepcopy(optimizer.state_dict()), objective.point
    run(optimizer, objective)
    resumed = linear(data, BCE(), [L2(1e-3)])
    resumed.move(point)
    other = newton(resumed.parameters)
    other.load_state_dict(saved)
    run(other, resumed)
    assert torch.equal(resumed.point, objective.point)
    assert other.outcome == optimizer.outcome


def test_a_spoilt_hessian_is_forgotten():
    objective = linear(labels(3000, 60), BCE(), [L2(1e-3)])
    optimizer = newton(objective.parameters, warm_start=False)
    run(optimizer, objective, steps=1)
    memory = optimizer.state[objective.parameters[0]]
    # so long a step that no search finds anything along it
    memory["factor"] = 1e-30 * memory["factor"]
    run(optimizer, objective)
    assert optimizer.outcome.name == "converged"
    assert objective.gradient().abs().max() < 1e-9


def test_features_of_any_size_are_no_trouble():
    scale = torch.logspace(-3, 3, 40, dtype=DOUBLE)
    X = features(2000, 40)
    y = labels(2000, 40)[1]
    plain, scaled = linear((X, y), BCE(), []), linear((X * scale, y), BCE(), [])
    train(newton, plain, gradient_tolerance=1e-10)
    train(newton, scaled, gradient_tolerance=1e-10)
    torch.testing.assert_close(scaled.point[:-1] * scale, plain.point[:-1], rtol=1e-5, atol=1e-6)
