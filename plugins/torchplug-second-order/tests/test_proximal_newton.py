"""Minima with exact zeros, against scikit-learn and the conditions of a minimum."""

import copy
import functools

import lightning
import numpy as np
import polars
import pytest
import torch
from regression_problems import features, labels, linear, numbers, run, train
from simulated_ranks import on_ranks
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression

from torchplug import ComponentModule, Regularizer, TabularData, TorchplugError, use
from torchplug.components.builtin import regularizers
from torchplug.components.builtin.losses import BCE, MSE, CrossEntropy
from torchplug.components.builtin.regularizers import L1, L2
from torchplug.components.models import MLP
from torchplug_second_order.proximal_newton import ProximalNewton


class Groups(Regularizer):
    """Σ ‖column‖₂: not elementwise, whole columns become zero."""

    proximal = True

    def __init__(self, coefficient):
        super().__init__()
        self.coefficient = coefficient

    def forward(self, parameters):
        return sum(p.norm(dim=0).sum() for p in parameters.values())

    def prox(self, parameter, step):
        length = parameter.norm(dim=0, keepdim=True)
        return parameter * (1.0 - step * self.coefficient / length.clamp(min=1e-300)).clamp(min=0.0)


def proximal(penalties, **settings):
    """The optimizer as the core builds it: `prox` of the proximal penalties on all weights."""

    def make(parameters, network):
        optimizer = ProximalNewton(parameters, **settings)
        weights = [p for name, p in network.named_parameters() if not name.endswith("bias")]
        optimizer.prox = {p: penalty.prox for penalty in penalties if penalty.proximal for p in weights}
        return optimizer

    return make


def minimum(data, loss, penalties, bias=True, network=None, steps=200, **settings):
    """The solved objective and its optimizer."""
    objective = linear(data, loss, penalties, bias, network)
    optimizer = train(functools.partial(proximal(penalties, **settings), network=objective.network), objective, steps)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    return objective, optimizer


def weights_of(objective):
    return objective.network.map.weight.detach()[0]


def assert_matches(objective, reference, intercept=None):
    ours = weights_of(objective).numpy()
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-8)
    assert ((ours == 0) == (reference == 0)).all()
    assert 0 < (ours == 0).sum() < len(ours)
    if intercept is not None:
        assert objective.network.map.bias.item() == pytest.approx(float(intercept), abs=1e-8)


def assert_minimum(objective, coefficient, tolerance=1e-8):
    """The subgradient conditions of F + λ‖W‖₁, one by one."""
    for name, g in zip(
        [name for name, _ in objective.network.named_parameters()], objective.split(objective.gradient()), strict=True
    ):
        theta = dict(objective.network.named_parameters())[name].detach()
        if name.endswith("bias"):
            assert g.abs().max() <= tolerance
            continue
        assert ((g + coefficient * theta.sign()).abs()[theta != 0] <= tolerance).all()
        assert (g.abs()[theta == 0] <= coefficient + tolerance).all()


@pytest.mark.parametrize(("n", "d"), [(80, 12), (400, 60), (40, 100), (300, 500)])
@pytest.mark.parametrize("bias", [True, False])
def test_lasso(n, d, bias):
    X, y = numbers(n, d)
    alpha = 0.1
    objective, _ = minimum((X, y), MSE(), [L1(2 * alpha, proximal=True)], bias)
    reference = Lasso(alpha=alpha, fit_intercept=bias, tol=1e-14, max_iter=10**6).fit(X.numpy(), y.numpy()[:, 0])
    assert_matches(objective, reference.coef_, reference.intercept_ if bias else None)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_the_residual_ends_below_its_tolerance_where_rounding_hides_the_decrease_of_the_loss(seed, bias):
    """Which of these steps rounding hides depends on the processor's order of summation: eight draws meet some."""
    objective, optimizer = minimum(numbers(300, 500, seed=seed), MSE(), [L1(0.2, proximal=True)], bias)
    assert "gradient" in optimizer.outcome.reason
    assert_minimum(objective, 0.2, 1e-9)


@pytest.mark.parametrize(("n", "d"), [(80, 12), (40, 100)])
def test_elastic_net(n, d):
    X, y = numbers(n, d)
    penalty = regularizers.ElasticNet(l1=0.2, l2=0.05, proximal=True)
    objective, _ = minimum((X, y), MSE(), [penalty])
    alpha = penalty.l1 / 2 + penalty.l2
    reference = ElasticNet(alpha=alpha, l1_ratio=penalty.l1 / 2 / alpha, tol=1e-14, max_iter=10**6)
    reference.fit(X.numpy(), y.numpy()[:, 0])
    assert_matches(objective, reference.coef_, reference.intercept_)


@pytest.mark.parametrize(("n", "d"), [(200, 10), (400, 80)])
@pytest.mark.parametrize("solver", ["liblinear", "saga"])
def test_logistic_regression(n, d, solver):
    X, y = labels(n, d)
    coefficient = 0.02
    objective, _ = minimum((X, y), BCE(), [L1(coefficient, proximal=True)], bias=False)
    assert_minimum(objective, coefficient)
    reference = LogisticRegression(
        C=1 / (n * coefficient),
        l1_ratio=1.0,
        solver=solver,
        fit_intercept=False,
        tol=1e-11,
        max_iter=10**5,
        random_state=0,
    )
    assert_matches(objective, reference.fit(X.numpy(), y.numpy()[:, 0]).coef_[0])


def test_a_smooth_penalty_beside_and_an_intercept():
    objective, _ = minimum(labels(300, 20), BCE(), [L1(0.02, proximal=True), L2(0.05)])
    assert_minimum(objective, 0.02)


def test_classes():
    X = features(300, 8)
    y = (X @ features(8, 3, seed=5)).argmax(dim=1)
    objective, _ = minimum((X, y), CrossEntropy(), [L1(0.02, proximal=True)])
    assert_minimum(objective, 0.02)
    weight = objective.network.map.weight
    assert 0 < int((weight == 0).sum()) < weight.numel()


@pytest.mark.parametrize("warm_start", [True, False])
def test_many_rows_begin_on_a_sample_and_end_at_the_same_minimum(warm_start):
    data = labels(20_000, 80)
    objective, optimizer = minimum(data, BCE(), [L1(0.03, proximal=True)], bias=False, warm_start=warm_start)
    assert_minimum(objective, 0.03)
    assert optimizer.iteration.evaluations <= 9


def test_a_penalty_that_allows_nothing():
    X, y = labels(200, 10)
    objective = linear((X, y), BCE(), [])
    largest = float(objective.gradient().abs().max())
    objective, _ = minimum((X, y), BCE(), [L1(1.01 * largest, proximal=True)], bias=False)
    assert not weights_of(objective).any()
    # +0, as a sign says nothing here
    assert not torch.signbit(weights_of(objective)).any()


def test_without_penalties_it_is_newton():
    objective, optimizer = minimum(labels(300, 6), BCE(), [])
    assert objective.gradient().abs().max() < 1e-9
    assert optimizer.iteration.number < 10


def test_a_penalty_on_groups():
    X = features(200, 12)
    Y = X @ (features(12, 2, seed=3) * (torch.arange(12) < 4)[:, None]) + 0.1 * features(200, 2, seed=4)
    penalty = Groups(0.4)
    network = torch.nn.Linear(12, 2).double()
    objective, _ = minimum((X, Y), MSE(), [penalty], network=network)
    weight, gradient = network.weight.detach(), objective.split(objective.gradient())[0]
    there = weight - penalty.prox(weight - gradient, 1.0)
    assert there.abs().max() < 1e-8
    empty = (weight == 0).all(dim=0)
    assert 0 < int(empty.sum()) < 12


def test_a_network_of_any_curvature_goes_down_to_a_stationary_point():
    X, y = numbers(150, 5)
    torch.manual_seed(0)
    penalty = L1(0.03, proximal=True)
    objective = linear((X, y), MSE(), [penalty], network=MLP(5, 1, [6], "tanh").double())
    optimizer = proximal([penalty])(objective.parameters, objective.network)
    losses = []
    for _ in range(300):
        run(optimizer, objective, steps=1)
        losses.append(optimizer.iteration.loss)
        if optimizer.outcome is not None:
            break
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert (np.diff(losses) <= 1e-12).all()
    assert_minimum(objective, 0.03, 1e-6)
    assert any(bool((p == 0).any()) for p in objective.parameters)


@pytest.mark.parametrize("warm_start", [True, False])
def test_any_number_of_ranks_gives_the_same_bits(warm_start):
    data = labels(20_000, 80)
    penalty = L1(0.03, proximal=True)

    def point(ranks):
        objective = linear(data, BCE(), [penalty], bias=False, ranks=ranks)
        make = functools.partial(proximal([penalty], warm_start=warm_start), network=objective.network)
        optimizer = train(make, objective, 50)
        assert optimizer.outcome.name == "converged"
        return objective.point

    with torch.no_grad():
        (alone,) = on_ranks(1, point)
        for world in (2, 3):
            for together in on_ranks(world, point):
                assert torch.equal(together, alone)


def test_a_checkpoint_goes_on_where_it_was():
    data = labels(20_000, 80)
    penalty = L1(0.03, proximal=True)
    make = proximal([penalty])
    objective = linear(data, BCE(), [penalty], bias=False)
    optimizer = make(objective.parameters, objective.network)
    run(optimizer, objective, steps=3)
    saved, point = copy.deepcopy(optimizer.state_dict()), objective.point
    run(optimizer, objective)
    resumed = linear(data, BCE(), [penalty], bias=False)
    resumed.move(point)
    other = make(resumed.parameters, resumed.network)
    other.load_state_dict(saved)
    run(other, resumed)
    assert torch.equal(resumed.point, objective.point)
    assert other.iteration.number == optimizer.iteration.number
    assert other.outcome == optimizer.outcome
    finished = make(resumed.parameters, resumed.network)
    finished.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(finished, resumed, steps=1)
    assert torch.equal(resumed.point, objective.point)


def test_refusals():
    objective = linear(numbers(30, 3), MSE(), [])
    optimizer = ProximalNewton(objective.parameters)
    optimizer.prox = {objective.parameters[0]: lambda parameter, step: parameter}
    with pytest.raises(ValueError, match="must be a method of its regularizer"):
        optimizer.refuse(objective)
    with pytest.raises(ValueError, match="memory_limit must be positive"):
        ProximalNewton(objective.parameters, memory_limit=0.0)


def test_an_active_set_that_does_not_fit_is_an_outcome():
    penalty = L1(0.001, proximal=True)
    objective = linear(numbers(200, 100), MSE(), [penalty])
    optimizer = train(functools.partial(proximal([penalty], memory_limit=1e-5), network=objective.network), objective)
    assert optimizer.outcome.name == "stalled"
    assert "too many for memory_limit=1e-05" in optimizer.outcome.reason
    assert not objective.point.any()


@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")
def test_through_the_core():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6))
    y = X @ [2.0, -1.0, 0.0, 0.0, 0.0, 0.5] + rng.normal(size=200)
    table = polars.DataFrame({**{f"x{j}": X[:, j] for j in range(6)}, "y": y})
    module = ComponentModule("linear", "mse", "proximal_newton", [use("l1", coefficient=0.4, proximal=True)])
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        max_epochs=50,
    )
    data = TabularData(table, target="y")
    trainer.fit(module, data)
    assert module.outcome.name == "converged"
    rows = data.training_set.read(0, data.training_set.samples) if hasattr(data, "training_set") else None
    weight = module.network.map.weight.detach()[0]
    assert 0 < int((weight == 0).sum()) < 6
    if rows is not None:
        reference = Lasso(alpha=0.2, tol=1e-14).fit(rows.features.numpy(), rows.target.numpy()[:, 0])
        np.testing.assert_allclose(weight.numpy(), reference.coef_, atol=1e-8)


def test_other_curvature_methods_refuse_kinks():
    for name in ("newton", "bfgs", "lbfgs", "line_search"):
        with pytest.raises(TorchplugError, match="proximal"):
            ComponentModule("linear", "mse", name, [use("l1", proximal=True)])
        with pytest.raises(TorchplugError, match="use the optimizer proximal_newton"):
            ComponentModule("linear", "mse", name, [use("l1")])


@pytest.mark.parametrize("target_unit", [1e-9, 1.0, 1e6])
@pytest.mark.parametrize("feature_unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("loss", [MSE, BCE], ids=["mse", "bce"])
def test_units_change_neither_the_solution_nor_when_it_is_reached(loss, feature_unit, target_unit):
    """λ has the units of ∇F, so that it changes with them."""
    if loss is BCE:
        target_unit = 1.0
    X, y = numbers(300, 20) if loss is MSE else labels(300, 20)
    coefficient = 0.1 if loss is MSE else 0.02
    plain, expected = minimum((X, y), loss(), [L1(coefficient, proximal=True)])
    scaled = L1(coefficient * feature_unit * target_unit, proximal=True)
    objective, optimizer = minimum((feature_unit * X, target_unit * y), loss(), [scaled])
    found = weights_of(objective) * feature_unit / target_unit
    torch.testing.assert_close(found, weights_of(plain), rtol=1e-7, atol=1e-9)
    assert torch.equal(found == 0.0, weights_of(plain) == 0.0)
    assert abs(optimizer.iteration.number - expected.iteration.number) <= 2


@pytest.mark.parametrize("unit", [1e-9, 1e6])
def test_a_start_near_the_minimum_is_not_taken_for_it_in_small_units(unit):
    X, y = numbers(300, 20)
    penalty = L1(0.1 * unit, proximal=True)
    objective = linear((X, unit * y), MSE(), [penalty])
    optimizer = train(functools.partial(proximal([penalty]), network=objective.network), objective, 200)
    assert optimizer.outcome.name == "converged"
    assert_minimum(objective, 0.1 * unit, 1e-8 * unit)
