"""The penalties of many models at once, each with its own λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.func import grad, vmap

from torchplug.components.contracts import Regularizer, implements
from torchplug.many.stack import column
from torchplug.objective import total_penalty
from torchplug.objective.function import numbers_of, with_numbers


class StackedPenalty:
    """One kind of penalty.

    Args:
        regularizers: of each model, of one class.
        names: of the parameters that it acts on.
        like: has the dtype and device of the parameters.
    """

    def __init__(self, regularizers: Sequence[Regularizer], names: Sequence[str], like: Tensor) -> None:
        self._regularizer = regularizers[0]
        self._elementwise = is_elementwise(self._regularizer)
        numbers = [numbers_of(regularizer) for regularizer in regularizers]
        self._numbers = {name: like.new_tensor([own[name] for own in numbers]) for name in numbers[0]}
        self.names = list(names)
        self.proximal = self._regularizer.proximal

    def keep(self, models: Sequence[int]) -> None:
        """Forget all models but these."""
        self._numbers = {name: number[list(models)] for name, number in self._numbers.items()}

    def add_gradient(self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Add λ ∂R/∂θ to gradients (K, …) by name."""
        if not self._elementwise:
            self._add_by_autograd(values, gradients)
            return
        for name in self.names:
            own = self._with_numbers(values[name].ndim)
            derivative = own.derivative({name: values[name]})[name]  # type: ignore[operator]
            if isinstance(own.coefficient, Tensor):
                gradients[name].addcmul_(derivative, own.coefficient)
            else:
                gradients[name].add_(derivative, alpha=own.coefficient)

    def prox(self, parameter: Tensor, step: Any) -> Tensor:
        """The proximal operator of a parameter (K, …); `step` broadcasts against it."""
        return self._with_numbers(parameter.ndim).prox(parameter, step)

    def _with_numbers(self, axes: int) -> Regularizer:
        return with_numbers(self._regularizer, {name: column(n, axes) for name, n in self._numbers.items()})

    def _add_by_autograd(self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        def value(named: dict[str, Tensor], numbers: dict[str, Tensor]) -> Tensor:
            return total_penalty([(with_numbers(self._regularizer, numbers), named)])

        found = vmap(grad(value))({name: values[name] for name in self.names}, self._numbers)
        for name, gradient in found.items():
            gradients[name].add_(gradient)


def is_elementwise(regularizer: Regularizer) -> bool:
    """Whether a regularizer's derivative and prox take the parameters of many models at once."""
    has_derivative = regularizer.proximal or implements(regularizer, "derivative")
    return regularizer.elementwise and implements(regularizer, "elementwise") and has_derivative
