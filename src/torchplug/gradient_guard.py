"""No gradient that is not finite reaches the parameters, without a look at the device per step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from torchplug.errors import NonFiniteGradientError


class GradientGuard:
    """Tests each reduced gradient, and each update, on its device; latches at the first with NaN or Inf.

    Once latched, gradients are zeroed and parameters put back after every step, so nothing moves
    until the host looks with `raise_if_tripped`. Looking costs a synchronization, so the caller
    does it where it looks anyway: at logging intervals and at the end of an epoch.

    An update is tested too: of a finite gradient times a learning rate, it can overflow first.
    """

    def __init__(self, parameters: Sequence[tuple[str, nn.Parameter]]) -> None:
        self._names = [name for name, _ in parameters]
        self._parameters = [parameter for _, parameter in parameters]
        self._kept = [parameter.detach().clone() for parameter in self._parameters]
        device = self._parameters[0].device
        self._tripped = torch.zeros((), dtype=torch.bool, device=device)
        self._by_gradient = torch.zeros((), dtype=torch.bool, device=device)
        self._at_step = torch.zeros((), dtype=torch.int64, device=device)
        self._finite = torch.ones(len(self._names), dtype=torch.bool, device=device)
        self._step = 0

    def inspect(self, step: int) -> None:
        """Test the gradients of optimizer step `step`, counted from 1; zero them if tripped."""
        self._step = step
        indices = [i for i, parameter in enumerate(self._parameters) if parameter.grad is not None]
        gradients = [grad for i in indices if (grad := self._parameters[i].grad) is not None]
        if not gradients:
            return
        finite = torch.ones_like(self._finite)
        finite[indices] = _are_finite(gradients)
        before = self._tripped
        self._latch(finite)
        self._by_gradient = self._by_gradient | (self._tripped & ~before)
        for gradient in gradients:
            gradient.masked_fill_(self._tripped, 0.0)

    @contextmanager
    def protect(self) -> Iterator[None]:
        """Around one optimizer step: the parameters come back unchanged if the guard has tripped."""
        parameters = [parameter.detach() for parameter in self._parameters]
        torch._foreach_copy_(self._kept, parameters)
        yield
        self._latch(_are_finite(parameters))
        for parameter, kept in zip(parameters, self._kept, strict=True):
            torch.where(self._tripped, kept, parameter, out=parameter)

    def _latch(self, finite: Tensor) -> None:
        """Trip on the first test that fails, and keep what it said."""
        self._at_step = torch.where(self._tripped, self._at_step, self._step)
        self._finite = torch.where(self._tripped, self._finite, finite)
        self._tripped = self._tripped | ~finite.all()

    def raise_if_tripped(self, steps_per_epoch: int) -> None:
        """Look from the host.

        Raises:
            NonFiniteGradientError: naming epoch, step and the parameters, if the guard has tripped.
        """
        if not bool(self._tripped):
            return
        step = int(self._at_step)
        bad = [name for name, finite in zip(self._names, self._finite.tolist(), strict=True) if not finite]
        listed = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        what = "gradient" if bool(self._by_gradient) else "update"
        raise NonFiniteGradientError(
            f"the {what} of {listed} is NaN or infinite at epoch {(step - 1) // steps_per_epoch}, step {step}; "
            "nothing was applied from there on: lower the learning rate, clip gradients, or scale the data"
        )


def _are_finite(tensors: list[Tensor]) -> Tensor:
    """One bool per tensor. By the largest magnitude: a sum of squares overflows on what is finite."""
    return torch.isfinite(torch.stack(list(torch._foreach_norm(tensors, ord=float("inf")))))


def tensors_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of several tensors taken as one vector, accumulated in float64."""
    if not tensors:
        return torch.zeros((), dtype=torch.float64)
    return (
        torch.stack([torch.linalg.vector_norm(t.detach(), dtype=torch.float64) for t in tensors]).square().sum().sqrt()
    )
