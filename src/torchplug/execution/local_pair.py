"""Two processes of one machine that add up tensors through a socket."""

from __future__ import annotations

import os
import select
import socket
import tempfile
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_PATIENCE = 2e-4
"""Seconds of looking again and again before the process sleeps: about what waking it up costs."""
_TIMEOUT = 1800.0
"""Seconds without a word from the other after which it counts as lost, as in torch.distributed."""
_LOST = "the other process has ended, and its own message says why"


class LocalPair:
    """Adds a tensor to its like in the other of two processes, which both call in the same order.

    Both send all they have and add what they receive; a sum of two has the same bits in either order. A reduction of
    small tensors by gloo costs many times as much, because its sockets are served by a thread that must be woken up.

    Args:
        connection: a stream socket to the other process.
        timeout: seconds after which a process that says nothing is given up.
    """

    def __init__(self, connection: socket.socket, timeout: float = _TIMEOUT) -> None:
        connection.setblocking(False)
        self._connection = connection
        weakref.finalize(self, connection.close)  # also where an exception has ended the fit
        self._timeout = timeout
        self._tensor = torch.empty(0)
        self._others = self._tensor
        self._outgoing = self._incoming = memoryview(b"")

    @classmethod
    def connect(cls) -> LocalPair | None:
        """Connect ranks 0 and 1 of torch.distributed, which both must call.

        Returns:
            None, on both, where they are not on one machine, or it has no such sockets.
        """
        if not hasattr(socket, "AF_UNIX"):
            return None
        first = torch.distributed.get_rank() == 0
        own = socket.socket(socket.AF_UNIX)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            address = [os.path.join(folder, "pair")]
            listens = first and _succeeds(own.bind, address[0]) and _succeeds(own.listen, 1)
            torch.distributed.broadcast_object_list(address, 0)
            met = torch.tensor(float(listens if first else _succeeds(own.connect, address[0])))
            torch.distributed.all_reduce(met, torch.distributed.ReduceOp.MIN)
            if not met:
                own.close()
                return None
            if not first:
                return cls(own)
            with own:
                return cls(own.accept()[0])

    def add(self, tensor: Tensor) -> None:
        """Add the other's tensor to this one, in place.

        Args:
            tensor: contiguous, on the CPU; of the same size and type in both processes.

        Raises:
            RuntimeError: if the other process has ended, or says nothing for too long.
        """
        if tensor is not self._tensor:
            self._tensor, self._others = tensor, torch.empty_like(tensor)
            self._outgoing, self._incoming = _bytes(tensor), _bytes(self._others)
        self._exchange()
        tensor.add_(self._others)

    def close(self) -> None:
        """Let the other go."""
        self._connection.close()

    def _exchange(self) -> None:
        """Send while receiving: where both only sent, full buffers would let both wait for ever."""
        outgoing, incoming = self._outgoing, self._incoming
        silent_since = None
        while outgoing or incoming:
            sent, received = _moved(self._connection.send, outgoing), _moved(self._connection.recv_into, incoming)
            outgoing, incoming = outgoing[sent:], incoming[received:]
            if sent or received:
                silent_since = None
            elif silent_since is None:
                silent_since = time.monotonic()
            else:
                self._wait(time.monotonic() - silent_since, bool(outgoing))

    def _wait(self, silence: float, sending: bool) -> None:
        if silence > self._timeout:
            raise RuntimeError(f"the other process has said nothing for {silence:.0f} s")
        if silence > _PATIENCE:
            own = [self._connection]
            select.select(own, own if sending else [], [], min(1.0, self._timeout))


def _succeeds(attempt: Callable[[Any], None], argument: Any) -> bool:
    """Whether a socket can do this; not, for one thing, where the temporary folder has a long name."""
    try:
        attempt(argument)
    except OSError:
        return False
    return True


def _moved(move: Callable[[memoryview], int], data: memoryview) -> int:
    """How many bytes a socket has taken from `data`, or put there, without waiting."""
    if not data:
        return 0
    try:
        count = move(data)
    except BlockingIOError:
        return 0
    except OSError as error:
        raise RuntimeError(_LOST) from error
    if count == 0:
        raise RuntimeError(_LOST)
    return count


def _bytes(tensor: Tensor) -> memoryview:
    array: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(array)
