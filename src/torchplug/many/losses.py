"""The losses of many models at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torchplug.components.contracts import Loss, implements
from torchplug.objective.function import numbers_of, with_numbers


class StackedLoss:
    """One loss whose hyper-parameters may differ between models.

    Scores have axes for folds, rows and models in any order and the last for outputs; the target broadcasts against
    them. A loss that is written for (n, k) alone gets the axes in front as rows.

    Args:
        losses: of each model, of one class.
        like: has the dtype and device of the scores.
    """

    def __init__(self, losses: Sequence[Loss], like: Tensor) -> None:
        self._loss = losses[0]
        self._takes_axes = takes_axes(self._loss)
        self._has_derivative = implements(self._loss, "derivative")
        numbers = [numbers_of(loss) for loss in losses]
        self._numbers = {
            name: like.new_tensor([own[name] for own in numbers])
            for name in numbers[0]
            if len({own[name] for own in numbers}) > 1
        }

    def keep(self, models: Sequence[int]) -> None:
        """Forget all models but these."""
        self._numbers = {name: number[list(models)] for name, number in self._numbers.items()}

    def of(self, models: Tensor | slice, shape: Sequence[int]) -> Loss:
        """The loss with the hyper-parameters of some models.

        Args:
            models: which of the K.
            shape: in which these numbers broadcast against scores.
        """
        return with_numbers(self._loss, {name: number[models].view(*shape) for name, number in self._numbers.items()})

    def values(self, loss: Loss, scores: Tensor, target: Tensor) -> Tensor:
        """Each row's loss, the shape of the scores without the last axis."""
        if self._takes_axes:
            values: Tensor = loss(scores, target)
            return values
        flat, spread = _as_rows(scores, target)
        values = loss(flat, spread)
        return values.view(scores.shape[:-1])

    def derivative(self, loss: Loss, scores: Tensor, target: Tensor) -> Tensor:
        """∂ℓ/∂scores, a tensor of its own that may be changed."""
        flat, spread = (scores, target) if self._takes_axes else _as_rows(scores, target)
        if self._has_derivative:
            found: Tensor = loss.derivative(flat, spread)  # type: ignore[operator]
            return found.view_as(scores)
        with torch.enable_grad():
            variable = flat.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(variable, spread).sum(), variable)
        return gradient.view_as(scores)


def takes_axes(loss: Loss) -> bool:
    """Whether a loss takes scores with any axes in front of the outputs."""
    return loss.leading_axes and implements(loss, "leading_axes")


def _as_rows(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (n, k), and the target of each of these rows."""
    axes = scores.ndim - 1
    spread = target.expand(*scores.shape[:-1], *target.shape[axes:])
    return scores.reshape(-1, scores.shape[-1]), spread.reshape(-1, *target.shape[axes:])
