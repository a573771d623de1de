"""RealMLP: a multilayer perceptron with the parts that let one predict well on tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import mish, selu

from torchplug import validate
from torchplug_tabular.annealing import flat_cosine
from torchplug_tabular.dropout import Dropout
from torchplug_tabular.inputs import Inputs, NumberEmbedding
from torchplug_tabular.layers import NTKLinear, ParametricActivation, Scaling

_ACTIVATIONS = {"mish": mish, "selu": selu}
_SAMPLE = 256
"""Rows of normal numbers, for which weights and biases are scaled and drawn until there are training rows."""


class RealMLP(nn.Module):
    r"""RealMLP: a perceptron with embedded and scaled inputs, NTK parametrization and learned activations.

        h₀ = s ∘ e(x),    hᵢ = pᵢ(hᵢ₋₁ Wᵢ / √dᵢ + bᵢ),    z = h_last W / √d + b
        pᵢ(u) = u + aᵢ ∘ (σ(u) − u)

    e is `torchplug.PeriodicEmbedding`, and vectors of large categories. The learning rate has the factor 6 for the
    scaling s, and 0.1 for biases, activations and embeddings of numbers (`group_settings`). The scaling has a weight
    decay of 0.12, activations and embeddings of 0.002. Weights start normal, scaled so that each layer's outputs have
    deviation 1 for the training rows; biases so that each output is 0 at a random point among them
    (`initialize_from`). In the second half of the run dropout falls to 0 along half a cosine.

    Made for `--data.scale robust`, the optimizer `adamw` with lr 0.2 (classes: 0.04), betas (0.9, 0.95) and
    weight_decay 0.02, the scheduler `coslog`, which lowers weight decay as well, batches of 256 and 256 epochs.

    Args:
        inputs: d, the number of encoded features; taken from the data.
        outputs: k, the number of scores; taken from the loss and the target.
        categories: the features of each column of categories; taken from the data.
        hidden: widths of the hidden layers, each at least 1.
        activation: σ, `mish` or `selu`; the latter is recommended for classes.
        dropout: probability in [0, 1) that a hidden unit is dropped in the first half of the run, after the activation.
        embedding: None, `periodic` or `piecewise_linear`: how each number, and each 0/1 feature of a small category,
            becomes several.
        frequency_scale: σ > 0 of the initial frequencies of `periodic`, in periods per unit of a feature.
        max_onehot: number of features up to which a category is not embedded, at least 0.
        category_size: the size of an embedded category's vector, at least 1.

    Shape:
        features (n, d) → scores (n, k).

    Raises:
        ValueError: if a width, dropout, activation, embedding, scale or size is out of range.

    Reference: Holzmüller, Grinsztajn and Steinwart (2024), arXiv 2407.04491.
    Note: dropout falls from epoch to epoch, and in the published training from step to step. The weight decays are
    those of the published code, in which the factors of the learning rate enter twice.
    """

    group_settings: ClassVar[dict[str, dict[str, float]]] = {
        "scale": {"lr": 6.0, "weight_decay": 0.12},
        "bias": {"lr": 0.1},
        "mix": {"lr": 0.1, "weight_decay": 0.002},
        "inputs.numbers.*": {"lr": 0.1, "weight_decay": 0.002},
    }
    """Factors of the learning rate, and weight decay, by patterns of parameter names."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        categories: Sequence[tuple[int, int]] = (),
        hidden: list[int] = [256, 256, 256],  # noqa: B006 - only read; configuration files hold lists
        activation: Literal["mish", "selu"] = "mish",
        dropout: float = 0.15,
        embedding: NumberEmbedding | None = "periodic",
        frequency_scale: float = 0.1,
        max_onehot: int = 9,
        category_size: int = 8,
    ) -> None:
        super().__init__()
        validate.one_of(*_ACTIVATIONS, activation=activation)
        validate.below_one(dropout=dropout)
        validate.at_least(1, **{f"hidden[{i}]": width for i, width in enumerate(hidden)})
        self.inputs = Inputs(
            inputs, categories, embedding, frequency_scale, max_onehot=max_onehot, category_size=category_size
        )
        chain: list[nn.Module] = [Scaling(self.inputs.width)]
        for fan_in, units in pairwise([self.inputs.width, *hidden]):
            chain += [NTKLinear(fan_in, units), ParametricActivation(units, _ACTIVATIONS[activation])]
            if dropout > 0:
                chain.append(Dropout(dropout))
        self.dropout = dropout
        self.layers = nn.Sequential(*chain, NTKLinear([self.inputs.width, *hidden][-1], outputs))
        self.initialize_from(torch.randn(_SAMPLE, inputs))

    def forward(self, features: Tensor) -> Tensor:
        """Return scores (n, k) for features (n, d)."""
        scores: Tensor = self.layers(self.inputs(features))
        return scores

    def anneal(self, passed: float) -> None:
        """Set the rate of dropout for an epoch.

        Args:
            passed: t in [0, 1], the part of the run that is over.
        """
        for layer in self.layers:
            if isinstance(layer, Dropout):
                layer.p = self.dropout * flat_cosine(passed)

    @torch.no_grad()
    def initialize_from(self, features: Tensor) -> None:
        """Scale the weights and draw the biases of all layers for some rows.

        Args:
            features: (n, d), n ≥ 1; before it is called, parameters are those for normal numbers.
        """
        sample = self.inputs(features)
        for layer in self.layers:
            if isinstance(layer, NTKLinear):
                sample = layer.initialize(sample)
            elif not isinstance(layer, Dropout):
                sample = layer(sample)
