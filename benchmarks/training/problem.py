"""A cell's data, network and loss, the same for everybody."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.cells import Cell, Loss

LEARNING_RATE = 1e-3

LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": functional.mse_loss,
    "bce": functional.binary_cross_entropy_with_logits,
    "cross_entropy": functional.cross_entropy,
}


@dataclass(frozen=True)
class Problem:
    """What a contestant is given.

    Args:
        cell: which it is.
        features: (n, d) float32.
        target: (n, 1) float32, or (n,) int64 for cross_entropy.
        initial: the network that training starts from; take `network`, a copy.
        epochs: how many to train, the first one included.
        shuffle: whether each epoch draws a new order, each contestant in its own way; else rows come as they stand.
    """

    cell: Cell
    features: Tensor
    target: Tensor
    initial: nn.Sequential
    epochs: int
    shuffle: bool = True

    @property
    def network(self) -> nn.Sequential:
        """A network to train."""
        return copy.deepcopy(self.initial)

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(scores, target) → the batch's mean."""
        return LOSSES[self.cell.loss]

    @property
    def labels(self) -> NDArray[np.int64] | NDArray[np.float32]:
        """The target as NumPy has it (n,): class labels as whole numbers."""
        target = self.target.flatten()
        return (target if self.cell.loss == "mse" else target.long()).numpy()

    @torch.no_grad()
    def loss_of(self, network: nn.Module) -> float:
        """The training set's, in double precision."""
        target = self.target.double() if self.target.is_floating_point() else self.target
        return float(self.loss(copy.deepcopy(network).double()(self.features.double()), target))

    def layers(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """The initial weights of each map as (inputs, outputs), and its biases."""
        maps = [layer for layer in self.initial if isinstance(layer, nn.Linear)]
        return [(m.weight.detach().numpy().T.copy(), m.bias.detach().numpy().copy()) for m in maps]

    @torch.no_grad()
    def network_of(self, layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> nn.Sequential:
        """The other way round, from a peer's layers."""
        network = self.network
        maps = [layer for layer in network if isinstance(layer, nn.Linear)]
        for layer, (weight, bias) in zip(maps, layers, strict=True):
            layer.weight.copy_(torch.as_tensor(weight).mT)
            layer.bias.copy_(torch.as_tensor(bias))
        return network


@dataclass(frozen=True)
class Trained:
    """What a contestant gives back.

    Args:
        seconds: of each epoch, the first one included.
        network: trained.
    """

    seconds: list[float]
    network: nn.Module


Contestant = Callable[[Problem], Trained]


def problem_of(cell: Cell, epochs: int) -> Problem:
    """Data and initial weights of a cell, from fixed seeds."""
    features, target = _digits() if cell.source == "digits" else synthetic(cell)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((cell.features, *cell.hidden, cell.outputs)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return Problem(cell, features, target, nn.Sequential(*layers[:-1]), epochs)


def synthetic(cell: Cell) -> tuple[Tensor, Tensor]:
    """Normal features; a target that the job's model can learn."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(cell.rows, cell.features, generator=generator)
    scores = X @ torch.randn(cell.features, cell.outputs, generator=generator) / cell.features**0.5
    if cell.loss == "cross_entropy":
        return X, torch.sin(2 * scores).argmax(1)
    if cell.loss == "bce":
        return X, (torch.rand(cell.rows, 1, generator=generator) < torch.sigmoid(3 * scores)).float()
    curve = torch.sin(2 * scores) if cell.hidden else scores
    return X, curve + 0.1 * torch.randn(cell.rows, 1, generator=generator)


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target).long()
