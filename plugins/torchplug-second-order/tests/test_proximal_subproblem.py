"""The subproblem against the conditions of its minimum."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplug.components.builtin.regularizers import L1, ElasticNet
from torchplug_second_order.proximal_subproblem import Subproblem


def random(size, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(rank, size, generator=generator, dtype=torch.float64)
    start = torch.randn(size, generator=generator, dtype=torch.float64)
    start *= torch.rand(size, generator=generator) < 0.5
    return torch.randn(size, generator=generator, dtype=torch.float64), root.mT @ root, start


def solved(gradient, model, start, penalty, tolerance=1e-9):
    problem = Subproblem(gradient, model, start, penalty.prox, lambda x: float(penalty.coefficient * penalty({"x": x})))
    return problem.solve(tolerance)


def distance(x, gradient, model, start, penalty):
    """‖x − prox(x − ∇q)‖, with a step of one."""
    return float((x - penalty.prox(x - gradient - model @ (x - start), 1.0)).norm())


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 30), seed=st.integers(0, 10**6), coefficient=st.sampled_from([0.0, 0.1, 1.0, 10.0]))
def test_positive_definite(size, seed, coefficient):
    gradient, model, start = random(size, size + 5, seed)
    model += 0.1 * torch.eye(size)
    for penalty in (L1(coefficient), ElasticNet(coefficient, 0.3)):
        x = solved(gradient, model, start, penalty)
        assert distance(x, gradient, model, start, penalty) < 1e-7


@settings(deadline=None, max_examples=20)
@given(size=st.integers(4, 30), seed=st.integers(0, 10**6))
def test_singular(size, seed):
    gradient, model, start = random(size, size // 2, seed)
    # in the range of the model, as gradients of least squares are
    gradient = model @ gradient
    x = solved(gradient, model + 1e-6 * torch.diag(model.diagonal()), start, L1(0.5))
    assert distance(x, gradient, model, start, L1(0.5)) < 1e-3


def test_units_that_differ_by_orders():
    gradient, model, start = random(20, 40, 0)
    scale = torch.logspace(-3, 3, 20, dtype=torch.float64)
    x = solved(gradient * scale, model * scale * scale[:, None], start / scale, L1(0.1))
    assert distance(x, gradient * scale, model * scale * scale[:, None], start / scale, L1(0.1)) < 1e-6


def test_zeros_are_exact_and_a_solution_stays():
    gradient, model, start = random(30, 40, 3)
    x = solved(gradient, model, start, L1(5.0))
    assert 0 < int((x == 0).sum()) < 30
    again = solved(gradient + model @ (x - start), model, x, L1(5.0))
    torch.testing.assert_close(again, x, rtol=1e-9, atol=1e-12)


def test_never_above_the_start():
    gradient, model, start = random(30, 3, 5)
    penalty = L1(0.1)
    problem = Subproblem(gradient, model, start, penalty.prox, lambda x: float(penalty.coefficient * penalty({"x": x})))
    # not even with a tolerance that nothing reaches
    assert problem._value(problem.solve(0.0))[0] < problem._value(start)[0]


def test_nothing_to_do():
    empty = torch.zeros(3, dtype=torch.float64)
    x = solved(empty, torch.zeros(3, 3, dtype=torch.float64), empty, L1(1.0))
    assert x.tolist() == pytest.approx([0.0, 0.0, 0.0])
