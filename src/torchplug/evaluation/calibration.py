"""What rows that did not train say of how sure predictions are: residuals of numbers, a temperature of classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torchplug.batch import Batch
from torchplug.components.contracts import Loss
from torchplug.errors import CheckpointError
from torchplug.evaluation.residuals import Residuals
from torchplug.evaluation.split_evaluations import in_units, original_units
from torchplug.evaluation.temperature import Temperature, takes_temperature
from torchplug.objective import deterministic_eval
from torchplug.preprocessing import Preprocessing


class HeldOut(NamedTuple):
    """Rows that did not train, as a network scores them.

    Args:
        scores: (m, k) float64.
        target: as the loss sees it.
        weight: (m,).
    """

    scores: Tensor
    target: Tensor
    weight: Tensor

    @classmethod
    def joined(cls, parts: Sequence[HeldOut]) -> HeldOut:
        """The rows of several parts, one after the other."""
        return cls(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def held_out(network: nn.Module, batches: Iterable[Batch]) -> HeldOut:
    """Score rows that did not train, in evaluation mode, on the CPU.

    Args:
        network: trained.
        batches: of these rows, features in any precision.
    """
    parameter = next(network.parameters(), torch.zeros(()))
    with torch.no_grad(), deterministic_eval(network):
        parts = [
            HeldOut(network(batch.features.to(parameter)).double().cpu(), batch.target, batch.weight)
            for batch in batches
        ]
    return HeldOut.joined(parts)


def errors_of(rows: HeldOut, loss: Loss, preprocessing: Preprocessing) -> Tensor:
    """Y − ŷ in the target's units, (m, k) float64, ŷ the loss's point.

    Args:
        rows: scored.
        loss: whose predictions have a location.
        preprocessing: fitted.
    """
    points = loss.point(in_units(loss.link(rows.scores), loss, preprocessing, loss.units))
    return original_units(rows.target, loss, preprocessing).double() - points


def takes_intervals(loss: Loss) -> bool:
    """Whether predictions are numbers around which there may be an interval."""
    return not loss.task.has_classes and "location" in loss.units


@dataclass(frozen=True)
class Calibration:
    """What a checkpoint keeps of rows that did not train.

    Args:
        residuals: of numbers, for intervals.
        temperature: of classes.
    """

    residuals: Residuals | None = None
    temperature: Temperature | None = None

    @classmethod
    def of(cls, rows: HeldOut, loss: Loss, preprocessing: Preprocessing) -> Calibration:
        """Calibrate on rows that did not train.

        Args:
            rows: scored, at least one.
            loss: which predicts them.
            preprocessing: fitted.
        """
        if takes_intervals(loss):
            return cls(residuals=Residuals.of(errors_of(rows, loss, preprocessing)))
        return cls(temperature=Temperature.of(*rows)) if takes_temperature(loss) else cls()

    def state(self) -> dict[str, Any]:
        """The calibration as plain data and tensors, readable by `torch.load(weights_only=True)`."""
        return {
            "residuals": None if self.residuals is None else self.residuals.state(),
            "temperature": None if self.temperature is None else self.temperature.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any] | None) -> Calibration | None:
        """The calibration that `state` describes; None for None.

        Raises:
            CheckpointError: if this is no such state.
        """
        if state is None:
            return None
        try:
            residuals, temperature = state["residuals"], state["temperature"]
            return cls(
                None if residuals is None else Residuals.from_state(residuals),
                None if temperature is None else Temperature.from_state(temperature),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint's calibration cannot be read ({error!r}): it is damaged, or from another version"
            ) from error
