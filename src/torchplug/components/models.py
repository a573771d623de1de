"""Networks. Outputs are raw scores, which the loss's link turns into predictions."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from torchplug.components.embeddings import NumberEmbedding, number_embedding
from torchplug.components.validate import positive

Activation = Literal["relu", "gelu", "silu", "tanh", "sigmoid", "softplus", "identity"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}
_MOST_LAYERS = 1000
"""Hidden layers of a chain without shortcuts: far more than can be trained."""
_LARGEST_WIDTH = 2**31 - 1
_HE = ("relu", "gelu", "silu")


class Linear(nn.Module):
    r"""Linear map: linear regression, or logistic regression with the loss `bce` or `cross_entropy`.

        z = xθ + b

    Args:
        inputs: d, the number of encoded features; taken from the data.
        outputs: k, the number of scores; taken from the loss and the target.
        bias: whether there is an intercept b.

    Shape:
        features (n, d) → scores (n, k).

    Reference: Bishop (2006), Pattern Recognition and Machine Learning, sections 3.1 and 4.3.
    Note: all weights are initialized to zero, unlike torch's nn.Linear, which draws them. With a convex loss every
    start leads to the same minimum, and this one needs no seed.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.map = nn.Linear(inputs, outputs, bias=bias)
        for parameter in self.map.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """Scores (n, k) from features (n, d)."""
        scores: Tensor = self.map(features)
        return scores

    def linear_scores(self) -> tuple[Tensor, Tensor | None] | None:
        """Weight (k, d) and bias (k,) of the scores; None where another kind of module has taken the map's place."""
        return (self.map.weight, self.map.bias) if type(self.map) is nn.Linear else None


class MLP(nn.Module):
    r"""Multilayer perceptron: a chain of linear maps and activations.

        h₀ = x,    hᵢ = a(hᵢ₋₁ Wᵢ + bᵢ),    z = h_last W + b

    Weights are initialized by He's rule, N(0, 2/fan_in), before relu, gelu and silu, and by Glorot's,
    U(±√(6/(fan_in + fan_out))), before other activations and in the output layer; biases are zero.

    Args:
        inputs: d, the number of encoded features; taken from the data.
        outputs: k, the number of scores; taken from the loss and the target.
        hidden: widths of the hidden layers, at most 1000 of them, each at least 1; empty: a linear model.
        activation: a, after each hidden map.
        dropout: probability in [0, 1) that a hidden unit is dropped in training, after the activation.
        batch_norm: whether each hidden map is followed by batch normalization, whose shift replaces the
            map's bias.
        bias: whether the maps have biases.
        embedding: None, or how each feature becomes several, for targets that change fast along single features:
            `periodic` complements it by three learned mixtures of cosines of it, `piecewise_linear` replaces it by 16
            learned functions that are piecewise linear in it, best with `--data.scale quantile`
            (`torchplug.PeriodicEmbedding`, `torchplug.PiecewiseLinearEmbedding`).
        frequency_scale: σ > 0 of the initial frequencies of `periodic`, in periods per unit of a feature.

    Shape:
        features (n, d) → scores (n, k).

    Raises:
        ValueError: if there are too many layers, a width is below 1, the activation or embedding unknown, dropout
            outside [0, 1), or frequency_scale not positive.

    Reference: He et al. (2015), doi:10.1109/ICCV.2015.123; Glorot and Bengio (2010),
    https://proceedings.mlr.press/v9/glorot10a.html.
    Note: softplus is exact for scores up to 20 and the identity beyond, as in torch.
    """

    hyper = ("dropout",)
    """Parameters that may differ among models that are trained at once: rates of `nn.Dropout`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: list[int] = [64, 64],  # noqa: B006 - only read; configuration files hold lists
        activation: Activation = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        bias: bool = True,
        embedding: NumberEmbedding | None = None,
        frequency_scale: float = 0.1,
    ) -> None:
        super().__init__()
        if len(hidden) > _MOST_LAYERS:
            raise ValueError(f"hidden must have at most {_MOST_LAYERS} layers, got {len(hidden)}")
        if any(not 1 <= width <= _LARGEST_WIDTH for width in hidden):
            raise ValueError(f"hidden widths must be from 1 to {_LARGEST_WIDTH}, got {list(hidden)}")
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, got {activation!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        positive(frequency_scale=frequency_scale)
        chain: list[nn.Module] = []
        if embedding is not None:
            first = number_embedding(embedding, inputs, frequency_scale)
            chain.append(first)
            inputs = first.width
        widths = [inputs, *hidden]
        for fan_in, width in pairwise(widths):
            chain.append(_map(fan_in, width, bias and not batch_norm, he=activation in _HE))
            if batch_norm:
                chain.append(nn.BatchNorm1d(width))
            chain.append(_ACTIVATIONS[activation]())
            if dropout > 0:
                chain.append(nn.Dropout(dropout))
        chain.append(_map(widths[-1], outputs, bias, he=False))
        self.layers = nn.Sequential(*chain)

    def forward(self, features: Tensor) -> Tensor:
        """Scores (n, k) from features (n, d)."""
        scores: Tensor = self.layers(features)
        return scores


def _map(fan_in: int, fan_out: int, bias: bool, he: bool) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out, bias=bias)
    if he:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
