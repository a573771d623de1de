"""F on a minibatch: what one rank backpropagates for its share of an optimizer step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from torchplug.batch import Batch
from torchplug.components.contracts import Loss, Regularizer, row_losses
from torchplug.errors import ConfigurationError
from torchplug.objective.penalties import penalized, total_penalty
from torchplug.registry.component import TargetInfo

Reduction = Literal["mean", "sum"]


class StepObjective:
    r"""F on the rows of one optimizer step, as one rank's share of it.

    An optimizer step on a batch B minimizes (1/|B|) Σ_B wᵢ ℓᵢ + Σ λR. |B| counts the samples of
    all ranks and of the whole accumulation window; it arrives with the batch. Dividing by Σ wᵢ of
    each batch instead would be biased.

    Args:
        network: gives scores (n, k) from features.
        loss: gives a value per sample.
        regularizers: penalties; a proximal one is left to the optimizer's step.
        reduction: `sum` drops the 1/n and 1/|B|.

    Raises:
        ConfigurationError: if a regularizer's patterns match no parameter.
    """

    def __init__(
        self, network: nn.Module, loss: Loss, regularizers: Iterable[Regularizer], reduction: Reduction = "mean"
    ) -> None:
        self.network = network
        self.loss = loss
        self.reduction = reduction
        self._checked = False
        self.penalties = [(regularizer, penalized(network, regularizer.include)) for regularizer in regularizers]
        self._smooth = [(regularizer, named) for regularizer, named in self.penalties if not regularizer.proximal]

    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters of network and loss."""
        return [p for module in (self.network, self.loss) for p in module.parameters() if p.requires_grad]

    def scaled_loss(self, batch: Batch, world: int, window: int, uniform: bool = False) -> tuple[Tensor, Tensor]:
        """What this rank backpropagates for one micro-batch, and its Σ wℓ, detached.

        Lightning divides by `window` (its accumulation setting) and DDP averages over `world`
        ranks; the scale undoes both, so that the gradients add up to that of the whole step.
        `uniform` says that every weight is known to be 1.
        """
        weighted = self._weighted(batch, uniform)
        scale = world * window / (batch.samples if self.reduction == "mean" else 1)
        value = weighted * scale
        if self._smooth:
            value = value + total_penalty(self._smooth) * (window / batch.micro_batches)
        return value, weighted.detach()

    def penalty(self) -> Tensor:
        """Σ λR at the current parameters, proximal penalties included."""
        with torch.no_grad():
            return total_penalty(self.penalties)

    def _weighted(self, batch: Batch, uniform: bool) -> Tensor:
        if len(batch.weight) == 0:  # a rank without rows still takes part in DDP's reduction
            return torch.stack([0.0 * p.sum() for p in self.parameters()]).sum()
        scores = self.network(batch.features)
        if not self._checked:
            check_shapes(self.loss, scores[0] if scores.ndim == 3 else scores, batch.target)
            self._checked = True
        values = row_losses(self.loss, scores, batch.target)
        return values.sum() if uniform else (values * batch.weight).sum()


def check_shapes(loss: Loss, scores: Tensor, target: Tensor) -> None:
    """Refuse scores and targets that would broadcast against each other into nonsense.

    Raises:
        ConfigurationError: naming both shapes.
    """
    k = target.shape[-1]
    if target.ndim == 1:
        fit = scores.ndim == 2
    elif loss.task.has_indices:
        fit = scores.shape == target.shape
    else:
        columns = tuple(f"y{j}" for j in range(k))
        wanted = loss.outputs(TargetInfo(columns, None))
        fit = scores.shape[1:] == (wanted,) and (k == 1 or not loss.task.has_classes)
    if not fit:
        raise ConfigurationError(
            f"the network gives scores of shape {tuple(scores.shape)}, which do not fit {type(loss).__name__} of "
            f"targets of shape {tuple(target.shape)}"
        )
