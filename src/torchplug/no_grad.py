"""Running without autograd's graph, at no cost where nobody records one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import MethodType
from typing import ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")


def no_grad_if_enabled(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run it under no_grad, entered only where gradients are on: entering costs as much as a small product."""

    @wraps(method)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not torch.is_grad_enabled():
            return method(*args, **kwargs)
        with torch.no_grad():
            return method(*args, **kwargs)

    wrapper.unwrapped = method  # type: ignore[attr-defined]
    return wrapper


def unwrapped(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """The method that `no_grad_if_enabled` wraps, for hot loops in which gradients are off anyway."""
    inner = getattr(method, "unwrapped", None)  # not `__wrapped__`: what other decorators do must be done
    return method if inner is None else MethodType(inner, method.__self__)  # type: ignore[attr-defined]
