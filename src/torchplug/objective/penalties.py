"""Penalties Σ λR: which parameters each acts on, and their derivatives as flat vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from torchplug.components.contracts import Regularizer, implements
from torchplug.components.parameter_groups import matches
from torchplug.errors import ConfigurationError
from torchplug.objective.autograd import flat_gradient, vector_products

Penalty = tuple[Regularizer, dict[str, nn.Parameter]]
"""A regularizer and the parameters it acts on, by name."""

_NORMALIZATIONS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def penalized(network: nn.Module, include: list[str] | None = None) -> dict[str, nn.Parameter]:
    """The trainable parameters that a penalty acts on, by name.

    Args:
        network: whose `named_parameters` give the names.
        include: glob patterns of names, or of what follows a dot in them; None leaves out biases and normalization
            layers.

    Raises:
        ConfigurationError: if the patterns match nothing; the message lists the names.
    """
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if include is not None:
        chosen = {name: p for name, p in named.items() if any(matches(name, pattern) for pattern in include)}
        if not chosen:
            raise ConfigurationError(f"include={include} matches no parameter; the network has {', '.join(named)}")
        return chosen
    normalization = {
        id(p)
        for module in network.modules()
        if isinstance(module, _NORMALIZATIONS)
        for p in module.parameters(recurse=False)
    }
    return {name: p for name, p in named.items() if name.rpartition(".")[2] != "bias" and id(p) not in normalization}


def total_penalty(penalties: Iterable[tuple[Regularizer, Mapping[str, Tensor]]]) -> Tensor:
    """Σ λR, a scalar tensor."""
    terms = [regularizer.coefficient * regularizer(named) for regularizer, named in penalties]
    return torch.stack(terms).sum() if terms else torch.zeros(())


class FlatPenalties:
    """Smooth penalties and their derivatives over all parameters taken as one vector (p,).

    Args:
        penalties: those that belong to F; proximal ones are the optimizer's.
        parameters: all trainable ones, in the order of the flat vector.
    """

    def __init__(self, penalties: Sequence[Penalty], parameters: Sequence[nn.Parameter]) -> None:
        self.penalties = list(penalties)
        self.parameters = list(parameters)
        ends = torch.tensor([0, *(p.numel() for p in parameters)]).cumsum(0).tolist()
        self._slices = {id(p): slice(a, b) for p, a, b in zip(parameters, ends[:-1], ends[1:], strict=True)}
        self._size: int = ends[-1]

    def __bool__(self) -> bool:
        """Whether there is any penalty at all."""
        return bool(self.penalties)

    @property
    def elementwise(self) -> bool:
        """Whether every penalty treats every element alone, so that its second derivative is a diagonal."""
        return all(implements(regularizer, "curvature") for regularizer, _ in self.penalties)

    def value_and_gradient(self) -> tuple[float, Tensor]:
        """Σ λR and its gradient (p,)."""
        with torch.enable_grad():
            value = total_penalty(self.penalties)
            gradient = flat_gradient(value, self.parameters)
        return float(value.detach()), gradient

    def diagonal(self) -> Tensor:
        """∂²ΣλR/∂θ² (p,) of elementwise penalties."""
        result = self._zeros(self._size)
        for regularizer, named in self.penalties:
            for name, curvature in regularizer.curvature(named).items():  # type: ignore[operator]
                result[self._slices[id(named[name])]] += regularizer.coefficient * curvature.detach().reshape(-1)
        return result

    def hvp(self, vector: Tensor) -> Tensor:
        """∇²ΣλR v (p,)."""
        if self.elementwise:
            return self.diagonal() * vector
        return self._products(vector.unsqueeze(0))[0]

    def hessian(self, subset: Tensor | None = None) -> Tensor:
        """∇²ΣλR (p, p), or that of the elements `subset` (s,) of θ alone (s, s)."""
        if self.elementwise:
            diagonal = self.diagonal()
            return torch.diag(diagonal if subset is None else diagonal[subset])
        identity = torch.eye(self._size, dtype=self.parameters[0].dtype, device=self.parameters[0].device)
        return self._products(identity) if subset is None else self._products(identity[subset])[:, subset]

    def residual_rows(self) -> tuple[Tensor, Tensor]:
        """Rows A (m, p) and values Aθ (m,) of quadratic penalties, whose squares sum to Σ λR."""
        rows, values = [self._zeros(0, self._size)], [self._zeros(0)]
        for regularizer, named in self.penalties:
            plain = {name: p.detach() for name, p in named.items()}
            residuals, jacobian = self._jacobian(regularizer, plain)
            row = self._zeros(len(residuals), self._size)
            for name, block in jacobian.items():
                row[:, self._slices[id(named[name])]] = block.reshape(len(residuals), -1)
            rows.append(row)
            values.append(residuals)
        return torch.cat(rows), torch.cat(values)

    @staticmethod
    def _jacobian(regularizer: Regularizer, named: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        def flat(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            residuals: dict[str, Tensor] = regularizer.residuals(parameters)  # type: ignore[operator]
            vector = torch.cat([residual.reshape(-1) for residual in residuals.values()])
            return vector, vector

        jacobian, residuals = torch.func.jacrev(flat, has_aux=True)(dict(named))
        return residuals, jacobian

    def _products(self, vectors: Tensor) -> Tensor:
        """∇²ΣλR times each row of `vectors` (m, p)."""
        with torch.enable_grad():
            gradient = flat_gradient(total_penalty(self.penalties), self.parameters, create_graph=True)
            return vector_products(gradient, self.parameters, vectors)

    def _zeros(self, *size: int) -> Tensor:
        return torch.zeros(*size, dtype=self.parameters[0].dtype, device=self.parameters[0].device)
