"""The penalty whose λ varies along a path, and how strongly all penalties act at each λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from torchplug.components.builtin.regularizers import L1, L2, ElasticNet
from torchplug.components.contracts import Regularizer
from torchplug.errors import ConfigurationError
from torchplug.module import ComponentModule
from torchplug.objective import penalized
from torchplug.registry.component import Spec


@dataclass(frozen=True)
class PathPenalty:
    """The penalty that varies.

    λ is the penalty's parameter `coefficient`. A penalty with several numbers instead, such as l1 and l2 of
    `elastic_net`, keeps their ratios, and λ is their sum.

    Args:
        index: its number among the regularizers.
        name: of the component.
        shares: what each of its parameters is of λ.
    """

    index: int
    name: str
    shares: Mapping[str, float]

    @classmethod
    def of(cls, module: ComponentModule, index: int | None) -> PathPenalty:
        """Choose the penalty of a module.

        Args:
            module: with its regularizers.
            index: which; None: the only one.

        Raises:
            ConfigurationError: if there is none, or several and no index.
        """
        names = [component.name for component in module.resolved.regularizers]
        if not names:
            raise ConfigurationError("the configuration has no penalty: add one, such as --model.regularizers+=l2")
        if index is None and len(names) > 1:
            listed = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
            raise ConfigurationError(f"the configuration has {len(names)} penalties: choose a regularizer, {listed}")
        chosen = 0 if index is None else index
        if not 0 <= chosen < len(names):
            raise ConfigurationError(f"regularizer is {chosen}, and the penalties are 0 to {len(names) - 1}")
        built = module.regularizers[chosen]
        assert isinstance(built, Regularizer)
        return cls(chosen, names[chosen], _shares(built, names[chosen]))

    def numbers(self, strength: float) -> dict[str, float]:
        """The penalty's parameters at λ."""
        return {name: share * strength for name, share in self.shares.items()}

    def put(self, regularizers: nn.ModuleList, strength: float) -> None:
        """Set λ in built regularizers."""
        for name, value in self.numbers(strength).items():
            setattr(regularizers[self.index], name, value)

    def specs(self, regularizers: Sequence[Any], strength: float) -> list[Any]:
        """The regularizers of a configuration, with this λ."""
        chosen = list(regularizers)
        spec = Spec.of(chosen[self.index])
        chosen[self.index] = Spec(spec.name, {**spec.parameters, **self.numbers(strength)})
        return chosen


def _shares(regularizer: Regularizer, name: str) -> dict[str, float]:
    if "coefficient" in regularizer.hyper or "coefficient" in vars(regularizer):
        return {"coefficient": 1.0}
    numbers = {number: float(getattr(regularizer, number)) for number in regularizer.hyper}
    total = sum(numbers.values())
    if not total > 0.0:
        raise ConfigurationError(f"{name} has no coefficient above 0 whose ratios a path could keep: set one")
    return {number: value / total for number, value in numbers.items()}


@dataclass(frozen=True)
class SlopeStrengths:
    """Penalties λ₁ Σ |θ| + λ₂ Σ θ² of a linear model's slopes, with the intercept free.

    Args:
        l1: λ₁ at each point of the path.
        l2: λ₂ at each.
    """

    l1: list[float]
    l2: list[float]


def slope_strengths(
    module: ComponentModule, weight: Tensor, penalty: PathPenalty, grid: Sequence[float]
) -> SlopeStrengths | None:
    """Return how all penalties together act along the path; None where any acts otherwise.

    Args:
        module: whose network has one linear map.
        weight: the slopes.
        penalty: the one that varies.
        grid: its values.
    """
    assert module.network is not None, "it is configured"
    for regularizer in module.regularizers:
        acted_on = penalized(module.network, regularizer.include)  # type: ignore[arg-type]
        if type(regularizer) not in (L1, L2, ElasticNet) or [id(p) for p in acted_on.values()] != [id(weight)]:
            return None
    fixed = [_of(own) for number, own in enumerate(module.regularizers) if number != penalty.index]
    penalty.put(module.regularizers, 1.0)
    shares = _of(module.regularizers[penalty.index])
    l1, l2 = ([sum(own[kind] for own in fixed) + shares[kind] * strength for strength in grid] for kind in (0, 1))
    return SlopeStrengths(l1, l2)


def _of(regularizer: nn.Module) -> tuple[float, float]:
    if isinstance(regularizer, ElasticNet):
        return regularizer.l1, regularizer.l2
    assert isinstance(regularizer, L1 | L2)
    return (regularizer.coefficient, 0.0) if isinstance(regularizer, L1) else (0.0, regularizer.coefficient)
