"""Signals to this process while many models are trained."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def interrupted_after(rows, root):
    """Ctrl-C once the run in a folder has so many rows of metrics."""
    over = threading.Event()

    def wait():
        while not over.wait(0.002):
            if sum(_rows(file) for file in Path(root).glob("*/*/metrics.jsonl")) >= rows:
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _rows(file):
    return file.read_bytes().count(b"\n")


def wait_for_rows(root, rows, process, seconds=120):
    """Wait until a process has written so many rows of metrics below a folder; False if it ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if sum(_rows(file) for file in Path(root).glob("**/metrics.jsonl")) >= rows:
            return True
        time.sleep(0.002)
    return False


def assert_same_bits(results, whole):
    """Parameters, buffers, metrics by epoch and outcomes are those of another fit."""
    for mine, its in zip(results, whole, strict=True):
        ours, theirs = mine.module.state_dict(), its.module.state_dict()
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert torch.equal(ours[name], value), name
        assert mine.outcome == its.outcome
        assert dict(mine.metrics) == dict(its.metrics)
    assert by_model(results[0].run).equals(by_model(whole[0].run))


def by_model(run):
    """The table of metrics, whatever order programs were trained in."""
    return run.metrics.sort("configuration", "fold", "epoch")
