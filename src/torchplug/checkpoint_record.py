"""The record in a checkpoint beside weights: the code it is of, and what prediction needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy
import torch

from torchplug.components.contracts import Loss
from torchplug.errors import CheckpointError
from torchplug.evaluation.calibration import Calibration
from torchplug.preprocessing import Preprocessing
from torchplug.registry import registry
from torchplug.registry.permissions import BUILTIN
from torchplug.resolved_config import ResolvedConfig

KEY = "torchplug"
RECORDED = ("family", "name", "distribution", "version")
"""Entries of each component."""
CALIBRATION = "calibration"
"""The entry of the record that is written when a fit has ended."""
REFIT = "refit"
"""The entry of a model that has trained on its validation rows as well: how many rows trained."""
_PLAIN = frozenset({str, int, float, bool, type(None), torch.Tensor})
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


def plain_numbers(content: Any) -> Any:
    """Content with Python's numbers in the place of NumPy's, which a weights-only load refuses.

    >>> plain_numbers({"lr": numpy.float64(0.1), "betas": (0.9, 0.999)})
    {'lr': 0.1, 'betas': (0.9, 0.999)}
    """
    kind = type(content)
    if kind is dict:
        return {k: v if type(v) in _PLAIN else plain_numbers(v) for k, v in content.items()}
    if kind is list or kind is tuple:
        return kind([v if type(v) in _PLAIN else plain_numbers(v) for v in content])
    return content.item() if isinstance(content, numpy.generic) else content


def network_dtype(checkpoint: Mapping[str, Any]) -> torch.dtype:
    """The precision of the network that was saved."""
    dtypes = [value.dtype for name, value in checkpoint["state_dict"].items() if name.startswith("network.")]
    return next((dtype for dtype in dtypes if dtype.is_floating_point), torch.float32)


def recorded_components(record: Any) -> Iterator[Mapping[str, str]]:
    """Yield the components that a record names, those that are malformed left out."""
    components = record.get("components") if isinstance(record, Mapping) else None
    for component in components if isinstance(components, list) else ():
        if isinstance(component, Mapping) and all(isinstance(component.get(name), str) for name in RECORDED):
            yield component


def installed_versions() -> dict[str, str]:
    """The versions of loaded plugins, built-in components included, by distribution."""
    loaded = {plugin.distribution: plugin.version for plugin in registry().plugins if plugin.status == "loaded"}
    return {**loaded, BUILTIN: _version(BUILTIN)}


def version_notes(record: Mapping[str, Any]) -> list[str]:
    """Return a note for each distribution whose installed version is not the one that made a checkpoint.

    Args:
        record: of the checkpoint; it names torchplug's version, and the components in use with theirs.
    """
    installed = installed_versions()
    made_with = {BUILTIN: record.get("version")}
    for component in recorded_components(record):
        made_with.setdefault(component["distribution"], component["version"])
    return [
        f"the checkpoint was made with {name} {old}, and {installed[name]} is installed: results may differ"
        for name, old in made_with.items()
        if name in installed and old is not None and installed[name] != old
    ]
