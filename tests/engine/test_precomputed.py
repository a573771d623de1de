"""Known gradients on their way through autograd."""

import pytest
import torch

from torchplug.engine.precomputed import with_precomputed_grad


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_parameters_get_what_was_carried(factor):
    parameters = [torch.zeros(3, requires_grad=True), torch.zeros(2, 2, requires_grad=True)]
    gradients = [torch.tensor([1.0, -2.0, 3.0]), torch.full((2, 2), 0.1)]
    (with_precomputed_grad(torch.tensor(5.0), gradients, parameters) * factor).backward()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert torch.equal(parameter.grad, gradient * factor)


def test_what_was_carried_is_nobody_elses():
    """Clipping changes gradients in place, and a full-batch optimizer keeps what it knows."""
    parameter, gradient = torch.zeros(3, requires_grad=True), torch.ones(3)
    value = with_precomputed_grad(torch.tensor(5.0), [gradient], [parameter])
    value.backward()
    parameter.grad.zero_()
    assert torch.equal(gradient, torch.ones(3))
