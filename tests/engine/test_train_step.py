"""The training step as a pure function: every executor agrees with it."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine_steps import Told
from own_components import own_components
from torchplug import Capability, Family, use
from torchplug.batch import Batch, Rows
from torchplug.engine.analytic import Analytic, why_not_analytic
from torchplug.engine.autograd import Autograd
from torchplug.engine.compiled import Compiled
from torchplug.engine.train_step import TrainStep
from torchplug.flat_storage import FlatStorage
from torchplug.objective import StepObjective
from torchplug.registry import registry
from torchplug.resolved_config import ResolvedConfig

ROWS, STEPS = 6, 3
LOSSES = own_components(Family.LOSS)
OPTIMIZERS = [e for e in own_components(Family.OPTIMIZER) if hasattr(registry().target(e), "update_fn")]
PENALTIES = [
    [],
    [use("l2", coefficient=0.1)],
    [use("l1", coefficient=0.05), use("l2", coefficient=0.02, include=["*bias"])],
    [use("elastic_net", l1=0.03, l2=0.1)],
    [use("l1", coefficient=0.02, proximal=True)],
    [use("elastic_net", l1=0.02, l2=0.1, proximal=True), use("l2", coefficient=0.1)],
]


class Totals(Told):
    """What an engine tells of losses, in one total as well."""

    def __init__(self, loss):
        super().__init__(loss)
        self.total = torch.zeros((), dtype=torch.float64)

    def advance_total(self, total, rows):
        """The compiled steps' total."""


def made(loss, optimizer, penalties, model, reduction):
    """An objective and an optimizer, the same each time."""
    torch.manual_seed(3)
    resolved = ResolvedConfig.of(model, loss.qualified_name, optimizer, penalties, None)
    kind = resolved.build_loss().kind
    outputs = 3 if kind == "multiclass" else 1
    if loss.name == "quantile":
        outputs = 3
    network, built = resolved.build_network(2, outputs).double(), resolved.build_loss().double()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.5)
    objective = StepObjective(network, built, resolved.build_regularizers(), reduction)
    return objective, resolved.build_optimizer(resolved.parameter_groups(network, built), objective), kind


def batches(kind, uniform, seed):
    """Batches of random rows."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        features = torch.randn(ROWS, 2, generator=generator, dtype=torch.float64)
        drawn = torch.randint(0, 2 if kind in ("binary", "margin") else 3, (ROWS,), generator=generator)
        numbers = torch.randn(ROWS, 1, generator=generator, dtype=torch.float64)
        target = drawn if kind == "multiclass" else numbers if kind == "regression" else drawn.double().unsqueeze(1)
        weight = torch.rand(ROWS, generator=generator, dtype=torch.float64) + 0.1
        yield Batch(features, target, torch.ones_like(weight) if uniform else weight, ROWS)


def executed(engine, objective, optimizer, given):
    """Steps by an engine's gradients and the optimizer itself; the Σ wℓ that it tells."""
    told = Totals(objective.loss)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    storage = FlatStorage([parameters])  # views: the optimizer's parameters stay the same objects
    made = engine(objective, told, storage, nullcontext)
    for batch in given:
        if hasattr(optimizer, "train"):
            optimizer.train()
        with torch.no_grad():
            made.gradient(batch, 1, bool((batch.weight == 1).all()))
        optimizer.update()
        if hasattr(optimizer, "eval"):
            optimizer.eval()
    return told.weighted


def compiled(objective, optimizer, given):
    """Several steps in one graph, which is traced as for the compiler; None where no graph can make them."""
    engine = Compiled(objective, Totals(objective.loss), None, nullcontext)
    whole = engine.fused_steps(optimizer)
    if whole is None:
        return None
    rows = Rows(*(torch.cat([batch[i] for batch in given]) for i in range(3)))
    with torch.no_grad():
        take = whole.prepare(rows, len(given))
        assert take is not None
        take()
    return True


@given(
    loss=st.sampled_from(LOSSES),
    optimizer=st.sampled_from(OPTIMIZERS),
    penalties=st.sampled_from(PENALTIES),
    model=st.sampled_from([use("linear"), use("mlp", hidden=[3], activation="tanh")]),
    reduction=st.sampled_from(["mean", "sum"]),
    uniform=st.booleans(),
    lr=st.floats(1e-3, 3e-2),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_executor_agrees_with_the_training_step(
    monkeypatch, loss, optimizer, penalties, model, reduction, uniform, lr, seed
):
    monkeypatch.setattr("torch._inductor.compile", lambda traced, inputs, options: traced)
    arguments = (loss, use(optimizer.qualified_name, lr=lr), penalties, model, reduction)
    if (
        any(spec.parameters.get("proximal") for spec in penalties)
        and Capability.PROX not in optimizer.component.capabilities
    ):
        return
    objective, its_optimizer, kind = made(*arguments)
    given = list(batches(kind, uniform, seed))
    train_step = TrainStep(objective, its_optimizer)
    state, hyper, weighted = train_step.state(), train_step.hyper(), 0.0
    for batch in given:
        state, metrics = train_step(state, batch, hyper)
        weighted += float(metrics.weighted)
    executors = [Autograd] if why_not_analytic(objective, "64-true") else [Autograd, Analytic]
    for engine in executors:
        live, live_optimizer, _ = made(*arguments)
        told = executed(engine, live, live_optimizer, given)
        assert told == pytest.approx(weighted, rel=1e-9)
        assert_same(state, live, live_optimizer)
    live, live_optimizer, _ = made(*arguments)
    if compiled(live, live_optimizer, given):
        assert_same(state, live, live_optimizer)


def assert_same(state, objective, optimizer):
    """Parameters and what the optimizer keeps of them."""
    for name, parameter in objective.network.named_parameters():
        torch.testing.assert_close(parameter.detach(), state.params[f"network.{name}"], rtol=1e-9, atol=1e-10)
        own = optimizer.state.get(parameter, {})
        for key, value in state.optimizer[f"network.{name}"].items():
            torch.testing.assert_close(own[key], value, rtol=1e-9, atol=1e-10)


def test_a_step_changes_nothing_that_it_is_given_and_takes_every_number_from_its_arguments():
    arguments = (next(e for e in LOSSES if e.name == "huber"), use("adam", lr=0.1), [use("l2", coefficient=0.1)])
    objective, optimizer, kind = made(*arguments, use("linear"), "mean")
    train_step = TrainStep(objective, optimizer)
    state, hyper = train_step.state(), train_step.hyper()
    kept = {name: value.clone() for name, value in state.params.items()}
    (batch, *_) = batches(kind, True, 0)
    after, metrics = train_step(state, batch, hyper)
    assert all(torch.equal(state.params[name], value) for name, value in kept.items())
    assert all(torch.equal(train_step.state().params[name], value) for name, value in kept.items())
    assert all(float(own["step"]) == 0 for own in state.optimizer.values())
    for name, gradient in metrics.gradient.items():
        assert after.params[name].shape == gradient.shape

    def objective_with(**numbers):
        changed = hyper._replace(**numbers)
        return float(train_step(state, batch, changed)[1].objective)

    ten = torch.tensor(10.0, dtype=torch.float64)
    assert objective_with(loss={"delta": ten}) != float(metrics.objective)
    assert objective_with(penalties=({"coefficient": ten},)) != float(metrics.objective)
    rates = {name: {**own, "lr": own["lr"] * 0} for name, own in hyper.optimizer.items()}
    stays, _ = train_step(state, batch, hyper._replace(optimizer=rates))
    assert all(torch.equal(stays.params[name], value) for name, value in kept.items())


def test_batch_normalizations_running_means_are_part_of_the_state():
    mse = next(entry for entry in LOSSES if entry.name == "mse")
    model = use("mlp", hidden=[3], batch_norm=True)
    objective, optimizer, kind = made(mse, use("sgd", lr=0.1), [], model, "mean")
    train_step = TrainStep(objective, optimizer)
    state = train_step.state()
    (batch, *_) = batches(kind, True, 0)
    after, _ = train_step(state, batch, train_step.hyper())
    objective.network(batch.features)
    for name, buffer in objective.network.named_buffers():
        torch.testing.assert_close(after.buffers[f"network.{name}"], buffer)
        assert not torch.equal(state.buffers[f"network.{name}"], buffer)
