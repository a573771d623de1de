"""Comparisons of tensors, whose failures are one line."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchplug.checkpoint_record import plain_numbers
from torchplug.testing.record import require


def require_close(found: Tensor, wanted: Tensor, what: str, *, relative: float = 1e-9, absolute: float = 1e-12) -> None:
    """Raise an AssertionError unless two tensors agree.

    Args:
        found: the component's.
        wanted: what it must be.
        what: names both, as in `derivative and autograd`.
        relative: the largest difference, as a part of the wanted value.
        absolute: the largest difference beside it.
    """
    require(isinstance(found, Tensor), f"{what}: gives {type(found).__name__}, and not a tensor")
    require(
        found.shape == wanted.shape, f"{what}: shapes differ, {tuple(found.shape)} in place of {tuple(wanted.shape)}"
    )
    a, b = found.detach().double(), wanted.detach().double()
    if not torch.allclose(a, b, rtol=relative, atol=absolute, equal_nan=True):
        at = int(((a - b).abs() - relative * b.abs()).nan_to_num(nan=torch.inf).reshape(-1).argmax())
        first, second = a.reshape(-1)[at].item(), b.reshape(-1)[at].item()
        raise AssertionError(f"{what}: differ, {first:.6g} in place of {second:.6g}")


def require_equal(found: Any, wanted: Any, what: str) -> None:
    """Raise an AssertionError unless two trees of tensors and plain values agree bit for bit, NaN with NaN.

    Args:
        found: the component's.
        wanted: what it must be.
        what: names both.
    """
    require(same(found, wanted), what)


def same(a: Any, b: Any) -> bool:
    """Whether two trees of tensors and plain values agree bit for bit, NaN with NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (a != a and b != b)


def saved_and_loaded(state: Any, what: str) -> Any:
    """Return state after a save, which makes NumPy's numbers Python's as a fit does, and a weights-only load.

    Args:
        state: to be saved.
        what: names it.

    Raises:
        AssertionError: if it cannot be saved or loaded.
    """
    file = io.BytesIO()
    try:
        torch.save(plain_numbers(state), file)
        file.seek(0)
        return torch.load(file, weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise AssertionError(
            f"{what} does not survive torch.save and a weights-only torch.load: keep tensors, numbers, texts, lists "
            f"and mappings only: {reason}"
        ) from error


def copied(tree: Any) -> Any:
    """Return a deep copy of a tree of tensors and plain values, to compare with later."""
    return copy.deepcopy(tree)
