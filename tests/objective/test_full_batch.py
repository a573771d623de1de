"""The objective on the whole set against F written out and differentiated densely, in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_ranks import on_ranks
from torch import nn

from torchplug.batch import Rows
from torchplug.components.builtin import regularizers
from torchplug.components.builtin.losses import BCE, L1, MSE, CrossEntropy
from torchplug.components.builtin.regularizers import L2, ElasticNet
from torchplug.components.contracts import Loss, Regularizer
from torchplug.components.models import MLP, Linear
from torchplug.errors import ConfigurationError
from torchplug.objective import Objective

DOUBLE = torch.float64


class InMemory:
    def __init__(self, features, target, weight):
        self.tensors = (features, target, weight)
        self.samples = len(weight)

    def read(self, start, stop):
        return Rows(*(tensor[start:stop] for tensor in self.tensors))


class Curve(nn.Module):
    """No chain: two parameters in a formula."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([0.7, -0.3, 0.2], dtype=DOUBLE))
        self.b = nn.Parameter(torch.tensor(0.4, dtype=DOUBLE))

    def forward(self, x):
        return (self.a * x).sum(1, keepdim=True) * torch.exp(-self.b * x[:, :1])


class Smoothness(Regularizer):
    """Σ (θᵢ₊₁ − θᵢ)²: quadratic, and not elementwise."""

    coefficient = 0.3

    def forward(self, parameters):
        return sum(p.reshape(-1).diff().square().sum() for p in parameters.values())

    def residuals(self, parameters):
        return {name: self.coefficient**0.5 * p.reshape(-1).diff() for name, p in parameters.items()}


class OnlyOn:
    """λ Σθ² over named parameters, for the dense reference."""

    def __init__(self, coefficient, *names):
        self.coefficient, self.names = coefficient, names

    def __call__(self, parameters):
        return sum(parameters[name].square().sum() for name in self.names)


class Scaled(Loss):
    """A loss with a parameter of its own: (z − y)² e^{−s} + s."""

    kind = "regression"

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.3, dtype=DOUBLE))

    def forward(self, scores, target):
        return (scores - target).square().sum(1) * torch.exp(-self.log_scale) + self.log_scale


class Coupled(Loss):
    """Residuals that mix two outputs, and are not linear in them."""

    kind = "regression"

    def residuals(self, scores, target):
        e = scores - target
        return torch.stack([e[:, 0] + 0.5 * e[:, 1].tanh(), e[:, 1], e.sum(1)], dim=1)

    def forward(self, scores, target):
        return self.residuals(scores, target).square().sum(1)


def randomized(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=DOUBLE))
    return network.double()


def data(n, outputs, kind="number", seed=1):
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, 3, generator=g, dtype=DOUBLE)
    y = {
        "number": torch.randn(n, outputs, generator=g, dtype=DOUBLE),
        "probability": torch.rand(n, outputs, generator=g, dtype=DOUBLE),
        "class": torch.randint(0, outputs, (n,), generator=g),
    }[kind]
    return InMemory(X, y, 0.2 + torch.rand(n, generator=g, dtype=DOUBLE))


NETWORKS = {
    "linear": lambda k: Linear(3, k),
    "without bias": lambda k: Linear(3, k, bias=False),
    "mlp": lambda k: MLP(3, k, [4, 3], "tanh", dropout=0.5),
    "not a chain": lambda k: nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, k)),
    "curve": lambda k: Curve(),
}
CASES = [
    ("linear", MSE, 1, "number"),
    ("linear", MSE, 2, "number"),
    ("without bias", MSE, 2, "number"),
    ("linear", BCE, 1, "probability"),
    ("linear", CrossEntropy, 3, "class"),
    ("mlp", MSE, 2, "number"),
    ("mlp", lambda: MSE("mean"), 2, "number"),
    ("mlp", BCE, 1, "probability"),
    ("mlp", Coupled, 2, "number"),
    ("linear", Coupled, 2, "number"),
    ("mlp", Scaled, 1, "number"),
    ("not a chain", CrossEntropy, 3, "class"),
    ("not a chain", MSE, 2, "number"),
    ("curve", MSE, 1, "number"),
]


def named(case):
    """A case for the test's name: the same in every process, unlike a lambda's."""
    return f"{case[0]}-{type(case[1]()).__name__}-{case[2]}"


def problem(case, penalties=(), reduction="mean", n=37, **settings):
    name, make_loss, outputs, kind = case
    network = randomized(NETWORKS[name](outputs)).train()
    loss = make_loss()
    return Objective(network, loss, penalties, data(n, outputs, kind), reduction, **settings)


def dense(objective, penalties=(), reduction="mean", residual=False):
    """F, or its residual rows, as a function of the flat vector, by functional_call."""
    network, loss, (X, y, w) = objective.network, objective.loss, objective.training_set.tensors
    both = nn.ModuleDict({"network": copy.deepcopy(network).eval(), "loss": copy.deepcopy(loss)})
    names = [name for name, p in both.named_parameters() if p.requires_grad]
    scale = 1 / len(X) if reduction == "mean" else 1.0

    def call(theta):
        values = dict(zip(names, objective.split(theta), strict=True))
        of = lambda part: {k.partition(".")[2]: v for k, v in values.items() if k.startswith(part)}  # noqa: E731
        z = torch.func.functional_call(both["network"], of("network"), (X,))
        named = of("network")
        if residual:
            rows = [(loss.residuals(z, y) * (scale * w).sqrt()[:, None]).reshape(-1)]
            for penalty in penalties:
                weights = {k: v for k, v in named.items() if not k.endswith("bias")}
                rows += [r.reshape(-1) for r in penalty.residuals(weights).values()]
            return torch.cat(rows)
        value = scale * (torch.func.functional_call(both["loss"], of("loss"), (z, y)) * w).sum()
        for penalty in penalties:
            value = value + penalty.coefficient * penalty({k: v for k, v in named.items() if not k.endswith("bias")})
        return value

    return call


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("penalties", [(), (L2(0.3),), (Smoothness(),), (L2(0.1), Smoothness())], ids=str)
@pytest.mark.parametrize("case", CASES, ids=named)
def test_value_and_derivatives_are_those_of_dense_autograd(case, penalties, reduction):
    reference = penalties
    if case[0] == "not a chain" and penalties:  # the dense reference cannot tell by its names which is a normalization
        penalties, reference = [L2(0.3)], [OnlyOn(0.3, "1.weight", "3.weight")]
    objective = problem(case, penalties, reduction)
    F, theta = dense(objective, reference, reduction), objective.point
    value, gradient = objective.evaluate()
    assert value == pytest.approx(float(F(theta)), rel=1e-12)
    assert objective.value() == value
    assert_close(gradient, torch.func.grad(F)(theta))
    H = torch.func.hessian(F)(theta)
    assert_close(objective.hessian(), H)
    v = torch.linspace(-1, 1, objective.size, dtype=DOUBLE)
    assert_close(objective.hvp(v), H @ v)


@pytest.mark.parametrize("penalties", [(), (L2(0.3),), (L2(0.1), Smoothness())], ids=str)
@pytest.mark.parametrize(
    "case",
    [c for c in CASES if hasattr(c[1](), "residuals")],
    ids=lambda c: f"{c[0]}-{c[1]().__class__.__name__}-{c[2]}",
)
def test_residual_products_are_those_of_the_dense_jacobian(case, penalties):
    if case[0] == "not a chain":
        penalties = ()
    objective = problem(case, penalties)
    r_of, theta = dense(objective, penalties, residual=True), objective.point
    J, r = torch.func.jacrev(r_of)(theta), r_of(theta)
    JtJ, Jtr = objective.normal_equations()
    assert_close(JtJ, J.mT @ J)
    assert_close(Jtr, J.mT @ r)
    assert objective.value() == pytest.approx(float(r @ r), rel=1e-12)
    assert_close(objective.gradient(), 2 * J.mT @ r)
    R = problem(case, penalties).qr_factor()
    A = torch.cat([J, r[:, None]], dim=1)
    assert_close(R.mT @ R, A.mT @ A)
    assert torch.equal(R, R.triu())
    v = torch.linspace(-1, 1, objective.size, dtype=DOUBLE)
    assert_close(objective.gnvp(v), J.mT @ (J @ v))
    data_rows = objective.samples * objective.outputs
    again = problem(case, penalties)
    J_data, r_data = again.jacobian()
    assert_close(J_data, J[:data_rows])
    assert_close(r_data, r[:data_rows])
    assert again.value() == pytest.approx(float(r @ r), rel=1e-12)
    diagonal = again.penalty_diagonal()
    if any(isinstance(p, Smoothness) for p in penalties):
        assert diagonal is None
    else:
        assert_close(torch.diag(diagonal[0]), J[data_rows:].mT @ J[data_rows:])
        assert_close(diagonal[1], J[data_rows:].mT @ r[data_rows:])


def everything(objective):
    v = torch.linspace(-1, 1, objective.size, dtype=DOUBLE)
    parts = [*objective.evaluate(), objective.hvp(v), objective.hessian()]
    if hasattr(objective.loss, "residuals"):
        parts += [objective.gnvp(v), *objective.normal_equations()]
    return [torch.as_tensor(part, dtype=DOUBLE) for part in parts]


@settings(max_examples=12, deadline=None)
@given(case=st.sampled_from(CASES[:8]), block_rows=st.integers(1, 40), n=st.integers(1, 60))
def test_the_size_of_blocks_does_not_matter(case, block_rows, n):
    expected = everything(problem(case, [L2(0.2)], n=n))
    for a, b in zip(everything(problem(case, [L2(0.2)], n=n, block_rows=block_rows)), expected, strict=True):
        assert_close(a, b)


@settings(max_examples=10, deadline=None)
@given(
    case=st.sampled_from([CASES[0], CASES[5], CASES[7]]),
    world=st.integers(2, 4),
    n=st.sampled_from([5, 1500, 3100, 5000]),
)
def test_the_number_of_ranks_does_not_change_a_bit(case, world, n):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # products cut otherwise among threads add up otherwise
    try:
        expected = everything(problem(case, [L2(0.2)], n=n))
        results = on_ranks(world, lambda ranks: everything(problem(case, [L2(0.2)], n=n, ranks=ranks)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for result in results for a, b in zip(result, expected, strict=True))


def test_ranks_agree_on_factor_and_point():
    case = CASES[5]
    expected = problem(case, n=3000).qr_factor()

    def moved(ranks):
        objective = problem(case, n=3000, ranks=ranks)
        objective.move(objective.point + ranks.rank)
        return objective.qr_factor(), objective.point

    start = problem(case, n=3000)
    start.move(start.point)
    for factor, point in on_ranks(3, moved):
        assert_close(factor.mT @ factor, expected.mT @ expected)
        assert torch.equal(point, start.point)


def test_asking_twice_reads_the_rows_once():
    objective = problem(CASES[5])
    read, times = objective.training_set.read, []
    objective.training_set.read = lambda a, b: times.append((a, b)) or read(a, b)
    objective.normal_equations()
    once = len(times)
    objective.normal_equations(), objective.evaluate(), objective.value(), objective.gradient()
    assert len(times) == once
    assert objective.evaluations == 1
    objective.move(objective.point)
    objective.value()
    assert objective.evaluations == 2
    assert len(times) > once


def test_it_is_pure():
    """Dropout, the layers' modes, random numbers and autocast: a function of the parameters alone."""
    objective, plain, autocast = problem(CASES[5]), problem(CASES[11]), problem(CASES[11])
    state = torch.get_rng_state()
    first = objective.evaluate()
    objective.move(objective.point)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        second = objective.evaluate()
        value = autocast.value()
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])
    assert plain.value() == value
    assert objective.network.training
    assert torch.equal(state, torch.get_rng_state())


def test_frozen_parameters_stay_out():
    network = randomized(MLP(3, 1, [4]))
    network.layers[0].weight.requires_grad_(False)
    rows = data(20, 1)
    objective = Objective(network, MSE(), [L2(0.1)], rows)
    assert objective.size == 4 + 4 + 1
    value, gradient = objective.evaluate()
    F, theta = dense(objective, [OnlyOn(0.1, "layers.2.weight")]), objective.point
    assert value == pytest.approx(float(F(theta)), rel=1e-12)
    assert_close(gradient, torch.func.grad(F)(theta))
    objective.move(theta + 1)
    assert_close(objective.point, theta + 1)


def test_proximal_penalties_are_left_out():
    proximal = [regularizers.L1(0.5, proximal=True), ElasticNet(0.1, 0.2, proximal=True)]
    assert problem(CASES[0], proximal).value() == problem(CASES[0]).value()


def test_a_network_without_parameters_is_refused():
    with pytest.raises(ConfigurationError, match="no trainable parameter"):
        Objective(nn.Identity(), MSE(), [], data(5, 3))


@pytest.mark.parametrize(
    ("network", "linear"),
    [
        (Linear(3, 2), True),
        (MLP(3, 2, []), True),
        (MLP(3, 2, [4]), False),
        (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)), False),
    ],
    ids=["linear", "mlp without layers", "mlp", "two maps"],
)
def test_linear_residuals_are_recognised_by_trying(network, linear):
    objective = Objective(randomized(network), MSE(), [], data(30, 2))
    before = objective.point
    assert objective.has_linear_residuals() is linear
    assert torch.equal(objective.point, before)


def test_a_float32_hessian_has_seven_digits():
    objective = problem(CASES[3], n=2000)
    exact, rounded = objective.hessian(), objective.hessian(torch.float32)
    assert rounded.dtype == DOUBLE
    assert 0 < float((rounded - exact).norm() / exact.norm()) < 1e-6


def test_losses_without_derivative_or_curvature_are_differentiated():
    assert not hasattr(L1(), "curvature")
    objective = problem(("linear", L1, 2, "number"))
    F, theta = dense(objective), objective.point
    assert_close(objective.gradient(), torch.func.grad(F)(theta))
    assert_close(objective.hessian(), torch.func.hessian(F)(theta))


@pytest.mark.parametrize("penalties", [(), (L2(0.3),), (Smoothness(),)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_part_of_the_hessian_is_that_part_of_the_whole(case, penalties):
    objective = problem(case, penalties)
    whole = objective.hessian()
    for subset in (torch.arange(objective.size)[::2], torch.tensor([objective.size - 1]), torch.tensor([0, 1])):
        assert_close(objective.hessian(subset=subset), whole[subset][:, subset])


@pytest.mark.parametrize("case", CASES[:5], ids=named)
def test_single_precision_products_leave_seven_digits(case):
    objective = problem(case)
    whole = objective.hessian()
    error = (objective.hessian(torch.float32) - whole).abs().max()
    assert 0.0 < error < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("method", ["qr", "gram"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "case", [CASES[0], CASES[1], CASES[2], ("linear", lambda: MSE("mean"), 2, "number")], ids=named
)
def test_a_design_knows_the_objective_at_every_point(case, reduction, method):
    """From one pass: the rows are not read again."""
    expected = problem(case, [L2(0.3)], reduction)
    objective = problem(case, [L2(0.3)], reduction)
    design = objective.least_squares(method)
    assert (design.features, design.outputs, design.intercept) == (3, case[2], case[0] == "linear")
    objective.training_set.read = None
    for shift in (0.0, 0.7, -3.0):
        for one in (expected, objective):
            one.move(one.point + shift)
        assert objective.value() == pytest.approx(expected.value(), rel=1e-12)
        assert_close(objective.gradient(), expected.gradient())


@pytest.mark.parametrize("case", [CASES[3], CASES[5], CASES[9], CASES[12], CASES[13]], ids=named)
def test_other_problems_have_no_design(case):
    assert problem(case).least_squares() is None


def test_a_map_with_a_frozen_part_has_no_design():
    network = randomized(Linear(3, 1))
    network.map.bias.requires_grad_(False)
    objective = Objective(network, MSE(), [], data(20, 1))
    assert objective.least_squares() is None
    H = objective.hessian()
    X, w = objective.training_set.tensors[0], objective.training_set.tensors[2]
    assert_close(H, 2 / 20 * (X * w[:, None]).mT @ X)


def test_every_number_of_ranks_has_the_same_design():
    expected = problem(CASES[1], n=9000).least_squares().factor
    for factor in on_ranks(3, lambda ranks: problem(CASES[1], n=9000, ranks=ranks).least_squares().factor):
        assert_close(factor.mT @ factor, expected.mT @ expected)
