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
    """A function of tensors as torch's compiler renders it, once for each key that it is called with.

    That takes seconds to minutes; torch keeps the result on disk, and the next run of the same function finds it
    there. The function is traced: all that it reads beside its arguments is as it was when the key was new.

    Args:
        function: of tensors alone, returns a list of them and has no side effects.
        context: what it is traced in.
    """

    def __init__(
        self, function: Callable[..., list[Tensor]], context: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._function = function
        self._context = context
        self._compiled: dict[Hashable, Callable[..., Sequence[Tensor]]] = {}

    def __call__(self, key: Hashable, what: str, *tensors: Tensor) -> Sequence[Tensor]:
        """What the function returns, called without gradients.

        Args:
            key: says all that a rendering hangs on.
            what: is compiled where the key is new, for the log.
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

        # on a CPU the call itself is what costs: a wrapper in C++ halves it
        options: dict[str, Any] = {"cpp_wrapper": True} if tensors[0].device.type == "cpu" else {}
        _logger.info("compiling %s", what)
        start = time.perf_counter()
        inputs: list[Any] = [tensor.detach() for tensor in tensors]
        try:
            # what looks for anomalies looks at values, which there are none of while it is traced
            with torch.no_grad(), self._context(), torch.autograd.set_detect_anomaly(False):
                traced = make_fx(self._function, tracing_mode="fake")(*inputs)
                compiled: Callable[..., Sequence[Tensor]] = _inductor.compile(traced, inputs, options=options)
        except Exception as error:  # of the compiler, or of code that it cannot follow
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ConfigurationError(f"engine compiled: {reason}; leave the engine at auto") from error
        _logger.info("compiled %s in %.1f s", what, time.perf_counter() - start)
        return compiled


def layout(tensors: Sequence[Tensor]) -> Hashable:
    """All of tensors that a graph hangs on."""
    return tuple((t.shape, t.stride(), t.dtype) for t in tensors)
