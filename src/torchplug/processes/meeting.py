"""A key-value store that all ranks of a job share, before and beside their process group."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import PrefixStore, TCPStore

PATIENCE = timedelta(minutes=5)
"""Timeout for the other ranks, which may import and read their data at different speeds."""


class Meeting:
    """The key-value store of a job, in which each rank publishes values under a key and its rank.

    It is hosted by torchrun's agent or else by rank 0, at the address and port of the later process group. The store
    belongs to one job and ends with it, so that consecutive jobs cannot be confused.

    Args:
        rank: from 0.
        world: how many ranks there are.
        host: the store's address.
        port: the store's port.
        hosts: whether this process is the one that hosts it.
    """

    def __init__(self, rank: int, world: int, host: str, port: int, hosts: bool) -> None:
        self.rank, self.world = rank, world
        store = TCPStore(host, port, None, hosts, PATIENCE, wait_for_workers=False, multi_tenant=True)
        # the agent's store survives restarts of the workers
        self._store = PrefixStore(f"torchplug/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        self.tell("process", {"host": socket.gethostname(), "pid": os.getpid()})

    @classmethod
    def of_environment(cls) -> Meeting | None:
        """The meeting that a launcher's environment variables describe; None for a process that was started alone."""
        found = [os.environ.get(name) for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")]
        rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK"))
        world, host, port = found
        if host is None or not all(text is not None and text.isdecimal() for text in (rank, world, port)):
            return None
        if int(world or 1) < 2:
            return None
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return cls(int(rank or 0), int(world or 1), host, int(port or 0), not agent and int(rank or 0) == 0)

    def tell(self, key: str, value: Any) -> None:
        """Publish a JSON value."""
        self._store.set(f"{key}/{self.rank}", json.dumps(value))

    def told(self, key: str) -> dict[int, Any]:
        """Return the values published so far, by rank, without waiting."""
        ranks = [rank for rank in range(self.world) if self._store.check([f"{key}/{rank}"])]
        return {rank: json.loads(self._store.get(f"{key}/{rank}")) for rank in ranks}

    def is_first(self, text: str) -> bool:
        """Whether this is the first of all ranks' calls with this text."""
        return bool(self._store.add(f"first/{hashlib.sha256(text.encode()).hexdigest()}", 1) == 1)
