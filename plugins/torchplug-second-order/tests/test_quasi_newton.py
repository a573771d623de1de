import pytest
import torch
from analytic_objective import AnalyticObjective
from torch import Tensor

from torchplug_second_order.method import Point
from torchplug_second_order.quasi_newton import BFGS, LimitedBFGS


def pairs(count, size=5, seed=0):
    """Displacements and changes of the gradient of a convex quadratic."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    hessian = root @ root.mT + torch.eye(size, dtype=torch.float64)
    displacements = torch.randn(count, size, generator=generator, dtype=torch.float64)
    return [(s, hessian @ s) for s in displacements]


def inverse_by_formula(known: list[tuple[Tensor, Tensor]], scaled_by=0) -> Tensor:
    """Equation 6.17 of Nocedal and Wright, from a multiple of the identity."""
    s, y = known[scaled_by]
    identity = torch.eye(len(s), dtype=torch.float64)
    inverse = (s @ y) / (y @ y) * identity
    for s, y in known:
        rho = 1.0 / (y @ s)
        left = identity - rho * torch.outer(s, y)
        inverse = left @ inverse @ left.mT + rho * torch.outer(s, s)
    return inverse


def direction(descent, memory):
    objective = AnalyticObjective(torch.arange(1.0, 6.0), lambda t: t.square().sum() + t[0] * t[1])
    return descent.path(Point.of(objective), objective, memory), objective.gradient()


def test_bfgs_updates_by_the_formula():
    memory, descent = {}, BFGS()
    for s, y in pairs(4):
        descent.update(s, y, memory)
    torch.testing.assert_close(memory["inverse_hessian"], inverse_by_formula(pairs(4)))
    line, gradient = direction(descent, memory)
    torch.testing.assert_close(line.direction, -(memory["inverse_hessian"] @ gradient))
    assert line.initial_step_size == 1.0


def test_bfgs_meets_the_secant_equation():
    memory = {}
    for s, y in pairs(3):
        BFGS().update(s, y, memory)
        torch.testing.assert_close(memory["inverse_hessian"] @ y, s)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_lbfgs_is_bfgs_from_the_last_pairs(count):
    memory, descent = {}, LimitedBFGS(history_size=4)
    known = pairs(count)
    for s, y in known:
        descent.update(s, y, memory)
    line, gradient = direction(descent, memory)
    expected = -(inverse_by_formula(known[-4:], scaled_by=-1) @ gradient)
    torch.testing.assert_close(line.direction, expected)
    assert len(memory["changes"]) == len(memory["displacements"]) == min(count, 4)


@pytest.mark.parametrize("descent", [BFGS(), LimitedBFGS()])
def test_a_bad_pair_is_skipped(descent):
    memory = {}
    (s, y), *_ = pairs(1)
    descent.update(s, y, memory)
    before, _ = direction(descent, memory)
    for bad in (-y, torch.zeros_like(y), torch.full_like(y, torch.nan)):
        descent.update(s, bad, memory)
        assert torch.equal(direction(descent, memory)[0].direction, before.direction)


@pytest.mark.parametrize("descent", [BFGS(), LimitedBFGS()])
def test_the_first_direction_is_the_gradients(descent):
    line, gradient = direction(descent, {})
    assert torch.equal(line.direction, -gradient)
    assert line.initial_step_size * float(gradient.norm()) == pytest.approx(1.0)


@pytest.mark.parametrize("descent", [BFGS(), LimitedBFGS()])
def test_forgetting(descent):
    memory = {}
    assert not descent.reset(memory)
    descent.update(*pairs(1)[0], memory)
    assert descent.reset(memory)
    assert not descent.reset(memory)


def test_refusals():
    with pytest.raises(ValueError, match=r"the inverse Hessian of 20,000 parameters would need 5\.96 GiB.*lbfgs"):
        BFGS().refuse_size(20_000)
    with pytest.raises(ValueError, match="history_size must be at least 1, got 0"):
        LimitedBFGS(0)
