"""Detection of non-finite gradients without a device synchronization per step."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor, nn

from torchplug.errors import NonFiniteGradientError
from torchplug.flat_storage import FlatStorage
from torchplug.no_grad import no_grad_if_enabled


class GradientGuard:
    """Tests each reduced gradient and each update on its device; latches at the first with NaN or Inf.

    Once latched, gradients are zeroed and parameters restored after every step, so nothing changes until
    the host calls `raise_if_tripped`. That costs a synchronization, so it is called where the host
    synchronizes anyway: at logging intervals and at the end of an epoch. On the CPU it is free, because a
    finite sum proves that its terms are finite.

    Updates are tested as well, because a finite gradient times a learning rate can overflow.

    Args:
        parameters: the guarded parameters, with names.
        storage: their flat storage, if they have one.
    """

    def __init__(self, parameters: Sequence[tuple[str, nn.Parameter]], storage: FlatStorage | None = None) -> None:
        self._names = [name for name, _ in parameters]
        self._parameters: list[Tensor] = [parameter for _, parameter in parameters]
        self._storage = storage
        self._values = self._parameters if storage is None else [storage.values]
        self._kept = [value.detach().clone() for value in self._values]
        device = self._parameters[0].device
        self._look_is_free = device.type == "cpu"
        self._no_gradient = torch.zeros((), device=device)
        # False for a parameter once the guard has tripped over it, and for ever.
        self._finite = torch.ones(len(self._names), dtype=torch.bool, device=device)
        self._sound = self._finite.all()
        self._untripped = self._look_is_free
        self._sound_gradients = torch.zeros((), dtype=torch.int64, device=device)
        self._sound_updates = torch.zeros_like(self._sound_gradients)
        # Steps that a sum has cleared are counted on the host.
        self._cleared_gradients = 0
        self._cleared_updates = 0
        self._first_step: int | None = None

    @no_grad_if_enabled
    def inspect(self, step: int, again: bool = False) -> None:
        """Test the gradients of optimizer step `step`, counted from 1; zero them if tripped.

        Args:
            step: the step's number.
            again: whether the step has another gradient, which is not counted.
        """
        if self._first_step is None:
            self._first_step = step
        gradients = self._gradients()
        if self._look_is_free and self._untripped and _sums_are_finite(gradients):
            self._cleared_gradients += not again
            return
        largest = iter(_largest(gradients))
        self._latch([self._no_gradient if p.grad is None else next(largest) for p in self._parameters])
        if not again:
            self._sound_gradients.add_(self._sound)
        tripped = ~self._sound
        for gradient in gradients:
            gradient.masked_fill_(tripped, 0.0)

    def before_update(self) -> None:
        """Copy the parameters' values."""
        if self._storage is not None:
            self._kept[0].copy_(self._storage.values)
        else:
            self._remember()

    @no_grad_if_enabled
    def _remember(self) -> None:
        if self._look_is_free:  # where a kernel for many tensors is a loop over them
            for kept, value in zip(self._kept, self._values, strict=True):
                kept.copy_(value)
        else:
            torch._foreach_copy_(self._kept, self._values)

    def after_update(self, uninspected: int | None = None) -> None:
        """Test the updated parameters, and restore them if the guard has tripped.

        Args:
            uninspected: the step's number, if its gradient is unchanged and `inspect` has not been called.
        """
        if self._untripped and self._all_finite(with_gradients=uninspected is not None):
            self._cleared_updates += 1
            if uninspected is not None:
                self._first_step = self._first_step or uninspected
                self._cleared_gradients += 1
            return
        if uninspected is not None:
            self.inspect(uninspected)
        self._test_update()

    @no_grad_if_enabled
    def _test_update(self) -> None:
        self._latch(_largest(self._parameters))
        self._sound_updates.add_(self._sound)
        for value, kept in zip(self._values, self._kept, strict=True):
            torch.where(self._sound, value, kept, out=value)

    @property
    def is_known_sound(self) -> bool:
        """Whether nothing has tripped it, as far as is known without a synchronization."""
        return self._untripped

    def clear(self, first: int, steps: int) -> None:
        """Count steps that were found finite elsewhere, the first of which has this number."""
        self._first_step = self._first_step or first
        self._cleared_gradients += steps
        self._cleared_updates += steps

    def _all_finite(self, with_gradients: bool) -> bool:
        storage = self._storage
        if storage is None:
            return _sums_are_finite([*self._values, *(self._gradients() if with_gradients else ())])
        flat = storage.both if with_gradients else storage.values
        return isfinite(torch.dot(flat, flat).item())  # cheaper than a sum

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def _latch(self, largest: Sequence[Tensor]) -> None:
        """Trip on the first test that fails, and keep what it said."""
        finite = torch.isfinite(torch.stack(list(largest)))
        # what comes after a failed test changes nothing
        self._finite.logical_and_(finite.logical_or_(~self._sound))
        self._sound = self._finite.all()
        self._untripped = self._look_is_free and bool(self._sound)

    def raise_if_tripped(self, epoch: int) -> None:
        """Raise if tripped; call it in every epoch, so that `epoch` is that of the failure.

        Raises:
            NonFiniteGradientError: naming epoch, step and the parameters, if the guard has tripped.
        """
        failure = self.failure(epoch)
        if failure is not None:
            raise failure

    def failure(self, epoch: int) -> NonFiniteGradientError | None:
        """Return that error; None if the guard has not tripped."""
        if self._untripped or bool(self._sound):
            return None
        gradients = self._cleared_gradients + int(self._sound_gradients)
        updates = self._cleared_updates + int(self._sound_updates)
        # a gradient that fails leaves as many sound updates as sound gradients, an update one fewer
        what, step = ("gradient" if gradients == updates else "update"), (self._first_step or 0) + updates
        bad = [name for name, finite in zip(self._names, self._finite.tolist(), strict=True) if not finite]
        listed = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        return NonFiniteGradientError(
            f"the {what} of {listed} is NaN or infinite at epoch {epoch}, step {step}; "
            "nothing was applied from there on: lower the learning rate, clip gradients, or scale the data"
        )


@no_grad_if_enabled
def _sums_are_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether every sum is finite, and so every term; the sum of large finite terms may not be."""
    for tensor in tensors:  # noqa: SIM110 - all() of a generator takes twice as long, at every step
        if not isfinite(tensor.sum().item()):
            return False
    return True


def _largest(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The largest magnitude in each tensor; a sum of squares would overflow on what is finite."""
    return torch._foreach_norm(list(tensors), ord=float("inf")) if tensors else ()


def tensors_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of several tensors taken as one vector, accumulated in float64."""
    if not tensors:
        return torch.zeros((), dtype=torch.float64)
    if len(tensors) == 1:
        norm: Tensor = torch.linalg.vector_norm(tensors[0].detach(), dtype=torch.float64)
        return norm
    return (
        torch.stack([torch.linalg.vector_norm(t.detach(), dtype=torch.float64) for t in tensors]).square().sum().sqrt()
    )
