"""Functions of tensors as compiled graphs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from torchplug.errors import ConfigurationError

_logger = logging.getLogger(__name__)


class Graph:
    """A function of tensors, compiled by torch once per key.

    Compiling takes seconds to minutes; torch caches the result on disk for later runs. The function is traced: what it
    reads beside its arguments is constant for a key.

    Args:
        function: a function of tensors without side effects that returns a list of tensors.
        context: the context in which it is traced.
    """

    def __init__(
        self, function: Callable[..., list[Tensor]], context: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._function = function
        self._context = context
        self._compiled: dict[Hashable, Callable[..., Sequence[Tensor]]] = {}

    def __call__(self, key: Hashable, what: str, *tensors: Tensor) -> Sequence[Tensor]:
        """Return the function's value; called under `no_grad`.

        Args:
            key: identifies everything that compiled code depends on.
            what: a description for the log.
            tensors: the function's arguments.

        Raises:
            ConfigurationError: if it cannot be compiled.
        """
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = self._compile(what, tensors)
        return compiled(*tensors)

    def _compile(self, what: str, tensors: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
        from torch import _inductor  # takes a second

        # on a CPU the call itself dominates: a C++ wrapper halves it
        options: dict[str, Any] = {"cpp_wrapper": True} if tensors[0].device.type == "cpu" else {}
        _logger.info("compiling %s", what)
        start = time.perf_counter()
        inputs: list[Any] = [tensor.detach() for tensor in tensors]
        try:
            # anomaly detection reads values, and tracing has none
            with torch.no_grad(), self._context(), torch.autograd.set_detect_anomaly(False):
                traced = make_fx(self._function, tracing_mode="fake")(*inputs)
                compiled: Callable[..., Sequence[Tensor]] = _inductor.compile(traced, inputs, options=options)
        except Exception as error:  # of the compiler, or of code that cannot be traced
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ConfigurationError(f"engine compiled: {reason}; set the engine to analytic or autograd") from error
        _logger.info("compiled %s in %.1f s", what, time.perf_counter() - start)
        return compiled


def layout(tensors: Sequence[Tensor]) -> Hashable:
    """Return the properties of tensors that compiled code depends on."""
    return tuple((t.shape, t.stride(), t.dtype) for t in tensors)
