"""Copies of a checkpoint's content that later training does not change."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

_IMMUTABLE = frozenset({str, int, float, bool, type(None)})


def snapshot(content: Any, memory: Any = None) -> Any:
    """Return a copy of nested dicts, lists and tuples, with their tensors on the CPU.

    Args:
        content: what is copied.
        memory: an earlier snapshot that is no longer needed; its tensors are overwritten and used again where they have
            the shape and type of those in the same place. New memory would take most of the time.
    """
    with torch.no_grad():
        return _copied(content, memory)


def _copied(content: Any, memory: Any) -> Any:
    kind = type(content)
    if kind in _IMMUTABLE:
        return content
    if isinstance(content, Tensor):
        return _copied_tensor(content, memory)
    if kind is dict:
        former = memory if isinstance(memory, dict) else {}
        return {
            key: value if type(value) in _IMMUTABLE else _copied(value, former.get(key))
            for key, value in content.items()
        }
    if kind in (list, tuple):
        same = isinstance(memory, list | tuple) and len(memory) == len(content)
        return kind(map(_copied, content, memory if same else [None] * len(content)))
    return copy.deepcopy(content)


def _copied_tensor(tensor: Tensor, memory: Any) -> Tensor:
    if (
        type(memory) is Tensor
        and memory.shape == tensor.shape
        and memory.dtype == tensor.dtype
        and tensor.layout is memory.layout is torch.strided
        and memory.stride() == tensor.stride()
    ):
        return memory.copy_(tensor)
    return tensor.detach().to("cpu", copy=True)
