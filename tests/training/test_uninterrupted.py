"""What is done whole or not at all."""

import signal
import threading

import pytest

from torchplug.training import uninterrupted as module
from torchplug.training.uninterrupted import uninterrupted

needs_masks = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system cannot hold signals back")


@pytest.fixture(autouse=True)
def ctrl_c():
    """As Python has it, also where a shell in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@needs_masks
def test_ctrl_c_comes_after_it():
    done = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - where in it the interruption comes is the point
        with uninterrupted():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            done.append("whole")
        done.append("more")
    assert done == ["whole"]


@needs_masks
def test_what_was_held_back_before_still_is():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with uninterrupted():
            pass
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_where_signals_cannot_be_held_back_it_changes_nothing(monkeypatch):
    monkeypatch.delattr(module.signal, "pthread_sigmask", raising=False)
    with pytest.raises(KeyError), uninterrupted():
        raise KeyError
