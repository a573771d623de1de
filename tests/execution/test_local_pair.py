"""Two processes of one machine that add up tensors through a socket."""

import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from torchplug.execution.local_pair import LocalPair


@pytest.fixture
def connections():
    first, second = socket.socketpair()
    with first, second:
        yield first, second


def side_by_side(*sides):
    """What each of the functions returns, run in threads."""
    with ThreadPoolExecutor(len(sides)) as threads:
        return [future.result(timeout=60) for future in [threads.submit(side) for side in sides]]


def both(connections, *columns):
    """Each of the two adds its column of tensors, one after the other."""

    def side(connection, tensors):
        pair = LocalPair(connection, timeout=20)
        for tensor in tensors:
            pair.add(tensor)

    side_by_side(*(partial(side, *pair) for pair in zip(connections, columns, strict=True)))


class TwoRanks:
    """What connecting asks of torch.distributed, for two threads that are its ranks."""

    def __init__(self, reachable=True):
        self.rank = threading.local()
        self.meeting = threading.Barrier(2, timeout=20)
        self.said = [None, None]
        self.reachable = reachable

    def get_rank(self):
        return self.rank.number

    def exchanged(self, value):
        self.said[self.rank.number] = value
        self.meeting.wait()
        said = list(self.said)
        self.meeting.wait()
        return said

    def broadcast_object_list(self, objects, source):
        objects[:] = self.exchanged(list(objects))[source]
        if self.rank.number != source and not self.reachable:
            objects[0] += "-of-another-machine"

    def all_reduce(self, tensor, operation):
        assert operation == torch.distributed.ReduceOp.MIN
        tensor.copy_(torch.stack(self.exchanged(tensor.clone())).min())

    def connect(self, monkeypatch):
        for name in ("get_rank", "broadcast_object_list", "all_reduce"):
            monkeypatch.setattr(torch.distributed, name, getattr(self, name))

        def rank(number):
            self.rank.number = number
            return LocalPair.connect()

        return side_by_side(partial(rank, 0), partial(rank, 1))


def test_ranks_of_one_machine_connect(monkeypatch):
    pairs = TwoRanks().connect(monkeypatch)
    tensors = [torch.tensor([1.0]), torch.tensor([2.0])]
    side_by_side(*(partial(pair.add, tensor) for pair, tensor in zip(pairs, tensors, strict=True)))
    assert [tensor.item() for tensor in tensors] == [3.0, 3.0]
    for pair in pairs:
        pair.close()


def test_ranks_of_two_machines_do_not(monkeypatch):
    assert TwoRanks(reachable=False).connect(monkeypatch) == [None, None]


def test_ranks_with_a_long_temporary_folder_do_not(monkeypatch, tmp_path):
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert TwoRanks().connect(monkeypatch) == [None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (33,), (7, 5), (1_000_003,)])
def test_both_get_the_sum(connections, shape, dtype):
    one, other = (torch.randn(shape, dtype=dtype) for _ in range(2))
    expected = one + other
    both(connections, [one], [other])
    assert torch.equal(one, expected)
    assert torch.equal(other, expected)


def test_what_is_said_faster_than_heard_stays_in_order(connections):
    numbers = torch.arange(300, dtype=torch.float64)
    one, other = list(numbers.clone().split(1)), list((1000 * numbers).split(1))
    both(connections, one, other)
    assert torch.equal(torch.cat(one), 1001 * numbers)
    assert torch.equal(torch.cat(other), 1001 * numbers)


def test_a_tensor_may_be_used_again(connections):
    one, other = torch.ones(3), torch.full((3,), 2.0)
    both(connections, [one] * 3, [other] * 3)
    assert torch.equal(one, torch.full((3,), 12.0))
    assert torch.equal(other, one)


def test_the_end_of_the_other_is_noticed(connections):
    connections[1].close()
    with pytest.raises(RuntimeError, match="the other process has ended"):
        LocalPair(connections[0]).add(torch.ones(3))


def test_the_end_of_the_other_is_noticed_in_the_middle(connections):
    connections[1].send(b"abc")
    connections[1].close()
    with pytest.raises(RuntimeError, match="the other process has ended"):
        LocalPair(connections[0]).add(torch.ones(3))


def test_silence_has_a_limit(connections):
    with pytest.raises(RuntimeError, match="has said nothing for 0 s"):
        LocalPair(connections[0], timeout=0.01).add(torch.ones(3))
