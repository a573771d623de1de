"""Several steps by the optimizer's formula in one graph."""

import math
import shutil
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from engine_steps import Told, network, objective_of
from torchplug.batch import Rows
from torchplug.components.builtin.adaptive_optimizers import Adam
from torchplug.components.builtin.optimizers import SGD, Nesterov
from torchplug.engine.compiled import Compiled
from torchplug.engine.fused_steps import why_no_update_fn

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's own


class Told64(Told):
    """What an engine tells of losses on its way, several steps at once."""

    def __init__(self, loss):
        super().__init__(loss)
        self.total = torch.zeros((), dtype=torch.float64)

    def advance_total(self, total, rows):
        self.total.copy_(total)
        self.rows += rows


def parts(net=None, build=lambda p: Adam(p, lr=0.1)):
    """An objective, an optimizer, what is told, and what makes steps."""
    objective = objective_of(net or network())
    optimizer = build(objective.parameters())
    told = Told64(objective.loss)
    return objective, optimizer, told, Compiled(objective, told, None, nullcontext).fused_steps(optimizer)


def some_rows(count=15, features=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(count, features + 3, generator=generator, dtype=dtype)
    return Rows(drawn[:, :features].contiguous(), drawn[:, features:-1].contiguous(), drawn[:, -1].exp())


def by_autograd(objective, optimizer, rows, count):
    """The same steps one by one."""
    total = 0.0
    for features, target, weight in zip(*(each.tensor_split(count) for each in rows), strict=True):
        weighted = (objective.loss(objective.network(features), target) * weight).sum()
        gradients = torch.autograd.grad(weighted / len(target), objective.parameters())
        for parameter, gradient in zip(objective.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        total += float(weighted)
    return total


@needs_compiler
@pytest.mark.parametrize("build", [lambda p: Adam(p, lr=0.1), lambda p: SGD([{"params": [q]} for q in p], lr=0.1)])
def test_steps_are_those_of_autograd_and_the_optimizer(build):
    rows = some_rows()
    objective, optimizer, told, whole = parts(build=build)
    other, its_optimizer, _, _ = parts(build=build)
    with torch.no_grad():
        whole.prepare(rows, 3)()
        optimizer.param_groups[0]["lr"] *= 0.5  # as a schedule does between calls
        whole.prepare(rows, 3)()
    total = by_autograd(other, its_optimizer, rows, 3)
    its_optimizer.param_groups[0]["lr"] *= 0.5
    total += by_autograd(other, its_optimizer, rows, 3)
    for mine, its in zip(objective.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-11, atol=1e-13)
    mine, its = optimizer.state_dict()["state"], its_optimizer.state_dict()["state"]
    assert mine.keys() == its.keys()
    torch.testing.assert_close(mine, its, rtol=1e-11, atol=1e-13)
    assert float(told.total) == pytest.approx(total, rel=1e-13)
    assert told.rows == 30


@needs_compiler
def test_nothing_moves_before_it_is_taken_or_where_a_number_is_not_finite():
    rows = some_rows()
    objective, optimizer, told, whole = parts()
    before = [p.detach().clone() for p in objective.parameters()]
    rows.target[7, 1] = math.inf  # in the second step
    with torch.no_grad():
        assert whole.prepare(rows, 3) is None
        rows.target[7, 1] = 0.0
        assert whole.prepare(rows, 3) is not None
    assert all(torch.equal(p, kept) for p, kept in zip(objective.parameters(), before, strict=True))
    assert all(float(state["step"]) == 0 for state in optimizer.state.values())
    assert float(told.total) == 0


@needs_compiler
def test_an_update_is_the_optimizers():
    (objective, _, _, whole), (other, its_optimizer, _, _) = parts(), parts()
    for mine, its in zip(objective.parameters(), other.parameters(), strict=True):
        mine.grad, its.grad = torch.ones_like(mine), torch.ones_like(its)
    for _ in range(2):
        whole.update()
        its_optimizer.update()
    for mine, its in zip(objective.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-13, atol=1e-14)


def test_without_one_of_the_gradients_an_update_is_the_optimizers_own():
    objective, optimizer, _, whole = parts()
    first, *rest = objective.parameters()
    before = [p.detach().clone() for p in rest]
    first.grad = torch.ones_like(first)
    optimizer.update = whole.update
    optimizer.step()
    assert len(optimizer.state) == 1
    assert all(torch.equal(p, kept) for p, kept in zip(rest, before, strict=True))


def test_a_network_that_draws_numbers_makes_its_steps_one_by_one():
    net = nn.Sequential(nn.Linear(3, 2, dtype=torch.float64), nn.Dropout(0.5))
    _, _, _, whole = parts(net)
    state = torch.get_rng_state()
    assert whole.prepare(some_rows(), 3) is None
    assert torch.equal(torch.get_rng_state(), state), "nothing was drawn of what training draws"


class WithFormula(Adam):
    def train(self):
        """To where the gradient is taken."""


def prox(optimizer):
    optimizer.prox = {optimizer.param_groups[0]["params"][0]: lambda p, step: p}
    return optimizer


@pytest.mark.parametrize(
    ("build", "net", "context", "reason"),
    [
        (torch.optim.Adam, network(), nullcontext, "the optimizer Adam has no update_fn"),
        (Nesterov, network(), nullcontext, "the optimizer Nesterov trains at another point"),
        (WithFormula, network(), nullcontext, "the optimizer WithFormula trains at another point"),
        (lambda p: prox(Adam(p)), network(), nullcontext, "a proximal regularizer acts after the update"),
        (lambda p: Adam(p[:1]), network(), nullcontext, "the optimizer Adam has other parameters than are trained"),
        (Adam, nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), nullcontext, None),
        (Adam, nn.Linear(3, 2, device="meta"), nullcontext, "the parameters are not on a CPU"),
        (Adam, network(), lambda: torch.autocast("cpu", torch.bfloat16), "the precision rounds within the network"),
        (Adam, network(), nullcontext, None),
    ],
)
def test_what_stands_in_the_way_is_named(build, net, context, reason):
    objective = objective_of(net)
    found = why_no_update_fn(build(objective.parameters()), objective, None, context)
    assert found is None if reason is None else found.startswith(reason)
