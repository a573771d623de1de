"""The record in a checkpoint beside weights: the code it is of, and what prediction needs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import torch

from torchplug.components.contracts import Loss
from torchplug.errors import CheckpointError
from torchplug.evaluation.calibration import Calibration
from torchplug.preprocessing import Preprocessing
from torchplug.resolved_config import ResolvedConfig

KEY = "torchplug"
CALIBRATION = "calibration"
"""The entry of the record that is written when a fit has ended."""
_version = cache(version)  # of installed packages, which do not change while a process runs


def checkpoint_record(
    resolved: ResolvedConfig, loss: Loss, preprocessing: Preprocessing | None, calibration: Calibration | None
) -> dict[str, Any]:
    """The record as plain types; without preprocessing for a module that has seen no data."""
    return {
        "version": _version("torchplug"),
        "components": resolved.records(),
        "preprocessing": None if preprocessing is None else preprocessing.state(),
        "outputs": None if preprocessing is None else loss.outputs(preprocessing.info),
        CALIBRATION: None if calibration is None else calibration.state(),
    }


def carried_preprocessing(checkpoint: Mapping[str, Any], current: Preprocessing | None) -> Preprocessing | None:
    """The preprocessing that a checkpoint carries; it must be the current one, if there is one.

    Raises:
        CheckpointError: if the checkpoint is not ours, or its features are not those of the data.
    """
    record = checkpoint.get(KEY)
    if record is None:
        raise CheckpointError("this checkpoint was not written by torchplug's ComponentModule")
    carried = None if record["preprocessing"] is None else Preprocessing.from_state(record["preprocessing"])
    if current is not None and carried != current:
        raise CheckpointError(
            "the data are not those this checkpoint was trained on (features, encoding or standardization differ): "
            "continue with the same data settings, or load the checkpoint alone and predict"
        )
    return carried


def network_dtype(checkpoint: Mapping[str, Any]) -> torch.dtype:
    """The precision of the network that was saved."""
    dtypes = [value.dtype for name, value in checkpoint["state_dict"].items() if name.startswith("network.")]
    return next((dtype for dtype in dtypes if dtype.is_floating_point), torch.float32)
