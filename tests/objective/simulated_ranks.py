"""Several ranks as threads of one process."""

import threading
from concurrent.futures import ThreadPoolExecutor

from torchplug.objective.reductions import Ranks


class Meeting:
    """Where the threads meet to hand each other tensors."""

    def __init__(self, world):
        self.barrier = threading.Barrier(world, timeout=60)
        self.sent = [None] * world

    def exchange(self, rank, tensor):
        self.sent[rank] = tensor
        self.barrier.wait()
        received = [t.clone() for t in self.sent]
        self.barrier.wait()
        return received


class ThreadRanks(Ranks):
    """A rank that is a thread."""

    def __init__(self, rank, world, meeting):
        super().__init__(rank, world)
        object.__setattr__(self, "meeting", meeting)

    def gather(self, tensor):
        return self.meeting.exchange(self.rank, tensor)

    def broadcast(self, tensor):
        return self.meeting.exchange(self.rank, tensor)[0]


def on_ranks(world, function):
    """`function(ranks)` on each of `world` ranks at once; the results in rank order."""
    meeting = Meeting(world)
    with ThreadPoolExecutor(world) as pool:
        futures = [pool.submit(function, ThreadRanks(rank, world, meeting)) for rank in range(world)]
        return [future.result() for future in futures]
