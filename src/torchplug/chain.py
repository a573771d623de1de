r"""Analytic derivatives of networks that are chains of linear maps and elementwise activations.

    h₀ = x,    uᵢ = hᵢ₋₁Wᵢᵀ + bᵢ,    hᵢ = aᵢ(uᵢ),    z = h_last

Symbols: n rows, k scores, d inputs and m outputs of a map, p trainable scalars; D = ∂·/∂uᵢ is propagated
backwards, Dᵢ₋₁ = (Dᵢ Wᵢ) ∘ a′(uᵢ₋₁). Nothing here builds an autograd graph: a small network's step is
mostly overhead, and an autograd Jacobian costs a pass per score or a vmap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from torchplug.components import models
from torchplug.components.contracts import linear_scores
from torchplug.no_grad import no_grad_if_enabled

_aten = torch.ops.aten

Tape = list[tuple[Tensor, nn.Parameter, nn.Parameter | None, Tensor]]
"""For each layer: its input hᵢ₋₁, Wᵢ, bᵢ, and uᵢ or hᵢ, whichever a′ is computed from."""


class _Activation(NamedTuple):
    """An elementwise function and its derivative."""

    apply: Callable[[Tensor], Tensor]
    """u → a(u); in place where a′ needs a(u) alone."""
    pull: Callable[[Tensor, Tensor], Tensor]
    """(D, kept) → D ∘ a′(u); of equal shapes, as torch's kernels do not all broadcast."""
    pull_into: Callable[..., Tensor]
    """(D, kept, grad_input=out) → D ∘ a′(u), written into a tensor that may be D itself."""
    keeps_output: bool
    """Whether `kept` is a(u), or else u."""


class _Layer(NamedTuple):
    """A linear map and what follows it."""

    parameters: dict[str, nn.Parameter | None]
    """The module's own dict: read at each call, and ten times faster to read than its attributes."""
    activation: _Activation | None


class Chain:
    """The network h₀ = x, hᵢ = aᵢ(hᵢ₋₁Wᵢᵀ + bᵢ), z = h_last, with analytic derivatives.

    Created by `Chain.of`. Parameters are read from the network's modules at each `forward`, so they may
    change and be frozen or unfrozen in between; a tape is valid until they do. Gradients and columns
    are those of the trainable parameters, in the order of `network.parameters()`.

    Args:
        layers: maps and activations, from the features to the scores.
        dropout: whether the network also has dropout, which the chain ignores.

    Reference: Rumelhart, Hinton and Williams (1986), doi:10.1038/323533a0.
    Note: the derivative of relu at 0 is 0, and softplus is the identity above its threshold, as in
    torch; scores are the network's bit for bit.
    """

    def __init__(self, layers: Sequence[_Layer], dropout: bool) -> None:
        self._layers = tuple(layers)
        self.dropout = dropout

    @classmethod
    def of(cls, network: nn.Module) -> Chain | None:
        """Return a network as a chain, or None if it is not certain to be one.

        Recognized are nn.Linear, models that declare `linear_scores`, nn.Sequential of such, this package's `mlp`, and
        after each map at most one of relu, tanh, sigmoid, gelu (exact), silu, softplus; identity and dropout anywhere.
        Subclasses, hooks, parametrizations, shared parameters and replaced `forward`s may compute anything,
        so the result is then None. Later changes of this kind are not detected: call `of` again.
        """
        layers: list[_Layer] = []
        dropout = False
        for module in _unpacked(network):
            if not _is_plain(module):
                return None
            kind, declared = type(module), linear_scores(module)
            if kind is nn.Linear:
                layers.append(_Layer(module._parameters, None))
            elif declared is not None:
                if not all(map(_is_plain, module.modules())):
                    return None
                layers.append(_Layer(declared._asdict(), None))
            elif kind is nn.Dropout:
                dropout = True
            elif kind not in _TRANSPARENT:
                activation = _activation(module)
                if activation is None or not layers or layers[-1].activation is not None:
                    return None
                layers[-1] = _Layer(layers[-1].parameters, activation)
        if not layers or not _owns_plainly(network, layers):
            return None
        return cls(layers, dropout)

    @property
    def is_linear(self) -> bool:
        """Whether it is a single map, so that scores are linear in the parameters."""
        return len(self._layers) == 1 and self._layers[0].activation is None

    @property
    def width(self) -> int:
        """The largest layer width, d and k included."""
        weights = [layer.parameters["weight"] for layer in self._layers]
        return max(max(weight.shape) for weight in weights if weight is not None)

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that require gradients now."""
        return [p for p in _weights_and_biases(self._layers) if p.requires_grad]

    def split(self, vector: Tensor) -> list[Tensor]:
        """Views of a flat vector (p,), one in the shape of each trainable parameter."""
        parameters = self.trainable()
        pieces = torch.split(vector, [p.numel() for p in parameters])
        return [piece.view(p.shape) for piece, p in zip(pieces, parameters, strict=True)]

    @no_grad_if_enabled
    def forward(self, features: Tensor) -> tuple[Tensor, Tape]:
        """Return scores and a tape for derivatives at this point; they may share memory and must not be modified.

        Shape:
            features (n, d), n ≥ 0 → scores (n, k).
        """
        tape: Tape = []
        h = features
        for parameters, activation in self._layers:
            weight, bias = parameters["weight"], parameters["bias"]
            assert weight is not None
            u = linear(h, weight, bias)
            after = u if activation is None else activation.apply(u)
            tape.append((h, weight, bias, after if activation is None or activation.keeps_output else u))
            h = after
        return h, tape

    @no_grad_if_enabled
    def backward(self, tape: Tape, derivative: Tensor, out: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Return the gradient of each trainable parameter, summed over rows: Jᵀ times `derivative`.

            ∂/∂Wᵢ = Dᵢᵀ hᵢ₋₁,    ∂/∂bᵢ = Σ_n Dᵢ

        Args:
            tape: of the `forward` at these parameters.
            derivative: ∂(Σ over rows)/∂z.
            out: tensors to write the gradients into, shaped like the parameters.

        Shape:
            derivative (n, k) → a list of tensors shaped like the trainable parameters.
        """
        first = _first_trainable(tape)
        targets: Iterator[Tensor | None] = repeat(None) if out is None else reversed(out)
        gradients: list[Tensor] = []
        signal = derivative
        for i in range(len(tape) - 1, first - 1, -1):
            h, weight, bias, kept = tape[i]
            activation = self._layers[i].activation
            if activation is not None:
                signal = activation.pull(signal, kept)
            if bias is not None and bias.requires_grad:
                gradients.append(torch.sum(signal, 0, out=next(targets)))
            if weight.requires_grad:
                gradients.append(torch.mm(signal.t(), h, out=next(targets)))
            if i > first:
                signal = signal.mm(weight)
        gradients.reverse()
        return gradients

    @no_grad_if_enabled
    def jacobian(self, tape: Tape, out: Tensor | None = None) -> Tensor:
        """Return J = ∂z/∂θ of each row, θ the trainable parameters as one flat vector.

            ∂z/∂Wᵢ = Dᵢ ⊗ hᵢ₋₁,    ∂z/∂bᵢ = Dᵢ,    D_last = diag(a′(u_last))

        Args:
            tape: of the `forward` at these parameters.
            out: (n, k, p), where to write it; its last dimension has stride 1, so `buffer[..., :p]` will do.

        Shape:
            → (n, k, p); `view(n·k, p)` where it is contiguous.
        """
        last = tape[-1][3]
        n, k = last.shape
        if out is None:
            out = last.new_empty(n, k, sum(p.numel() for p in self.trainable()))
        first, end = _first_trainable(tape), out.shape[2]
        signal: Tensor | None = None  # D, (n, k, m) or (1, k, m); None on the last layer, where it is diagonal
        for i in range(len(tape) - 1, first - 1, -1):
            h, weight, bias, kept = tape[i]
            activation, slope = self._layers[i].activation, None
            if activation is not None:
                if signal is None:
                    slope = activation.pull(torch.ones_like(kept), kept)
                else:
                    shape = (n, k, len(weight))
                    signal = activation.pull(signal.expand(shape), kept.unsqueeze(1).expand(shape))
            if bias is not None and bias.requires_grad:
                end -= bias.numel()
                _write_bias(out.narrow(2, end, bias.numel()), signal, slope)
            if weight.requires_grad:
                end -= weight.numel()
                _write_weight(out.narrow(2, end, weight.numel()).view(n, k, *weight.shape), signal, slope, h)
            if i > first:
                if signal is None:
                    signal = weight.unsqueeze(0) if slope is None else slope.unsqueeze(2) * weight
                else:
                    signal = signal @ weight
        return out

    @no_grad_if_enabled
    def jvp(self, tape: Tape, vector: Tensor) -> Tensor:
        """Return J times a vector, without forming J: the derivative of the scores along a direction.

            u̇ᵢ = ḣᵢ₋₁Wᵢᵀ + hᵢ₋₁Ẇᵢᵀ + ḃᵢ,    ḣᵢ = u̇ᵢ ∘ a′(uᵢ)

        Args:
            tape: of the `forward` at these parameters.
            vector: θ̇, the trainable parameters' direction as one flat vector.

        Shape:
            vector (p,) → (n, k).
        """
        directions = iter(self.split(vector))
        features, k = tape[0][0], len(tape[-1][1])
        tangent: Tensor | None = None
        for (h, weight, bias, kept), (_, activation) in zip(tape, self._layers, strict=True):
            along_weight = next(directions) if weight.requires_grad else None
            along_bias = next(directions) if bias is not None and bias.requires_grad else None
            if tangent is not None:
                tangent = linear(tangent, weight, along_bias)
                if along_weight is not None:
                    tangent = torch.addmm(tangent, h, along_weight.t())
            elif along_weight is not None:
                tangent = linear(h, along_weight, along_bias)
            elif along_bias is not None:
                tangent = along_bias.repeat(len(h), 1)
            if tangent is not None and activation is not None:
                tangent = activation.pull(tangent, kept)
        return features.new_zeros(len(features), k) if tangent is None else tangent


class Stage(NamedTuple):
    """A linear map of a chain and what follows it, its parameters by name."""

    weight: str
    bias: str | None
    activation: _Activation | None = None
    dropout: nn.Dropout | None = None
    """What drops units in training, after the activation."""


def stages_of(network: nn.Module) -> list[Stage] | None:
    """What a chain is made of, by name, dropout after activations included; None for any other network."""
    if Chain.of(network) is None:
        return None
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: list[Stage] = []
    for module in _unpacked(network):
        declared = linear_scores(module)
        if type(module) is nn.Linear or declared is not None:
            weight, bias = (module.weight, module.bias) if declared is None else declared
            found.append(Stage(names[id(weight)], None if bias is None else names[id(bias)]))
        elif type(module) is nn.Dropout:
            if not found or found[-1].dropout is not None:
                return None
            found[-1] = found[-1]._replace(dropout=module)
        elif type(module) not in _TRANSPARENT:
            if found[-1].dropout is not None:
                return None
            found[-1] = found[-1]._replace(activation=_activation(module))
    return found


def _first_trainable(tape: Tape) -> int:
    """The first layer with a trainable parameter, which nothing need be carried below; or the tape's length."""
    for i, (_, weight, bias, _) in enumerate(tape):
        if weight.requires_grad or (bias is not None and bias.requires_grad):
            return i
    return len(tape)


def _write_bias(block: Tensor, signal: Tensor | None, slope: Tensor | None) -> None:
    """Fill block (n, k, m) with D, the signal or else diag(slope), where no slope is a slope of 1."""
    if signal is not None:
        block.copy_(signal)
        return
    if block.shape[1] > 1:
        block.zero_()
    diagonal = block.diagonal(dim1=1, dim2=2)  # (n, k)
    if slope is None:
        diagonal.fill_(1)
    else:
        diagonal.copy_(slope)


def _write_weight(block: Tensor, signal: Tensor | None, slope: Tensor | None, h: Tensor) -> None:
    """Fill block (n, k, m, d) with D ⊗ h, D as for the bias."""
    if signal is not None:
        torch.mul(signal.unsqueeze(3), h[:, None, None, :], out=block)
        return
    if block.shape[1] > 1:
        block.zero_()
    diagonal = block.diagonal(dim1=1, dim2=2)  # (n, d, k)
    if slope is None:
        diagonal.copy_(h.unsqueeze(2))
    else:
        torch.mul(h.unsqueeze(2), slope.unsqueeze(1), out=diagonal)


# torch's own backward kernels: D ∘ a′(u) in one pass over memory, with autograd's bits.
def _by_kernel(apply: Callable[[Tensor], Tensor], backward: Any, keeps_output: bool, **settings: float) -> _Activation:
    into = partial(backward.grad_input, **settings)
    if not settings:
        return _Activation(apply, backward.default, into, keeps_output)
    return _Activation(apply, partial(backward.default, **settings), into, keeps_output)


_PARAMETERLESS: dict[type[nn.Module], _Activation] = {
    nn.ReLU: _by_kernel(torch.relu_, _aten.threshold_backward, True, threshold=0),
    nn.Tanh: _by_kernel(torch.tanh_, _aten.tanh_backward, True),
    nn.Sigmoid: _by_kernel(torch.sigmoid_, _aten.sigmoid_backward, True),
    nn.SiLU: _by_kernel(nn.functional.silu, _aten.silu_backward, False),
}

_TRANSPARENT = (nn.Sequential, models.MLP, nn.Identity)


def _activation(module: nn.Module) -> _Activation | None:
    if type(module) is nn.GELU and module.approximate == "none":
        return _by_kernel(nn.functional.gelu, _aten.gelu_backward, False)
    if type(module) is nn.Softplus:
        beta, threshold = module.beta, module.threshold
        apply = partial(nn.functional.softplus, beta=beta, threshold=threshold)
        return _by_kernel(apply, _aten.softplus_backward, False, beta=beta, threshold=threshold)
    return _PARAMETERLESS.get(type(module))


def _unpacked(module: nn.Module) -> Iterator[nn.Module]:
    """A module and, where it is a container, what is in it, in the order of the computation."""
    yield module
    if type(module) is nn.Sequential:
        for child in module:
            yield from _unpacked(child)
    elif type(module) is models.MLP:
        yield from _unpacked(module.layers)


def _is_plain(module: nn.Module) -> bool:
    """Whether calling the module calls its class's forward and nothing else."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return "forward" not in vars(module) and not any(hooks)


def _weights_and_biases(layers: Sequence[_Layer]) -> Iterator[nn.Parameter]:
    for layer in layers:
        for name in ("weight", "bias"):
            parameter = layer.parameters[name]
            if parameter is not None:
                yield parameter


def _owns_plainly(network: nn.Module, layers: Sequence[_Layer]) -> bool:
    """Whether the network's parameters are the maps' weights and biases, each once, real, and without hooks."""
    expected, owned = list(_weights_and_biases(layers)), list(network.parameters())
    return len(expected) == len(owned) and all(
        a is b
        and type(a) is nn.Parameter
        and a.is_floating_point()
        and not a._backward_hooks
        and not getattr(a, "_post_accumulate_grad_hooks", None)
        for a, b in zip(expected, owned, strict=True)
    )
