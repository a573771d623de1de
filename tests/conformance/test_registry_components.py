"""Checks that every registered component passes, whoever owns it: registering one buys its tests."""

from __future__ import annotations

import inspect
import io
import json
import re
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from registered import components, is_full_batch, resolved, weights
from torchplug import Capability, Family, Loss, Objective, Regularizer, TargetInfo
from torchplug.batch import Rows
from torchplug.components.builtin.losses import L1, MSE
from torchplug.components.contracts import is_piecewise_linear, linear_scores
from torchplug.components.metrics import Evaluation, MetricChoice
from torchplug.components.task import TASKS
from torchplug.errors import ParameterError
from torchplug.registry import Entry, registry
from torchplug.registry.component import Factory
from torchplug.registry.docstrings import describe

FEW = settings(max_examples=15, deadline=None)
WEIGHTS = arrays(np.float64, (2, 3), elements=st.floats(-5, 5, allow_subnormal=False))
SUPPLIED_KEYWORDS = {"total_steps": 20, "steps_per_epoch": 4}


def loss_example(loss: Loss, n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and a target as the loss's kind wants them."""
    generator = torch.Generator().manual_seed(12)
    labels = {"binary": (0, 1), "margin": (0, 1), "multiclass": (0, 1, 2)}.get(loss.kind)
    columns = ("a", "b") if labels is None else ("y",)
    outputs = loss.outputs(TargetInfo(columns, labels))
    scores = torch.randn(n, outputs, generator=generator, dtype=torch.float64)
    if loss.kind == "multiclass":
        return scores, torch.randint(3, (n,), generator=generator)
    target = torch.rand(n, len(columns), generator=generator, dtype=torch.float64) * 3
    if loss.kind in ("binary", "margin"):
        target = (target > 1.5).double()
    return scores, target.floor() if loss.kind == "count" else target


def test_every_family_has_components():
    assert all(registry().entries(family) for family in Family)


@components(*Family)
def test_it_is_documented(entry: Entry):
    description = describe(registry(), entry)
    assert description["summary"]
    assert len(description["summary"]) <= 80
    assert description["description"]
    assert description["formula"], "the docstring has no update_fn, an indented block"
    undocumented = [p["name"] for p in description["parameters"] if not p["description"]]
    assert not undocumented, f"Args lacks {undocumented}"
    assert all(len(line) <= 120 for line in inspect.getdoc(registry().target(entry)).splitlines())
    json.dumps(description)


@components(*Family)
def test_no_number_may_be_nan_and_the_refusal_is_documented(entry: Entry):
    supplied = {
        Family.MODEL: lambda: (2, 1),
        Family.OPTIMIZER: lambda: (weights(),),
        Family.SCHEDULER: lambda: (torch.optim.SGD(weights(), lr=0.1),),
    }.get(entry.family, tuple)
    for name, parameter in registry().parameters(entry).items():
        if parameter.annotation in (float, float | None):
            with pytest.raises(ParameterError, match=name):
                resolved(entry, **{name: float("nan")}).build(*supplied(), **SUPPLIED_KEYWORDS)
            assert describe(registry(), entry)["raises"]


@components(*Family)
def test_its_parameters_are_plain_and_their_defaults_have_the_annotated_type(entry: Entry):
    parameters = registry().parameters(entry)
    defaults = {n: p.default for n, p in parameters.items() if p.default is not inspect.Parameter.empty}
    defaults = {n: value for n, value in defaults.items() if Factory not in (parameters[n].annotation,)}
    chosen = resolved(entry, **{n: value for n, value in defaults.items() if value is not None})
    for name, value in chosen.parameters.items():
        if name in defaults:
            assert value == defaults[name] or list(value) == list(defaults[name])
    assert resolved(entry, **chosen.spec.parameters).parameters == chosen.parameters


@components(Family.MODEL)
@pytest.mark.parametrize("shape", [(1, 1), (4, 3)])
def test_a_model_maps_features_to_scores_and_reloads(entry: Entry, shape: tuple[int, int]):
    inputs, outputs = shape
    chosen = resolved(entry)
    model = chosen.build(inputs, outputs).double()
    features = torch.randn(6, inputs, dtype=torch.float64)
    assert model(features).shape == (6, outputs)
    assert model(features[:0]).shape == (0, outputs)
    assert all(p.requires_grad for p in model.parameters())
    kept = io.BytesIO()
    torch.save(model.state_dict(), kept)
    kept.seek(0)
    again = chosen.build(inputs, outputs).double()
    again.load_state_dict(torch.load(kept, weights_only=True))
    assert torch.equal(again.eval()(features), model.eval()(features))
    model.train()(features).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@components(Family.MODEL)
def test_a_model_that_is_declared_linear_is(entry: Entry):
    model = resolved(entry).build(4, 3).double().eval()
    linear = linear_scores(model)
    assert (linear is not None) is (entry.name == "linear") or not entry.builtin
    if linear is not None:
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        features = torch.randn(6, 4, dtype=torch.float64)
        torch.testing.assert_close(model(features), nn.functional.linear(features, *linear))
        declared = [tensor for tensor in linear if tensor is not None]
        assert all(a is b for a, b in zip(declared, model.parameters(), strict=True)), "weight, then bias, and no more"


@components(Family.METRIC)
def test_a_metrics_direction_tells_good_predictions_from_bad_ones(entry: Entry):
    record: Any = entry.component
    for kind in record.kinds:
        task = TASKS[kind]
        k = 3 if task.has_indices else 1
        choice = MetricChoice(task, [] if entry.name in task.metrics else [resolved(entry)])
        generator = torch.Generator().manual_seed(5)
        labels = torch.randint(k if task.has_indices else 2, (60,), generator=generator)
        target = labels if task.has_indices else labels[:, None].double()
        good = nn.functional.one_hot(labels, 3).double() * 3.0 if task.has_indices else 4.0 * target - 2.0
        noise = torch.randn(good.shape, generator=generator, dtype=torch.float64)
        if not task.has_classes:
            target = task.link(good)
        values = {}
        for size in (0.1, 10.0):
            evaluation = Evaluation(choice, k)
            predictions = task.link(good + size * noise)
            for rows in (slice(0, 25), slice(25, 25), slice(25, 60)):
                evaluation.update(torch.zeros(len(target[rows])), predictions[rows], target[rows])
            values[size] = evaluation.compute()[entry.name]
        assert sorted(values, key=lambda size: values[size], reverse=record.direction == "max") == [0.1, 10.0], kind
        assert choice.directions[entry.name] == record.direction


@components(Family.LOSS)
def test_a_loss_keeps_the_contract(entry: Entry):
    loss = resolved(entry).build()
    assert isinstance(loss, Loss)
    assert loss.kind in TASKS
    scores, target = loss_example(loss)
    loss.check(target)
    values = loss(scores, target)
    assert values.shape == (5,)
    assert values.dtype == scores.dtype
    assert torch.isfinite(values).all()
    assert loss(scores[:0], target[:0]).shape == (0,)
    for i in range(5):  # each sample's value is its own
        torch.testing.assert_close(loss(scores[i : i + 1], target[i : i + 1])[0], values[i])
    predictions = loss.link(scores)
    assert predictions.shape == scores.shape
    if loss.kind in ("regression", "count"):
        assert loss.point(predictions).shape == target.shape
        assert len(loss.prediction_names(TargetInfo(("a", "b")))) == scores.shape[1]


@components(Family.LOSS)
def test_a_losss_derivatives_are_right(entry: Entry):
    loss = resolved(entry).build()
    scores, target = loss_example(loss)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), scores)
    (gradient,) = torch.autograd.grad(loss(scores, target).sum(), scores)
    z = scores.detach()
    if hasattr(loss, "derivative"):
        torch.testing.assert_close(loss.derivative(z, target), gradient, rtol=1e-10, atol=1e-12)
    if hasattr(loss, "residuals"):
        torch.testing.assert_close(loss.residuals(z, target).square().sum(dim=1), loss(z, target))
    if is_piecewise_linear(loss):
        knots, slopes = loss.pieces(target)
        assert knots.shape[:2] == slopes.shape[:2] == scores.shape
        assert slopes.shape[2] == knots.shape[2] + 1
        assert bool((knots.diff(dim=2) >= 0).all())
        assert bool((slopes.diff(dim=2) >= 0).all())
        place = (z.unsqueeze(2) > knots).sum(dim=2, keepdim=True)
        torch.testing.assert_close(slopes.gather(2, place).squeeze(2), gradient, rtol=1e-10, atol=1e-12)
    if hasattr(loss, "curvature"):
        hessian = torch.autograd.functional.hessian(lambda z: loss(z, target).sum(), z)
        own = torch.stack([hessian[i, :, i, :] for i in range(len(z))])
        torch.testing.assert_close(loss.curvature(z, target), own, rtol=1e-10, atol=1e-12)


@components(Family.LOSS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_losss_gradient_is_finite_on_large_scores(entry: Entry, dtype: torch.dtype):
    loss = resolved(entry).build()
    scores, target = loss_example(loss)
    size = 50.0 if loss.kind == "count" else 1e4  # the rate of a count is e^score
    scores = (torch.sign(scores) * size).to(dtype).requires_grad_()
    target = target.to(dtype) if target.is_floating_point() else target
    values = loss(scores, target)
    values.sum().backward()
    assert values.dtype == dtype
    assert torch.isfinite(values).all()
    assert torch.isfinite(scores.grad).all()


@components(Family.REGULARIZER)
@FEW
@given(WEIGHTS, WEIGHTS)
def test_a_regularizer_is_a_penalty(entry: Entry, first: np.ndarray, second: np.ndarray):
    penalty = resolved(entry).build()
    assert isinstance(penalty, Regularizer)
    assert penalty.coefficient >= 0
    a, b = torch.tensor(first), torch.tensor(second)
    both = penalty({"a": a, "b": b})
    assert both.shape == ()
    assert both.item() >= 0
    assert both.item() == pytest.approx(penalty({"a": a}).item() + penalty({"b": b}).item(), rel=1e-12, abs=1e-300)
    assert penalty({"a": torch.zeros_like(a)}).item() == 0


@components(Family.REGULARIZER)
def test_a_regularizers_gradient_is_right(entry: Entry):
    penalty = resolved(entry).build()
    assert torch.autograd.gradcheck(lambda w: penalty({"w": w}), weights())


@components(Family.REGULARIZER, having=lambda entry: "proximal" in registry().parameters(entry))
@FEW
@given(WEIGHTS, WEIGHTS, st.floats(0.01, 10))
def test_a_regularizers_prox_beats_every_other_point(entry: Entry, at: np.ndarray, other: np.ndarray, step: float):
    penalty = resolved(entry, proximal=True).build()
    point = torch.tensor(at)

    def value(u: torch.Tensor) -> float:
        return (penalty.coefficient * penalty({"u": u}) + (u - point).square().sum() / (2 * step)).item()

    found = penalty.prox(point, step)
    assert value(found) <= min(value(torch.tensor(other)), value(point), value(0 * point)) + 1e-12
    assert torch.equal(penalty.prox(point, torch.full_like(point, step)), found)


@components(Family.REGULARIZER)
@FEW
@given(WEIGHTS, WEIGHTS)
def test_a_regularizers_own_derivatives_are_autograds(entry: Entry, first: np.ndarray, second: np.ndarray):
    penalty = resolved(entry).build()
    named = {"a": nn.Parameter(torch.tensor(first)), "b": nn.Parameter(torch.tensor(second))}
    gradients = torch.autograd.grad(penalty(named), list(named.values()))
    for method in ("derivative", "curvature"):
        if not hasattr(penalty, method):
            continue
        found = getattr(penalty, method)({name: p.detach() for name, p in named.items()})
        assert list(found) == list(named)
        for (name, value), gradient in zip(found.items(), gradients, strict=True):
            assert value.dtype == torch.float64
            if method == "derivative":
                assert torch.equal(value, gradient) or torch.allclose(value, gradient, rtol=1e-14, atol=0)
            else:
                hessian = torch.autograd.functional.hessian(lambda w, n=name: penalty({n: w}), named[name].detach())
                diagonal = torch.diag(hessian.reshape(6, 6)).view(2, 3)
                torch.testing.assert_close(value, diagonal, rtol=1e-12, atol=1e-12)
                assert hessian.count_nonzero() <= 6
        assert torch.equal(named["a"].detach(), torch.tensor(first))
    if hasattr(penalty, "residuals"):
        squares = sum(r.square().sum() for r in penalty.residuals(named).values())
        torch.testing.assert_close(squares, penalty.coefficient * penalty(named), rtol=1e-12, atol=1e-300)


class Plane:
    """A training set: a plane with noise."""

    samples = 60

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(2)
        self.features = torch.randn(self.samples, 3, generator=generator, dtype=torch.float64)
        noise = torch.randn(self.samples, 1, generator=generator, dtype=torch.float64)
        self.target = self.features.sum(1, keepdim=True) + 2.0 + 0.3 * noise

    def read(self, start: int, stop: int) -> Rows:
        rows = slice(start, stop)
        return Rows(self.features[rows], self.target[rows], torch.ones(stop - start, dtype=torch.float64))


def least_absolute(design: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The coefficients of least absolute error, by scipy's simplex method."""
    n, d = design.shape
    cost, identity = np.concatenate([np.zeros(2 * d), np.ones(2 * n)]), np.eye(n)
    equations = np.hstack([design.numpy(), -design.numpy(), identity, -identity])
    solved = scipy.optimize.linprog(cost, A_eq=equations, b_eq=target[:, 0].numpy(), method="highs-ds")
    return torch.from_numpy(solved.x[:d] - solved.x[d : 2 * d])


@components(Family.OPTIMIZER, having=is_full_batch)
def test_a_full_batch_optimizer_reaches_the_minimum_and_goes_on_bit_for_bit(entry: Entry):
    def build(network: nn.Linear) -> torch.optim.Optimizer:
        named = Capability.NAMES in entry.component.capabilities
        return resolved(entry).build(list(network.named_parameters() if named else network.parameters()))

    def step(optimizer: Any, network: nn.Linear) -> None:
        objective = Objective(network, loss, [], rows)
        optimizer.step(objective=objective)

    rows, linear = Plane(), Capability.PIECEWISE_LINEAR in entry.component.capabilities
    loss = L1() if linear else MSE()
    network = nn.Linear(3, 1).double()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.3)
    optimizer: Any = build(network)
    assert optimizer.outcome is None
    step(optimizer, network)
    assert optimizer.iteration.number == 1
    kept = io.BytesIO()
    torch.save((optimizer.state_dict(), network.state_dict()), kept)
    kept.seek(0)
    state, values = torch.load(kept, weights_only=True)
    resumed = nn.Linear(3, 1).double()
    resumed.load_state_dict(values)
    again: Any = build(resumed)
    again.load_state_dict(state)
    for _ in range(500):
        step(optimizer, network)
        step(again, resumed)
    assert optimizer.outcome == again.outcome
    assert optimizer.iteration == again.iteration
    assert optimizer.outcome.name == "converged"
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), network.parameters(), strict=True))
    design = torch.cat([rows.features, torch.ones(rows.samples, 1, dtype=torch.float64)], dim=1)
    expected = least_absolute(design, rows.target) if linear else torch.linalg.lstsq(design, rows.target).solution[:, 0]
    found = torch.cat([network.weight.detach()[0], network.bias.detach()])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@components(Family.OPTIMIZER, having=lambda entry: not is_full_batch(entry))
def test_an_optimizer_lowers_a_convex_function_and_goes_on_bit_for_bit(entry: Entry):
    def build(params: list[nn.Parameter]) -> torch.optim.Optimizer:
        named = (
            [(f"w{i}", p) for i, p in enumerate(params)] if Capability.NAMES in entry.component.capabilities else params
        )
        return resolved(entry).build(named)

    def step(optimizer: torch.optim.Optimizer, params: list[nn.Parameter]) -> float:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = sum((p.square().sum() for p in params), torch.zeros((), dtype=torch.float64))
            loss.backward()
            return loss

        if hasattr(optimizer, "train"):
            optimizer.train()
        return optimizer.step(closure).item()

    params = weights(2)
    optimizer = build(params)
    losses = [step(optimizer, params) for _ in range(10)]
    assert losses[-1] < losses[0]
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    kept = io.BytesIO()
    torch.save((optimizer.state_dict(), [p.detach() for p in params]), kept)
    kept.seek(0)
    state, values = torch.load(kept, weights_only=True)
    resumed = [nn.Parameter(value) for value in values]
    again = build(resumed)
    again.load_state_dict(state)
    for _ in range(3):
        assert step(again, resumed) == step(optimizer, params)
    assert all(torch.equal(a, b) for a, b in zip(resumed, params, strict=True))


@components(
    Family.OPTIMIZER, having=lambda entry: Capability.PROX in entry.component.capabilities and not is_full_batch(entry)
)
def test_an_optimizers_step_applies_the_prox_if_it_says_so(entry: Entry):
    (weight,) = weights()
    optimizer = resolved(entry).build([weight])
    optimizer.prox = {weight: lambda parameter, step: torch.zeros_like(parameter) + 0 * step}
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    assert torch.equal(weight, torch.zeros_like(weight))


@components(Family.SCHEDULER)
def test_a_scheduler_keeps_rates_sane_and_goes_on_alike(entry: Entry):
    def build() -> tuple[torch.optim.Optimizer, LRScheduler]:
        optimizer = torch.optim.SGD(weights(), lr=0.1)
        return optimizer, resolved(entry).build(optimizer, **SUPPLIED_KEYWORDS)

    def advance(optimizer: torch.optim.Optimizer, scheduler: LRScheduler, steps: int) -> list[float]:
        seen = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step(*([1.0] if isinstance(scheduler, ReduceLROnPlateau) else []))
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    optimizer, scheduler = build()
    assert isinstance(scheduler, LRScheduler)
    assert getattr(scheduler, "interval", "epoch") in ("epoch", "step")
    assert isinstance(scheduler, ReduceLROnPlateau) == (getattr(scheduler, "monitor", None) is not None)
    before = advance(optimizer, scheduler, 7)
    kept = io.BytesIO()
    torch.save((optimizer.state_dict(), scheduler.state_dict()), kept)
    kept.seek(0)
    states = torch.load(kept, weights_only=True)
    other, again = build()
    other.load_state_dict(states[0])
    again.load_state_dict(states[1])
    after = advance(optimizer, scheduler, 20)
    assert advance(other, again, 20) == after
    assert all(0 <= rate <= 10 for rate in before + after)


@components(*Family)
def test_its_name_is_the_one_recipes_can_use(entry: Entry):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", entry.name)
    assert registry().find(entry.family, entry.qualified_name) == entry
