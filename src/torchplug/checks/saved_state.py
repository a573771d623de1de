"""Whether the state of plugins' optimizers and schedulers can be loaded from a checkpoint."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from torchplug.errors import PluginTrainingError
from torchplug.resolved_config import ResolvedConfig


def refuse_state(resolved: ResolvedConfig, checkpoint: Mapping[str, Any]) -> None:
    """Refuse state that is not plain before it is written, since the whole checkpoint could not be loaded.

    Args:
        resolved: the components.
        checkpoint: the content of a checkpoint of a fit.

    Raises:
        PluginTrainingError: naming the component, and what its state contains.
    """
    for component, key in ((resolved.optimizer, "optimizer_states"), (resolved.scheduler, "lr_schedulers")):
        if component is None or component.entry.builtin:
            continue
        try:
            file = io.BytesIO()
            torch.save(_without_values(checkpoint.get(key)), file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except (pickle.PicklingError, pickle.UnpicklingError, TypeError, AttributeError) as error:
            entry, reason = component.entry, " ".join(str(error).split())
            raise PluginTrainingError(
                f"{entry.distribution} {entry.version}: {entry.label}: its state_dict has values other than tensors, "
                f"numbers, texts, lists and mappings, so that no checkpoint could be loaded: {_offender(reason)}"
            ) from error


def _without_values(state: Any) -> Any:
    """The state with empty tensors, so that the trial needs no memory."""
    if type(state) in (torch.Tensor, nn.Parameter):
        return state.new_empty(0)
    if type(state) is dict:
        return {key: _without_values(value) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(map(_without_values, state))
    return state


def _offender(reason: str) -> str:
    """The part of torch's message that names the type."""
    _, found, name = reason.partition("GLOBAL ")
    return name.split(" ")[0] if found else reason[:200]
