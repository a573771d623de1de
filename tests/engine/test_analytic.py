"""Gradients by hand: autograd's to rounding, and the same bits by either entrance."""

import pytest
import torch
from torch import nn

from compared_fits import Fit, differences, made, quiet, rows
from engine_steps import Squared, analytic, batch, gradients, network, objective_of, stored
from own_components import own_components
from torchplug import Family, Regularizer, use
from torchplug.components.builtin.regularizers import L1, L2, ElasticNet
from torchplug.components.task import TASKS
from torchplug.engine import analytic as module
from torchplug.registry import registry


class Quartic(Regularizer):
    """A penalty whose derivative nobody has written out."""

    coefficient = 0.3

    def forward(self, parameters):
        terms = [p.square().square().sum() for p in parameters.values()]
        return torch.stack(terms).sum() if terms else torch.zeros(())


def expected(objective, b, world=1, window=1):
    """The share's gradient, by autograd."""
    value, weighted = objective.scaled_loss(b, world, window)
    return value, float(weighted), torch.autograd.grad(value, objective.parameters(), allow_unused=True)


def assert_close(found, wanted, within=1e-12):
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=within, atol=within)


PENALTIES = {
    "none": [],
    "l2": [L2(0.1)],
    "l1": [L1(0.1)],
    "elastic": [ElasticNet(0.1, 0.2)],
    "of-biases": [L2(0.1, include=["*bias"])],
    "overlapping": [L2(0.1), L1(0.2, include=["0.weight"]), L2(0.3, include=["0.*"])],
    "without-derivative": [Quartic(), L2(0.1)],
    "proximal": [L1(0.1, proximal=True)],
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("b", [batch(), batch(uniform=True), batch(samples=11), batch(0, samples=4), batch(1)])
def test_it_is_autograds_gradient(b, world, penalties, reduction):
    objective = objective_of(network(), penalties, reduction)
    _, weighted, wanted = expected(objective, b, world)
    engine, told = analytic(objective)
    with torch.no_grad():
        engine.gradient(b, world, bool((b.weight == 1).all()))
    assert_close(gradients(objective), wanted)
    assert told.weighted == pytest.approx(weighted, rel=1e-14)
    assert told.rows == len(b.weight)


@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("b", [batch(), batch(samples=11, micro_batches=2), batch(0, samples=4)])
def test_what_is_carried_leads_to_it(b, window, penalties):
    objective = objective_of(network(), penalties)
    value, weighted, wanted = expected(objective, b, 2, window)
    engine, told = analytic(objective)
    carried = engine.with_precomputed_grad(b, 2, window)
    torch.testing.assert_close(carried.detach(), value.detach(), rtol=1e-13, atol=1e-13)
    carried.backward()
    assert_close(gradients(objective), wanted)
    assert told.weighted == pytest.approx(weighted, rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("count", [1, 5, 16, 64])
def test_both_entrances_give_the_same_bits(dtype, penalties, uniform, count):
    objective = objective_of(network(dtype), penalties)
    storage = stored(objective)
    engine, _ = analytic(objective, storage)
    b = batch(count, dtype, uniform=uniform)
    with torch.no_grad():
        engine.gradient(b, 1, uniform)
    direct = gradients(objective)
    storage.gradient.zero_()
    engine.with_precomputed_grad(b, 1, 1).backward()
    assert differences(direct, gradients(objective)) == []


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("count", [2, 3, 4, 7, 64])
def test_many_rows_are_gone_through_in_blocks(monkeypatch, uniform, count):
    monkeypatch.setattr(module, "_BLOCK_NUMBERS", 1)
    monkeypatch.setattr(module, "_LEAST_BLOCK_ROWS", 3)
    objective = objective_of(network(), [L2(0.1)])
    storage, b = stored(objective), batch(count, uniform=uniform)
    value, weighted, wanted = expected(objective, b)
    engine, told = analytic(objective, storage)
    with torch.no_grad():
        engine.gradient(b, 1, uniform)
    direct = gradients(objective)
    assert_close(direct, wanted)
    assert told.weighted == pytest.approx(weighted, rel=1e-13)
    assert told.rows == count
    storage.gradient.zero_()
    carried = engine.with_precomputed_grad(b, 1, 1)
    torch.testing.assert_close(carried.detach(), value.detach(), rtol=1e-13, atol=1e-13)
    carried.backward()
    assert differences(direct, gradients(objective)) == []


def test_carried_gradients_add_up_and_are_scaled():
    objective = objective_of(network(), [L2(0.1)])
    engine, _ = analytic(objective)
    batches = [batch(seed=seed, samples=10, micro_batches=2) for seed in (1, 2)]
    both = [
        engine.with_precomputed_grad(b, 1, 2) / 2 for b in batches
    ]  # of which the second must not overwrite the first
    for value in both:
        value.backward()
    wanted = [expected(objective, b, 1, 2)[2] for b in batches]
    assert_close(gradients(objective), [(a + b) / 2 for a, b in zip(*wanted, strict=True)])


def test_gradients_do_not_add_up_over_steps():
    objective = objective_of(network(), [Quartic()])
    engine, _ = analytic(objective)
    with torch.no_grad():
        for seed in range(3):
            engine.gradient(batch(seed=seed), 1, False)
    assert_close(gradients(objective), expected(objective, batch(seed=2))[2])


def test_sizes_of_batches_may_change():
    objective = objective_of(network())
    engine, _ = analytic(objective)
    for count, samples in ((5, 5), (3, 3), (5, 7), (5, 5)):
        b = batch(count, samples=samples)
        with torch.no_grad():
            engine.gradient(b, 1, False)
        assert_close(gradients(objective), expected(objective, b)[2])


@pytest.mark.parametrize("frozen", [[0], [1], [0, 1], [2], [0, 1, 2], [1, 3]])
def test_frozen_parameters_take_no_part(frozen):
    net = network()
    for index in frozen:
        list(net.parameters())[index].requires_grad_(False)
    objective = objective_of(net, [L2(0.1, include=["*"])])
    b = batch()
    wanted = expected(objective, b)[2]
    engine, _ = analytic(objective)
    with torch.no_grad():
        engine.gradient(b, 1, False)
    assert_close(gradients(objective), wanted)
    assert [i for i, p in enumerate(net.parameters()) if p.grad is None] == frozen


def test_a_penalty_on_nothing_adds_nothing():
    """As where every weight is frozen."""
    net = network()
    net[0].weight.requires_grad_(False)
    net[2].weight.requires_grad_(False)
    objective = objective_of(net, [Quartic(), L2(0.1)])
    engine, _ = analytic(objective)
    with torch.no_grad():
        engine.gradient(batch(), 1, False)
    assert_close(gradients(objective), expected(objective, batch())[2])
    engine.with_precomputed_grad(batch(), 1, 1).backward()


def test_nothing_of_the_batch_is_changed():
    objective = objective_of(network())
    engine, _ = analytic(objective)
    b, kept = batch(), batch()
    with torch.no_grad():
        engine.gradient(b, 1, False)
    engine.with_precomputed_grad(b, 1, 1).backward()
    assert differences(list(b), list(kept)) == []


def test_second_derivatives_are_not_pretended():
    objective = objective_of(network())
    engine, _ = analytic(objective)
    value = engine.with_precomputed_grad(batch(), 1, 1)
    (gradient,) = torch.autograd.grad(value, objective.parameters()[:1])
    assert not gradient.requires_grad


# ---------------------------------------------------------------------- whole fits


def _of_kind(kind):
    columns = {"regression": "y", "count": "count", "multiclass": "three"}
    return columns.get(kind, "two")


def _with_derivative():
    entries = own_components(Family.LOSS)
    built = {entry.name: registry().resolve(Family.LOSS, entry.qualified_name).build() for entry in entries}
    return {name: loss.kind for name, loss in built.items() if hasattr(loss, "derivative")}


LOSSES = _with_derivative()


def assert_agree(folder, within=1e-12, **settings):
    """30 steps in float64 by either engine; returns the parameters."""
    options = {"precision": "64-true", "max_epochs": None, "max_steps": 30, **settings}
    with quiet():
        chain, autograd = (
            Fit(made(folder / engine), engine=engine, **options)() for engine in ("analytic", "autograd")
        )
    assert [fit.module.execution.fit.stepper.engine.name for fit in (chain, autograd)] == ["analytic", "autograd"]
    found, wanted = (fit.everything() for fit in (chain, autograd))
    for thing in ("checkpoint", "rows", "metrics", "steps"):
        assert differences(found[thing], wanted[thing], thing, within) == []
    return chain.parameters


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_with_a_derivative_agrees(tmp_path, name):
    assert LOSSES[name] in TASKS
    found = assert_agree(tmp_path, loss=name, data=lambda: rows(_of_kind(LOSSES[name]), weights="w"))
    assert all(torch.isfinite(value).all() for value in found.values())


def test_losses_are_there():
    assert {"mse", "l1", "bce", "cross_entropy", "huber", "log_cosh", "tukey", "quantile", "hinge"} <= set(LOSSES)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "silu", "softplus"])
def test_every_activation_agrees(tmp_path, activation):
    assert_agree(tmp_path, model=use("mlp", hidden=[6, 5], activation=activation), optimizer=use("momentum", lr=0.01))


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": use("momentum", lr=0.02)},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "regularizers": ["l2"]},
        {"optimizer": use("nesterov", lr=0.02), "scheduler": use("cosine", interval="step")},
        {"regularizers": [use("l2", coefficient=0.1), use("l1", coefficient=0.05, include=["*bias"])]},
        {"regularizers": [use("elastic_net", l1=0.1, l2=0.1)], "data": lambda: rows(weights="w")},
        {"regularizers": [use("l1", coefficient=0.1, proximal=True)]},
        {"gradient_clip_val": 0.1},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 3, "regularizers": ["l2"]},
        {"reduction": "sum", "optimizer": use("sgd", lr=1e-3)},
        {"data": lambda: rows(["y", "z"], batch_size=16)},
        {"loss": "cross_entropy", "data": lambda: rows("three", class_weight="balanced")},
        {"model": use("mlp", hidden=[4], bias=False)},
        {"model": use("linear", bias=False), "optimizer": "rmsprop"},
        {"model": lambda: nn.Sequential(nn.Linear(3, 4), nn.Softplus(beta=2.0), nn.Linear(4, 1), nn.Sigmoid())},
    ],
)
def test_fits_agree(tmp_path, settings):
    assert_agree(tmp_path, **settings)


# ---------------------------------------------------------------------- derivatives that are not those of the loss


class Capped(Squared):
    """Somebody's loss by inheritance: another value, whose derivative is not the one that is inherited."""

    def forward(self, scores, target):
        return (scores - target).square().sum(1).clamp(max=1.0)


class Halved(L2):
    """Somebody's penalty by inheritance."""

    def forward(self, parameters):
        return 0.5 * super().forward(parameters)


@pytest.mark.parametrize("family", ["losses", "regularizers"])
def test_an_inherited_derivative_is_not_taken_for_that_of_another_value(tmp_path, family, distributions):
    name = {"losses": "Capped", "regularizers": "Halved"}[family]
    distributions.offer("inheriting", (family, "inheriting", f"{__name__}:{name}"))
    options = {"loss": "inheriting"} if family == "losses" else {"regularizers": [use("inheriting", coefficient=1.0)]}
    with quiet():
        auto, autograd = (
            Fit(made(tmp_path / engine), engine=engine, precision="64-true", **options)()
            for engine in ("auto", "autograd")
        )
    assert differences(auto.parameters, autograd.parameters, within=1e-10) == []
