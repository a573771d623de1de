"""The guard: nothing moves from the first gradient that is not finite."""

import math

import pytest
import torch
from torch import nn

from torchplug.errors import NonFiniteGradientError
from torchplug.gradient_guard import GradientGuard, tensors_norm


def parameters():
    return [("a", nn.Parameter(torch.tensor([1.0, 2.0]))), ("b", nn.Parameter(torch.tensor([3.0])))]


def advance(named, guard, gradients, step, optimizer):
    for (_, parameter), gradient in zip(named, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    guard.inspect(step)
    guard.before_update()
    optimizer.step()
    guard.after_update()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("look_is_free", [True, False])
def test_parameters_freeze_at_the_first_bad_gradient(bad, optimizer, look_is_free):
    named = parameters()
    guard = GradientGuard(named)
    guard._look_is_free = look_is_free  # False: as on an accelerator
    optimizer = optimizer([p for _, p in named], lr=0.1)
    advance(named, guard, [[1.0, 1.0], [1.0]], 1, optimizer)
    guard.raise_if_tripped(10)
    good = [p.detach().clone() for _, p in named]
    advance(named, guard, [[1.0, 1.0], [bad]], 2, optimizer)
    advance(named, guard, [[1.0, 1.0], [1.0]], 3, optimizer)
    assert all(torch.equal(p, kept) for (_, p), kept in zip(named, good, strict=True))
    assert all(torch.isfinite(p.grad).all() for _, p in named)
    with pytest.raises(NonFiniteGradientError, match=r"gradient of b is NaN or infinite at epoch 7, step 2"):
        guard.raise_if_tripped(7)


@pytest.mark.parametrize("look_is_free", [True, False])
def test_an_update_that_overflows_is_taken_back(look_is_free):
    named = parameters()
    guard = GradientGuard(named)
    guard._look_is_free = look_is_free
    advance(named, guard, [[1e30, 1.0], [1.0]], 1, torch.optim.SGD([p for _, p in named], lr=1e30))
    assert [p.tolist() for _, p in named] == [[1.0, 2.0], [3.0]]
    with pytest.raises(NonFiniteGradientError, match=r"the update of a is NaN or infinite at epoch 0, step 1"):
        guard.raise_if_tripped(0)


def test_steps_are_those_of_the_run_also_after_resuming():
    named = parameters()
    guard = GradientGuard(named)
    optimizer = torch.optim.SGD([p for _, p in named], lr=0.1)
    advance(named, guard, [[1.0, 1.0], [1.0]], 8, optimizer)
    advance(named, guard, [[math.nan, 1.0], [math.nan]], 9, optimizer)
    advance(named, guard, [[1.0, 1.0], [1.0]], 10, optimizer)
    with pytest.raises(NonFiniteGradientError, match=r"gradient of a, b .* epoch 2, step 9"):
        guard.raise_if_tripped(2)


def test_large_but_finite_gradients_pass():
    named = parameters()
    guard = GradientGuard(named)
    advance(named, guard, [[1e30, -1e38], [1e-40]], 1, torch.optim.SGD([p for _, p in named], lr=1e-39))
    guard.raise_if_tripped(1)
    assert named[0][1][1] > 2.0


def test_a_parameter_without_gradient_is_left_out():
    named = parameters()
    guard = GradientGuard(named)
    named[0][1].grad = torch.tensor([1.0, 1.0])
    guard.inspect(1)
    guard.before_update()
    guard.after_update()
    guard.raise_if_tripped(1)
    named[0][1].grad = torch.tensor([math.nan, 1.0])
    guard.inspect(2)
    with pytest.raises(NonFiniteGradientError, match="gradient of a is"):
        guard.raise_if_tripped(1)


def test_norm_of_several_tensors():
    assert tensors_norm([torch.tensor([3.0]), torch.tensor([[4.0, 12.0]])]).item() == pytest.approx(13.0, rel=1e-15)
    assert tensors_norm([]).item() == 0.0


def test_steps_that_somebody_else_found_sound_are_counted():
    named = parameters()
    guard = GradientGuard(named)
    guard.clear(1, 10)
    assert guard.is_known_sound
    optimizer = torch.optim.SGD([p for _, p in named], lr=0.1)
    advance(named, guard, [[1.0, 1.0], [1.0]], 11, optimizer)
    advance(named, guard, [[1.0, math.nan], [1.0]], 12, optimizer)
    assert not guard.is_known_sound
    with pytest.raises(NonFiniteGradientError, match="the gradient of a is NaN or infinite at epoch 0, step 12"):
        guard.raise_if_tripped(0)
