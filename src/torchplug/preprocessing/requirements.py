"""What a module requires of the data."""

from __future__ import annotations

from dataclasses import dataclass

from torchplug.preprocessing.fitted import Preprocessing
from torchplug.registry.component import Kind


@dataclass(frozen=True)
class DataRequirements:
    """A module's requirements of the data, known before its network is built.

    Args:
        kind: the loss's kind; None: labels if the target is not numeric, else regression.
        loss: the loss's name, for messages.
        center: False for a model without bias: values are scaled but not shifted.
        reference: whether one level of each categorical column gets no feature, as linear models with bias need.
        standardize_target: whether regression targets are standardized unless the user sets it.
        preprocessing: from a checkpoint: used as it is, not fitted again.
        full_batch: whether the optimizer needs the whole training split at once, in double precision.
    """

    kind: Kind | None = None
    loss: str = ""
    center: bool = True
    reference: bool = False
    standardize_target: bool = False
    preprocessing: Preprocessing | None = None
    full_batch: bool = False
