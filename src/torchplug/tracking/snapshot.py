"""Copies of a checkpoint's content that later training does not change."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

_IMMUTABLE = frozenset({str, int, float, bool, type(None)})


def snapshot(content: Any, memory: Any = None) -> Any:
    """Return a copy of nested dicts, lists and tuples, with their tensors on the CPU.

    Args:
        content: what is copied.
        memory: an earlier snapshot that is no longer needed; its tensors are overwritten and used again where they have
            the shape and type of those in the same place. New memory would take most of the time.
    """
    kind = type(content)
    if kind in _IMMUTABLE:
        return content
    if isinstance(content, Tensor):
        return _copied(content.detach(), memory)
    if kind is dict:
        former = memory if isinstance(memory, dict) else {}
        return {key: snapshot(value, former.get(key)) for key, value in content.items()}
    if kind in (list, tuple):
        same = isinstance(memory, list | tuple) and len(memory) == len(content)
        return kind(map(snapshot, content, memory if same else [None] * len(content)))
    return copy.deepcopy(content)


def _copied(tensor: Tensor, memory: Any) -> Tensor:
    fits = type(memory) is Tensor is type(tensor) and memory.layout == tensor.layout
    if fits and (memory.shape, memory.dtype, memory.stride()) == (tensor.shape, tensor.dtype, tensor.stride()):
        return memory.copy_(tensor)
    return tensor.to("cpu", copy=True)
